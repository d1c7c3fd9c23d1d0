"""Estimators beside PyOD's autoencoder and scikit-learn's own networks, in one process, in turn.

    python -m benchmarks.estimators detector        20,000 x 30, 5 epochs, batch 32; ROC-AUC too
    python -m benchmarks.estimators classifier      digits and MNIST, beside scikit-learn's
    python -m benchmarks.estimators mnist           512-512 with dropout on all of MNIST
    python -m benchmarks.estimators row             one row's predict_proba over the bare Predictor

What is not installed is skipped by name. MNIST is looked for as `ldl.data.load_dataset` does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from time import perf_counter
from timeit import repeat
from typing import Any

import numpy as np

from ldl import nn, optim
from ldl.data import DataUnavailableError, load_dataset
from ldl.sklearn import AutoEncoderDetector, MLPClassifier


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = perf_counter()
    call()
    return perf_counter() - began


def outliers() -> dict[str, tuple[Any, Any]]:
    """Three data sets and which of their samples are outliers."""
    from sklearn.datasets import load_breast_cancer, load_digits, make_blobs

    chance = np.random.default_rng(0)
    x, y = load_breast_cancer(return_X_y=True)
    few = np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:40]])
    found = {"breast cancer, 40 malignant": (x[few], y[few] == 0)}
    x, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y != 4), np.flatnonzero(y == 4)[:40]])
    found["digits, 40 fours"] = (x[rows], y[rows] == 4)
    x, _ = make_blobs(2000, 20, centers=4, random_state=0)
    x[:60] = chance.uniform(x.min(), x.max(), (60, 20))
    found["blobs, 60 anywhere"] = (x, np.arange(len(x)) < 60)
    return found


def detector() -> None:
    """AutoEncoderDetector and PyOD's AutoEncoder: the same widths, epochs and batches."""
    from pyod.models.auto_encoder import AutoEncoder
    from sklearn.metrics import roc_auc_score

    theirs = AutoEncoder(hidden_neuron_list=[64, 32], epoch_num=5, batch_size=32, verbose=0)
    ours = AutoEncoderDetector((64, 32), max_iter=5, batch_size=32, tol=None)
    x = np.random.default_rng(0).standard_normal((20_000, 30)).astype(np.float32)
    times: dict[str, list[float]] = {"ldl": [], "PyOD": []}
    for _ in range(3):
        times["ldl"].append(seconds(lambda: ours.fit(x)))
        times["PyOD"].append(seconds(lambda: theirs.fit(x)))
    least = {name: min(values) for name, values in times.items()}
    print(f"20,000 x 30, 5 epochs: ldl {least['ldl']:.2f} s, PyOD {least['PyOD']:.2f} s, ", end="")
    print(f"ratio {least['PyOD'] / least['ldl']:.1f}")
    for name, (data, odd) in outliers().items():
        data = data.astype(np.float32)
        found: dict[str, list[float]] = {"ldl": [], "PyOD": []}
        for seed in range(5):
            own = AutoEncoderDetector(random_state=seed).fit(data)
            found["ldl"].append(roc_auc_score(odd, -own.score_samples(data)))
            other = AutoEncoder(verbose=0, random_state=seed).fit(data)
            found["PyOD"].append(roc_auc_score(odd, other.decision_scores_))
        shown = (f"{who} {np.mean(a):.3f} ± {np.std(a):.3f}" for who, a in found.items())
        print(f"ROC-AUC, {name}, 5 seeds, as they come: {', '.join(shown)}")


def classifier() -> None:
    """MLPClassifier, with dropout too, and scikit-learn's: the same net, epochs and batches."""
    from sklearn.neural_network import MLPClassifier as Theirs

    for source, hidden, epochs in (("digits", (128, 64), 20), ("mnist", (512, 512), 2)):
        data = load_dataset(source)
        how: dict[str, Any] = {"max_iter": epochs, "random_state": 0, "batch_size": 128}
        models = {
            "ldl": MLPClassifier(hidden, tol=None, **how),
            "with dropout": MLPClassifier(hidden, tol=None, dropout=0.3, **how),
            "scikit-learn": Theirs(hidden, alpha=0.0, tol=0.0, n_iter_no_change=100, **how),
        }
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(3):
            for name, model in models.items():
                times[name].append(seconds(partial(model.fit, data.x_train, data.y_train)))
        least = {name: min(values) for name, values in times.items()}
        theirs = least["scikit-learn"]
        shown = (f"{name} {took:.2f} s ({theirs / took:.1f})" for name, took in least.items())
        print(f"{source}, {hidden}, {epochs} epochs: {', '.join(shown)}")


def mnist() -> None:
    """Test error on MNIST."""
    data = load_dataset("mnist")
    epochs, size = 20, 128
    steps = epochs * -(-len(data.x_train) // size)

    def adamw(model: nn.Module, lr: float) -> optim.Optimizer:
        schedule = optim.CosineLR(steps)
        return optim.AdamW(model, lr=lr, weight_decay=0.01, schedule=schedule)

    model = MLPClassifier(
        (512, 512), optimizer=adamw, dropout=0.3, batch_size=size, max_iter=epochs, random_state=0
    ).set_params(tol=None)
    took = seconds(lambda: model.fit(data.x_train, data.y_train))
    error = 1 - model.score(data.x_test, data.y_test)
    print(f"MNIST, 512-512, dropout 0.3, {epochs} epochs: {error:.2%} wrong, {took:.0f} s")


def row() -> None:
    """One row's predict_proba, and the Predictor's within."""
    chance = np.random.default_rng(0)
    x = chance.random((500, 64), dtype=np.float32)
    model = MLPClassifier((64, 64), max_iter=2).fit(x, x.sum(1) > 32)
    one, predictor = x[:1].copy(), model._probable
    whole, bare = (
        min(repeat(lambda f=f: f(one), number=2000, repeat=9)) / 2000
        for f in (model.predict_proba, predictor)
    )
    print(f"one row: {whole * 1e6:.1f} us, the Predictor {bare * 1e6:.1f}")


PARTS = {"detector": detector, "classifier": classifier, "mnist": mnist, "row": row}


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], metavar="PART")
    for name in parser.parse_args(argv).part or PARTS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                PARTS[name]()
        except (ImportError, DataUnavailableError) as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
