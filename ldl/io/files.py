"""Files of arrays: safetensors with a JSON header and a checksum.

    write_tensors("weights.safetensors", {"w": w}, {"epoch": 3})
    tensors, header = read_tensors("weights.safetensors")

Any safetensors reader opens such a file. The header stands in the metadata under the one key "ldl",
as canonical JSON (sorted keys, no spaces) next to a SHA-256 of itself and of every tensor's name,
type, shape and bytes; the same tensors and header give the same bytes. Nothing in a file is ever
executed, and no memory is taken on the word of a file that is not as large itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldl.console import shown
from ldl.io.replacing import Path, write_atomically

Tensor = np.ndarray[Any, np.dtype[Any]]

HEADER_LIMIT = 2**24
"""The most bytes that names, shapes and the JSON header may take in a file."""

_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_FIX = "restore it from a copy, or save it again"


class CheckpointError(ValueError):
    """A file that is damaged, foreign or hostile; one line names it, the fault and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write arrays by name, of any layout, and a JSON object, as `write_atomically` does.

    Raises TypeError for an array that is not of a NumPy type bool, (u)int8 to (u)int64 or float16
    to float64, TypeError or ValueError for a header that is not JSON with finite numbers,
    ValueError for one beyond `HEADER_LIMIT` or a tensor named "__metadata__", and OSError.
    """
    from safetensors.numpy import save

    if "__metadata__" in tensors:
        raise ValueError("no tensor can be named '__metadata__', a word of safetensors: rename it")
    arrays = {name: _contiguous(name, tensor) for name, tensor in tensors.items()}
    text = _canonical({"header": header, "sha256": _sha256(header, arrays)})
    data = save(arrays, metadata={"ldl": text})
    if int.from_bytes(data[:8], "little") > HEADER_LIMIT:
        raise ValueError(
            f"the header of {os.fsdecode(path)} would take more than {HEADER_LIMIT} bytes: "
            "put long lists of numbers into tensors"
        )
    write_atomically(path, data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The arrays and the header of a file that `write_tensors` wrote, bit for bit.

    Raises CheckpointError for a file that is anything else or was damaged, and OSError
    (FileNotFoundError, PermissionError) for one that cannot be opened.
    """
    name = os.fsdecode(path)
    check_frame(name)
    from safetensors import safe_open

    try:
        with safe_open(name, framework="np") as file:
            header, checksum = _header(file.metadata())
            tensors = {key: _contiguous(key, file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
        sound = checksum == _sha256(header, tensors)
    except OSError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{name} {error}") from None
    except Exception as error:
        raise CheckpointError(f"{name} cannot be read: {one_line(error)}; {_FIX}") from error
    if not sound:
        raise CheckpointError(f"{name} is damaged: its checksum does not match; {_FIX}")
    return tensors, header


def one_line(error: BaseException) -> str:
    """An error's text on one line of bounded length."""
    text = " ".join(str(error)[:2000].split())
    text = text if len(text) <= 300 else f"{text[:300]}…"
    return text or type(error).__name__


def check_frame(name: str) -> None:
    """CheckpointError unless the file is as large as its first 8 bytes say its header is."""
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise CheckpointError(f"{name} is not a file: give the path of a file that ldl saved")
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
    length = int.from_bytes(head, "little")
    if not head:
        raise CheckpointError(f"{name} is empty: {_FIX}")
    if len(head) < 8 or length > size - 8:
        raise CheckpointError(f"{name} is truncated or not a safetensors file: {_FIX}")
    if length > HEADER_LIMIT:
        raise CheckpointError(
            f"{name} is not a file that ldl wrote: its header takes {length} bytes, and at most "
            f"{HEADER_LIMIT} are read; {_FIX}"
        )


def _header(metadata: dict[str, str] | None) -> tuple[dict[str, Any], str]:
    """The header and the checksum that safetensors' metadata hold."""
    import json

    text = (metadata or {}).get("ldl")
    if text is None:
        raise CheckpointError(
            "holds weights without an ldl header: those of a PyTorch model are read by "
            "ldl.io.torch.from_torch(model, path), others by safetensors.numpy.load_file and "
            "model.load_state_dict"
        )
    content = json.loads(text)
    if not isinstance(content, dict) or _canonical(content) != text:
        raise CheckpointError(f"is damaged: its header is not canonical JSON; {_FIX}")
    header, checksum = content.get("header"), content.get("sha256")
    if not isinstance(header, dict) or not isinstance(checksum, str) or len(content) != 2:
        raise CheckpointError(
            "has no header and SHA-256 where version 1 has them: "
            f"a newer ldl wrote it (update ldl), or {_FIX}"
        )
    return header, checksum


def _contiguous(name: str, tensor: Tensor) -> Tensor:
    """The tensor in C order and little-endian: safetensors 0.8 scrambles what is strided."""
    if not isinstance(tensor, np.ndarray):
        raise TypeError(f"tensor {name!r} must be a NumPy array, got a {type(tensor).__name__}")
    if tensor.dtype.name not in _DTYPES:
        raise TypeError(
            f"tensor {name!r} is {tensor.dtype}, which a file cannot hold: "
            "cast it to a bool, an integer or a float of at most 64 bits"
        )
    return np.asarray(tensor, dtype=tensor.dtype.newbyteorder("<"), order="C")


def _canonical(content: Any) -> str:
    import json

    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The checksum: of the header and every name, type and shape, then of every tensor's bytes."""
    from hashlib import sha256

    names = sorted(tensors)
    kinds = [[n, tensors[n].dtype.name, list(tensors[n].shape)] for n in names]
    digest = sha256(_canonical([header, kinds]).encode())
    for n in names:
        digest.update(tensors[n].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
