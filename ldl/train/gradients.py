"""What a training step does: take a batch, corrupt it, go forward, take the loss, and go back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import index
from typing import Any, Protocol

from ldl.backend import Array, Backend, Recording
from ldl.data.batching import Arrays
from ldl.data.noise import Noise
from ldl.nn.differentiable import Differentiable
from ldl.nn.losses import Loss, check_scalar, check_slope
from ldl.nn.module import Module, check_output
from ldl.random import Stream


class Piece(Protocol):
    """Gradients that travel together."""

    numbers: Sequence[int]
    """Which of the model's parameters have them."""

    def begin(self) -> None:
        """Send them."""


class Corruption(Differentiable):
    """Noise as a part of a step."""

    def __init__(self, noise: Noise | None, stream: Stream | None, model: Module) -> None:
        self.noise, self.stream, self.backend = noise, stream, model.backend

    def __call__(self, x: Array) -> Array:
        """x, corrupted where there is noise."""
        if self.noise is None or self.stream is None:
            return x
        return self.noise(x, self.stream, self.backend)


def taken(model: Module, loss: Loss, x: Any, y: Any, sample_weight: Any = None) -> list[Array]:
    """A batch of any origin as `fit` takes it, cast to the model's type."""
    if y is None:
        raise TypeError("a step takes (x, y), got None for y: give x itself to an autoencoder")
    placed = Arrays(x, y, None, sample_weight).send(
        model.backend, model.dtype, loss.takes_labels, model.takes_integers
    )
    return placed.parts()


def check_starts(starts: Sequence[int], count: int, size: int) -> None:
    """ValueError unless batches of `size` rows that begin there are whole, of `count` rows."""
    last = count - size
    bad = next((start for start in starts if not 0 <= index(start) <= last), None)
    if bad is not None:
        raise ValueError(
            f"starts must lie from 0 to {last}, so that each of the batches of {size} is "
            f"whole, got {bad}"
        )


def unrecorded(function: Any, parts: Sequence[Any], inputs: Sequence[Array]) -> Recording:
    """The function itself."""
    return Recording(function, parts)


def rows_of(backend: Backend, data: Sequence[Array], rows: Array) -> list[Array]:
    """Rows of several arrays, one array where two are one."""
    taken = {id(array): backend.take(array, rows) for array in data}
    return [taken[id(array)] for array in data]


def copy_into(to: Array, value: Array) -> None:
    """Write a value to its place."""
    to[...] = value


def with_output(
    model: Module,
    loss: Loss,
    x: Array,
    y: Array,
    *weights: Array,
    scale: float | Array = 1.0,
    pieces: Sequence[Piece] = (),
) -> tuple[Array, Array]:
    """The loss and the output; leaves the gradients in the parameters.

    Loss and gradients are multiplied by `scale`, and the gradients of `pieces` begin to be added up
    over the ranks.
    """
    model.zero_grad()
    output = check_output(model, model(x))
    copies = [a.copy() for a in (output, y, *weights)]
    value = check_scalar(loss, loss.forward(*copies))
    slope = check_slope(loss, loss.backward(), output)
    model.backward(_scaled(slope, scale))
    parameters = list(model.parameters()) if pieces else []
    for piece in pieces:
        model.backend.begin_sum([parameters[k].grad_buffer for k in piece.numbers], piece)
    return _scaled(value, scale), output


def gradients(
    model: Module,
    loss: Loss,
    x: Array,
    *rest: Array,
    scale: float | Array = 1.0,
    pieces: Sequence[Piece] = (),
) -> tuple[Array]:
    """`with_output`, but for the output."""
    return (with_output(model, loss, x, *rest, scale=scale, pieces=pieces)[0],)


def done_by_a_step(keep_output: bool, pieces: Sequence[Piece], scale: float | Array) -> Any:
    """The function of (model, loss, *batch) that a step is; an array that scales goes in last."""
    function: Any = with_output if keep_output else gradients
    if pieces:
        function = partial(function, pieces=pieces)
    if not isinstance(scale, float):
        return partial(scaled_by_last, function)
    return function if scale == 1 else partial(function, scale=scale)


def scaled_by_last(function: Any, model: Module, loss: Loss, *given: Array) -> tuple[Array, ...]:
    """What the function gives, scaled by the last of what is given, an array without axes."""
    *rest, scale = given
    results: tuple[Array, ...] = function(model, loss, *rest, scale=scale)
    return results


def _scaled(a: Array, scale: float | Array) -> Array:
    return a if isinstance(scale, float) and scale == 1 else a * scale


def corrupted(
    function: Any, model: Module, loss: Loss, corruption: Corruption, x: Array, *rest: Array
) -> tuple[Array, ...]:
    """What the function gives for x that is corrupted first."""
    results: tuple[Array, ...] = function(model, loss, corruption(x), *rest)
    return results
