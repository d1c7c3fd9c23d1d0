"""Files: models and tensors, in safetensors with a checksum, written whole or not at all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ldl.io.architecture import register
from ldl.io.files import CheckpointError, read_tensors, write_tensors
from ldl.io.model import load, load_with_notes, save
from ldl.io.replacing import check_writable, write_atomically

if TYPE_CHECKING:
    from ldl.io import torch

__all__ = [
    "CheckpointError",
    "check_writable",
    "load",
    "load_with_notes",
    "read_tensors",
    "register",
    "save",
    "torch",
    "write_atomically",
    "write_tensors",
]


def __getattr__(name: str) -> Any:
    """Import what reads PyTorch's weights when it is asked for."""
    if name == "torch":
        return import_module("ldl.io.torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
