"""Differentiable: what modules and losses share, a backend, a mode and a slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ClassVar, Self

from ldl.backend import Backend, get_backend
from ldl.calls import copied, noted, text
from ldl.calm import calm, within
from ldl.nn.changes import Marked


class DeviceError(TypeError):
    """An array of the wrong device or kind reached a layer; the message names the fix."""


_evaluating: ContextVar[bool] = ContextVar("ldl_evaluating", default=False)


passing: ContextVar[str] = ContextVar("ldl_passing", default="")
"""The mode, "train" or "eval", of the model that is on its way forward in this thread, if one is:
layers in eval mode inside one that trains keep what backward will need too."""


returning: ContextVar[bool] = ContextVar("ldl_returning", default=False)
"""Whether a gradient is on its way back through a model in this thread."""


@contextmanager
def evaluation() -> Iterator[None]:
    """Inside the block, in this thread, everything behaves as in eval mode."""
    before = _evaluating.get()
    try:
        _evaluating.set(True)
        yield
    finally:
        _evaluating.set(before)


def evaluated(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, as in eval mode: an interrupt leaves nothing of that mode behind."""
    return within(_evaluating, True, function, *args)


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which gets arrays of subclasses of the backend's as plain ones.

    So that `a * b` is an elementwise product in it, and no element is masked.
    """

    method = calm(method)

    @wraps(method)
    def entrance(self: Any, *given: Any, **named: Any) -> Any:
        kind = self.backend.array_type
        for x in given:
            if type(x) is not kind:
                given = tuple(map(self.backend.plain, given))
                break
        if named:
            named = {name: self.backend.plain(x) for name, x in named.items()}
        return method(self, *given, **named)

    return entrance


def apart(method: Callable[..., Any]) -> Callable[..., Any]:
    """A `backward` of a copy of grad, or inside another one of grad itself.

    ∂L/∂x shares no memory with grad.
    """

    @wraps(method)
    def backward(self: Any, *given: Any, **named: Any) -> Any:
        if returning.get():
            return self._unshared(method(self, *given, **named), *given)
        given = tuple(map(self._copied, given))
        return within(returning, True, partial(method, self, *given, **self._copied(named)))

    return backward


def check_floating(taker: Any, x: Any, backend: Backend | None = None) -> None:
    """TypeError for what is no array of floating numbers, ValueError for one without axes."""
    check_batch(taker, x, backend)
    if x.dtype.kind != "f":
        way = "take x.real or abs(x)" if x.dtype.kind == "c" else "use x.astype(...)"
        raise TypeError(f"{taker!r} takes floating numbers, got {x.dtype}: {way}")


def check_batch(taker: Any, x: Any, backend: Backend | None = None) -> None:
    """TypeError for what is no array of the backend, ValueError for one without axes."""
    check_owned(taker, x, backend)
    if not x.ndim:
        raise ValueError(
            f"{taker!r} takes a batch, got a number without axes: give an array of samples, such "
            "as x.reshape(1, 1)"
        )


def check_owned(taker: Any, x: Any, backend: Backend | None = None) -> None:
    """TypeError for what is no array of the backend, or of the taker's."""
    backend = backend or taker.backend
    if not backend.owns(x):
        raise foreign(taker, backend, x)


def foreign(taker: Any, backend: Backend, x: Any) -> DeviceError:
    """The error for what is no array of the backend."""
    if is_traced(x):
        return DeviceError(f"{taker!r} got {STRAY}")
    return DeviceError(
        f"{taker!r} is on {backend.name} but got {_kind(x)}: bring it over with "
        "model.backend.asarray(...), or move the model with model.to(...)"
    )


STRAY = (
    "an array that a step made while it was recorded, kept outside of the layers, as in a global "
    "or a cache: make it anew in each forward, or once in __init__, as an nn.Buffer, and empty the "
    "cache"
)
"""What is said of an array of a trace that stands where a trace is none."""


class Differentiable(Marked):
    """What modules and losses share: a backend, a mode, and one slot between the two passes.

    Of arrays: what is handed out is the caller's, who may write to it; what is kept is a copy, to
    which nobody else writes. A recorded step leaves out the copies that nothing needs.
    """

    unmarked = frozenset({"_kept"})
    entrances: ClassVar[tuple[str, ...]] = ()
    """The methods that take arrays: plain ones, whatever subclass they are called with."""

    backend: Backend

    _training: bool
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _kept: tuple[Any, ...] | None

    def __init_subclass__(cls, **options: Any) -> None:
        """Guard the entrances that the subclass writes."""
        super().__init_subclass__(**options)
        for name in cls.entrances:
            if name in vars(cls):
                setattr(cls, name, guarded(vars(cls)[name]))

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the backend, and the arguments from which a saved model is built again."""
        self = super().__new__(cls)
        vars(self).update(
            _training=True, backend=get_backend(), _arguments=noted(args, kwargs), _kept=None
        )
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
        """Store what `backward` will need, arrays as copies; in eval mode store nothing.

        A layer in eval mode inside a model in training mode is a part of its backward pass, and
        stores it.
        """
        if _evaluating.get():
            return
        if self._training or passing.get() == "train":
            self.__dict__["_kept"] = tuple([self._copied(value) for value in values])
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

    def _copied(self, value: Any) -> Any:
        """A value of its own: arrays are copied, also in lists, tuples and dicts."""
        kind: Any = self.backend.array_type
        if isinstance(value, kind):
            return value.copy()
        return copied(value, lambda item: isinstance(item, kind))

    def _foreign(self, x: Any) -> DeviceError:
        return foreign(self, self.backend, x)

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        parts = [text(a) for a in args] + [f"{k}={text(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


def members(module: Differentiable, kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The attributes of a kind, and the elements of the lists, tuples and dicts among them."""
    for name, value in vars(module).items():
        if name in ("_arguments", "_kept"):
            continue
        if isinstance(value, kind):
            yield name, value
            continue
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            items = value.items()
        elif isinstance(value, (list, tuple)):
            items = enumerate(value)
        for key, element in items:
            if isinstance(element, kind):
                yield f"{name}.{key}", element


def is_traced(x: Any) -> bool:
    """Whether this is what a step computed with while it was recorded."""
    return type(x).__module__ == "ldl.compiler.traced"


def _kind(x: Any) -> str:
    if hasattr(x, "dtype"):
        return f"an array of {type(x).__module__.partition('.')[0]} ({type(x).__name__})"
    return f"a {type(x).__name__}"
