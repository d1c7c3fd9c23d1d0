"""What NumPy's arrays do, traced and played: the same numbers, or the layers' own code.

Every function is given other numbers several times over, in new arrays and in the same one, so that
what was noted down once and is read for ever shows.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from ldl import nn
from ldl.compiler.operations import CannotTraceError, Op, Ref, Trace
from ldl.compiler.plan import Plan
from ldl_cupy.record import Hosts
from played import WAYS, compared, gathered, inputs, needs_a_compiler


def twice(x: Any) -> Any:
    return x * 2


def result_in_fortran_order(xp: Any, m: Any, x: Any) -> Any:
    y = xp.tanh(x.reshape(-1, 2, 2).swapaxes(1, 2))
    return y.swapaxes(1, 2).reshape(-1, 4) * m.w.data


def transposed_and_flat(xp: Any, m: Any, x: Any) -> Any:
    return xp.exp(x.T).T.reshape(-1) * 2, xp.exp(x.T).reshape(-1) * 2


def axes_moved(xp: Any, m: Any, x: Any) -> Any:
    y = twice(xp.moveaxis(x.reshape(2, 3, 4), 0, 2))
    return y.transpose(1, 2, 0).reshape(6, 4) + 1, xp.expand_dims(y, 1), xp.squeeze(y[:1])


def written_through_a_squeezed_view(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    view = xp.squeeze(y[1:2])
    view += 1
    return y * 1


def written_through_views_of_views(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    y.T[1:3][::-1][...] = x[::-1, 1:3].T
    y[::2, ::-1] *= 3
    return y + 1, y.sum(axis=0)


def shifted_over_itself(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    y[1:] = y[:-1]
    y[...] = y[::-1]
    return y * 1


def two_rows_of_one_parameter(xp: Any, m: Any, x: Any) -> Any:
    return x * m.pair.data[0] + m.pair.data[1]


def minus_its_own_first_row(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    y -= y[0]
    return y * 1


def an_array_of_an_array(xp: Any, m: Any, x: Any) -> Any:
    return xp.array(x) * 2, xp.asarray(x) + 1, xp.array(x, dtype="float64")


def filled_with_a_number(xp: Any, m: Any, x: Any) -> Any:
    total = x.sum()
    return xp.full((3,), total) * 2, xp.full_like(x, 2) + total, xp.zeros_like(x) + total


def numbers_are_not_changed_in_place(xp: Any, m: Any, x: Any) -> Any:
    total = x.sum()
    before = total
    total += 1
    total *= 3
    return (x * total + before,)


def product_into_its_operand(xp: Any, m: Any, x: Any) -> Any:
    y = xp.matmul(x.T, x)
    xp.matmul(y, y.T, out=y)
    return y * 1


def sum_into_its_operand(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    y.sum(axis=0, out=y[0])
    return y * 1


def sum_into_a_view(xp: Any, m: Any, x: Any) -> Any:
    y = xp.ones_like(x)
    xp.sum(x, axis=0, out=y[2])
    xp.add(x.T, 1, out=y.T) if x is None else xp.add(x[:2].T, 1, out=y[3:5].T)
    return y * 1


def means(xp: Any, m: Any, x: Any) -> Any:
    whole = (x * 10).astype("int64")
    half = (x * 20000).astype("float16")
    return x.mean(), xp.mean(x, axis=0), whole.mean(axis=1), (x > 0).mean(0), half.mean(axis=0)


def reductions(xp: Any, m: Any, x: Any) -> Any:
    y = x.reshape(2, 3, 4)
    return (
        y.sum(axis=(0, 2)),
        xp.max(y, axis=1, keepdims=True),
        y.T.min(axis=-1),
        y.sum(axis=1, dtype="float64"),
        xp.sum(y[:, ::-1, 1:], axis=0),
    )


def matrix_times_vector(xp: Any, m: Any, x: Any) -> Any:
    return x[:, :1] @ x[:1, 0] if False else xp.matmul(x[:, :1], x[0, :1]), x[:, :1] @ x[:1, :]


def joined(xp: Any, m: Any, x: Any) -> Any:
    return (
        xp.concatenate([x, x.T.reshape(6, 4)], axis=1),
        xp.concatenate([x[:2], x[::-1]], axis=None) * 2,
        xp.stack([x, x * 2], axis=-1),
        xp.stack([x[0], m.pair.data[1]]),
    )


def chosen(xp: Any, m: Any, x: Any) -> Any:
    return xp.where(x > 0.1, x, 1), xp.where(x - x, 2.0, x), xp.where(x[0] > 0, x, m.w.data)


def clipped(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    return x.clip(-0.1, 0.2), xp.clip(x, x.T.reshape(6, 4), 1), xp.clip(y, 0, 1, out=y) * 3


def types(xp: Any, m: Any, x: Any) -> Any:
    whole = (x * 10).astype("int64")
    return (
        whole * 2 + 1,
        whole / 3,
        (whole // 2) * 1.5,
        (x > 0) * 2.0,
        x.astype(bool) * 1.0,
        whole**2,
        x.astype("float16") * 3,
        whole.astype("int32") + 1,
        x.astype("float32", copy=False) + 1,
    )


def powers(xp: Any, m: Any, x: Any) -> Any:
    y = xp.absolute(x) + 1
    y **= 2
    whole = (x * 10).astype("int64")
    return y**0.5, y**-1, 2**x, whole**2.0, x ** np.float64(2), y**1.5


def other_type_in_place(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    big = xp.full(x.shape, 1e30, dtype="float64")
    xp.multiply(big, x * 1e-20, out=y)
    y[...] = x.astype("float64") * 2
    y += big * 1e-30
    whole = xp.zeros(x.shape, dtype="int64")
    whole[...] = x * 10
    return y * 1, whole + 1


def overflows_only_in_the_narrow_type(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    xp.multiply(x.astype("float64") * 1e300, 1e-300, out=y)
    return y * 1


def axes_of_length_one(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    y[0] = x[1:2]
    y[1] = 3
    y[2] = [1.0, 2.0, 3.0, 4.0]
    y[3, 1] = x[0, 0]
    y[np.int64(4)][:2] = 5
    return y * 1


def gathered_by_indices(xp: Any, m: Any, x: Any) -> Any:
    return x[[2, 0, 1]] * 2, x[:, np.array([1, 1])], x[x.argmax(axis=0)], x[1, None, ::-1]


def contiguous(xp: Any, m: Any, x: Any) -> Any:
    fortran = (x * 2).copy("F")
    return (
        xp.ascontiguousarray(x.T).reshape(-1) * 2,
        x.T.copy().reshape(8, 3, order="C"),
        xp.copy(x.T) + 1,
        fortran.T.reshape(-1) + fortran.copy(order="K").reshape(-1),
    )


def positional_outs(xp: Any, m: Any, x: Any) -> Any:
    y = twice(x)
    xp.add(y, 1, y)
    xp.matmul(y.T, x, xp.zeros((4, 4), dtype="float32"))
    return y * 1


def filled_part_by_part(xp: Any, m: Any, x: Any) -> Any:
    y, z = xp.empty((7, 9), dtype="float32"), xp.empty_like(x)
    for i in range(7):
        y[i, :4] = x[i % 6] * 2
        y[i, 4:] = i
    xp.multiply(x, 2, out=z)
    return y * 1, z * 1


def shapes_and_sizes(xp: Any, m: Any, x: Any) -> Any:
    return x / x.size + x.shape[0] * x.ndim


def broadcast_and_changed(xp: Any, m: Any, x: Any) -> Any:
    y = x * 2
    view = xp.broadcast_to(y[0], (6, 4))
    y += 1
    return view * 2


def diagonal_and_changed(xp: Any, m: Any, x: Any) -> Any:
    y = x * 2
    view = xp.diagonal(y)
    y += 1
    return view * 2, x.diagonal(1)


def arrays_of_numbers(xp: Any, m: Any, x: Any) -> Any:
    s = x.sum()
    made = [s.reshape(1), s[None], xp.expand_dims(s, 0), xp.atleast_1d(s), xp.asarray(s)]
    t, u = s.astype("float64"), s.copy()
    before = t, u
    t += 1
    u += 1
    a = x.max()[None]
    a *= 2
    return s, *made, xp.broadcast_to(s, (2, 3)) * 2, t, u, *before, a


def vectors_of_what_lies_apart(xp: Any, m: Any, x: Any) -> Any:
    y = x * 1
    apart, back, row, turned = y[0, ::2].ravel(), y[1, ::-1].ravel(), y[2:4].ravel(), y.T.ravel()
    for view in (apart, back, row, turned):
        view += 1
    return y, apart, back, row, turned, xp.ravel(y[::2, 0]) * 2


def parameter_views(xp: Any, m: Any, x: Any) -> Any:
    w = m.w.data
    return x + w.T.reshape(6, 4), x @ w.T, w[::-1] * x, w.reshape(3, 8).T.reshape(-1) * 2


PLAYED = [f for f in list(globals().values()) if getattr(f, "__code__", None)]
PLAYED = [f for f in PLAYED if f.__code__.co_varnames[:3] == ("xp", "m", "x")]


@needs_a_compiler
@pytest.mark.parametrize("function", PLAYED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_played(function: Any, way: str, monkeypatch: Any) -> None:
    with gathered(way, monkeypatch) as backend:
        assert compared(function, backend)


# What is not played: it is not known what else changes, or it is not the same from step to step.


def written_after_a_reshape_that_may_copy(x: Any, xp: Any) -> Any:
    y = xp.tanh(x.reshape(-1, 2, 2).swapaxes(1, 2))
    flat = y.swapaxes(1, 2).reshape(-1, 4)
    y += 1
    return flat * 2


def a_reshape_that_may_copy_is_written(x: Any, xp: Any) -> Any:
    y = xp.exp(x.T)
    y.T.reshape(-1)[2:5] = 7
    return y * 2


def one_of_two_reshapes_that_may_copy_is_written(x: Any, xp: Any) -> Any:
    y = xp.tanh(x.T)
    first, second = y.T.reshape(-1), y.T[:3].reshape(-1)
    first += 1
    return second * 2


def an_array_of_a_number_is_written(x: Any, xp: Any) -> Any:
    s = x.sum()
    a = s[None]
    a += 1
    return s * a


def one_of_two_arrays_of_a_number_is_written(x: Any, xp: Any) -> Any:
    s = x.sum()
    a, b = xp.atleast_1d(s), xp.asarray(s)
    a += 1
    return b * 2


def input_changed(x: Any, xp: Any) -> Any:
    x *= 2
    return x + 1


def sum_in_an_array_of_ones_own(x: Any, xp: Any) -> Any:
    total = np.zeros((6, 4), "float32")
    np.add(total, x, out=total)
    return total + x


def ones_own_array_changed_on_the_way(x: Any, xp: Any) -> Any:
    row = np.ones(4, "float32")
    y = x * row
    row[1] = 3
    return y + x * row


def ones_own_array_changed_afterwards(x: Any, xp: Any) -> Any:
    below = xp.tri(4, dtype="float32")
    y = x @ below
    below[2, 2] = 9
    return y


def counted(x: Any, xp: Any) -> Any:
    return xp.bincount((x[:, 0] * 9 + 9).astype("int64")) / 2


def without_some(x: Any, xp: Any) -> Any:
    return xp.delete(x, (xp.abs(x[:2, 0]) * 5).astype("int64"), axis=0) * 2


def averaged_in_whole_numbers(x: Any, xp: Any) -> Any:
    return x.mean(axis=0, dtype="int64")


def written_by_a_function(x: Any, xp: Any) -> Any:
    y = x * 2
    np.nan_to_num(y, copy=False, nan=1.0)
    np.cumsum(x, 0, None, y)
    return y * 2


def joined_into(x: Any, xp: Any) -> Any:
    y = xp.zeros((12, 4), dtype="float32")
    xp.concatenate([x, x], out=y)
    return y * 2


def begun_with_a_number(x: Any, xp: Any) -> Any:
    return np.add.reduce(x, 0, initial=5.0)


def two_results(x: Any, xp: Any) -> Any:
    return divmod(x, 0.3)[1]


def a_list_of_numbers(x: Any, xp: Any) -> Any:
    return xp.array([x.sum(), x.max()]) if xp is np else x[0, :2] * xp.array([x.sum(), 1.0])


REFUSED = [f for f in list(globals().values()) if getattr(f, "__code__", None)]
REFUSED = [f for f in REFUSED if f.__code__.co_varnames[:2] == ("x", "xp")]


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", ["loops", "one by one"])
def test_left_to_the_layers_own_code(function: Any, way: str, monkeypatch: Any) -> None:
    with gathered(way, monkeypatch) as backend, pytest.warns(UserWarning, match="layer by layer"):
        assert not compared(lambda xp, m, x: function(x, xp), backend)


@pytest.mark.parametrize("reads", [lambda x, held: x * held, lambda x, held: held])
def test_what_another_trace_left_in_a_global_is_not_read(reads: Any) -> None:
    left: SimpleQueue[Any] = SimpleQueue()  # which a trial does not look into
    x = next(inputs())
    backend, parts = ldl.get_backend(), (nn.Identity(),)
    assert backend.record(lambda m, x: (left.put(x * 2) or x * 3,), parts, (x,)).played
    assert not backend.record(lambda m, x: (reads(x, left.get()),), parts, (x,)).played


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int64", "float32"])
@pytest.mark.parametrize("exponent", [2, 2.0, 1, 3, 0.5, True])
def test_powers_are_of_numpys_type(kind: str, exponent: Any) -> None:
    def function(m: Any, x: Any) -> Any:
        y = (x > 0.5) if kind == "bool" else (abs(x) * 9).astype(kind)
        return (y**exponent,)

    x = next(inputs())
    (right,) = function(None, x)
    (found,) = ldl.get_backend().record(function, (nn.Identity(),), (x,))(x)
    assert found.dtype == right.dtype
    np.testing.assert_allclose(found, right, rtol=1e-6)


def test_a_number_is_not_written_to() -> None:
    def function(module: Any, x: Any) -> Any:
        total = x.sum()
        total[...] = 1
        return (x + total,)

    recording = ldl.get_backend().record(function, (nn.Identity(),), (next(inputs()),))
    with pytest.raises(TypeError, match="does not support item assignment"):
        recording(next(inputs()))


class Square:
    """A ufunc of one's own: a cube, by the name of one of NumPy's."""

    __name__, nout, signature = "square", 1, None
    resolve_dtypes = np.square.resolve_dtypes

    def __call__(self, x: Any, out: Any = None) -> Any:
        return np.power(x, 3, out=out)


def test_a_function_is_not_known_by_its_name_alone() -> None:
    cube = Square()

    def function(module: Any, x: Any) -> Any:
        return (x.__array_ufunc__(cube, "__call__", x) * 2,)

    x = next(inputs())
    recording = ldl.get_backend().record(function, (nn.Identity(),), (x,))
    assert recording.played
    np.testing.assert_allclose(recording(x)[0], x**3 * 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_a_column_is_multiplied_by_rows_alone(shape: Any) -> None:
    x, w = np.ones((4, 1), "float32"), np.ones(shape, "float32")
    recording = ldl.get_backend().record(lambda m, x, w: (x @ w,), (nn.Identity(),), (x, w))
    with pytest.raises(ValueError, match="mismatch in its core dimension"):
        recording(x, w)


CHOICES: dict[str, Callable[[Any, int], Any]] = {
    "indices": lambda x, n: x[np.roll(np.arange(6), n)],
    "a slice": lambda x, n: x[n : n + 3] * 2,
    "where to write": lambda x, n: (x * 2)[n].sum() + x,
    "an axis": lambda x, n: x.reshape(3, 2, 4).sum(axis=(n, 2)).reshape(-1)[:2],
    "an argument": lambda x, n: np.roll(x, n),
    "a keyword": lambda x, n: np.clip(x, a_min=0.1 * n, a_max=2.0),
    "a type": lambda x, n: np.add(x, 1, dtype=["float32", "float64"][n]) > 2,
    "an order": lambda x, n: (lambda a, b: a - b)(*[x * 2, x * 3][:: 1 - 2 * n]),
    "a result": lambda x, n: [x * 2, x * 3][n],
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=list(CHOICES))
def test_choices_that_differ_between_two_traces_are_noticed(choice: Any) -> None:
    numbers = iter((0, 1))

    def function(module: Any, x: Any) -> Any:
        return (choice(x, next(numbers)),)

    backend = ldl.get_backend()
    assert not backend.record(function, (nn.Identity(),), (next(inputs()),)).played


def test_a_layer_whose_buffers_overlap_runs_its_own_code() -> None:
    class Overlaps(nn.Identity):
        def __init__(self) -> None:
            self.state = np.zeros((6, 4), "float32")
            self.part = self.state[2:]

        def forward(self, x: Any) -> Any:
            self.state += x
            y = self.part * 2
            self.state += 1
            return y + self.part.sum()

    layer = Overlaps()

    def function(module: Any, x: Any) -> Any:
        return (module.forward(x),)

    backend = ldl.get_backend()
    assert not backend.record(function, (layer,), (next(inputs()),)).played
    assert not layer.state.any()


def test_draws_whose_numbers_nobody_needs_move_their_stream_all_the_same() -> None:
    class Wasteful(nn.Identity):
        def __init__(self) -> None:
            self.stream = ldl.random.Stream(3, ldl.random.NOISE)

        def forward(self, x: Any) -> Any:
            self.backend.uniform(x.shape, x.dtype, self.stream.next())
            return x + self.backend.uniform(x.shape, x.dtype, self.stream.next())

    played, own = Wasteful(), Wasteful()
    x = next(inputs())
    recording = ldl.get_backend().record(lambda m, x: (m.forward(x),), (played,), (x,))
    assert recording.played
    for _ in range(3):
        np.testing.assert_allclose(recording(x)[0], own.forward(x), rtol=1e-6)


@pytest.mark.parametrize("way", ["host", "device"])
def test_a_plan_refuses_what_is_no_view_of_its_memory(way: str) -> None:
    trace = Trace()
    a = np.zeros((3, 4), "float32")
    out = np.zeros(12, "float32")
    flat = Ref(trace.external(a), (("transpose", ()), ("reshape", (-1,))))
    host = CudaOnHost()
    place = Hosts(host.connection, host.to_numpy) if way == "device" else None
    good, bad = (
        Op(np.copyto, (Ref(trace.external(out)),), (x,))
        for x in (Ref(flat.value, (("reshape", (-1,)),)), flat)
    )
    for op, results in ((good, [Ref(flat.value)]), (bad, []), (good, [flat])):
        trace.ops = [op]
        if op is good and results[0].path == ():
            Plan(trace, [], results, None, place)
        else:
            with pytest.raises(CannotTraceError, match="copy, made once"):
                Plan(trace, [], results, None, place)


class Config:
    """What a layer may hold that is no layer."""

    def __init__(self) -> None:
        self.count = 1
        self.table = np.ones((6, 4), "float32")
        self.nested = {"list": [1.0]}


class Holds(nn.Identity):
    """A layer with a config, buffers and a parameter, which does what it is told."""

    def __init__(self, act: Callable[[Any, Any], Any]) -> None:
        self.act = act
        self.config = Config()
        self.first = np.zeros((6, 4), "float32")
        self.second = np.ones((6, 4), "float32")
        self.weight = nn.Parameter(np.ones((6, 4), "float32"))

    def forward(self, x: Any) -> Any:
        return self.act(self, x)


def counts_in_a_config(m: Any, x: Any) -> Any:
    m.config.count += 1
    return x * m.config.count


def appends_in_a_dict(m: Any, x: Any) -> Any:
    m.config.nested["list"].append(2.0)
    return x * len(m.config.nested["list"])


def binds_in_a_config(m: Any, x: Any) -> Any:
    m.config.table = m.config.table + x
    return x * m.config.table


def swaps_its_buffers(m: Any, x: Any) -> Any:
    m.first, m.second = m.second, m.first + x
    return x * m.first + m.second


def writes_to_a_config(m: Any, x: Any) -> Any:
    m.config.table += x
    return x * m.config.table


def binds_a_parameter(m: Any, x: Any) -> Any:
    m.weight.data = m.weight.data * 0.5 + x
    return x * m.weight.data


def binds_another_type(m: Any, x: Any) -> Any:
    m.first = (m.first + x).astype("float64")
    return x * m.first


STATES = {
    counts_in_a_config: False,
    appends_in_a_dict: False,
    binds_in_a_config: False,
    swaps_its_buffers: True,
    writes_to_a_config: True,
    binds_a_parameter: True,
    binds_another_type: False,
}


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
@pytest.mark.parametrize("act", STATES, ids=lambda act: act.__name__)
def test_state_of_every_kind_goes_on_from_step_to_step(act: Any) -> None:
    played, own = Holds(act), Holds(act)
    recording: Any = None
    for x in inputs():
        if recording is None:
            recording = ldl.get_backend().record(lambda m, x: (m.forward(x),), (played,), (x,))
        np.testing.assert_allclose(recording(x)[0], own.forward(x), rtol=1e-5)
    assert recording.played == STATES[act]


def test_an_array_in_a_config_is_read_where_it_lies() -> None:
    layer = Holds(lambda m, x: x * m.config.table)
    x = next(inputs())
    recording = ldl.get_backend().record(lambda m, x: (m.forward(x),), (layer,), (x,))
    assert recording.played
    for _ in range(2):
        layer.config.table *= 3
        np.testing.assert_allclose(recording(x)[0], layer.forward(x), rtol=1e-6)
