"""What every rank does: mpiexec -n P python -m benchmarks.distributed.ranks '{"seconds": 1, ...}'.

Rank 0 prints what was found, one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from time import perf_counter, sleep
from typing import Any

from benchmarks.names import ALL, ALONE, ONE

Found = dict[str, Any]
Times = dict[str, list[float]]


def pin(rank: int) -> None:
    """Have this rank run on one processor, if it can be: the next of those that there are."""
    if hasattr(os, "sched_setaffinity"):
        here = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {here[rank % len(here)]})


def summary(times: list[float]) -> Found:
    """Median, minimum and how many."""
    return {"median": statistics.median(times), "minimum": min(times), "blocks": len(times)}


def block_of(call: Callable[[], Any], seconds: float) -> int:
    """How many calls take so long."""
    call()
    began = perf_counter()
    call()
    return max(1, int(seconds / (perf_counter() - began)))


def turns(seconds: float, block: float, call: Callable[[], Any]) -> list[float]:
    """A call's times, of blocks one after another."""
    count, found, until = block_of(call, block), [], perf_counter() + seconds
    while not found or perf_counter() < until:
        began = perf_counter()
        for _ in range(count):
            call()
        found.append((perf_counter() - began) / count)
    return found


class Net:
    """A workload's steps of some rows."""

    def __init__(self, name: str, quick: bool) -> None:
        from benchmarks.workloads import TINY, by_name

        self.workload = TINY[0] if quick else by_name(name)
        self.count = sum(i * o + o for i, o in self.workload.layers)

    def step(self, rows: int, world: Any = None) -> Callable[[], Any]:
        """A step as a call."""
        from dataclasses import replace

        import ldl
        from benchmarks.device import Device
        from benchmarks.implementations.ldl_ import OneStep

        sized, own = replace(self.workload, batch=rows), OneStep("ldl")
        batches = cycle(own.place(sized.batches(count=4), Device()))
        step = ldl.TrainStep(*own.parts(sized, sized.weights(), Device()), world=world)
        self.optimizer = step.optimizer
        return lambda: step(*next(batches))

    def pieces(self) -> list[int]:
        """The bytes of each piece in which the gradients travel; after a step."""
        from ldl.train.ranks import PIECE, PIECES

        (store,) = self.optimizer.stores
        return [4 * (stop - start) for start, stop, _ in store.cuts(PIECES, PIECE)]


def messages(comm: Any, sizes: list[int], seconds: float) -> list[Found]:
    """All-reduces in place of float32: of each size the slowest rank's times."""
    import numpy as np
    from mpi4py import MPI

    found = []
    for size in sizes:
        array = np.zeros(size // 4, np.float32)
        count = comm.bcast(block_of(lambda a=array: comm.Allreduce(MPI.IN_PLACE, a), 0.01))
        blocks, until = [], perf_counter() + seconds
        while comm.bcast(perf_counter() < until or len(blocks) < 3):
            comm.Barrier()
            began = perf_counter()
            for _ in range(count):
                comm.Allreduce(MPI.IN_PLACE, array)
            blocks.append(comm.allreduce((perf_counter() - began) / count, MPI.MAX))
        found.append({"bytes": size, **summary(blocks)})
    return found


def alone(args: Found) -> Found:
    """Of one rank: steps of every number of rows, and γ, adding up what is in the cache or not."""
    import numpy as np

    found: Found = {"nets": {}}
    for name, rows in args["nets"].items():
        net = Net(name, args["quick"])
        points = []
        for n in rows:
            times = turns(args["seconds"], 0.05, net.step(n))
            points.append({"rows": n, **summary(times)})
        title, batch = net.workload.title, rows[-1]
        size = 4 * net.count
        a, b = (np.ones(net.count, np.float32) for _ in "ab")
        adding = turns(args["seconds"], 0.02, lambda a=a, b=b: np.add(a, b, out=a))
        found["nets"][name] = {"title": title.partition(", batch")[0], "batch": batch}
        found["nets"][name] |= {"bytes": size, "pieces": net.pieces()}
        found["nets"][name] |= {"steps": points, "adding": summary(adding)}
    return found


def quietly(comm: Any) -> None:
    """Wait for all, leaving the processor to others."""
    waiting = comm.Ibarrier()
    while not waiting.Test():
        sleep(0.0005)


def together(args: Found, comm: Any) -> Found:
    """Sums of every size; steps without `world=`, with one of one rank, with one of all, in turn.

    The first two are rank 0's alone, the others asleep.
    """
    from mpi4py import MPI

    from ldl.distributed import World

    found: Found = {"ranks": comm.Get_size()}
    found["messages"] = messages(comm, args["sizes"], args["seconds"] / 2)
    net, batch = Net(args["net"], args["quick"]), args["batch"]
    world, sums = World(comm), [0.0]
    add_up, begin = world.add_up, world.begin_add_up

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any) -> Any:
            began = perf_counter()
            result = call(*given)
            sums[0] += perf_counter() - began
            return timed(result) if callable(result) else result

        return made

    world.add_up, world.begin_add_up = timed(add_up), timed(begin)  # type: ignore[method-assign]
    steps = {
        ALONE: net.step(batch),
        ONE: net.step(batch, World(MPI.COMM_SELF)),
        ALL: net.step(batch, world),
    }
    if args["together only"]:
        steps = {ALL: steps[ALL]}
    counts, times = {}, {name: [] for name in steps}
    for name, step in steps.items():
        if name == ALL or comm.Get_rank() == 0:
            counts[name] = block_of(step, 0.1)
        quietly(comm)
    counts, share = comm.bcast(counts), []
    for name in order(comm, list(steps), args["rounds seconds"]):
        quietly(comm)
        if name != ALL and comm.Get_rank():
            continue
        sums[0], began = 0.0, perf_counter()
        for _ in range(counts[name]):
            steps[name]()
        took = perf_counter() - began
        times[name].append(took / counts[name])
        if name == ALL:
            share.append(sums[0] / took)
    quietly(comm)
    found["steps"] = {name: summary(t) for name, t in times.items() if t}
    found["blocks"] = {name: t for name, t in times.items() if t}
    found["share"] = comm.allgather(statistics.median(share))
    found["batch"] = batch
    return found


def order(comm: Any, names: list[str], seconds: float) -> Iterator[str]:
    """Names in rounds, each in another order, the same on all ranks, for some seconds."""
    chance, until = random.Random(0), perf_counter() + seconds
    while comm.bcast(perf_counter() < until):
        chance.shuffle(names)
        yield from list(names)


def main(given: str) -> int:
    """Do what is asked for on this rank."""
    from mpi4py import MPI

    comm, args = MPI.COMM_WORLD, json.loads(given)
    pin(comm.Get_rank())
    found = alone(args) if comm.Get_size() == 1 else together(args, comm)
    if comm.Get_rank() == 0:
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
