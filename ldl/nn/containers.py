"""Containers: one after another, round, and side by side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import prod
from typing import overload

from ldl.backend import Array
from ldl.nn.module import Module, check_batch, check_gradient
from ldl.numbers import integer


class Sequential(Module):
    """y = f_n(… f_2(f_1(x))); the gradient goes back through f_n, …, f_1.

    Indexable (`model[0]`), sliceable (`model[:2]` is a Sequential that shares its layers) and
    nestable. Every layer has one memory of its last forward, so an instance may stand in a model
    only once: ValueError otherwise. A `key_padding_mask` goes to the layers that take one; `Padded`
    makes it of tokens.
    """

    def __init__(self, *layers: Module) -> None:
        self.layers = layers
        check_parts(self, *layers)

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """f_n(… f_1(x))."""
        for layer in self.layers:
            x = _told(layer, x, key_padding_mask)
        return x

    def backward(self, grad: Array) -> Array:
        """The gradient through f_n, …, f_1."""
        for layer in reversed(self.layers):
            grad = check_gradient(layer, layer.backward(grad))
        return grad

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """The first layer's."""
        return bool(self.layers) and self.layers[0].takes_integers

    @property
    def takes_padding(self) -> bool:  # type: ignore[override]
        """Whether a layer does."""
        return any(layer.takes_padding for layer in self.layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The layers, named by their positions."""
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(*self.layers[index])
        return self.layers[index]


class Residual(Module):
    """y = x + f(x), for f that keeps its input's shape; ∂L/∂x = g + (∂f/∂x)ᵀ g.

    A `key_padding_mask` goes to f, if that takes one.
    """

    def __init__(self, body: Module) -> None:
        self.body = body
        check_parts(self, body)

    @property
    def takes_padding(self) -> bool:  # type: ignore[override]
        """Whether f does."""
        return self.body.takes_padding

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """x + f(x)."""
        y = _told(self.body, x.copy(), key_padding_mask)
        if y.shape != x.shape:
            raise ValueError(
                f"Residual adds f(x) to x, but f made {tuple(y.shape)} of {tuple(x.shape)}"
            )
        return x + y

    def backward(self, grad: Array) -> Array:
        """g plus the gradient through f."""
        check_batch(self, grad)
        return grad + check_gradient(self.body, self.body.backward(grad.copy()))


class Parallel(Module):
    """y = concatenation of f_1(x), …, f_n(x) along the last axis, or their sum.

    `merge` is "concatenate" or "sum". ∂L/∂x is the sum over the branches of their gradients for
    their share of g. A `key_padding_mask` goes to the branches that take one.
    """

    def __init__(self, *branches: Module, merge: str = "concatenate") -> None:
        if merge not in ("concatenate", "sum"):
            raise ValueError(f"merge must be 'concatenate' or 'sum', got {merge!r}")
        if not branches:
            raise ValueError("Parallel needs one branch at least")
        self.branches = branches
        self.merge = merge
        check_parts(self, *branches)

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """The branches'."""
        return all(branch.takes_integers for branch in self.branches)

    @property
    def takes_padding(self) -> bool:  # type: ignore[override]
        """Whether a branch does."""
        return any(branch.takes_padding for branch in self.branches)

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """The branches' outputs, merged."""
        outputs = [_told(branch, x.copy(), key_padding_mask) for branch in self.branches]
        if self.merge == "concatenate":
            self.keep([y.shape[-1] for y in outputs])
            return self.backend.xp.concatenate(outputs, axis=-1)
        if any(y.shape != outputs[0].shape for y in outputs):
            shapes = ", ".join(str(tuple(y.shape)) for y in outputs)
            raise ValueError(f"Parallel sums outputs of one shape, got {shapes}")
        return _sum(outputs)

    def backward(self, grad: Array) -> Array:
        """The sum of the branches' gradients for their share of g."""
        check_batch(self, grad)
        if self.merge == "sum":
            shares = [grad.copy() for _ in self.branches]
        else:
            ends = [0, *accumulate(self.take())]
            shares = [grad[..., a:b].copy() for a, b in pairwise(ends)]
        pairs = zip(self.branches, shares, strict=True)
        return _sum([check_gradient(branch, branch.backward(g)) for branch, g in pairs])


class Flatten(Module):
    """(N, a, b, …) to (N, a·b·…); the gradient takes the shape back.

    Axes before `start_dim` stay: 2 makes (N, a, b·c·…) of (N, a, b, c, …), and -2 takes the last
    two together. The samples' axis always stays. Raises ValueError for fewer axes.
    """

    def __init__(self, start_dim: int = 1) -> None:
        self.start_dim = integer("start_dim", start_dim)
        if self.start_dim == 0:
            raise ValueError("start_dim must not be 0, the axis of samples, which stays: give 1")

    def forward(self, x: Array) -> Array:
        """x of shape (N, the rest)."""
        check_batch(self, x)
        start = self.start_dim + (x.ndim if self.start_dim < 0 else 0)
        if not 1 <= start <= x.ndim:
            raise ValueError(f"{self!r} has no axis to begin at in {tuple(x.shape)}")
        self.keep(x.shape)
        return x.reshape(*x.shape[:start], prod(x.shape[start:]))

    def backward(self, grad: Array) -> Array:
        """Grad in the shape of x."""
        check_batch(self, grad)
        return grad.reshape(self.take())


def check_parts(whole: Module, *parts: object) -> None:
    """TypeError for a part that is no module, ValueError for one that stands there twice."""
    for part in parts:
        if not isinstance(part, Module):
            raise TypeError(f"{type(whole).__name__} takes modules, got {part!r}")
    check_distinct(whole)


def check_distinct(model: Module) -> None:
    """ValueError when one instance stands in the model twice."""
    seen: dict[int, str] = {}
    for name, module in model.named_modules():
        if id(module) in seen:
            raise ValueError(
                f"{module!r} stands in the model twice, as {seen[id(module)]!r} and {name!r}, but "
                "a layer remembers one forward: make a second instance (copy.deepcopy), or share "
                "a weight with TiedLinear"
            )
        seen[id(module)] = name


def _told(layer: Module, x: Array, key_padding_mask: Array | None) -> Array:
    """What a layer makes of x, told which places are padding where it wants to know."""
    if key_padding_mask is None or not layer.takes_padding:
        return layer(x)
    return layer(x, key_padding_mask=key_padding_mask)


def _sum(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
