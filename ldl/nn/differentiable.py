"""Differentiable: what modules and losses share, a backend, a mode and a slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from ldl.backend import Backend, get_backend
from ldl.calls import text
from ldl.nn.changes import Marked


class DeviceError(TypeError):
    """An array of the wrong device or kind reached a layer; the message names the fix."""


_evaluating: ContextVar[bool] = ContextVar("ldl_evaluating", default=False)


passing: ContextVar[bool] = ContextVar("ldl_passing", default=False)
"""Whether a model in training mode is on its way forward in this thread: layers in eval mode inside
it then keep what backward will need too."""


@contextmanager
def evaluation() -> Iterator[None]:
    """Inside the block, in this thread, everything behaves as in eval mode."""
    token = _evaluating.set(True)
    try:
        yield
    finally:
        _evaluating.reset(token)


class Differentiable(Marked):
    """What modules and losses share: a backend, a mode, and one slot between the two passes."""

    unmarked = frozenset({"_kept"})

    backend: Backend

    _training: bool
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _kept: tuple[Any, ...] | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the backend, and the arguments from which a saved model is built again."""
        self = super().__new__(cls)
        self._training = True
        self.backend = get_backend()
        self._arguments = args, kwargs
        self._kept = None
        return self

    def __init__(self) -> None:
        """Take no arguments, so that one too many is an error where a subclass takes none."""

    @property
    def training(self) -> bool:
        """Whether backward may follow: set by `train` and `eval`, False inside `evaluation()`."""
        return self._training and not _evaluating.get()

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = mode

    def keep(self, *values: Any) -> None:
        """Store what `backward` will need; in eval mode store nothing.

        A layer in eval mode inside a model in training mode is a part of its backward pass, and
        stores it.
        """
        if _evaluating.get():
            return
        if self._training or passing.get():
            self.__dict__["_kept"] = values
        elif self._kept is not None:
            self.__dict__["_kept"] = None

    def take(self) -> Any:
        """What `keep` stored, the value itself where it was one; the slot is then empty."""
        kept = self._kept
        self.__dict__["_kept"] = None
        if kept is None:
            why = "" if self.training else " is in eval mode, and fit and load leave a model so"
            raise RuntimeError(
                f"{self!r}{why}: backward without a forward in training mode before it "
                "(call model.train(), then forward, then backward once)"
            )
        return kept[0] if len(kept) == 1 else kept

    def _foreign(self, x: Any) -> DeviceError:
        return DeviceError(
            f"{self!r} is on {self.backend.name} but got {_kind(x)}: bring it over with "
            "model.backend.asarray(...), or move the model with model.to(...)"
        )

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        parts = [text(a) for a in args] + [f"{k}={text(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


def _kind(x: Any) -> str:
    if hasattr(x, "dtype"):
        return f"an array of {type(x).__module__.partition('.')[0]} ({type(x).__name__})"
    return f"a {type(x).__name__}"
