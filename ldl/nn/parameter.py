"""Parameter: an array that is learned, with its gradient."""

from __future__ import annotations

from typing import Any

from ldl.arrays import check_kind
from ldl.backend import Array, Backend, DType, Window, get_backend
from ldl.nn.changes import Marked, set_all
from ldl.nn.differentiable import check_owned


class Parameter(Marked):
    """An array `data` and the gradient `grad` of the loss with respect to it, of the same shape.

    Layers add to the gradient with `accumulate`, as many times as they like between two calls of
    `zero_grad`. Zeroing writes nothing: the first `accumulate` after it overwrites. With
    `requires_grad` False the parameter is frozen: it takes no gradient and no optimizer moves it.

    `data` is a copy of what is given. It and the gradient's memory may be views of the buffers of
    an optimizer, which replaces them when it packs its parameters; write into `data[...]` rather
    than bind `data` anew.
    """

    __slots__ = ("backend", "begun", "data", "grad_buffer", "has_grad", "requires_grad")
    unmarked = frozenset({"has_grad"})

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        self.backend: Backend = get_backend()
        self.data: Array = self.backend.asarray(data).copy()
        self.requires_grad = requires_grad
        self.grad_buffer: Array = None
        self.has_grad = False
        self.begun: dict[int, tuple[int, tuple[int, ...]]] = {}
        """By the seed of fits: the epochs that they have begun, and their streams' draws."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """The type of the elements of `data`."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.data.size)

    @property
    def grad(self) -> Array | None:
        """The gradient, or None when nothing has been added since `zero_grad`."""
        return self.grad_buffer if self.has_grad else None

    def accumulate(self, grad: Array) -> None:
        """Add `grad`, of the parameter's shape, to the gradient."""
        if not self.requires_grad:
            return
        grad = self._taken(grad)
        if tuple(grad.shape) != self.shape:
            raise ValueError(
                f"a gradient of shape {tuple(grad.shape)} for a parameter of shape {self.shape}"
            )
        out = self.grad_memory()
        if self.has_grad:
            out += grad
        else:
            out[...] = grad
            self.has_grad = True

    def accumulate_matmul(self, a: Array, b: Array) -> None:
        """Add the matrix product a b to the gradient, without a temporary where it is the first."""
        if self.requires_grad:
            a, b = self._taken(a), self._taken(b)
            self.backend.matmul(a, b, out=self.grad_memory(), accumulate=self.has_grad)
            self.has_grad = True

    def accumulate_rows(self, a: Array) -> None:
        """Add the sum of the rows of a (N, D) to the gradient (D,)."""
        if self.requires_grad:
            self.backend.sum_rows(self._taken(a), out=self.grad_memory(), accumulate=self.has_grad)
            self.has_grad = True

    def accumulate_conv(self, x: Array, grad: Array, window: Window) -> None:
        """Add ∂L/∂W of the convolution by W, this parameter, of images x, for ∂L/∂Y = `grad`."""
        if self.requires_grad:
            x, grad, memory = self._taken(x), self._taken(grad), self.grad_memory()
            out = memory if memory.ndim == 4 else memory.reshape(1, *memory.shape)
            self.backend.conv_weight(x, grad, window, out=out, accumulate=self.has_grad)
            self.has_grad = True

    def accumulate_at(self, rows: Array, index: Array) -> None:
        """Add each of `rows` (T, D) to the row of the gradient (V, D) that `index` (T,) names."""
        if self.requires_grad:
            out = self.grad_memory()
            if not self.has_grad:
                out[...] = 0
            self.backend.add_rows(self._taken(rows), self._taken(index), out)
            self.has_grad = True

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.has_grad = False

    def to(self, backend: Backend, dtype: DType = None) -> None:
        """Move data and gradient to another backend or another floating type, in place."""
        set_all(*self.moved(backend, dtype))

    def moved(self, backend: Backend, dtype: DType = None) -> list[tuple[Any, str, Any]]:
        """What `to` sets: the parameter, the names of attributes and their values."""
        dtype = self.dtype if dtype is None else dtype
        found: list[tuple[Any, str, Any]] = [(self, "backend", backend)]
        for name in ("data", "grad_buffer"):
            array = getattr(self, name)
            if array is not None:
                host = array if backend is self.backend else self.backend.to_numpy(array)
                found.append((self, name, backend.asarray(host, dtype)))
        return found

    def _taken(self, array: Any) -> Array:
        """A plain array of numbers; TypeError for what is none of the parameter's backend."""
        if type(array) is not self.backend.array_type:
            array = self.backend.plain(array)
            check_owned(self, array)
        check_kind(array.dtype)
        return array

    def grad_memory(self) -> Array:
        """The memory of the gradient, whatever it holds."""
        if self.grad_buffer is None:
            self.grad_buffer = self.backend.xp.empty_like(self.data)
        return self.grad_buffer

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype}, {self.backend.name})"


class Buffer(Parameter):
    """State that is no parameter of the loss: saved, loaded and moved like one, and never learned.

    It is frozen for good: it takes no gradient, no optimizer moves it, and it stays so where a
    model is unfrozen.
    """

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=False)
