"""Files: models and tensors, in safetensors with a checksum, written whole or not at all."""

from ldl.io.architecture import register
from ldl.io.files import CheckpointError, read_tensors, write_tensors
from ldl.io.model import load, save
from ldl.io.replacing import check_writable, write_atomically

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
