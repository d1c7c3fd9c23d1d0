"""Arrays that users give, as plain NumPy arrays of numbers: the one place where they are read.

| given | taken as |
|---|---|
| NumPy's arrays and scalars, np.matrix and np.memmap among them | themselves, plain |
| what NumPy can read: lists, buffers, JAX's arrays | NumPy reads them |
| tables and columns of pandas, Polars and Arrow | the same, what is missing as NaN |
| arrays of Python objects that are all real numbers | floats, integers or bools |
| PyTorch's tensors, whatever their device and whether or not they require a gradient | detached |
| other libraries' arrays that have DLPack | the same memory |
| CuPy's arrays | copies on the host |

bfloat16 and its kin become float32. Nothing else changes the numbers: masked arrays, complex
numbers, sparse matrices, texts, dates and rows of different lengths are refused in one line.
"""

from __future__ import annotations

from decimal import Decimal
from mmap import mmap
from numbers import Number, Real
from typing import Any

import numpy as np

from ldl.numbers import short

Host = np.ndarray[Any, np.dtype[Any]]

NUMBERS = frozenset("biuf")
"""The kinds of types that are taken: bools, integers, floats."""

_SCALARS = (Number, np.generic, str, bytes, type(None))
_UNREADABLE = (TypeError, ValueError, RuntimeError, AttributeError, BufferError)


def host(data: Any, dtype: Any = None) -> Host:
    """The data as a C-contiguous array of the processor's byte order, cast where `dtype` is given.

    Shares memory with the data where nothing has to be changed. A number that is too small for
    `dtype` is 0, whatever `np.seterr` says. Raises TypeError for what is no array of real numbers
    and ValueError for rows that differ in length; both name the way out.
    """
    array = taken(data)
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    native = wanted if wanted.isnative else wanted.newbyteorder("=")
    if native == array.dtype:
        return np.asarray(array, native, order="C")
    with np.errstate(under="ignore"):
        return np.asarray(array, native, order="C")


def taken(data: Any) -> Host:
    """The data as a plain array of numbers, in its own layout and type; errors as `host`."""
    array = data if type(data) is np.ndarray else _read(data)
    return array if array.dtype.kind in NUMBERS else _numbers(array, column_names(data))


def column_names(data: Any) -> list[str] | None:
    """What a table of pandas, Polars or Arrow calls its columns; None for what names none."""
    found: Any = getattr(data, "column_names", None)
    found = getattr(data, "columns", None) if found is None else found
    try:
        names = list(found)
    except TypeError:
        return None
    return names if all(isinstance(name, str) for name in names) else None


def check_kind(dtype: Any) -> None:
    """TypeError for a type of elements that are no real numbers."""
    if dtype.kind in NUMBERS:
        return
    ways = {
        "c": "take the real part, x.real, or the magnitude, abs(x)",
        "U": "encode texts as numbers, such as np.unique(x, return_inverse=True)[1]",
        "M": "take differences in a unit, such as (x - x[0]) / np.timedelta64(1, 's')",
        "m": "divide by a unit, such as np.timedelta64(1, 's')",
        "O": "convert them, x.astype('float32')",
        "V": "put its fields side by side, np.lib.recfunctions.structured_to_unstructured(x)",
    }
    way = ways.get(dtype.kind, ways["U"])
    raise TypeError(f"data must be numbers, got an array of {dtype}: {way}")


def check_sample_weight(weight: Any, samples: int) -> None:
    """TypeError or ValueError for an array that holds no weight for each of so many samples.

    Waits for the array's device.
    """
    check_kind(weight.dtype)
    shape = tuple(weight.shape)
    if shape != (samples,):
        way = ": use sample_weight.reshape(-1)" if shape == (samples, 1) else ""
        raise ValueError(
            f"sample_weight must be one number a sample, of shape ({samples},), got {shape}{way}"
        )
    if samples and not (weight.min() >= 0 and weight.max() < float("inf")):
        raise ValueError(
            "sample_weight must be finite and not negative: give 0 to a sample that is not to count"
        )


def check_counting(weight: Any, dtype: Any) -> None:
    """ValueError for sample weights of which none counts, or whose sum is no number of a type."""
    largest, ends = float(weight.max()), np.finfo(dtype)
    if largest == 0:
        raise ValueError("sample_weight is 0 for every sample, so that none counts")
    if not float(ends.tiny) <= largest <= float(ends.max) / len(weight):
        raise ValueError(
            f"sample_weight goes up to {largest:g}, which is too large or too small for "
            f"{ends.dtype}: divide it by its mean"
        )


def plain_of_numpy(data: Any) -> Any:
    """An array of a class of NumPy's own as a plain one of numbers; any other as it is."""
    return taken(data) if type(data).__module__.partition(".")[0] == "numpy" else data


def is_array(data: Any) -> bool:
    """Whether this is an array of any library, rather than a list or what gives batches."""
    protocols = ("shape", "__array__", "__array_interface__", "__dlpack__")
    return any(hasattr(data, name) for name in protocols)


def on_device(data: Any) -> bool:
    """Whether this is an array of CuPy or of what is like it."""
    kind = type(data)
    return hasattr(kind, "__cuda_array_interface__") and hasattr(kind, "get")


def on_cuda(data: Any) -> bool:
    """Whether this is an array in a CUDA device's memory that only DLPack gives."""
    try:
        return int(data.__dlpack_device__()[0]) in (2, 13)  # the device's own, and managed memory
    except _UNREADABLE:
        return False


def on_disk(data: Any) -> bool:
    """Whether this is an array of the host that lies in a file, as np.memmap's do."""
    while isinstance(data, np.ndarray):
        if isinstance(data, np.memmap):
            return True
        data = data.base
    return isinstance(data, mmap)


def readable(data: Any) -> Any:
    """The data where it stands: a device's array as it is, anything else as one on the host."""
    if not on_device(data):
        return taken(data)
    check_kind(data.dtype)
    return data


def detached(data: Any) -> Any:
    """A PyTorch tensor without its history, where it stands; anything else itself."""
    kind = type(data)
    if not (hasattr(kind, "detach") and hasattr(kind, "cpu")):
        return data
    if hasattr(kind, "get_mask"):
        raise TypeError(_MASKED)
    if "strided" not in str(getattr(data, "layout", "strided")):
        raise TypeError("data must be dense, got a sparse tensor: give x.to_dense()")
    name = str(data.dtype)
    data = data.detach()
    return data.float() if "bfloat16" in name or "float8" in name else data


_MASKED = (
    "data has masked elements: fill them, x.filled(value), or leave out the rows that have any, "
    "x.data[~np.ma.getmaskarray(x).any(axis=1)]"
)


def _read(data: Any) -> Host:
    """Anything as a plain array of any type."""
    kind = type(data)
    if hasattr(kind, "filled") and hasattr(kind, "mask"):
        raise TypeError(_MASKED)
    if isinstance(data, (np.ndarray, np.generic)):
        return np.asarray(data)
    if isinstance(data, (list, tuple)):
        return _listed(data)
    if hasattr(kind, "toarray") or hasattr(kind, "todense"):
        way = "toarray" if hasattr(kind, "toarray") else "todense"
        raise TypeError(f"data must be dense, got a sparse {kind.__name__}: give x.{way}()")
    if on_device(data):
        return np.asarray(data.get())
    if not hasattr(kind, "__array__") and (
        hasattr(data, "__cuda_array_interface__") or on_cuda(data)
    ):
        way = "give x.copy_to_host(), or " if hasattr(kind, "copy_to_host") else ""
        raise TypeError(
            f"data lie on a CUDA device, from which a {kind.__name__} does not bring them: "
            f"{way}move the model there, model.to('cupy')"
        )
    try:
        return _foreign(detached(data))
    except _UNREADABLE as error:
        why = str(error).partition("\n")[0]
        if isinstance(error, TypeError) and why.startswith("data "):
            raise
        raise TypeError(
            f"data must be an array of numbers, and NumPy cannot read this {kind.__name__}: {why}"
        ) from error


def _foreign(data: Any) -> Host:
    kind = type(data)
    if hasattr(kind, "detach") and hasattr(kind, "cpu"):
        data = data.cpu()
        found = data.resolve_neg() if hasattr(kind, "resolve_neg") else data
        return np.asarray(found.numpy())
    if not hasattr(kind, "__array__") and hasattr(kind, "__dlpack__"):
        return np.from_dlpack(data)
    array = np.asarray(data)
    if array.ndim == 0 and array.dtype.kind == "O" and not isinstance(data, Real | Decimal):
        for way in ("collect", "compute"):
            if hasattr(kind, way):
                raise TypeError(f"data must be an array, got a {kind.__name__}: give x.{way}()")
        raise TypeError(
            f"data must be an array of numbers, got a {kind.__name__}: give what NumPy can read as "
            "one, such as a list of lists"
        )
    return array


def _listed(items: Any) -> Host:
    """A list or a tuple, of numbers, of lists or of any arrays, all of one shape."""
    try:
        if _is_plain(items):
            return np.asarray(items)
        parts = [taken(item) for item in items]
        return np.stack(parts)
    except ValueError as error:
        raise ValueError(
            f"a {type(items).__name__} of rows of different lengths is no array: pad or cut them "
            "to one length"
        ) from error


def _is_plain(items: Any) -> bool:
    """Whether there is nothing inside but scalars, in lists and tuples."""
    for kind in set(map(type, items)):
        if issubclass(kind, (list, tuple)):
            if not all(_is_plain(item) for item in items if type(item) is kind):
                return False
        elif not issubclass(kind, _SCALARS):
            return False
    return True


def _numbers(array: Host, names: list[str] | None = None) -> Host:
    """An array of another type as one of numbers, where its elements are."""
    if array.dtype.kind == "O":
        return _objects(array, names)
    if array.dtype.kind == "V" and array.dtype.type is not np.void:  # bfloat16 and its kin
        return array.astype(np.float32)
    check_kind(array.dtype)
    return array


def _objects(array: Host, names: list[str] | None) -> Host:
    flat = array.reshape(-1).tolist()
    for i, value in enumerate(flat):
        if not isinstance(value, (Real, Decimal, np.bool_)):
            at = np.unravel_index(i, array.shape)
            place = f"[{', '.join(map(str, at))}]"
            if names is not None and len(at) == 2:
                place += f", in column {names[at[1]]!r}"
            raise TypeError(
                f"data must be numbers, got an array of objects with {short(value)[:60]} at "
                f"{place}: fill, leave out or convert what is no number"
            )
    found = np.array(flat, dtype=None if flat else np.float64)
    if found.dtype.kind not in NUMBERS:
        found = np.array([float(value) for value in flat])
    return found.reshape(array.shape)
