"""Averages of the weights in the course of a fit: exponential (EMA) and plain (SWA)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ldl.backend import Array
from ldl.calm import calm
from ldl.nn.module import Module
from ldl.nn.parameter import Buffer
from ldl.numbers import non_negative_integer, number, positive_integer, short
from ldl.optim.flat import FlatStore
from ldl.optim.updates import Updates
from ldl.train.callbacks import Callback, Run


class WeightAverage(Callback):
    """The base: what it has in mind is `weights`, arrays by the model's names, none at first.

    In validation and in every `on_epoch_end` the model has these weights, so that figures, best
    weights and saved models are theirs; what a callback writes to the weights there is undone.
    Training goes on with the weights that it had, and a checkpoint has both. With `swap` the model
    is left with the average when training ends, before any `on_fit_end`; else
    `model.load_state_dict(average.weights)` takes it over. A further fit goes on from the weights
    that the model was left with, and begins another average.
    """

    def __init__(self, swap: bool) -> None:
        self.swap = bool(swap)
        self.count = 0
        self.weights: dict[str, Array] = {}
        self._flat: list[tuple[FlatStore, Array, Array]] = []
        """Stores, their values as they were, and the averages of these."""
        self._rest: list[tuple[Any, Array]] = []
        """Parameters that no optimizer moves, and their averages."""
        self._updates = Updates()

    def on_fit_begin(self, run: Run) -> None:
        """Begin anew, unless the run is resumed; ValueError where there is an average already."""
        if run.average is not None:
            raise ValueError(
                f"{self!r} and {run.average!r}: a fit keeps one average of the weights, leave out "
                "one of the two"
            )
        run.average = self
        self._flat, self._rest = [], []
        if run.epoch == 0:
            self.count, self.weights = 0, {}

    def after_epoch(self, run: Run, inputs: Iterable[Array]) -> None:
        """After an epoch's last step; `inputs` goes through its batches again."""

    @calm
    def add(self, run: Run, rest: float) -> None:
        """a ← a + rest (p - a) for every number; the first time a ← p."""
        run.optimizer.pack()
        if not self._bound():
            self._bind(run)
        self.count += 1
        if self.count == 1:
            return
        self._updates.begin()
        for store, values, average in self._flat:
            if values.dtype.kind != "f":
                average[...] = values
                continue
            arrays = average, values
            self._updates.kernel(store.backend, "average_step", arrays, ("rest",), {})(rest)
        for parameter, average in self._rest:
            floating = parameter.dtype.kind == "f"
            average[...] = (
                average + rest * (parameter.data - average) if floating else parameter.data
            )

    @contextmanager
    def instead(self, run: Run) -> Iterator[None]:
        """Inside, the model has the average's weights, if there are any."""
        own = dict(run.model.named_parameters()) if self.weights else {}
        held = {name: parameter.data.copy() for name, parameter in own.items()}
        try:
            for name, parameter in own.items():
                parameter.data[...] = self.weights[name]
            yield
        finally:
            for name, parameter in own.items():
                parameter.data[...] = held[name]

    def finish(self, run: Run) -> None:
        """Leave the model with the average's weights, if that is asked for."""
        if self.swap and self.weights:
            for name, parameter in run.model.named_parameters():
                parameter.data[...] = self.weights[name]

    def state_dict(self) -> dict[str, Any]:
        """How many weights were averaged."""
        return {"count": self.count}

    def arrays(self) -> dict[str, Array]:
        """The average, copied."""
        return {name: a.copy() for name, a in self.weights.items()}

    def load_state(self, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take over what `state_dict` and `arrays` gave; ValueError, and no change, for others."""
        own = self.state_dict()
        if not isinstance(state, dict) or state.keys() != own.keys():
            raise ValueError(f"a state has {' and '.join(own)}, got {short(state)[:80]}")
        found = {name: non_negative_integer(name, state[name]) for name in own}
        if bool(found["count"]) != bool(arrays):
            raise ValueError("the average and its count contradict each other")
        for name, value in found.items():
            setattr(self, name, value)
        self.weights = {name: a.copy() for name, a in arrays.items()}

    def check_loaded(self, model: Module, epoch: int) -> None:
        """The average fits the model, and is finite."""
        own = model.state_dict()
        kinds = [
            {name: (tuple(a.shape), str(a.dtype)) for name, a in arrays.items()}
            for arrays in (self.weights, own)
        ]
        if self.weights and kinds[0] != kinds[1]:
            raise ValueError("the averaged weights are of another model")
        if not all(model.backend.xp.isfinite(a).all() for a in self.weights.values()):
            raise ValueError("the averaged weights are not finite")

    def _bound(self) -> bool:
        """Whether the average stands beside the stores' values as they are."""
        return bool(self._flat) and all(store.values is values for store, values, _ in self._flat)

    def _bind(self, run: Run) -> None:
        """Make averages beside the optimizer's buffers, of what they were or of the weights."""
        own = dict(run.model.named_parameters())
        names = {id(parameter): name for name, parameter in own.items()}
        flat = [(store, store.values, store.values.copy()) for store in run.optimizer.stores]
        views: dict[str, Array] = {}
        for store, _, average in flat:
            for i, parameter in enumerate(store.parameters):
                if id(parameter) in names:
                    views[names[id(parameter)]] = store.view(average, i)
        rest = [(p, p.data.copy()) for name, p in own.items() if name not in views]
        views |= {names[id(parameter)]: average for parameter, average in rest}
        for name, array in self.weights.items():
            views[name][...] = own[name].backend.asarray(array, own[name].dtype)
        self.weights = {name: views[name] for name in own}
        self._flat, self._rest = flat, rest
        self._updates = Updates()


class EMA(WeightAverage):
    """An exponential moving average of the weights: a ← d a + (1-d) p after every step.

        ldl.fit(..., callbacks=[ldl.EMA(0.999)])

    d is `decay`, with `warmup` min(decay, (1+n) / (10+n)) after n updates, so that the first
    weights are forgotten; `every` steps there is an update, and the first takes the weights as they
    are. Running statistics of BatchNorm are averaged like weights. Steps are taken one at a time,
    on a device too. See `WeightAverage` for where the average is used; `weights` holds it.
    (Polyak, Juditsky, SIAM J. Control Optim. 30, 1992; the warm-up is TensorFlow's.)
    """

    def __init__(
        self, decay: float = 0.999, every: int = 1, warmup: bool = True, swap: bool = True
    ) -> None:
        super().__init__(swap)
        self.decay = number("decay", decay, high=1.0)
        self.every = positive_integer("every", every)
        self.warmup = bool(warmup)
        self.steps = 0

    def on_fit_begin(self, run: Run) -> None:
        """Begin anew, unless the run is resumed."""
        super().on_fit_begin(run)
        if run.epoch == 0:
            self.steps = 0

    def on_step_end(self, run: Run) -> None:
        """Take the weights in, where it is their turn."""
        self.steps += 1
        if self.steps % self.every == 0:
            n = self.count
            self.add(run, 1 - (min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay))

    def state_dict(self) -> dict[str, Any]:
        """How many weights were averaged, and how many steps there were."""
        return {**super().state_dict(), "steps": self.steps}


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights at the ends of epochs.

        ldl.fit(..., epochs=40, callbacks=[ldl.SWA(start=30)])

    Of epochs `start`, `start` + `every` and so on: a ← a + (p - a) / (n+1), n of them before. The
    learning rate should stay high from `start` on, by a schedule that ends in a constant. The
    running statistics of BatchNorm layers are those of the averaged weights: at each of these
    epochs' ends one forward pass goes over its batches again, where the model has such layers, and
    gives them their batches' mean statistics. Until epoch `start` figures are those of the plain
    weights. See `WeightAverage` for where the average is used; `weights` holds it. ValueError for a
    `start` after the last epoch. (Izmailov et al., UAI 2018.)
    """

    def __init__(self, start: int, every: int = 1, swap: bool = True) -> None:
        super().__init__(swap)
        self.start = positive_integer("start", start)
        self.every = positive_integer("every", every)

    def on_fit_begin(self, run: Run) -> None:
        """Begin anew, unless the run is resumed."""
        super().on_fit_begin(run)
        if self.start > run.epochs:
            raise ValueError(
                f"SWA starts at the end of epoch {self.start}, and there are {run.epochs} epochs: "
                "give an earlier start, or more epochs"
            )

    def after_epoch(self, run: Run, inputs: Iterable[Array]) -> None:
        """Take the weights in, where it is their turn."""
        if run.epoch < self.start or (run.epoch - self.start) % self.every:
            return
        self.add(run, 1 / (self.count + 1))
        layers = [
            module
            for module in run.model.modules()
            if module.training and isinstance(getattr(module, "running_mean", None), Buffer)
        ]
        if layers:
            with self.instead(run):
                _count_again(run.model, layers, inputs)
                for name, parameter in run.model.named_parameters():
                    if isinstance(parameter, Buffer):
                        self.weights[name][...] = parameter.data


def _count_again(model: Module, layers: list[Any], inputs: Iterable[Array]) -> None:
    """Give layers the running statistics of these batches, each counting by its samples."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(layer, layer.momentum) for layer in layers]
    try:
        model.eval()
        for layer in layers:
            layer.training = True
        seen = 0
        for x in inputs:
            seen += len(x)
            for layer in layers:
                layer.momentum = len(x) / seen
            model(x)
    finally:
        for layer, momentum in momenta:
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
