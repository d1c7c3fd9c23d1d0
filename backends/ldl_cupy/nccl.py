"""Sums over the GPUs of several processes, by NCCL."""

from __future__ import annotations

from typing import Any
from warnings import warn

from ldl.backend import Array


class Nccl:
    """This process's end of NCCL's communicator of a world's processes, one GPU each.

    What it does is work of the current stream, which a graph may capture.
    """

    def __init__(self, cuda: Any, world: Any) -> None:
        nccl = cuda.nccl
        said = world.gather(nccl.get_unique_id() if world.rank == 0 else None)
        self._comm = nccl.NcclCommunicator(world.size, said[0], world.rank)
        self._stream = cuda.get_current_stream
        self._types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        self._sum = nccl.NCCL_SUM

    def add_up(self, array: Array) -> None:
        """A contiguous array becomes its sum over the ranks, in place."""
        at, kind = array.data.ptr, self._types[str(array.dtype)]
        self._comm.allReduce(at, at, array.size, kind, self._sum, self._stream().ptr)


def communicator(cuda: Any, world: Any) -> Nccl | None:
    """The current GPU's; None, which is said once, where NCCL is not there on every rank."""
    there = world.gather(bool(getattr(cuda.nccl, "available", False)))
    if all(there):
        return Nccl(cuda, world)
    warn(
        f"NCCL is missing on rank {there.index(False)}, so that sums over the ranks go through the "
        "host, which is slower: pip install nvidia-nccl-cu12 (or -cu13)",
        stacklevel=4,
    )
    return None
