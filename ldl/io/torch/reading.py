"""Reading a safetensors file of PyTorch's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ldl.io.files import CheckpointError, check_frame, one_line

Tensor = np.ndarray[Any, np.dtype[Any]]

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
}


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, as NumPy arrays; bfloat16 becomes float32.

    Names are sorted: a file does not keep the order of the layers.

    Nothing in the file is executed. Raises CheckpointError for a file that is damaged, that holds
    other types, or that ldl.save wrote, and OSError for one that cannot be opened.
    """
    import safetensors

    name = os.fsdecode(path)
    with open(name, "rb") as raw:
        if raw.read(4) in (b"PK\x03\x04", b"\x80\x02}q", b"\x80\x02\x8a\n"):
            raise CheckpointError(
                f"{name} is a pickle, which may run code and is not opened: give "
                "torch.load(path, weights_only=True), or save safetensors.torch.save_file(state)"
            )
    check_frame(name)
    try:
        with safetensors.safe_open(name, framework="np") as file:
            ours = "ldl-model" in (file.metadata() or {}).get("ldl", "")
        deserialize: Any = safetensors.deserialize
        with open(name, "rb") as raw:
            tensors = [] if ours else deserialize(raw.read())
    except OSError:
        raise
    except Exception as error:
        raise CheckpointError(f"{name} cannot be read: {one_line(error)}") from error
    if ours:
        raise CheckpointError(f"{name} is a model that ldl saved: read it with ldl.load")
    return {key: _array(name, key, entry) for key, entry in sorted(tensors)}


def _array(path: str, name: str, entry: dict[str, Any]) -> Tensor:
    kind = entry["dtype"]
    if kind not in _TYPES:
        raise CheckpointError(
            f"{path} holds {name} of type {kind}, which NumPy has not: cast it to float32 and save "
            "it again"
        )
    found = np.frombuffer(entry["data"], _TYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        found = (found.astype(np.uint32) << 16).view(np.float32)
    return found.reshape(entry["shape"])
