"""Cuts: where the rows of an epoch's batches stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from ldl.backend import Backend
from ldl.distributed.world import World
from ldl.random import Share, Stream


class Cut(NamedTuple):
    """A batch's rows among those that a process goes through, and its share of the whole batch.

    Where it has none of the batch, `rows` is one row all the same, which counts for nothing:
    every process then does the same.
    """

    rows: slice
    share: Share


class Cuts:
    """The batches of an epoch, of `size` rows each and the last of what is left.

    Of several processes each has the same rows and takes its share of each batch; or, where
    `counts` says how many rows each has, its own, so much of them in each batch that all come to
    their ends together.
    """

    def __init__(
        self, rows: int, size: int, rank: int = 0, ranks: int = 1, counts: list[int] | None = None
    ) -> None:
        self.size, self._rank, self._ranks, self._counts = size, rank, ranks, counts
        self._count = rows if counts is None else sum(counts)

    def __len__(self) -> int:
        return -(-self._count // self.size)

    def __getitem__(self, batch: int) -> Cut:
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        if self._counts is None:
            start = batch * self.size
            whole = min(self.size, self._count - start)
            first, end = (whole * r // self._ranks for r in (self._rank, self._rank + 1))
            return _cut(start + first, Share(first, end - first, whole), self._count)
        ends = [[n * i // len(self) for n in self._counts] for i in (batch, batch + 1)]
        here = [end - start for start, end in zip(*ends, strict=True)]
        share = Share(sum(here[: self._rank]), here[self._rank], sum(here))
        return _cut(ends[0][self._rank], share, self._counts[self._rank])

    def __iter__(self) -> Iterator[Cut]:
        return (self[batch] for batch in range(len(self)))


def _cut(start: int, share: Share, rows: int) -> Cut:
    start = min(start, rows - 1)
    return Cut(slice(start, start + max(1, share.here)), share)


def cuts_of(data: Any, rows: int, size: int, world: World) -> Cuts:
    """The cuts of so many rows of placed arrays, for this rank; all ranks ask at once."""
    counts = world.gather(rows) if data.is_shard else None
    return Cuts(rows, size, world.rank, world.size, counts)


def parts_of(
    data: Any, backend: Backend, size: int, world: World, order: Any, stream: Stream | None
) -> Iterator[tuple[Any, ...]]:
    """This rank's parts of the batches of data that were placed: (share, x, y, …)."""
    if hasattr(data, "is_shard"):
        cuts = cuts_of(data, len(data) if order is None else len(order), size, world)
        batches = data.batches(backend, cuts, order, stream)
        yield from ((cut.share, *batch) for cut, batch in zip(cuts, batches, strict=True))
        return
    for batch in _together(data.batches(backend, size), world):
        yield part_of(batch, world)


def _together(batches: Iterator[Sequence[Any]], world: World) -> Iterator[Sequence[Any]]:
    """Batches that a program made; all ranks have the next, of one shape, or none has."""
    for number in count(1):
        batch = next(batches, None)
        if world.size > 1:
            shapes = None if batch is None else [tuple(a.shape) for a in batch]
            world.agree({f"the shape of batch {number}": shapes})
        if batch is None:
            return
        yield batch


def part_of(batch: Sequence[Any], world: World) -> tuple[Any, ...]:
    """This rank's share of a whole batch and its rows, (share, x, y, …); as many as of a `Cut`."""
    share = world.share(len(batch[0]))
    if world.size == 1:
        return share, *batch
    rows = _cut(share.first, share, share.whole).rows
    taken = {id(a): a[rows] for a in batch}
    return share, *[taken[id(a)] for a in batch]
