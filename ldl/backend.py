"""Backends: where the arithmetic runs.

A backend is an array namespace `xp` (NumPy, CuPy, or anything shaped like them) and a short list of
kernels (`ldl.kernels`), which it overrides to make them faster, never to make them different.

    ldl.set_backend("cupy")            # the default for what is built from now on
    with ldl.use_backend("numpy"):     # the default inside this block, in this thread
        model = ldl.nn.Linear(2, 3)
    model.to("cupy")                   # move what exists

A third party adds a backend by an entry point in the group `ldl.backends`, whose value is a
callable without arguments that returns a `Backend`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from threading import RLock
from typing import Any, ClassVar

from ldl.calm import calm
from ldl.forks import guarded
from ldl.kernels import Array as Array
from ldl.kernels import DType as DType
from ldl.kernels import Kernels
from ldl.kernels import Window as Window
from ldl.random import Stream


class BackendUnavailableError(RuntimeError):
    """The backend is known but cannot run here; the message says what to install."""


class Recording:
    """A function of arrays that a backend may have made faster; this one is the function itself."""

    played: ClassVar[bool] = False
    """Whether it is something else than the function itself."""
    refused: ClassVar[bool] = False
    """Whether it is the function itself since that could not be recorded."""

    def __init__(self, function: Callable[..., tuple[Array, ...]], parts: Sequence[Any]) -> None:
        self.function = function
        self.parts = parts
        self.again = False
        """Whether it may be another one when it has run, and is then to be made anew."""
        self.streams: Sequence[Stream] = ()
        """The streams of random numbers that it draws from, where that is known."""
        self.carried: Sequence[Array] = ()
        """The arrays that it reads and writes, such as running statistics, where that is known."""

    def valid(self) -> bool:
        """Whether the arrays behind it are still the ones that were recorded."""
        return True

    def what_changed(self) -> str:
        """Why it is not valid any more, in words."""
        return "its parts change from step to step"

    def account(self) -> list[Any]:
        """Its operations, `ldl.compiler.account.Line`s, where it has any."""
        return []

    def explain(self) -> str:
        """What it does, in lines."""
        return "the layers' own code, one after another"

    @calm
    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        """What the function gives for these inputs, arrays of the shapes that were recorded."""
        return self.function(*self.parts, *inputs)

    def rows(
        self, sources: Sequence[Array], order: Array, start: int, size: int
    ) -> tuple[Array, ...]:
        """What it gives for rows order[start : start + size] of the sources."""
        index = order[start : start + size]
        taken = {id(x): self.parts[0].backend.take(x, index) for x in sources}
        return self(*[taken[id(x)] for x in sources])


class Backend(Kernels):
    """An array namespace and its kernels.

    A subclass sets `name`, `xp` and `array_type`, and says how arrays enter (`asarray`) and leave
    (`to_numpy`). Everything else has a body here.
    """

    name: ClassVar[str]
    array_type: type
    steps_per_launch: ClassVar[int] = 1
    """How many training steps `ldl.fit` asks for at once."""

    def __repr__(self) -> str:
        return f"<ldl backend {self.name!r} on {self.device}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return get_backend, (self.name,)

    # ---- the boundary: the only places where data changes sides ------------------------------

    def plain(self, x: Any) -> Any:
        """An array of a subclass of this backend's, such as np.memmap, as a plain one.

        TypeError where it means more than its numbers, as a masked array does. Anything else as it
        is: calls of layers and losses bring nothing over.
        """
        kind = self.array_type
        return self.asarray(x) if isinstance(x, kind) and type(x) is not kind else x

    def owns(self, x: Any) -> bool:
        """Whether x is an array of this backend, which layers can compute with."""
        return isinstance(x, self.array_type)

    @property
    def device(self) -> str:
        """The device's name, for people."""
        raise NotImplementedError

    def to_numpy(self, array: Array) -> Any:
        """Bring an array of this backend to the host, as a NumPy array."""
        raise NotImplementedError

    def fits(self, nbytes: int) -> bool:
        """Whether data of that size can stay on the device and leave room for the rest."""
        return True

    def choose_device(self, number: int) -> None:
        """Work on the device of that number from now on, where there are several."""

    def add_up(self, array: Array, world: Any) -> None:
        """A contiguous array becomes its sum over the processes of a world, in place."""
        host = self.to_numpy(array)
        world.add_up(host)
        if host is not array:
            array[...] = self.asarray(host)

    def begin_add_up(self, array: Array, world: Any) -> Callable[[], Any]:
        """Begin `add_up` of an array that nothing touches until what is returned was called."""
        host = self.to_numpy(array)
        if host is array:
            wait: Callable[[], Any] = world.begin_add_up(host)
            return wait
        self.add_up(array, world)
        return _done

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""

    @property
    def launches(self) -> int | None:
        """How much was launched so far in this thread; None where what is called is done."""
        return None

    def record(
        self,
        function: Callable[..., tuple[Array, ...]],
        parts: Sequence[Any],
        inputs: Sequence[Array],
    ) -> Recording:
        """Make `function(*parts, *inputs)` ready to be called often, with arrays like `inputs`.

        `parts` are the modules and losses that the function works with, and nothing else of its
        surroundings. The recording does what the function does for its parts; arrays that it gives
        are valid until its next call.
        """
        return Recording(function, parts)

    def deferred(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function, for calls inside `together`; it works on the same arrays every time."""
        return function

    def together(self) -> AbstractContextManager[Any]:
        """A block whose recordings, prepared kernels and deferred functions may run at its end.

        A backend may make them one launch. Nothing else may touch their arrays inside the block.
        """
        return _NOTHING


def _done() -> None:
    """Wait for what is done already."""


_NOTHING = nullcontext()
_OWN = {"numpy": "ldl_numpy:NumpyBackend", "cupy": "ldl_cupy:CupyBackend"}
_instances: dict[str, Backend] = {}
_lock = guarded(RLock())
_default: str | Backend = "numpy"
_scoped: ContextVar[Backend | None] = ContextVar("ldl_backend", default=None)


def _entry_points() -> dict[str, str]:
    """The backends that installed packages announce; paid for only by unknown names."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group="ldl.backends")}


def backend_names() -> list[str]:
    """The names that `set_backend` knows here, whether or not they can run."""
    return list({**_OWN, **_entry_points()})


def get_backend(name: str | Backend | None = None) -> Backend:
    """The backend of that name, or the one in force when no name is given.

    Raises ValueError for an unknown name and BackendUnavailableError for one that cannot run here.
    """
    if isinstance(name, Backend):
        return name
    if name is None:
        scoped = _scoped.get()
        return scoped if scoped is not None else get_backend(_default)
    found = _instances.get(name)
    if found is not None:
        return found
    with _lock:
        if name not in _instances:
            target = _OWN.get(name) or _entry_points().get(name)
            if target is None:
                known = ", ".join(sorted(backend_names()))
                hint = ""
                if name.partition(":")[0] in ("cuda", "gpu"):
                    hint = " (the backend of NVIDIA's GPUs is called cupy)"
                raise ValueError(f"no backend is named {name!r}{hint}; there are: {known}")
            module, _, attribute = target.partition(":")
            try:
                _instances[name] = getattr(importlib.import_module(module), attribute)()
            except BackendUnavailableError:
                raise
            except Exception as error:  # such as an OSError of CuPy's, whose cache has no place
                fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                fix = "install ldl again"
                if name != "numpy":
                    fix = "mend that, or use ldl.set_backend('numpy')"
                raise BackendUnavailableError(
                    f"the {name} backend cannot be loaded ({fault}): {fix}"
                ) from error
        return _instances[name]


def set_backend(name: str | Backend) -> Backend:
    """Make a backend the default for what is built from now on, in every thread."""
    global _default
    backend = get_backend(name)
    _default = backend
    return backend


@contextmanager
def use_backend(name: str | Backend) -> Iterator[Backend]:
    """Make a backend the default inside a `with` block, for this thread or task alone."""
    backend = get_backend(name)
    before = _scoped.get()
    try:
        _scoped.set(backend)
        yield backend
    finally:
        _scoped.set(before)
