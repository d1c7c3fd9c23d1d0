"""World: the processes that train one model."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from ldl.random import Share

T = TypeVar("T")

HOW = "pip install 'ldl[mpi]'"

GRACE = 5.0
"""Seconds that a rank which fails waits to see whether the others do too."""

LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where launchers of MPI say how many processes there are."""

LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "MV2_", "MPI_LOCAL", "SLURM_STEP_ID")
"""How variables begin that launchers set for their processes."""


class RanksDifferError(RuntimeError):
    """Ranks were given different data, models or settings, or one of them could not go on."""


class World:
    """The processes that train one model: MPI's, those of a communicator of mpi4py's, or one.

        world = ldl.distributed.World()         # of all processes that mpiexec has started
        world = ldl.distributed.World(comm)     # of some: comm is an mpi4py.MPI.Comm

    `rank` is this process's number, from 0, `size` how many there are. Without mpiexec the world is
    this process alone, and mpi4py need not be there. It is given to `ldl.fit`, `ldl.TrainStep` and
    `ldl.evaluate`, which all ranks call, at the same places, with the same arguments. A rank's
    error stops all ranks: one that no other rank has ends the whole program, once it was printed.

    Without a launcher MPI is not started, unless mpi4py has been imported. Where each process is to
    have a GPU of its own, `backend.choose_device(world.local_rank)` comes before the model is made.

    Raises ImportError where several processes were started and mpi4py is missing or has no MPI to
    load, RuntimeError where that MPI is not the launcher's and knows of one process.
    """

    rank = 0
    size = 1
    _comm: Any = None
    _failing: Any = None

    def __init__(self, comm: Any = None) -> None:
        found = _mpi_world() if comm is None else comm
        if found is None:
            return
        if not (hasattr(found, "Allreduce") and hasattr(found, "allgather")):
            raise TypeError(
                f"World takes a communicator of mpi4py, such as MPI.COMM_WORLD, got {found!r}"
            )
        self.rank, self.size = found.Get_rank(), found.Get_size()
        if self.size > 1:
            self._comm, self._failing = _own(found)
            _stop_all_on_errors(self)

    def __repr__(self) -> str:
        return f"World(rank {self.rank} of {self.size})"

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return World, ()

    @property
    def local_rank(self) -> int:
        """This rank's number among those on the same machine: the number of its GPU."""
        if self._comm is None:
            return 0
        from mpi4py import MPI

        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        try:
            return int(here.Get_rank())
        finally:
            here.Free()

    def gather(self, what: T) -> list[T]:
        """What each rank gives, in their order; small things of Python's."""
        if self._comm is None:
            return [what]
        found: list[T] = self._comm.allgather(what)
        return found

    def add_up(self, array: Any) -> None:
        """A C-contiguous array of the host becomes its sum over the ranks, in place."""
        if self._comm is not None:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, array)

    def begin_add_up(self, array: Any) -> Callable[[], Any]:
        """Begin `add_up`; what is returned waits for its end."""
        from mpi4py import MPI

        waiting: Callable[[], Any] = self._comm.Iallreduce(MPI.IN_PLACE, array).Wait
        return waiting

    def share(self, count: int) -> Share:
        """The rows of a batch of `count` that are this rank's."""
        first, last = (count * r // self.size for r in (self.rank, self.rank + 1))
        return Share(first, last - first, count)

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Numbers, each summed over the ranks: the same bits on all of them."""
        return [sum(each) for each in zip(*self.gather(list(numbers)), strict=True)]

    def on_first(self, call: Callable[[], Any]) -> None:
        """Have rank 0 do something; where it fails, every rank fails."""
        failed = None
        try:
            if self.rank == 0:
                call()
        except BaseException as error:
            failed = error
        said = self.gather(None if failed is None else f"{type(failed).__name__}: {failed}")
        if failed is not None:
            raise failed
        if said[0] is not None:
            raise RanksDifferError(f"rank 0 stopped: {said[0]}")

    def agree(self, facts: dict[str, Any]) -> None:
        """RanksDifferError, on every rank, naming the first fact that is not the same on all."""
        found = self.gather(facts)
        for rank, others in enumerate(found):
            for name in dict.fromkeys([*found[0], *others]):
                first, other = (each.get(name, "nothing") for each in (found[0], others))
                if first != other:
                    raise RanksDifferError(
                        f"the ranks do not agree: {name} is {_short(first)} on rank 0 and "
                        f"{_short(other)} on rank {rank}; give all ranks the same"
                    )

    def stop(self, error: BaseException) -> None:
        """Have an error stop all ranks: returns where all of them have one, to be raised."""
        if self._comm is None:
            return
        waiting, until = self._failing.Ibarrier(), monotonic() + GRACE
        while not waiting.Test():
            if monotonic() > until:
                traceback.print_exception(error)
                self._abort(error)
            sleep(0.005)

    def _abort(self, error: BaseException) -> None:
        kind = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(f"rank {self.rank} of {self.size} stops all: {kind}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        self._comm.Abort(1)


ALONE = World.__new__(World)
"""This process by itself, whatever has started it."""

P = ParamSpec("P")


def checked(world: Any) -> World:
    """A world that was given, or this process; TypeError for anything else."""
    if world is None:
        return ALONE
    if not isinstance(world, World):
        raise TypeError(f"world must be an ldl.distributed.World(), got {world!r}")
    return world


def stopping_all(call: Callable[P, T]) -> Callable[P, T]:
    """The function, whose errors stop all ranks of the `world` that it is given."""

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        world = checked(kwargs.get("world"))
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            world.stop(error)
            raise

    return called


def _launched() -> int:
    """How many processes a launcher of MPI says that it has started; 1 where none says it."""
    said = [os.environ.get(name, "") for name in LAUNCHED]
    return max((int(n) for n in said if n.isdecimal()), default=1)


def _mpi_world() -> Any:
    """mpi4py's communicator of all processes; None where nothing has started several."""
    if "mpi4py.MPI" not in sys.modules and not any(n.startswith(LAUNCHERS) for n in os.environ):
        return None
    count = _launched()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI to load
        if count == 1:
            return None
        raise ImportError(
            f"{count} processes were started, which need mpi4py and an MPI library to know of "
            f"each other: {HOW} ({error})"
        ) from error
    if count > 1 and MPI.COMM_WORLD.Get_size() == 1:
        library = MPI.Get_library_version().split("\n")[0].strip("\0")
        raise RuntimeError(
            f"{count} processes were started, but {library}, which mpi4py has here, knows of one: "
            "start them with the mpiexec, or srun --mpi=..., of that library"
        )
    return MPI.COMM_WORLD


_owned: dict[int, tuple[Any, Any]] = {}


def _own(comm: Any) -> tuple[Any, Any]:
    """Two communicators of the same processes that nobody else sends by: for work, for errors."""
    if comm.handle not in _owned:
        _owned[comm.handle] = comm.Dup(), comm.Dup()
    return _owned[comm.handle]


def _stop_all_on_errors(world: World) -> None:
    """Have an error that nobody catches stop the other ranks, which would wait for this one."""
    before = sys.excepthook
    if getattr(before, "stops_all", False):
        return

    def hook(kind: type[BaseException], error: BaseException, where: Any) -> None:
        before(kind, error, where)
        world._abort(error)

    hook.stops_all = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _short(fact: Any) -> str:
    text = repr(fact)
    return text if len(text) <= 200 else f"{text[:200]}…"
