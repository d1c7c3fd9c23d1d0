"""TrainStep: a whole step as one call."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ldl.backend import Array, Recording
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer


class TrainStep:
    """Forward, loss, backward and update: `loss = step(x, y)`.

    The backend records the first step of every shape and plays it from then on: on NumPy without
    allocating, its elementwise parts fused where Numba is installed; on CuPy, with cuBLASLt, as one
    graph launch. The numbers are those of the layers' own code, to rounding where parts are fused
    and to the bit where they are not.

    Gradients are cleared first, whatever was left in them. The loss is a scalar of the device and
    nothing waits for it. With `keep_output`, `step.output` is what the model made of x, valid until
    the next step. Targets are checked for shape and type but not for their values (`loss.check`
    does that, once for a data set). `record=False` runs the layers' code every time.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        keep_output: bool = False,
        record: bool = True,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.keep_output = keep_output
        self.record = record
        self.output: Array = None
        self._recordings: dict[Any, Recording] = {}
        self._applies = optimizer.only_applies

    def __call__(self, x: Array, y: Array) -> Array:
        """One step on a batch; returns its loss before the update."""
        key = x.shape, x.dtype, y.shape, y.dtype, x is y
        recording = self._recordings.get(key)
        if recording is None or not recording.valid():
            self.optimizer.pack()
            recording = self._recordings[key] = self._recorded(x, y)
        with self._together():
            value, *output = recording(x, y)
            self.optimizer.step()
        if output:
            self.output = output[0]
        return value

    def _together(self) -> AbstractContextManager[Any]:
        """One launch of recording and update, unless the update does more than run kernels."""
        return self.model.backend.together() if self._applies else nullcontext()

    def _recorded(self, x: Array, y: Array) -> Recording:
        function = _with_output if self.keep_output else _gradients
        parts = self.model, self.loss
        if not self.record:
            return Recording(function, parts)
        return self.model.backend.record(function, parts, (x, y))


def _with_output(model: Module, loss: Loss, x: Array, y: Array) -> tuple[Array, Array]:
    """The loss and the output; leaves the gradients in the parameters."""
    model.zero_grad()
    output = model(x)
    value = loss.forward(output, y)
    model.backward(loss.backward())
    return value, output


def _gradients(model: Module, loss: Loss, x: Array, y: Array) -> tuple[Array]:
    return (_with_output(model, loss, x, y)[0],)
