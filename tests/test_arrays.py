"""What users give as arrays is read alike wherever data enter: by one rule, and by no other."""

from __future__ import annotations

import array
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import ldl
from checks import one_line
from cuda_device import CudaOnHost, on_device
from fake_device import FakeBackend
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise
from ldl_cupy import CupyBackend
from ldl_numpy import NumpyBackend

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")

ROWS = [[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]]
A = np.array(ROWS, "float32")


class Interface:
    """Has NumPy's older protocol alone."""

    def __init__(self) -> None:
        self.__array_interface__ = A.__array_interface__


class Dlpack:
    """An array of a library that has nothing but DLPack."""

    def __dlpack__(self, **options: Any) -> Any:
        return A.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return A.__dlpack_device__()


class OnDevice:
    """A CuPy array, as far as the host sees one."""

    dtype, shape, ndim = A.dtype, A.shape, A.ndim
    __cuda_array_interface__: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(A)

    def get(self) -> Any:
        return A.copy()


class Tensor:
    """A PyTorch tensor, as far as it is asked: on a device, with a history, of bfloat16."""

    requires_grad, layout = True, "torch.strided"

    def __init__(self, dtype: str = "torch.bfloat16", device: str = "cuda:0", **has: Any) -> None:
        self.dtype, self.device = dtype, device
        self.__dict__.update(has)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.\nUse detach()")

    def detach(self) -> Tensor:
        return Tensor(self.dtype, self.device, requires_grad=False)

    def float(self) -> Tensor:
        return Tensor("torch.float32", self.device, requires_grad=self.requires_grad)

    def cpu(self) -> Tensor:
        return Tensor(self.dtype, "cpu", requires_grad=self.requires_grad)

    def resolve_neg(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        assert (self.dtype, self.device, self.requires_grad) == ("torch.float32", "cpu", False)
        return A.copy()


class MaskedTensor(Tensor):
    def get_mask(self) -> Any:
        return A > 0


def on_disk(path: Any = "/dev/zero") -> Any:
    held = np.memmap(path, "float32", "c", shape=A.shape)
    held[...] = A
    return held


def read_only() -> Any:
    held = A.copy()
    held.flags.writeable = False
    return held


TAKEN: dict[str, Callable[[], Any]] = {
    "an array": lambda: A,
    "lists": lambda: ROWS,
    "tuples in a list": lambda: [tuple(row) for row in ROWS],
    "arrays in a list": lambda: list(A),
    "lists and arrays": lambda: [ROWS[0], A[1]],
    "JAX's rows in a tuple": lambda: tuple(jnp.asarray(A)),
    "scalars in lists": lambda: [[np.float16(x) for x in row] for row in ROWS],
    "a deque": lambda: deque(ROWS),
    "a buffer": lambda: memoryview(A),
    "buffers in a list": lambda: [array.array("f", row) for row in ROWS],
    "float64": lambda: A.astype("float64"),
    "float16": lambda: A.astype("float16"),
    "long doubles": lambda: A.astype("longdouble"),
    "big-endian": lambda: A.astype(">f4"),
    "Fortran's order": lambda: np.asfortranarray(A),
    "every other": lambda: np.repeat(A, 2, axis=1)[:, ::2],
    "backwards": lambda: A[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "a memory map": on_disk,
    "np.matrix": lambda: np.matrix(A),
    "objects": lambda: A.astype(object),
    "fractions": lambda: np.array([[Fraction(x) for x in row] for row in ROWS], object),
    "decimals": lambda: [[Decimal(str(x)) for x in row] for row in ROWS],
    "JAX": lambda: jnp.asarray(A),
    "JAX's bfloat16": lambda: jnp.asarray(A, "bfloat16"),
    "a frame": lambda: pd.DataFrame(A),
    "a frame of nullable columns": lambda: pd.DataFrame(A).astype("Float64"),
    "a frame of several types": lambda: pd.DataFrame(A).astype({0: "float16", 1: "Float32"}),
    "a frame of sparse columns": lambda: pd.DataFrame(A).astype("Sparse[float32]"),
    "an array interface": Interface,
    "DLPack": Dlpack,
    "CuPy": OnDevice,
    "a tensor": Tensor,
}
MASK = np.ma.array(A, mask=A == 0.5)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: MASK, r"x\.filled\(value\)"),
    "nothing masked": (lambda: np.ma.array(A), r"x\.filled"),
    "masked rows in a list": (lambda: list(MASK), r"x\.filled"),
    "masked rows in a tuple of lists": (lambda: ([MASK[0], MASK[1]],), r"x\.filled"),
    "the masked element": (lambda: [[0.0, np.ma.masked, 1.0]], r"x\.filled"),
    "a masked tensor": (MaskedTensor, r"x\.filled"),
    "complex": (lambda: A + 0j, r"complex64.*x\.real.*abs\(x\)"),
    "complex in a list": (lambda: [[1j, 2.0, 3.0]], r"x\.real"),
    "texts": (lambda: A.astype(str), "<U32.*np.unique"),
    "texts in a list": (lambda: [["1", "2", "3"]], "<U1"),
    "bytes": (lambda: b"123", "numbers"),
    "texts of pandas": (lambda: pd.DataFrame([["1", "a", "b"]]), r"'1' at \[0, 0\]"),
    "a missing value": (lambda: [[1.0, None, 2.0]], r"None at \[0, 1\].*fill"),
    "a missing value of pandas": (
        lambda: pd.DataFrame({"a": [1, 2], "b": [True, pd.NA], "c": [0, 0]}),
        r"<NA> at \[1, 1\].*fill",
    ),
    "dates": (lambda: np.array(["2020-01-01"], "M8[D]"), r"datetime64\[D\].*timedelta64"),
    "durations": (lambda: np.array([3], "m8[s]"), r"timedelta64\[s\].*divide"),
    "records": (lambda: np.zeros(2, "f4,f4"), "structured_to_unstructured"),
    "objects of arrays": (lambda: np.array([A, A[:1], None], object)[:2], r"at \[0\]"),
    "a sparse matrix": (lambda: scipy.sparse.csr_matrix(A), r"sparse csr_matrix.*x\.toarray\(\)"),
    "a sparse array": (lambda: scipy.sparse.coo_array(A), r"x\.toarray\(\)"),
    "a sparse tensor": (lambda: Tensor(layout="torch.sparse_coo"), r"x\.to_dense\(\)"),
    "a set": (lambda: {1.0, 2.0}, "got a set"),
    "a dict": (lambda: {"x": A}, "got a dict"),
    "a generator": (lambda: (row for row in ROWS), "got a generator"),
    "None": (lambda: None, "got a NoneType"),
    "an object": (object, "got a object"),
    "a key of JAX": (lambda: __import__("jax").random.key(0), "cannot read this"),
}
RAGGED: dict[str, Callable[[], Any]] = {
    "lists": lambda: [[1.0, 2.0], [3.0]],
    "a number among lists": lambda: [[1.0, 2.0], 3.0],
    "arrays": lambda: [A[0], A[0, :2]],
    "a list among arrays": lambda: (A[0], [1.0, 2.0]),
}
if find_spec("torch"):
    import torch

    TAKEN["PyTorch"] = lambda: torch.from_numpy(A)
    TAKEN["PyTorch's, with a history"] = lambda: torch.tensor(ROWS, requires_grad=True) * 1
    TAKEN["PyTorch's bfloat16"] = lambda: torch.tensor(ROWS, dtype=torch.bfloat16)
    TAKEN["PyTorch's, transposed"] = lambda: torch.tensor(A.T.copy()).T
    TAKEN["PyTorch's parameter"] = lambda: torch.nn.Parameter(torch.tensor(A))
    TAKEN["PyTorch's rows in a list"] = lambda: list(torch.nn.Parameter(torch.tensor(A)))
    TAKEN["PyTorch's imaginary part"] = lambda: torch.tensor(-1j * A).conj().imag
    REFUSED["PyTorch's complex"] = (lambda: torch.tensor(A + 1j), r"x\.real")
    REFUSED["PyTorch's sparse"] = (lambda: torch.tensor(A).to_sparse(), r"x\.to_dense\(\)")
    REFUSED["PyTorch's without numbers"] = (lambda: torch.ones(2, device="meta"), "cannot read")


class Sent(CudaOnHost):
    """The CuPy backend's own way in, whose namespace reads what is on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.xp.asarray = self._on_device

    def _on_device(self, data: Any, dtype: Any = None, order: Any = None) -> Any:
        held = data.get() if hasattr(data, "get") else np.asarray(data)
        return on_device(held.astype(dtype or held.dtype))

    asarray = CupyBackend.asarray


BACKENDS = pytest.mark.parametrize("kind", [NumpyBackend, FakeBackend, CudaOnHost, Sent])


@BACKENDS
@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_what_holds_numbers_is_taken(kind: Any, make: Any) -> None:
    backend = kind()
    for dtype in (None, "float32"):
        found = backend.asarray(make(), dtype)
        host = backend.to_numpy(found)
        assert type(found) is backend.array_type
        assert host.flags.c_contiguous
        assert host.dtype.isnative
        assert dtype is None or host.dtype == dtype
        np.testing.assert_array_equal(host, A)


@BACKENDS
@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED)
def test_what_holds_none_is_refused_with_the_way_out(kind: Any, make: Any, says: str) -> None:
    for dtype in (None, "float32"):
        with pytest.raises(TypeError, match=says) as error:
            kind().asarray(make(), dtype)
        assert one_line(error).startswith("data ")


@BACKENDS
@pytest.mark.parametrize("make", RAGGED.values(), ids=RAGGED)
def test_rows_of_different_lengths_are_no_array(kind: Any, make: Any) -> None:
    with pytest.raises(ValueError, match=r"different lengths.*pad or cut") as error:
        kind().asarray(make(), "float32")
    one_line(error)


def test_integers_and_bools_keep_their_types_where_none_is_asked_for() -> None:
    asarray = ldl.get_backend("numpy").asarray
    for given, dtype in (
        ([1, 2], "int64"),
        ([True, False], "bool"),
        (np.array([1, 2], ">i2"), "int16"),
        (np.array([1, True], object), "int64"),
        (pd.Series([1, 2], dtype="Int32"), "int32"),
        (jnp.array([1, 2], "uint8"), "uint8"),
        (range(3), "int64"),
        (3, "int64"),
        (np.array([], object), "float64"),
    ):
        assert asarray(given).dtype == np.dtype(dtype)


def test_no_copy_is_made_where_none_is_needed() -> None:
    asarray = ldl.get_backend("numpy").asarray
    assert asarray(A) is A
    assert asarray(A, "float32") is A
    for given in (read_only(), on_disk(), np.matrix(A)):
        assert np.shares_memory(asarray(given, "float32"), given)
    with pytest.raises(ValueError, match="read-only"):
        asarray(read_only())[...] = 0


# ---- where data enter ----------------------------------------------------------------------------


def network() -> Any:
    ldl.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())


def fitted(data: Any, validation: Any = None) -> Any:
    model = network()
    history = ldl.fit(model, data, nn.MSELoss(), optim.SGD(model, lr=0.1), 2, validation=validation)
    return [model.state_dict()["0.weight"], history.rows[-1]["loss"]]


ENTRANCES: dict[str, Callable[[Any], Any]] = {
    "fit": fitted,
    "fit of pairs": lambda x: fitted((x, x)),
    "fit of targets": lambda x: fitted((A, x)),
    "fit of batches": lambda x: fitted([(x, x)]),
    "fit of lists": lambda x: fitted([[x, x]]),
    "fit of Arrays": lambda x: fitted(Arrays(x, noise=GaussianNoise(0.1))),
    "validation": lambda x: fitted(A, x),
    "evaluate": lambda x: ldl.evaluate(network(), x, nn.MSELoss(), "mse"),
    "predict": lambda x: network().predict(x),
    "denoise": lambda x: nn.AutoEncoder(nn.Linear(3, 2), nn.Linear(2, 3)).denoise(x).shape,
    "Predictor": lambda x: ldl.Predictor(network())(x),
    "TrainStep": lambda x: ldl.TrainStep(m := network(), nn.MSELoss(), optim.SGD(m))(x, x),
    "check_gradients": lambda x: ldl.check_gradients(network(), x),
    "check_gradients of a loss": lambda x: ldl.check_gradients(nn.MSELoss(), 2 * A, target=x),
    "Parameter": lambda x: nn.Parameter(x).data,
}
SOME = ("objects", "np.matrix", "a memory map", "read-only", "big-endian", "JAX", "DLPack", "CuPy")
SOME = (*SOME, "a tensor", "PyTorch", "PyTorch's bfloat16", "a frame of several types")


@pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)
def test_data_of_any_origin_give_the_same_wherever_they_enter(enter: Any) -> None:
    expected = enter(A)
    for name in SOME:
        if enter is ENTRANCES["TrainStep"] and name in ("objects", "big-endian"):
            continue  # arrays of the backend are cast by no step
        if name in TAKEN:
            np.testing.assert_equal(enter(TAKEN[name]()), expected, name)


@pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)
def test_data_that_are_no_numbers_are_refused_wherever_they_enter(enter: Any) -> None:
    for name in ("masked", "complex", "texts", "dates", "a sparse matrix"):
        make, says = REFUSED[name]
        with pytest.raises(TypeError, match=says) as error:
            enter(make())
        one_line(error)


def test_a_loader_of_batches_is_data() -> None:
    class Loader:
        """Gives lists of two tensors, as PyTorch's does."""

        def __iter__(self) -> Any:
            return iter([[jnp.asarray(A), jnp.asarray([0, 2])], [jnp.asarray(A), [1, 1]]])

    model = network()
    loss = nn.CrossEntropyLoss()
    history = ldl.fit(model, Loader(), loss, optim.SGD(model), 2, metrics="accuracy")
    scored = ldl.evaluate(model, Loader(), loss, "accuracy")
    x, y = np.concatenate([A, A]), np.array([0, 2, 1, 1])
    expected = ldl.evaluate(model, (x, y), loss, "accuracy")
    assert scored["accuracy"] == expected["accuracy"]
    assert scored["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert len(history) == 2

    class Masked(Loader):
        def __iter__(self) -> Any:
            return iter([(A, A), (A, MASK)])

    for call in (
        lambda: fitted(Masked()),
        lambda: ldl.evaluate(network(), Masked(), nn.MSELoss()),
    ):
        with pytest.raises(TypeError, match=r"x\.filled"):
            call()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([[A]], "a list of 1.*an autoencoder's is"),
        ([[A, A, A, A]], "a list of 4"),
        ([A.tolist()[0]], "samples that are no batches go into one array"),
        ([[1.0, 2.0], [3.0, 4.0]], "samples that are no batches go into one array"),
        ([{"x": A, "y": A}], "got a dict"),
        ({"x": A}, "got dict"),
        ("mnist", "got str"),
        (None, "got NoneType"),
        (deque([1]).__class__, "got type"),
    ],
    ids=str,
)
def test_what_gives_no_batches_is_answered_with_what_does(data: Any, says: str) -> None:
    for call in (fitted, lambda data: ldl.evaluate(network(), data, nn.MSELoss())):
        with pytest.raises(TypeError, match=says) as error:
            call(data)
        one_line(error)


def test_a_set_of_samples_by_number_is_answered_with_a_loader() -> None:
    class Samples:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return A[index], A[index]

    with pytest.raises(TypeError, match="a loader of batches"):
        fitted(Samples())


def test_labels_of_any_origin_stay_integers() -> None:
    labels = np.array([0, 2])
    loss = nn.CrossEntropyLoss()
    expected = ldl.evaluate(network(), (A, labels), loss)
    for given in (
        [0, 2],
        (np.int8(0), np.int8(2)),
        labels.astype(">i4"),
        labels.astype(object),
        jnp.asarray(labels),
        pd.Series(labels, dtype="Int64"),
        pd.Series(labels).astype("category"),
    ):
        assert ldl.evaluate(network(), (A, given), loss) == expected
        assert ldl.evaluate(network(), [(A, given)], loss) == expected


def test_arrays_of_a_device_are_taken_there_and_complex_ones_refused() -> None:
    backend = Sent()
    held = backend.asarray(A)
    assert backend.asarray(held, "float64").dtype == "float64"
    with pytest.raises(TypeError, match=r"x\.real"):
        backend.asarray(on_device(A + 1j), "float32")
    assert backend.asarray([], "float32").shape == (0,)


def test_states_of_any_origin_are_loaded() -> None:
    model = nn.Linear(2, 3)
    for name in ("an array", "JAX", "a tensor", "a frame", "np.matrix", "PyTorch"):
        if name in TAKEN:
            model.load_state_dict({"weight": TAKEN[name](), "bias": [0, 1, 2]})
            np.testing.assert_array_equal(model.weight.data, A)


def test_an_initialiser_may_give_what_can_be_read() -> None:
    for make in TAKEN.values():
        parameter = nn.Parameter(make())
        np.testing.assert_array_equal(parameter.data, A)
        parameter.data[...] = 0
        assert A[0, 1] == 0.25
