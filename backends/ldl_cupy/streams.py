"""Products and numbers that nothing else in a step reads, beside the rest of it.

dW = Xᵀ G waits for G, and the optimizer alone for dW: in a captured step it runs on a second stream
while the next dX does. So does what makes the loss of its sum, and what adds gradients up over
ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from ldl.compiler.operations import BEGIN_SUM, Op, Ref, Value

AT_ONCE = 2
"""Operations that may wait beside: the memory that they read is used for nothing else meanwhile."""


class Streams(Protocol):
    """What a second stream needs of a device."""

    def aside(self, work: Callable[[], None]) -> Any:
        """Do it beside what follows on the current stream; gives what `join` takes."""

    def join(self, done: Any) -> None:
        """Let the current stream wait for it."""


def beside(ops: list[Op], device: Streams) -> list[Op]:
    """The operations, with some put aside and joined again.

    A join has what its operation reads among its inputs, so that a plan keeps it until then.
    """
    last = max((i for i, op in enumerate(ops) if not _alone(ops, i)), default=0)
    done: list[Op] = []
    waiting: list[Op] = []
    for i, op in enumerate(ops):
        if i > last or not _alone(ops, i):
            done.append(op)
            continue
        if len(waiting) == AT_ONCE:
            done.append(waiting.pop(0))
        aside = _Aside(device, op.run)
        done.append(replace(op, run=aside))
        waiting.append(Op(aside.join, (*op.inputs, *op.outputs), (), ufunc="join"))
    return [*done, *waiting]


def _alone(ops: list[Op], i: int) -> bool:
    """Whether no later operation touches its result, a product or a number, or its operands."""
    op = ops[i]
    numbers = not any(out.value.shape for out in op.outputs)
    if not (numbers or op.ufunc.startswith(("matmul", BEGIN_SUM))):
        return False
    written, read = _values(op.outputs), _values(op.inputs)
    return not any(
        written & _values((*later.inputs, *later.outputs)) or read & _values(later.outputs)
        for later in ops[i + 1 :]
    )


def _values(refs: tuple[Any, ...]) -> set[Value]:
    return {x.value for x in refs if isinstance(x, Ref)}


class _Aside:
    """An operation on the second stream."""

    def __init__(self, device: Streams, run: Callable[..., None]) -> None:
        self._device, self._run = device, run
        self._done: Any = None

    def __call__(self, *arrays: Any) -> None:
        self._done = self._device.aside(partial(self._run, *arrays))

    def join(self, *arrays: Any) -> None:
        """Wait for it."""
        self._device.join(self._done)
