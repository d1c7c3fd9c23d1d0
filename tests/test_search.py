"""Searches for settings on a cluster: scikit-learn's, by joblib's Dask backend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from ldl.sklearn import AutoEncoderDetector, MLPClassifier

X, Y = (part[:200].astype(np.float32) for part in load_digits(return_X_y=True))
GRID = {"mlpclassifier__hidden_layer_sizes": [(2,), (32,)]}


BEFORE: set[tuple[str, int]] = set()
"""What this process listened on before: MPI does, where a test has begun it."""


def listening(*processes: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports; of this process where none is named."""
    found = [c for p in processes or [psutil.Process()] for c in p.net_connections(kind="inet")]
    return {(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """Two processes of one thread each; afterwards they are gone."""
    BEFORE.update(listening())
    made = LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with made, Client(made) as client:
        started = [*client.run(os.getpid).values()]
        yield client
    gone = [p for p in map(int, started) if psutil.pid_exists(p)]
    _, alive = psutil.wait_procs([psutil.Process(p) for p in gone], timeout=5)
    assert not alive


def search(**how: Any) -> GridSearchCV:
    """The grid, on digits."""
    model = MLPClassifier(max_iter=15, batch_size=25, learning_rate=1e-2, random_state=0)
    made = GridSearchCV(make_pipeline(MinMaxScaler(), model), GRID, cv=2, **how)
    return made.fit(X, Y)


def test_a_grid_search_on_a_cluster_finds_what_one_process_finds(cluster: Client) -> None:
    with joblib.parallel_config(backend="dask"):
        there = search(n_jobs=-1)
    here = search()
    assert there.best_params_ == here.best_params_
    assert there.best_params_["mlpclassifier__hidden_layer_sizes"] == (32,)
    np.testing.assert_array_equal(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(there.predict_proba(X), here.predict_proba(X))


def test_every_process_of_the_cluster_has_trained(cluster: Client) -> None:
    with joblib.parallel_config(backend="dask"):
        where = joblib.Parallel()(joblib.delayed(trained)(seed) for seed in range(8))
    assert {process for process, _ in where} == set(cluster.run(os.getpid).values())
    assert os.getpid() not in {process for process, _ in where}
    assert [scores for _, scores in where] == [trained(seed)[1] for seed in range(8)]


def trained(seed: int) -> tuple[int, list[float]]:
    """A detector's process, and what it says of digits."""
    model = AutoEncoderDetector((8,), max_iter=2, batch_size=50, random_state=seed).fit(X)
    return os.getpid(), model.score_samples(X[:5]).tolist()


def test_a_bad_setting_is_told_from_there_in_the_estimators_words(cluster: Client) -> None:
    grid = {"learning_rate": [-1.0]}
    model = GridSearchCV(MLPClassifier(max_iter=1), grid, cv=2, error_score="raise")
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(ValueError, match=r"learning_rate.*-1"),
    ):
        model.fit(X, Y)


def test_the_cluster_is_heard_on_this_machine_alone(cluster: Client) -> None:
    heard = listening(*psutil.Process().children(recursive=True)) | (listening() - BEFORE)
    assert len(heard) >= 3, "the scheduler and both workers"
    assert {address for address, _ in heard} <= {"127.0.0.1", "::1"}
