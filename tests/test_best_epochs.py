"""Which epoch is the best, for every order of numbers, infinities and NaN."""

from __future__ import annotations

from itertools import permutations, product
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

X = np.random.default_rng(0).random((8, 3)).astype("float32")
ORDERS = [
    *permutations([nan, inf, -inf, 1.0]),
    *permutations([2.0, nan, 1.0, inf]),
    *permutations([-2.0, -inf, -1.0, nan]),
    *product([nan, inf, -inf, 0.0], repeat=3),
]


def is_better(value: float, best: float | None, mode: str) -> bool:
    if isnan(value):
        return False
    worst = inf if mode == "min" else -inf
    best = worst if best is None else best
    return value < best if mode == "min" else value > best


def stopped(values: Any, mode: str, **options: Any) -> tuple[Any, list[int]]:
    """An EarlyStopping that saw these figures, and the epochs whose weights it kept."""
    model = nn.Linear(3, 3)
    stopping = ldl.EarlyStopping("score", mode=mode, restore_best=False, **options)
    kept: list[int] = []

    def score(run: ldl.Run) -> None:
        run.history.rows[-1]["score"] = values[run.epoch - 1]

    def look(run: ldl.Run) -> None:
        if stopping.best_epoch == run.epoch:
            kept.append(run.epoch)

    optimizer = optim.SGD(model, lr=0.0)
    callbacks = [score, stopping, look]
    history = ldl.fit(model, X, nn.MSELoss(), optimizer, len(values), callbacks=callbacks)
    assert len(history) == len(values) or history.rows[-1]["epoch"] - stopping.best_epoch >= 1
    return stopping, kept


@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_keeps_what_is_strictly_better_and_never_nan(mode: str) -> None:
    for values in ORDERS[::5]:
        best, expected = None, []
        for epoch, value in enumerate(values, start=1):
            if is_better(value, best, mode):
                best = value
                expected.append(epoch)
        stopping, kept = stopped(values, mode, patience=99)
        assert kept == expected, (mode, values)
        assert bool(stopping.weights) == bool(expected)


def test_which_way_is_better_follows_from_usual_names() -> None:
    rows = [{"epoch": i, "score": v, "other": v} for i, v in enumerate([2.0, 3.0, 1.0])]
    for name in ("val_auc", "f1", "macro_precision", "recall", "val_r2", "psnr", "accuracy"):
        history = ldl.History([{**row, name: row["score"]} for row in rows])
        assert history.best(name)["epoch"] == 1
    for name in ("val_loss", "mae", "rmse"):
        history = ldl.History([{**row, name: row["score"]} for row in rows])
        assert history.best(name)["epoch"] == 2
    with pytest.raises(ValueError, match=r"does not follow from its name: give mode="):
        ldl.History(rows).best("score")


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [nan, "worst"])
def test_what_never_improves_runs_out_of_patience(mode: str, bad: Any) -> None:
    worst = (inf if mode == "min" else -inf) if bad == "worst" else nan
    stopping, kept = stopped([worst] * 9, mode, patience=3)
    assert (kept, stopping.best_epoch) == ([], 0)
    _, kept = stopped([1.0, worst, worst, 1.0, 1.0], mode, patience=3)
    assert kept == [1]
    _, kept = stopped([worst, 1.0, worst, worst], mode, min_delta=0.5, patience=3)
    assert kept == [2]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_plateau_counts_what_is_strictly_better_and_never_nan(mode: str) -> None:
    for values in ORDERS:
        plateau = optim.ReduceLROnPlateau(0.5, patience=99, mode=mode)
        best, bad = None, 0
        for value in values:
            if is_better(value, best, mode):
                best, bad = value, 0
            else:
                bad += 1
            plateau.report(value)
            assert (plateau.best, plateau.bad_epochs) == (best, bad), (mode, values)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("kind", [float, np.float32, np.float64, np.array, np.int64, int])
def test_the_plateau_is_told_numbers_of_every_kind(mode: str, kind: Any) -> None:
    plateau = optim.ReduceLROnPlateau(0.5, patience=0, mode=mode)
    for _ in range(2):
        plateau.report(kind(3))
    assert plateau.state_dict() == {"current": 0.5, "best": 3.0, "bad_epochs": 0}
    assert type(plateau.state_dict()["best"]) is float


def test_the_best_row_is_never_one_of_nan() -> None:
    for values, mode in product(ORDERS, ("min", "max")):
        history = ldl.History([{"epoch": i, "score": v} for i, v in enumerate(values)])
        there = [v for v in values if not isnan(v)]
        if not there:
            with pytest.raises(ValueError, match="no epoch"):
                history.best("score", mode)
            continue
        best = min(there) if mode == "min" else max(there)
        assert history.best("score", mode)["epoch"] == values.index(best)


def test_the_best_row_is_found_among_figures_that_are_no_numbers() -> None:
    rows = [{"psnr": "high"}, {"psnr": None}, {}, {"psnr": np.float32(3)}, {"psnr": 2}]
    assert ldl.History(rows).best("psnr") is rows[3]
    with pytest.raises(ValueError, match="no epoch"):
        ldl.History(rows[:3]).best("psnr")


def test_a_validation_set_with_a_nan_never_makes_the_best_epoch() -> None:
    ldl.manual_seed(0)
    model = nn.Linear(3, 3)
    held_out = X.copy()
    bad = X.copy()
    bad[3, 1] = nan

    class Sometimes:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            x = bad if self.passes == 3 else held_out
            yield x, held_out

    stopping = ldl.EarlyStopping("val_psnr", patience=99)
    plateau = optim.ReduceLROnPlateau()
    history = ldl.fit(
        model,
        X,
        nn.MSELoss(),
        optim.Adam(model, lr=0.1, schedule=plateau),
        4,
        validation=Sometimes(),
        metrics="psnr",
        callbacks=stopping,
    )
    assert isnan(history["val_loss"][2])
    assert stopping.best_epoch != 3
    assert history.best("val_psnr")["epoch"] != 3
    assert plateau.best is not None


def test_a_figure_of_some_epochs_is_a_column_with_nan_and_empty_fields(tmp_path: Any) -> None:
    rows: list[Any] = [
        {"epoch": 1, "note": 'a, "b"'},
        {"epoch": 2, "score": 0.5},
        {"epoch": 3, "note": "\ud800"},
    ]
    history = ldl.History(rows)
    np.testing.assert_equal(history["score"], [nan, 0.5, nan])
    with pytest.raises(KeyError, match="there are: epoch, note, score"):
        history["loss"]
    history.to_csv(tmp_path / "h.csv")
    text = (tmp_path / "h.csv").read_text()
    assert text == 'epoch,note,score\n1,"a, ""b""",\n2,,0.5\n3,\\ud800,\n'


# ---- what they are made of -----------------------------------------------------------------------


def test_numpys_numbers_make_the_same_schedules_and_callbacks() -> None:
    i, f = np.int64, np.float32
    pairs: list[tuple[Any, Any]] = [
        (optim.StepLR(i(3), f(0.5)), optim.StepLR(3, 0.5)),
        (optim.CosineLR(np.uint8(100), f(0.25)), optim.CosineLR(100, 0.25)),
        (optim.WarmupLR(np.array(4), optim.StepLR(i(3))), optim.WarmupLR(4, optim.StepLR(3))),
        (optim.OneCycleLR(i(20), f(0.25), i(25), f(100)), optim.OneCycleLR(20, 0.25, 25, 100)),
        (optim.TrapezoidLR(i(200), f(0.25), f(0.5)), optim.TrapezoidLR(200, 0.25, 0.5)),
        (
            optim.ReduceLROnPlateau(f(0.5), i(2), f(0.25), f(0.125)),
            optim.ReduceLROnPlateau(0.5, 2, 0.25, 0.125),
        ),
        (ldl.EarlyStopping("loss", i(3), f(0.5)), ldl.EarlyStopping("loss", 3, 0.5)),
    ]
    for theirs, ours in pairs:
        held, own = (
            {k: v for k, v in vars(x).items() if k not in ("_arguments", "after")}
            for x in (theirs, ours)
        )
        assert held == own
        assert [type(v) for v in held.values()] == [type(v) for v in own.values()]
        if isinstance(ours, optim.Schedule):
            assert [theirs(t) for t in (0, 3, 50, 500)] == [ours(t) for t in (0, 3, 50, 500)]


NONSENSE: list[tuple[Any, str]] = [
    (lambda: ldl.EarlyStopping("loss", patience=0), "patience"),
    (lambda: ldl.EarlyStopping("loss", patience=2.5), "patience"),
    (lambda: ldl.EarlyStopping("loss", patience=True), "patience"),
    (lambda: ldl.EarlyStopping("loss", patience="3"), "patience"),
    (lambda: ldl.EarlyStopping("loss", min_delta=nan), "min_delta"),
    (lambda: ldl.EarlyStopping("loss", min_delta=inf), "min_delta"),
    (lambda: ldl.EarlyStopping("loss", min_delta=-1), "min_delta"),
    (lambda: ldl.EarlyStopping("loss", min_delta="small"), "min_delta"),
    (lambda: optim.StepLR(3, nan), "gamma"),
    (lambda: optim.StepLR(3, 1.5), "gamma"),
    (lambda: optim.StepLR(True), "step_size"),
    (lambda: optim.CosineLR(3, nan), "min_factor"),
    (lambda: optim.CosineLR(3, "half"), "min_factor"),
    (lambda: optim.OneCycleLR(3, nan), "pct_start"),
    (lambda: optim.OneCycleLR(3, 0.0), "pct_start"),
    (lambda: optim.OneCycleLR(3, 0.5, inf), "div_factor"),
    (lambda: optim.OneCycleLR(3, 0.5, 25, nan), "final_div_factor"),
    (lambda: optim.TrapezoidLR(3, nan), "warmup"),
    (lambda: optim.TrapezoidLR(3, 0.1, -1), "cooldown"),
    (lambda: optim.ReduceLROnPlateau(nan), "factor"),
    (lambda: optim.ReduceLROnPlateau(0.0), "factor"),
    (lambda: optim.ReduceLROnPlateau(patience=2.7), "patience"),
    (lambda: optim.ReduceLROnPlateau(patience="x"), "patience"),
    (lambda: optim.ReduceLROnPlateau(threshold=nan), "threshold"),
    (lambda: optim.ReduceLROnPlateau(threshold=-0.1), "threshold"),
    (lambda: optim.ReduceLROnPlateau(min_factor=2), "min_factor"),
]


@pytest.mark.parametrize(("build", "name"), NONSENSE)
def test_nonsense_is_refused_by_its_name(build: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must") as error:
        build()
    one_line(error)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["val_acuracy", "accuracy", "val_mse", "Loss"])
def test_a_name_that_no_figure_will_have_is_refused_before_the_first_step(monitor: str) -> None:
    model = nn.Linear(3, 3)
    before = model.state_dict()
    stopping = ldl.EarlyStopping(monitor, mode="max")
    options: Any = {"callbacks": [ldl.EarlyStopping("loss"), stopping], "metrics": "mae"}
    with pytest.raises(ValueError, match=monitor) as error:
        ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 1, validation=X, **options)
    for name in ("epoch", "loss", "mae", "val_loss", "val_mae", "lr", "seconds"):
        assert name in one_line(error)
    np.testing.assert_equal(model.state_dict(), before)


def test_a_figure_that_a_callback_adds_may_be_monitored() -> None:
    model = nn.Linear(3, 3)

    def add(run: ldl.Run) -> None:
        run.history.rows[-1]["score"] = 1.0

    stopping = ldl.EarlyStopping("score", mode="max")
    ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 2, callbacks=[add, stopping])
    assert stopping.best_epoch == 1


@pytest.mark.parametrize("monitor", ["loss", "mse", "val_loss", "val_mse", "lr", "seconds"])
def test_every_figure_of_the_history_may_be_monitored(monitor: str) -> None:
    model = nn.Linear(3, 3)
    stopping = ldl.EarlyStopping(monitor, mode="min")
    options: Any = {"callbacks": stopping, "metrics": "mse", "validation": X}
    history = ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 1, **options)
    assert monitor in history.rows[0]
    assert stopping.best_epoch == 1
