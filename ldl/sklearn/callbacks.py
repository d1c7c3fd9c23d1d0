"""scikit-learn's callbacks, of versions that have them, told of every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ldl.train import Callback, Run

__all__ = ["CallbackSupport", "Told", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks
except ImportError:

    class CallbackSupport:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method itself."""
        return method


class Told(Callback):
    """Tells an estimator's callbacks of the fit and of each of its epochs."""

    def __init__(self, estimator: Any, x: Any, y: Any, epochs: int) -> None:
        self.estimator, self.given, self.epochs = estimator, {"X": x, "y": y}, epochs
        self.whole: Any = None
        self.epoch: Any = None

    def on_fit_begin(self, run: Run) -> None:
        """The fit begins, and its first epoch."""
        if hasattr(self.estimator, "_init_callback_context"):
            self.whole = self.estimator._init_callback_context(max_subtasks=self.epochs)
            self.whole.call_on_fit_task_begin(estimator=self.estimator, **self.given)
            self._next()

    def on_epoch_end(self, run: Run) -> None:
        """An epoch ends; a callback may end the fit."""
        if self.whole is None:
            return
        stop = self.epoch.call_on_fit_task_end(
            estimator=self.estimator,
            metadata=run.history.rows[-1],
            reconstruction_attributes=self.estimator._snapshot,
            **self.given,
        )
        run.stop = run.stop or bool(stop)
        if run.epoch < run.epochs and not run.stop:
            self._next()

    def on_fit_end(self, run: Run) -> None:
        """The fit ends."""
        if self.whole is not None:
            self.whole.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=self.estimator._snapshot,
                **self.given,
            )

    def _next(self) -> None:
        self.epoch = self.whole.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.given)
