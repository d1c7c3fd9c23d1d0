"""Predictor: a model's forward pass, recorded."""

from __future__ import annotations

from threading import local
from typing import Any

from ldl import caches
from ldl.backend import Array, Recording
from ldl.nn.module import Module, evaluated
from ldl.recordings import Recordings


class Predictor:
    """`y = predictor(x)` is `model.predict(x)` for small batches, with little overhead.

        predictor = ldl.Predictor(model)
        y = predictor(row)          # (features,) gives (outputs,); (N, features) gives (N, outputs)

    The backend records the forward pass once for every shape, in eval mode, and plays it from then
    on. Weights are the model's own: what training changes, the next prediction sees. Arrays of
    another type or origin than the model's are cast. Several threads may use one predictor; each
    records for itself, so that a service wants threads that stay, and keeps the latest shapes:
    recordings of at most `ldl.caches.PREDICTIONS` bytes, which go with their thread.
    """

    def __init__(self, model: Module) -> None:
        if not isinstance(model, Module):
            shown = f"write {model.__name__}(...)" if isinstance(model, type) else repr(model)
            raise TypeError(f"a Predictor takes a model, such as ldl.load(path) gives: {shown}")
        self.model = model
        self._local = local()
        """Of each thread its recordings, by shape and type."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model,)

    def __call__(self, x: Any) -> Array:
        """The outputs for one sample or for a batch, in an array of their own."""
        held = self._local.__dict__.get("recordings")
        if held is None:
            held = self._local.recordings = Recordings(caches.PREDICTIONS)
        if type(x) is self.model.backend.array_type:
            array: Array = x
            recording = held.find((array.shape, array.dtype), self._fits)
            if recording is not None:
                return self._play(recording, x)
        x = self.model.backend.asarray(x, self.model.dtype_for(x))
        recording = held.find((x.shape, x.dtype), self._fits)
        if recording is None:
            held.retain(self._fits)
            recording = held.made(self.model.backend.record, _forward, (self.model,), (x,))
            held.put((x.shape, x.dtype), recording)
        return self._play(recording, x)

    def recordings(self) -> dict[Any, Recording]:
        """What was recorded in this thread, by shape and type."""
        held = self._local.__dict__.get("recordings")
        return {} if held is None else dict(held.items())

    def _fits(self, recording: Recording) -> bool:
        return recording.parts[0] is self.model and recording.valid()

    def _play(self, recording: Recording, x: Array) -> Array:
        with self.model.backend.together():
            (y,) = recording(x)
        return y.copy()


def _forward(model: Module, x: Array) -> tuple[Array]:
    return (evaluated(model, x) if x.ndim > 1 else evaluated(model, x[None])[0],)
