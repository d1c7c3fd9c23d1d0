"""A trace computes nothing: what it sees lies as NumPy's results do, and holds no numbers."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from ldl.compiler import shapes
from played import plan_of


def lies(x: Any) -> Any:
    """What a trace must know of a result."""
    array = np.asarray(x)
    strides = [s for s, n in zip(array.strides, array.shape, strict=True) if n > 1]
    return array.shape, strides, array.dtype, isinstance(x, np.ndarray)


def drawn(draw: Any, shape: Any, kinds: str = "fdl?") -> Any:
    """Ones with axes in any order, some backwards, some with gaps."""
    order = draw.permutation(len(shape))
    kind = draw.choice([*kinds])
    array = np.ones([shape[i] for i in order], kind).transpose(np.argsort(order))
    if draw.random() < 0.2 and shape:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    turned = [slice(None, None, -1) if draw.random() < 0.2 else slice(None) for _ in shape]
    return array[(*turned, ...)]


@pytest.mark.parametrize("seed", range(40))
def test_results_lie_as_numpy_s(seed: int) -> None:
    draw = np.random.default_rng(seed)
    for _ in range(25):
        shape = tuple(
            int(n) for n in draw.integers(0 if seed % 10 == 0 else 1, 5, draw.integers(5))
        )
        a, c = drawn(draw, shape), drawn(draw, shape, "?")
        part = tuple(n if draw.random() < 0.7 else 1 for n in shape)[
            draw.integers(len(shape) + 1) :
        ]
        b = draw.choice([2.0, 3]) if draw.random() < 0.2 else drawn(draw, part)
        b = b.item() if isinstance(b, np.generic) else b
        ufunc = [np.add, np.maximum, np.multiply, np.greater, np.divide][draw.integers(5)]
        with np.errstate(all="ignore"):
            assert lies(shapes.computed(ufunc, (a, b), None, {})) == lies(ufunc(a, b))
        assert lies(shapes.chosen(c, a, b)) == lies(np.where(c, a, b))
        if not shape:
            continue
        axes = tuple(
            int(i) for i in draw.permutation(len(shape))[: draw.integers(1, len(shape) + 1)]
        )
        told = axes, None, None, bool(draw.integers(2))
        assert lies(shapes.reduced(np.add, a, axes, *told)) == lies(np.add.reduce(a, *told))
        if len(shape) > 1:
            rows = shape[:-2] if draw.random() < 0.6 else ()
            left, right = drawn(draw, shape, "f"), drawn(draw, (*rows, shape[-1], 3), "f")
            found = shapes.computed(np.matmul, (left, right), None, {})
            assert lies(found) == lies(left @ right)


def test_a_trace_holds_no_numbers() -> None:
    seen: SimpleQueue[Any] = SimpleQueue()  # which a trial does not look into

    def function(xp: Any, x: Any) -> Any:
        made = [
            xp.exp(x),
            x @ x.T + 1,
            (x + 1).sum(axis=0),
            xp.where(x > 0, 1.0, x + 2),
            (x + 1) * 2,
        ]
        made.append(made[0].max(axis=1) + made[1].astype("float64").sum())
        for y in made:
            seen.put(getattr(y, "array", None))
        return tuple(made)

    x = np.random.default_rng(0).random((6, 4)).astype("float32")
    plan = plan_of(function, x)
    assert seen.qsize() == 12
    assert not any(np.any(seen.get()) for _ in range(12))
    plan(x)
    for mine, right in zip(plan.results, function(np, x), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5)


def test_what_must_see_numbers_sees_them() -> None:
    def function(xp: Any, x: Any) -> Any:
        return xp.linalg.inv(x @ x.T + 4) + xp.linalg.cholesky(x @ x.T)

    x = np.random.default_rng(0).random((4, 6)).astype("float32")
    plan = plan_of(function, x)
    plan(x)
    np.testing.assert_allclose(plan.results[0], function(np, x), rtol=1e-3, atol=1e-3)


def test_errors_of_shapes_and_types_are_numpy_s() -> None:
    a, b, whole = np.ones((3, 4)), np.ones((5, 4)), np.ones((3, 4), "int64")
    for ufunc, inputs, out in (
        (np.add, (a, b), None),
        (np.matmul, (a, b), None),
        (np.add, (a, a), whole),
        (np.add, (a, a), b),
        (np.matmul, (a, b.T), a),
    ):
        with pytest.raises((ValueError, TypeError)) as right:
            ufunc(*inputs, out=out)
        with pytest.raises(right.type):
            shapes.computed(ufunc, inputs, out, {})
