"""Backends: where the arithmetic runs.

A backend is an array namespace `xp` (NumPy, CuPy, or anything shaped like them) and a short list of
kernels. Each kernel has a generic body here, written in `xp`; that body is the reference. A backend
overrides a kernel to make it faster, never to make it different.

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
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any, ClassVar

from ldl import random

Array = Any
"""An array of whichever backend is in use."""

DType = Any
"""Anything that `numpy.dtype` accepts."""


class BackendUnavailableError(RuntimeError):
    """The backend is known but cannot run here; the message says what to install."""


class Recording:
    """A function of arrays that a backend may have made faster; this one is the function itself."""

    def __init__(self, function: Callable[..., tuple[Array, ...]], parts: Sequence[Any]) -> None:
        self.function = function
        self.parts = parts

    def valid(self) -> bool:
        """Whether the arrays behind it are still the ones that were recorded."""
        return True

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        """What the function gives for these inputs, arrays of the shapes that were recorded."""
        return self.function(*self.parts, *inputs)


class Backend:
    """An array namespace and its kernels.

    A subclass sets `name`, `xp` and `array_type`, and says how arrays enter (`asarray`) and leave
    (`to_numpy`). Everything else has a body here.
    """

    name: ClassVar[str]
    xp: Any
    array_type: type

    def __repr__(self) -> str:
        return f"<ldl backend {self.name!r} on {self.device}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return get_backend, (self.name,)

    # ---- the boundary: the only places where data changes sides ------------------------------

    @property
    def device(self) -> str:
        """The device's name, for people."""
        raise NotImplementedError

    def asarray(self, data: Any, dtype: DType = None) -> Array:
        """Bring data of any origin to this backend, copying only where it must."""
        raise NotImplementedError

    def to_numpy(self, array: Array) -> Any:
        """Bring an array of this backend to the host, as a NumPy array."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""

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

    # ---- kernels: matrix products -------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array = None, accumulate: bool = False) -> Array:
        """`a @ b`, into `out` where given; added to what `out` holds with `accumulate`."""
        if accumulate:
            out += a @ b
            return out
        return self.xp.matmul(a, b, out=out)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Z = X W + b for X (N, in), W (in, out), b (out,)."""
        z = self.matmul(x, weight)
        if bias is not None:
            z += bias
        return z

    def sum_rows(self, a: Array, out: Array = None, accumulate: bool = False) -> Array:
        """The sum of the rows of (N, D): a vector (D,), into `out` as `matmul` does."""
        if accumulate:
            out += a.sum(axis=0)
            return out
        return a.sum(axis=0, out=out)

    # ---- kernels: elementwise and row-wise functions ------------------------------------------

    def sigmoid(self, x: Array) -> Array:
        """σ(x) = 1 / (1 + exp(-x)), the exponent cut off where exp would overflow."""
        largest = {2: 11.0, 4: 88.0}.get(x.dtype.itemsize, 709.0)
        return 1 / (1 + self.xp.exp(self.xp.minimum(-x, largest)))

    def log_softmax(self, x: Array, axis: int = -1) -> Array:
        """log softmax(x) = x - max - log Σ exp(x - max)."""
        xp = self.xp
        shifted = x - x.max(axis=axis, keepdims=True)
        return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))

    def normal_cdf(self, x: Array) -> Array:
        """Φ(x), the standard normal's distribution function, to the precision of x's type.

        With t = 2 / (2 + |z|), z = |x| / √2, erfc(z) = t exp(-z² + P(t)); P is a Chebyshev series
        fitted to erfc in 60 digits, as W. H. Press et al., Numerical Recipes, section 6.2.2, do.
        """
        xp = self.xp
        z = xp.abs(x) * 0.5**0.5
        t = 2 / (2 + z)
        coefficients = _LOG_ERFC[: 14 if x.dtype.itemsize <= 4 else len(_LOG_ERFC)]
        y = 4 * t - 2
        b1, b2 = xp.zeros_like(t), xp.zeros_like(t)
        for c in reversed(coefficients[1:]):
            b1, b2 = y * b1 - b2 + c, b1
        tail = 0.5 * t * xp.exp(-z * z + 0.5 * (coefficients[0] + y * b1) - b2)
        return xp.where(x > 0, 1 - tail, tail)

    # ---- kernels: data -------------------------------------------------------------------------

    def take(self, array: Array, index: Array) -> Array:
        """The rows of `array` that `index`, an integer array of this backend, names."""
        return self.xp.take(array, index, axis=0)

    def uniform(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Uniform numbers in [0, 1), a function of `key` alone: the same on every backend."""
        return self.asarray(random.uniform(shape, key), dtype)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Standard normal numbers by Box and Muller (1958), from the uniform numbers of `key`.

        A pair (u, v) of uniform numbers gives √(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv.
        """
        xp = self.xp
        size = 1
        for n in shape:
            size *= n
        half = (size + 1) // 2
        u = self.uniform((2 * half,), dtype, key)
        radius = xp.sqrt(-2 * xp.log(1 - u[:half]))
        angle = (2 * 3.141592653589793) * u[half:]
        pair = xp.concatenate((radius * xp.cos(angle), radius * xp.sin(angle)))
        return pair[:size].reshape(shape)

    # ---- kernels: optimizer updates, in place over flat buffers --------------------------------

    def update(
        self,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: dict[str, float],
        **constants: Any,
    ) -> None:
        """Run one of the kernels below on vectors, in place.

        `numbers` differ from step to step, `constants` do not: a backend may prepare for that.
        """
        getattr(self, kernel)(*arrays, **numbers, **constants)

    def sum_squares(self, a: Array) -> Array:
        """Σ a², a scalar on the device."""
        a = a.reshape(-1)
        return self.xp.dot(a, a)

    def settle(self, a: Array) -> None:
        """a ← (a + c) - c, in place, for c so small that only subnormal numbers become zero."""
        info = self.xp.finfo(a.dtype)
        c = float(info.tiny) / float(info.eps)
        a += c
        a -= c

    def sgd_step(
        self,
        p: Array,
        g: Array,
        v: Array | None,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """g ← g + λp; v ← μv + g; p ← p - lr (g + μv or v or g)."""
        if weight_decay:
            g = g + weight_decay * p
        if v is not None:
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        p -= lr * g

    def rmsprop_step(
        self,
        p: Array,
        g: Array,
        s: Array,
        v: Array | None,
        *,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        """s ← αs + (1-α)g²; d = g / (√s + ε); v ← μv + d; p ← p - lr (v or d)."""
        if weight_decay:
            g = g + weight_decay * p
        s *= alpha
        s += (1 - alpha) * g * g
        d = g / (self.xp.sqrt(s) + eps)
        if v is not None:
            v *= momentum
            v += d
            d = v
        p -= lr * d

    def adam_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        rate: float,
        scale: float,
        keep: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; p ← p - r m / (s√v + ε).

        r = lr / (1-β₁ᵗ) and s = (1-β₂ᵗ)^-½ undo the bias of m and v. Weight decay λ adds λp to g
        (Adam), or first multiplies p by `keep`, 1 - lr λ (`decoupled`, AdamW).
        """
        if decoupled:
            p *= keep
        elif weight_decay:
            g = g + weight_decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        p -= rate * m / (self.xp.sqrt(v) * scale + eps)


# Chebyshev coefficients of log(erfc(z) exp(z²) / t) over t = 2 / (2 + z) in (0, 1].
_LOG_ERFC = (
    -1.3026537197817094,
    0.6419697923564902,
    0.019476473204185836,
    -0.009561514786808632,
    -0.0009465953444820369,
    0.00036683949785276145,
    4.252332480690777e-05,
    -2.0278578112534242e-05,
    -1.6242900046470256e-06,
    1.3036558355805232e-06,
    1.5626441722066142e-08,
    -8.523809591492654e-08,
    6.5290544390988515e-09,
    5.059343495551469e-09,
    -9.91364156493033e-10,
    -2.273651222931836e-10,
    9.646791102015527e-11,
    2.3940380830391146e-12,
    -6.886027526497553e-12,
    8.944879273090725e-13,
    3.130921399342958e-13,
    -1.1270822361367252e-13,
    3.810905255189232e-16,
    7.106097613609237e-15,
    -1.5230282014571043e-15,
    -9.457494571291233e-17,
    1.210237189224279e-16,
    -2.816663087747177e-17,
)

_OWN = {"numpy": "ldl_numpy:NumpyBackend", "cupy": "ldl_cupy:CupyBackend"}
_instances: dict[str, Backend] = {}
_lock = RLock()
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
                raise ValueError(f"no backend is named {name!r}; there are: {known}")
            module, _, attribute = target.partition(":")
            _instances[name] = getattr(importlib.import_module(module), attribute)()
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
    token = _scoped.set(backend)
    try:
        yield backend
    finally:
        _scoped.reset(token)
