"""Whatever is interrupted, wherever, is as it was or as it would have become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from interrupts import at_every_line, interrupt
from ldl import nn
from ldl_numpy import blocks

ROWS = list(np.random.default_rng(3).random((40, 8, 6)).astype("float32"))


@pytest.fixture(params=["numba", "blocks"])
def how(request: Any, monkeypatch: Any) -> str:
    """With Numba, and without it in blocks of a few elements."""
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
        monkeypatch.setattr(blocks, "BLOCK", 7)
        monkeypatch.setattr(blocks, "LEAST", 2)
    else:
        pytest.importorskip("numba")
    return str(request.param)


def network() -> nn.Sequential:
    ldl.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Dropout(0.3), nn.Linear(5, 6))


def test_a_prediction_that_was_interrupted_answers_for_no_other_input(how: str) -> None:
    model = network()
    predictor = ldl.Predictor(model)
    expected = [predictor(x) for x in ROWS[:3]]
    np.testing.assert_array_equal(predictor(ROWS[0]), expected[0])

    def check(_: Any, where: str) -> None:
        for i in (1, 0, 2):
            np.testing.assert_array_equal(predictor(ROWS[i]), expected[i], err_msg=where)
        predictor(ROWS[0])

    assert at_every_line(lambda: None, lambda _: predictor(ROWS[1]), check) > 5
    for first in (0, 2):  # the next call may be about the array before or about another
        line = 0
        while where := interrupt(lambda: predictor(ROWS[1]), line):
            np.testing.assert_array_equal(predictor(ROWS[first]), expected[first], err_msg=where)
            line += 1
            predictor(ROWS[0])
