"""Ranks: what a step of several processes does beside the step of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ldl import caches
from ldl.backend import Array
from ldl.distributed.world import World
from ldl.kernels.data import Pool, pooling
from ldl.nn.losses import Loss, total
from ldl.nn.module import Module, shape_of_output
from ldl.optim.optimizer import Optimizer
from ldl.random import Share, shared
from ldl.train.agreement import facts

Scale = Array | float
"""What a rank's loss and its gradient count in those of the whole batch."""


PIECES, PIECE = 4, 2**17
"""In how many pieces gradients travel, and how many numbers are worth one."""


class Ranks:
    """How the losses and gradients of ranks become those of whole batches.

    With l_r the loss of rank r's rows, a mean over d_r, that of all rows is Σ_r s_r l_r, where
    s_r = d_r / Σ d; of reduction "sum" s_r = 1. (Losses divide by 1 where d is 0.) Each rank's step
    gives s_r l_r and its gradient, and these are summed over the ranks, the loss in one message
    with the gradients.
    """

    def __init__(self, world: World, model: Module, loss: Loss, optimizer: Optimizer) -> None:
        self.world, self.model, self.loss, self.optimizer = world, model, loss, optimizer
        self.denominator: Array | float = 0.0
        """What the loss of the whole batch is a mean over."""
        self._outputs: dict[Any, tuple[int, ...]] = {}
        self._found: list[int | None] | None = None
        self._held: list[Any] = []
        self._messages: list[Array] = []
        self._tail: Array = None
        self._sum: Array = None
        self._sites = caches.Cache(caches.UPDATES)
        self._agreed = False
        self._first: int | None = None
        """Where the gradients end that are not sent in pieces; None where there are no pieces."""
        self._waits: list[Callable[[], Any]] = []
        self.share = Share(0, 0, 0)
        """The rows of the batch of which the latest step was."""

    def __getstate__(self) -> dict[str, Any]:
        """All but where it found things: a copy finds its own."""
        own: dict[str, Any] = {
            "_found": None,
            "_held": [],
            "_messages": [],
            "_tail": None,
            "_sum": None,
        }
        return {**vars(self), **own, "_sites": caches.Cache(caches.UPDATES), "_waits": []}

    def agree(self, whole: tuple[int, ...]) -> None:
        """Before the first step: RanksDifferError unless all ranks do the same."""
        if not self._agreed:
            check_separable(self.model)
            self.world.agree({"the shape of a batch": whole, **facts(self.model, self.optimizer)})
            self._agreed = True

    def scale(self, share: Share, x: Array, y: Array, *weights: Array) -> Scale:
        """s of the rows that a step follows on; one number where all samples count alike."""
        self.agree(())
        self.share = share
        loss, backend = self.loss, self.model.backend
        if loss.reduction == "sum":
            self.denominator = 1.0
            return 1.0
        key = x.shape[1:], x.dtype
        if key not in self._outputs:
            self._outputs[key] = shape_of_output(self.model, x)
        shape = (max(share.here, 1), *self._outputs[key])
        own = loss.shares(shape, y, *weights)
        if isinstance(own, (int, float)):
            self.denominator = own / shape[0] * share.whole
            return share.here / share.whole
        count = total(own).reshape(1).astype("float64")
        if not share.here:
            count[...] = 0
        whole = count.copy()
        backend.add_up(whole, self.world)
        self.denominator = whole
        some, all_of_it = (backend.xp.where(n > 0, n, 1) for n in (count, whole))
        return (some / all_of_it).astype(self.model.dtype).reshape(())

    @property
    def empty(self) -> bool:
        """Whether this rank has no sample of the batch."""
        return not self.share.here

    @contextmanager
    def sharing(self, share: Share) -> Iterator[None]:
        """A block in which draws and means are those of a batch of which these rows are here."""
        before = pooling.get()
        try:
            pooling.set(Pool(share, self.pool))
            with shared(share):
                yield
        finally:
            pooling.set(before)

    def pool(self, array: Array) -> None:
        """What layers wait for, summed over the ranks."""
        self.model.backend.add_up(array, self.world)

    def pieces(self) -> list[Gradients]:
        """All gradients but the first layers', in pieces that can travel as soon as they are there.

        None where they are in several buffers, some are another model's, or layers sum on their way
        too: that all ranks send in one order is then plain.
        """
        if any(module.pools_ranks for module in self.model.modules()):
            return []
        stores, own = self.optimizer.stores, list(self.model.parameters())
        if len(stores) > 1 or len(own) != len(stores[0].parameters):
            return []
        numbers = {id(p): k for k, p in enumerate(own)}
        store = stores[0]
        if any(id(p) not in numbers for p in store.parameters):
            return []
        *cuts, first = store.cuts(PIECES, PIECE)
        found = [
            Gradients(
                self, store.grads[start:stop], [numbers[id(store.parameters[k])] for k in some]
            )
            for start, stop, some in cuts
        ]
        self._first = first[1] if found else None
        return found

    def add_up(self, value: Array, played: bool) -> Array:
        """Sum gradients and losses over the ranks, in place; the loss of the whole batch."""
        self._find()
        backend = self.model.backend
        if played and isinstance(value, backend.array_type):
            key = id(value), self.empty
            site = self._sites.get(key)
            if site is None:
                site = backend.deferred(partial(self._send, value))
                self._sites.put(key, site)
            site()
            return self._sum
        self._send(value)
        return self._tail[0]

    def begin(self, grads: Array) -> None:
        """Send some gradients, those of a rank without samples as zeros."""
        if self.empty:
            grads[...] = 0
        self._waits.append(self.model.backend.begin_add_up(grads, self.world))

    def _send(self, value: Array) -> None:
        self._tail[...] = 0 if self.empty else value
        for message in self._messages:
            if self.empty:
                message[...] = 0
            self.model.backend.add_up(message, self.world)
        waits, self._waits = self._waits, []
        for wait in waits:
            wait()

    def _find(self) -> None:
        """The stretches of gradients that are not under way, and before one the loss's place."""
        stores = self.optimizer.stores
        found = [run for store in stores for run in store.runs()]
        ids: list[int | None] = [*map(id, found), self._first]
        if ids == self._found:
            return
        self._sites.clear()
        self._messages, self._tail = [], None
        for store in stores:
            for run in store.runs():
                start, stop = store.span(run)
                if self._first is not None:
                    stop = min(stop, self._first)
                if start < stop and (start or self._tail is not None):
                    self._messages.append(store.grads[start:stop])
                elif start < stop:
                    self._messages.append(store.with_place(stop))
                    self._tail = self._messages[-1][:1]
        if self._tail is None:
            self._tail = self.model.backend.xp.zeros(1, dtype=self.model.dtype)
            self._messages.append(self._tail)
        self._sum = self._tail.reshape(())
        self._held, self._found = found, ids


class Gradients:
    """A piece of the gradients: those of some of the model's parameters."""

    def __init__(self, ranks: Ranks, grads: Array, numbers: Sequence[int]) -> None:
        self.ranks, self.grads = ranks, grads
        self.numbers: Sequence[int] = numbers

    def begin(self) -> None:
        """Send them."""
        self.ranks.begin(self.grads)


def check_separable(model: Module) -> None:
    """ValueError for layers in training whose outputs depend on the other samples of a batch."""
    for name, module in model.named_modules():
        if module.mixes_samples and module.training and not module.pools_ranks:
            raise ValueError(
                f"{name} = {module!r} looks at a whole batch, of which each rank has but a share: "
                "take means by backend.pooled and set pools_ranks, or freeze it with .eval()"
            )
