"""TrainStep: a whole step as one call."""

from __future__ import annotations

from ldl.backend import Array
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer


class TrainStep:
    """Forward, loss, backward and update: `loss = step(x, y)`.

    Gradients are cleared first, whatever was left in them. The loss is a scalar of the device and
    nothing waits for it; `step.output` is what the model made of x. Targets are checked for shape
    and type but not for their values (`loss.check` does that, once for a data set).
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.output: Array = None

    def __call__(self, x: Array, y: Array) -> Array:
        """One step on a batch; returns its loss before the update."""
        self.model.zero_grad()
        self.output = self.model(x)
        value = self.loss.forward(self.output, y)
        self.model.backward(self.loss.backward())
        self.optimizer.step()
        return value
