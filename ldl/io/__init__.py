"""Files: models and tensors, in safetensors with a checksum, written whole or not at all."""

from ldl.io.architecture import register
from ldl.io.files import (
    CheckpointError,
    check_writable,
    read_tensors,
    write_atomically,
    write_tensors,
)
from ldl.io.model import load, save

__all__ = [
    "CheckpointError",
    "check_writable",
    "load",
    "read_tensors",
    "register",
    "save",
    "write_atomically",
    "write_tensors",
]
