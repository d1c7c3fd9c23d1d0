"""Schedules are functions of the step; the plateau one of what it is told."""

from importlib.util import find_spec
from math import cos, pi

import numpy as np
import pytest

from ldl import nn, optim
from ldl.optim import CosineLR, OneCycleLR, ReduceLROnPlateau, StepLR, WarmupLR


def test_values_at_the_corners():
    step = StepLR(3, gamma=0.5)
    assert [step(t) for t in (0, 2, 3, 6)] == [1, 1, 0.5, 0.25]
    cosine = CosineLR(10, min_factor=0.1)
    assert [cosine(t) for t in (0, 5, 10, 99)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert cosine(3) == pytest.approx(0.1 + 0.9 * (1 + cos(0.3 * pi)) / 2)
    warm = WarmupLR(4, after=StepLR(2, 0.5))
    assert [warm(t) for t in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5]
    cycle = OneCycleLR(100, pct_start=0.25, div_factor=10, final_div_factor=100)
    assert [cycle(t) for t in (0, 24, 99, 500)] == pytest.approx([0.1, 1, 0.001, 0.001])
    assert max(map(cycle, range(100))) == 1
    table = optim.TrapezoidLR(100, warmup=0.04, cooldown=0.2)
    assert [table(t) for t in (0, 3, 50, 80, 90, 100, 500)] == pytest.approx(
        [0.25, 1, 1, 1, 0.5, 0, 0]
    )


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (StepLR(3, 0.5), lambda s, o: s.StepLR(o, 3, 0.5)),
        (CosineLR(20), lambda s, o: s.CosineAnnealingLR(o, 20)),
        (OneCycleLR(20), lambda s, o: s.OneCycleLR(o, 0.1, total_steps=20)),
    ],
    ids=["step", "cosine", "one-cycle"],
)
def test_factors_agree_with_pytorch(mine, theirs):
    import torch

    rival = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = theirs(torch.optim.lr_scheduler, rival)
    for t in range(20):
        assert 0.1 * mine(t) == pytest.approx(rival.param_groups[0]["lr"], abs=1e-12)
        rival.step()
        if t < 19:
            schedule.step()


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_plateau_agrees_with_pytorch(mode):
    import torch

    rival = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(rival, mode, factor=0.5, patience=2)
    mine = ReduceLROnPlateau(0.5, patience=2, mode=mode)
    values = np.random.default_rng(0).normal(2, 1, size=60)
    factors = set()
    for value in values:
        mine.report(float(value))
        theirs.step(float(value))
        factors.add(mine(0))
        assert mine(0) == pytest.approx(rival.param_groups[0]["lr"])
    assert len(factors) > 5


def test_the_plateau_reduces_once_per_patience_and_goes_on_from_its_state():
    schedule = ReduceLROnPlateau(0.1, patience=1, min_factor=0.05)
    for value in (1.0, 1.0, 1.0):
        schedule.report(value)
    assert schedule(0) == pytest.approx(0.1)
    other = ReduceLROnPlateau(0.1, patience=1, min_factor=0.05)
    other.load_state_dict(schedule.state_dict())
    for value in (float("nan"), 1.0):
        schedule.report(value)
        other.report(value)
    assert schedule(0) == other(0) == 0.05


def test_an_optimizer_multiplies_every_groups_rate_by_the_schedule():
    p, q = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    groups = [{"params": [p], "lr": 1.0}, {"params": [q], "lr": 2.0}]
    optimizer = optim.SGD(groups, schedule=StepLR(1, 0.5))
    rates = []
    for _ in range(3):
        rates.append(optimizer.lr)
        optimizer.zero_grad()
        p.accumulate(np.ones(1))
        q.accumulate(np.ones(1))
        optimizer.step()
    assert rates == [1, 0.5, 0.25]
    assert (p.data[0], q.data[0]) == (-1.75, -3.5)


@pytest.mark.parametrize(
    "build",
    [
        lambda: StepLR(0),
        lambda: StepLR(5, gamma=0),
        lambda: CosineLR(2.5),
        lambda: CosineLR(5, min_factor=2),
        lambda: OneCycleLR(10, pct_start=1.0),
        lambda: OneCycleLR(10, div_factor=0.5),
        lambda: ReduceLROnPlateau(factor=1.0),
        lambda: ReduceLROnPlateau(mode="best"),
        lambda: ReduceLROnPlateau(patience=-1),
        lambda: WarmupLR(-1),
        lambda: optim.TrapezoidLR(0),
        lambda: optim.TrapezoidLR(10, cooldown=1.5),
    ],
)
def test_nonsense_is_refused(build):
    with pytest.raises(ValueError, match="must"):
        build()


@pytest.mark.parametrize("value", [None, "x", np.ones(2), 1j], ids=repr)
def test_a_function_that_gives_no_number_is_named(value):
    def rate(step):
        return value

    optimizer = optim.SGD(nn.Linear(2, 2), schedule=rate)
    with pytest.raises(TypeError, match=r"LambdaLR\(function=.*rate\) gave .* at step 0") as error:
        optimizer.step()
    assert "\n" not in str(error.value)
