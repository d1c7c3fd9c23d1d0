"""explain says what a plan does: what is fused, which memory is shared, what is not recorded."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

X = np.random.default_rng(0).random((8, 12), dtype=np.float32)


def said(what: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    ldl.explain(what)
    return capsys.readouterr().out.splitlines()


def test_a_step_is_its_products_and_loops(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.AutoEncoder.symmetric(12, [6, 3])
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
    assert said(step, capsys) == ["nothing is recorded yet: call it once"]
    step(X, X)
    step(X[:5], X[:5])
    lines = said(step, capsys)
    assert [line for line in lines if line.startswith("(5, 12), (5, 12): ")]
    whole = lines[: next(i for i, line in enumerate(lines) if line.startswith("(5"))]
    assert sum(" product " in line for line in whole) == 4 + 7
    if not any(" loop " in line for line in whole):  # without llvmlite each is a call of NumPy's
        assert re.search(r"maximum +m1 \(8, 6\) <- m0 \(8, 6\)", "\n".join(whole))
        return
    assert re.search(
        r"loop +m1 \(8, 6\) <- m0 \(8, 6\), given \(6\): add, maximum", "\n".join(whole)
    )
    memory = re.findall(r"product +(m\d+) \(8, 6\)", "\n".join(whole))
    assert len(set(memory)) < len(memory), "products that are never alive together share memory"


def test_a_predictor_says_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    predictor = ldl.Predictor(nn.Sequential(nn.Linear(12, 4), nn.Tanh()))
    assert said(predictor, capsys) == ["nothing is recorded yet: call it once"]
    predictor(X)
    lines = said(predictor, capsys)
    assert lines[0].startswith("(8, 12): ")
    assert any("product" in line for line in lines)


class Looks(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else 2 * x

    def backward(self, grad: Any) -> Any:
        return grad


def test_what_is_not_recorded_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(12, 12), Looks())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model))
    with pytest.warns(UserWarning, match="layer by layer"):
        step(X, X)
    (line,) = said(step, capsys)
    assert "the layers' own code, one after another: Looks() looks at a number" in line


def test_a_step_that_is_not_to_be_recorded_is_the_layers_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Sequential(nn.Linear(12, 12))
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model), record=False)
    step(X, X)
    assert said(step, capsys) == ["(8, 12), (8, 12): the layers' own code, one after another"]
