"""Random programs of arrays: views in every order, written to in places, and what is made of them.

`Program(seed)` is a function of two inputs and a module's arrays. It draws its steps from shapes
alone, so that it does the same whenever it is run. Numbers stay within -1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from types import SimpleNamespace
from typing import Any

import numpy as np

from ldl import nn

ROWS, COLUMNS = 6, 4
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "inner": lambda a: np.pad(a, 1)[(slice(1, -1),) * a.ndim],
}


class Arrays(nn.Module):
    """Parameters in some layout, and a state that programs write to."""

    def __init__(self, seed: int, layouts: list[str]) -> None:
        draw = np.random.default_rng([seed, 1])
        shapes = {"w": (ROWS, COLUMNS), "pair": (2, COLUMNS), "b": (COLUMNS,)}
        for name, shape in shapes.items():
            values = (draw.random(shape) * 2 - 1).astype("float32")
            values = LAYOUTS[layouts[draw.integers(len(layouts))]](values)
            setattr(self, name, nn.Parameter(np.zeros(1, "float32")))
            getattr(self, name).data = self.backend.asarray(values) if layouts == ["C"] else values
        self.state = self.backend.asarray(np.zeros((ROWS, COLUMNS), "float32"))


class Program:
    """`program(xp, module, x, y)` gives arrays; `text` tells what it did the last time."""

    def __init__(self, seed: int, steps: int = 9) -> None:
        self.seed, self.steps = seed, steps
        self.text: list[str] = []

    def __call__(self, xp: Any, module: Any, x: Any, y: Any) -> tuple[Any, ...]:
        """The last of what it made, and its state."""
        self.xp, self.draw, self.text = xp, np.random.default_rng([self.seed, 0]), []
        self.pool: list[tuple[Any, bool]] = []
        """Arrays, and whether they may be written to."""
        for given in (x, y, module.w.data, module.pair.data, module.b.data, module.state):
            self.pool.append((given, False))
        self.state = module.state
        for _ in range(self.steps):
            kind = self.choose(KINDS)
            found = kind(self)
            self.text.append(f"{kind.__name__} {self.told}")
            for array, own in found or ():
                self.pool.append((array, own and array.ndim > 0))
        made = [array for array, _ in self.pool[6:]][-5:]
        return (*made, self.state * 1, x * 1)

    # ---- what steps choose from -----------------------------------------------------------------

    told: Any = ""

    def choose(self, things: Any) -> Any:
        return things[int(self.draw.integers(len(things)))]

    def any(self, least: int = 0, most: int = 9) -> tuple[Any, bool]:
        """An array of a number of axes, rather the last one."""
        fitting = [item for item in self.pool if least <= item[0].ndim <= most]
        found = fitting[-1] if self.draw.random() < 0.6 else self.choose(fitting)
        self.told = [i for i, (a, _) in enumerate(self.pool) if a is found[0]], found[0].shape
        return found

    def own(self) -> Any:
        """An array that may be written to, a new one where there is none."""
        fitting = [a for a, own in self.pool if own]
        if not fitting or self.draw.random() < 0.2:
            made = self.any()[0] * 0.5
            self.pool.append((made, made.ndim > 0))
            return made
        found = self.choose(fitting)
        self.told = [i for i, (a, _) in enumerate(self.pool) if a is found], found.shape
        return found

    def like(self, shape: tuple[int, ...]) -> Any:
        """An array or number that can be broadcast to a shape."""
        fitting = [a for a, _ in self.pool if _fits(a.shape, shape)]
        return self.choose([*fitting, 0.25])


def _fits(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(small, shape) == shape
    except ValueError:
        return False


# ---- steps: each gives arrays, and whether they may be written to --------------------------------


def elementwise(p: Program) -> Any:
    a = p.any()[0]
    function = p.choose(["tanh", "negative", "absolute", "square", "positive", "sin"])
    return [(getattr(p.xp, function)(a), True)]


def together(p: Program) -> Any:
    a = p.any()[0]
    b = p.like(a.shape)
    function = p.choose(["add", "subtract", "multiply", "maximum", "minimum"])
    return [(getattr(p.xp, function)(a, b) * 0.5, True)]


def turned(p: Program) -> Any:
    a, own = p.any(2)
    if p.draw.random() < 0.5:
        return [(a.T, own)]
    order = tuple(int(i) for i in p.draw.permutation(a.ndim))
    if p.draw.random() < 0.5:
        return [(a.transpose(order), own)]
    return [(p.xp.moveaxis(a, 0, -1), own), (a.swapaxes(0, -1), own)]


def reshaped(p: Program) -> Any:
    a, own = p.any(1)
    shapes = [s for s in ((-1,), (2, -1), (-1, 4), (2, 3, -1), (6, -1), (-1, 2, 2), (1, -1))]
    fitting = [s for s in shapes if a.size and a.size % abs(int(np.prod(s))) == 0]
    if p.draw.random() < 0.1:
        return [(p.xp.ravel(a), own)]
    return [(a.reshape(p.choose(fitting)), own)]


def sliced(p: Program) -> Any:
    a, own = p.any(1)
    forms: list[Any] = [slice(None, None, -1), slice(1, None), slice(None, None, 2), slice(0, 2)]
    forms += [(Ellipsis, slice(None, None, -1)), (Ellipsis, slice(0, 1)), None]
    if a.ndim > 1:
        forms += [0, -1, (Ellipsis, 0), (slice(None, None, -1), slice(1, None))]
    found = a[p.choose(forms)]
    return [(found, own)] if found.size else None


def odd_views(p: Program) -> Any:
    a, own = p.any(1)
    forms: list[Any] = [
        lambda: (p.xp.expand_dims(a, 0), own),
        lambda: (p.xp.squeeze(a), own),
        lambda: (p.xp.broadcast_to(a, (2, *a.shape)), False),
        lambda: (p.xp.flip(a, 0) if a.ndim else a, False),
    ]
    if a.ndim == 2:
        forms.append(lambda: (p.xp.diagonal(a), False))
    return [p.choose(forms)()]


def copied(p: Program) -> Any:
    a = p.any()[0]
    forms: list[Any] = [
        lambda: a.copy(),
        lambda: p.xp.array(a),
        lambda: p.xp.ascontiguousarray(a) * 1,
        lambda: a.astype("float64").astype("float32"),
        lambda: a.astype("float32"),
        lambda: p.xp.copy(a),
        lambda: p.xp.zeros_like(a) + a,
    ]
    return [(p.choose(forms)(), True)]


def kept_and_changed(p: Program) -> Any:
    """A copy, and one of the two is written to."""
    a = p.own()
    if a.ndim == 0:
        return None
    held = a.copy()
    (a if p.draw.random() < 0.5 else held)[p.choose([Ellipsis, slice(1, None)])] *= 0.5
    return [(held, True)]


def changed(p: Program) -> Any:
    a = p.own()
    if a.ndim == 0:
        return None
    if p.draw.random() < 0.5:
        a *= p.like(a.shape)
    else:
        a *= 0.5
        b = p.like(a.shape)
        a += b * 0.5
    return None


def changed_through_a_view(p: Program) -> Any:
    a = p.own()
    if a.ndim == 0:
        return None
    view = p.choose([lambda: a.T, lambda: a[::-1], lambda: a[..., ::2], lambda: a[1:]])()
    if view.size:
        p.xp.multiply(view, p.like(view.shape), out=view)
    return None


def written(p: Program) -> Any:
    a = p.own()
    if a.ndim == 0:
        return None
    at = p.choose([Ellipsis, slice(None), slice(1, None), (Ellipsis, slice(0, 1)), 0])
    shape = np.empty(a.shape)[at].shape
    a[at] = p.like(shape)
    return None


def shifted(p: Program) -> Any:
    a = p.own()
    if a.ndim == 0:
        return None
    form = int(p.draw.integers(4))
    if form == 0:
        a[1:] = a[:-1]
    elif form == 1:
        a[...] = a[::-1]
    elif form == 2:
        a *= a[0]
    else:
        p.xp.minimum(a[:1], a, out=a)
    return None


def summed(p: Program) -> Any:
    a = p.any(1)[0]
    axes: list[Any] = [None, 0, -1, a.ndim - 1, tuple(range(a.ndim)), *((0, -1),) * (a.ndim > 1)]
    axis, keepdims = p.choose(axes), bool(p.draw.integers(2))
    function = p.choose(["sum", "mean", "max", "min"])
    scale = 1 / a.size if function == "sum" else 1
    return [(getattr(a, function)(axis=axis, keepdims=keepdims) * scale, True)]


def summed_into(p: Program) -> Any:
    a = p.own()
    if a.ndim < 2:
        return None
    small = a * (1 / a.shape[0])
    p.choose([small, a])[...] *= 1 / a.shape[0]
    p.xp.sum(p.choose([small, a]), axis=0, out=a[-1])
    return None


def a_number(p: Program) -> Any:
    s = p.any(1)[0].max() * 0.5
    before = s
    s *= 0.5
    s += 0.1
    return [(s * before, False), (p.any()[0] * s, True)]


def joined(p: Program) -> Any:
    a = p.any(1)[0]
    if a.size > 200:
        return None
    same = [b for b, _ in p.pool if b.shape == a.shape]
    b = p.choose(same)
    function = p.choose(["concatenate", "stack"])
    axis = p.choose([0, -1, None] if function == "concatenate" else [0, -1])
    return [(getattr(p.xp, function)([a, b], axis=axis), True)]


def chosen(p: Program) -> Any:
    a = p.any()[0]
    form = int(p.draw.integers(3))
    if form == 0:
        return [(p.xp.where(a > 0.123, a, p.like(a.shape)), True)]
    if form == 1:
        return [(p.xp.clip(a, -0.3, 0.4), True)]
    return [((a > 0.123) * p.choose([a, a * 0.5]), True)]


def multiplied(p: Program) -> Any:
    a = p.any(2, 2)[0]
    fitting = [b for b, _ in p.pool if b.ndim == 2 and b.shape[0] == a.shape[1]]
    fitting += [b.T for b, _ in p.pool if b.ndim == 2 and b.shape[1] == a.shape[1]]
    return [(p.xp.matmul(a, p.choose(fitting)) * (1 / a.shape[1]), True)] if fitting else None


def multiplied_into(p: Program) -> Any:
    a = p.any(2, 2)[0]
    square = p.xp.matmul(a, a.T) * (1 / a.shape[1])
    p.xp.matmul(square, square.T, out=square)
    square *= 1 / a.shape[0]
    return [(square, True)]


def taken(p: Program) -> Any:
    a = p.any(1)[0]
    order = p.draw.integers(0, a.shape[0], 3)
    return [(a[order], True)]


def remembered(p: Program) -> Any:
    a = p.like(p.state.shape)
    p.state *= 0.5
    if p.draw.random() < 0.5:
        p.state += a * 0.5
    else:
        p.state[1:3] += p.like((2, COLUMNS)) * 0.5
    return None


def flattened(p: Program) -> Any:
    """What NumPy makes in another order, as a vector: a view or a copy, perhaps written to."""
    y = p.xp.tanh(p.any(2)[0].swapaxes(0, -1))
    flat = p.choose([y, y.swapaxes(0, -1), y.T])
    flat = p.choose([flat, flat.copy()]).reshape(-1)
    if p.draw.random() < 0.5:
        flat *= 0.5
    return [(flat * 0.5, True), (y * 0.5, True), (flat, False), (y, False)]


def scaled_by_rows(p: Program) -> Any:
    a = p.any(2)[0]
    rows = p.choose([p.any(2)[0], a * 0.5])
    if rows.shape[0] < 2 or not _fits(rows.shape[1:], a.shape):
        rows = a * 0.5
    return [((a * rows[0] + rows[-1]) * 0.5, True)]


def normalised(p: Program) -> Any:
    a = p.any(2)[0]
    axis = p.choose([0, -1])
    return [((a - a.mean(axis=axis, keepdims=True)) * 0.5, True)]


def chained(p: Program) -> Any:
    a = p.any(1)[0]
    u = a * 0.5
    v = p.xp.tanh(u * u)
    w = (v - u) * 0.5
    b = p.like(a.shape)
    z = w * v + (u * b) * 0.5
    return [(z * 0.5, True), (p.xp.tanh(z - v * w), True)]


def put_together(p: Program) -> Any:
    """An array that is filled, or not, and then written part by part; perhaps read before."""
    a = p.any(1)[0]
    if a.size > 200:
        return None
    made = p.choose([p.xp.zeros, p.xp.ones, p.xp.empty])((2 * a.shape[0], *a.shape[1:]), a.dtype)
    if p.draw.random() < 0.5:
        made[...] = 0.25
    parts = [slice(0, a.shape[0]), slice(a.shape[0], None)]
    count = p.choose([1, 2, 2])
    held = []
    for part in parts[:count]:
        made[part] = a if p.draw.random() < 0.5 else a * 0.5
        if p.draw.random() < 0.2:
            made[: a.shape[0]] *= 0.5
            held.append((made[: a.shape[0]] * 0.5, True))
    return [*held, (made if count == 2 else made[: a.shape[0]], True)]


def arranged(p: Program) -> Any:
    a = p.any(1)[0]
    if a.size > 200:
        return None
    xp, n = p.xp, int(p.draw.integers(-3, 4))
    forms: list[Any] = [
        lambda: xp.pad(a, ((1, abs(n)), *((0, 1),) * (a.ndim - 1)), constant_values=0.5),
        lambda: xp.roll(a, n, axis=p.choose([None, 0, -1])),
        lambda: xp.roll(a, (n, 1), axis=(0, -1)),
        lambda: xp.tile(a, p.choose([2, (2, 1)])),
        lambda: xp.repeat(a, 2, axis=p.choose([None, 0, -1])),
        lambda: xp.array_split(a, 2, axis=0)[0] * 1,
        lambda: xp.broadcast_to(a[:1], (3, *a.shape[1:])) * 1,
        lambda: xp.std(a, axis=0),
    ]
    return [(p.choose(forms)(), True)]


def placed(p: Program) -> Any:
    """Numbers put and added at places that a computed array names."""
    a = p.own()
    if a.ndim == 0 or not a.size:
        return None
    rows, b = a.shape[0], p.any(1)[0]
    at = (p.xp.absolute(b.reshape(-1)[:3]) * 7).astype("int64") % rows
    form = int(p.draw.integers(4))
    if form == 0:
        a[at] = 0.25
    elif form == 1:
        a *= 0.125
        p.xp.add.at(a, at, 0.125)
    elif form == 2:
        a[a > 0.3] = -0.25
    return [(a[at] * 0.5, True), (p.xp.take(a, at, axis=-1 if a.shape[-1] >= rows else 0), True)]


def axes_of(p: Program, a: Any) -> Any:
    """Some axes of an array, now and then all, and now and then by their numbers from the end."""
    count = int(p.draw.integers(1, a.ndim + 1))
    found = sorted(int(i) for i in p.draw.permutation(a.ndim)[:count])
    return tuple(i - a.ndim * int(p.draw.integers(2)) for i in found)


def reduced(p: Program) -> Any:
    """Reductions over any axes, of arrays in any order, and what is made of them."""
    a = p.any(2)[0]
    a = p.choose([a, a.swapaxes(0, -1), a[::-1]])
    axes, keepdims = axes_of(p, a), bool(p.draw.integers(2))
    b = p.xp.tanh(a)
    found = [getattr(x, p.choose(["max", "min", "mean"]))(axes, keepdims=keepdims) for x in (a, b)]
    return [((found[0] - found[1]) * 0.5, True), (b, True), ((a > 0).sum(axes) * 0.01, True)]


def softened(p: Program) -> Any:
    """Softmax and its gradient over any axis, or its log."""
    a = p.any(1)[0]
    axis = int(p.draw.integers(a.ndim))
    below = a - a.max(axis=axis, keepdims=True)
    e = p.xp.exp(below)
    total = e.sum(axis=axis, keepdims=True)
    if p.draw.random() < 0.4:
        return [((below - p.xp.log(total)) * 0.2, True)]
    y = e / total
    g = p.like(a.shape)
    d = y * (g - (g * y).sum(axis=axis, keepdims=True))
    return [(y, True), (d * 0.5, True), *([(total * 0.05, True)] * int(p.draw.integers(2)))]


def standardised(p: Program) -> Any:
    """A normalisation over any axes, its gradient, and what it learns by."""
    a = p.any(2)[0]
    axes = axes_of(p, a)
    others = tuple(i for i in range(a.ndim) if i not in {j % a.ndim for j in axes})
    mean = a.mean(axis=axes, keepdims=True)
    c = a - mean
    variance = p.xp.square(c).mean(axis=axes, keepdims=True)
    r = 1 / p.xp.sqrt(variance + 1)
    h = c * r
    w = p.like(a.shape)
    y = h * w + 0.1
    g = p.xp.tanh(a) * 0.5
    q = g * w
    d = r * (q - q.mean(axis=axes, keepdims=True) - h * (q * h).mean(axis=axes, keepdims=True))
    made = [(y * 0.5, True), (d * 0.3, True), (mean, True)]
    if others:
        made.append(((g * h).sum(axis=others) * (1 / a.size), True))
    return made


def moved(p: Program) -> Any:
    """A running mean, changed in place, of what is normalised with it."""
    a = p.any(2)[0]
    own = a.mean(axis=0) * 0.5
    mean = a.mean(axis=0)
    own *= 0.9
    own += 0.1 * mean
    p.state[...] *= 0.9
    return [((a - mean) * 0.5, True), (own, True), ((a - mean * own).sum(axis=0) * 0.1, True)]


def spread(p: Program) -> Any:
    """An array times parts of itself, along any axis."""
    a = p.any(2)[0]
    axis = int(p.draw.integers(a.ndim))
    at: list[Any] = [slice(None)] * a.ndim
    at[axis] = slice(0, 1)
    b = a[tuple(at)]
    made = p.xp.empty(a.shape, dtype=a.dtype) if p.draw.random() < 0.3 else a * 0.5
    made[...] = a * b
    made[tuple(at)] = b * 0.5
    return [(made, True), (a.swapaxes(0, axis) * 0.5 - b.swapaxes(0, axis), False)]


KINDS = [
    *(put_together, arranged, placed),
    *(reduced, softened, softened, standardised, standardised, moved, spread),
    *(flattened, scaled_by_rows, normalised, chained),
    *(elementwise, together, turned, turned, reshaped, reshaped, sliced, sliced, odd_views),
    *(copied, kept_and_changed, changed, changed_through_a_view, written, shifted),
    *(summed, summed_into, a_number, joined, chosen, multiplied, multiplied_into, taken),
    remembered,
]


# ---- inputs and comparison -----------------------------------------------------------------------


def inputs(seed: int) -> Iterator[tuple[Any, Any]]:
    """Arrays, new ones in several layouts and the same ones with other numbers."""
    draw = np.random.default_rng([seed, 2])

    def new(*shape: int) -> Any:
        return (draw.random(shape) * 2 - 1).astype("float32")

    yield new(ROWS, COLUMNS), new(2, 3, 4)
    x, y = new(ROWS, COLUMNS), new(2, 3, 4)
    yield x, y
    x *= -0.5
    y[:, ::-1] *= 0.7
    yield x, y
    layout = LAYOUTS[list(LAYOUTS)[draw.integers(len(LAYOUTS))]]
    x, y = layout(new(ROWS, COLUMNS)), layout(new(2, 3, 4))
    yield x, y
    x *= 0.8
    y *= -1
    yield x, y
    x = new(ROWS, COLUMNS)
    x.flags.writeable = False
    yield x, y


def compare(program: Program, backend: Any, layouts: list[str], monkeypatch: Any = None) -> bool:
    """Whether a program was recorded; AssertionError where it gave other numbers than NumPy's."""
    module = Arrays(program.seed, layouts)
    own = SimpleNamespace(
        **{
            n: SimpleNamespace(data=np.asarray(p.data))
            for n, p in vars(module).items()
            if isinstance(p, nn.Parameter)
        }
    )
    own.state = np.zeros((ROWS, COLUMNS), "float32")

    def function(module: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return copy(program)(module.backend.xp, module, x, y)  # which holds what it is doing

    recording: Any = None
    for turn, (x, y) in enumerate(inputs(program.seed)):
        given = [a if layouts != ["C"] else backend.asarray(a) for a in (x, y)]
        if recording is None:
            recording = backend.record(function, (module,), given)
            if not recording.played:
                return False
        with backend.together():
            found = recording(*given)
        expected = program(np, own, np.ascontiguousarray(x), np.ascontiguousarray(y))
        for i, (mine, theirs) in enumerate(
            zip((*found, module.state), (*expected, own.state), strict=True)
        ):
            mine, theirs = np.asarray(backend.to_numpy(mine)), np.asarray(theirs)
            assert mine.shape == theirs.shape, (
                f"program {program.seed}: {mine.shape} {theirs.shape}"
            )
            close = np.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
            assert close, f"program {program.seed}, turn {turn}, result {i}:\n" + "\n".join(
                program.text
            )
    return True
