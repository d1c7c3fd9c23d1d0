"""Module: the base of every layer, container and model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

from ldl.arrays import on_disk, readable
from ldl.backend import Array, Backend, DType, get_backend
from ldl.calm import within
from ldl.nn._state import load_values
from ldl.nn._summary import summarize
from ldl.nn.changes import set_all
from ldl.nn.differentiable import STRAY, apart, is_traced, members, passing
from ldl.nn.differentiable import DeviceError as DeviceError
from ldl.nn.differentiable import Differentiable as Differentiable
from ldl.nn.differentiable import check_batch as check_batch
from ldl.nn.differentiable import check_floating as check_floating
from ldl.nn.differentiable import check_owned as check_owned
from ldl.nn.differentiable import evaluated as evaluated
from ldl.nn.differentiable import evaluation as evaluation
from ldl.nn.parameter import Buffer, Parameter
from ldl.numbers import positive_integer


class Module(Differentiable):
    """A differentiable function with parameters.

    A subclass writes two methods:

        forward(x)      returns y, and passes what `backward` will need to `self.keep`;
        backward(grad)  takes it back with `self.take`, given grad = ∂L/∂y adds ∂L/∂θ to each
                        parameter θ (`Parameter.accumulate`), and returns ∂L/∂x.

    Parameters and modules that are attributes, or stand in a list, a tuple or a dict that is one,
    are found by themselves, named as in `weight`, `layers.0` and `heads.left`; nothing is to be
    registered and `super().__init__()` need not be called. What stands deeper, as in a list of
    lists, is not found: make a module of it, such as a Sequential. Arrays are handled with
    `self.backend.xp`, the namespace of the backend in force when the layer was built.

    What is handed out is the caller's, and what is kept is nobody else's: x and grad are read and
    not written to, `keep` takes copies, and the caller may overwrite x, y, grad and ∂L/∂x as soon
    as it has them. The outermost calls of a model and of its `backward` begin on copies. A recorded
    step makes only those that are needed.

    `keep` stores nothing in eval mode, so several threads may run one model forward at once. A
    layer in eval mode inside a model in training mode takes part in its backward pass, and stores;
    what takes no part, such as a frozen teacher, is called with `predict`.

    State that is not learned, such as running statistics, is a buffer, written in place, in
    training mode only:

        self.mean = nn.Buffer(nn.init.zeros((n,)))                              # in __init__
        self.mean.data[...] = 0.9 * self.mean.data + 0.1 * x.mean(axis=0)       # in forward

    It is saved, loaded, moved by `to` and kept in checkpoints like any parameter; no optimizer
    touches it, not by weight decay either. `ldl.check_gradients` tells whether a backward is right.
    """

    entrances = ("forward", "backward")
    mixes_samples: bool = False
    """Whether in training an output depends on the batch's other samples too."""
    pools_ranks: bool = False
    """Whether it takes means over all ranks that share a batch, by `backend.pooled`."""
    takes_integers: bool = False
    """Whether inputs stay the integers that they are, as tokens do. A container's is its first
    layer's; a class of your own that is given tokens says True."""
    takes_padding: bool = False
    """Whether `forward` also takes `key_padding_mask`, which places of (N, T) are padding."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the `backward` that the subclass writes have, and give, arrays of its own."""
        if "backward" in vars(cls):
            cls.backward = apart(vars(cls)["backward"])  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    # ---- the two passes -----------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """The layer's function of a batch x, whose first axis is the sample."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad: Array) -> Array:
        """∂L/∂x from grad = ∂L/∂y; adds the parameters' gradients on the way."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Array, *more: Any, **named: Any) -> Array:
        """`forward` of a copy of x, with an error that names the fix when x is not of this device.

        What a layer's `forward` takes beside x, such as masks, is handed on; it has no gradient.

        Inside another module's `forward` x is not copied. y never shares memory with x, nor with an
        array or a parameter that is an attribute.
        """
        under_way = passing.get()
        if under_way == "train" or (under_way and not self._training):
            return self._forward(x, *more, **named)
        mode = "train" if self._training else "eval"
        given = x if under_way else self._copied(x)
        if more or named:
            return within(passing, mode, partial(self._forward, given, *more, **named))
        return within(passing, mode, self._forward, given)

    def _forward(self, x: Array, *more: Any, **named: Any) -> Array:
        try:
            y = self.forward(x, *more, **named)
            return self._unshared(y, x, *more, *named.values(), *vars(self).values())
        except DeviceError:
            raise
        except (TypeError, AttributeError) as error:
            if isinstance(x, self.backend.array_type):
                raise
            raise self._foreign(x) from error

    def _unshared(self, y: Any, *others: Any) -> Any:
        """y, a copy where it shares memory with one of the arrays and parameters among others."""
        backend = self.backend
        kind: Any = backend.array_type
        share = backend.xp.may_share_memory
        if isinstance(y, kind):
            for other in others:
                array = other.data if isinstance(other, Parameter) else other
                if isinstance(array, kind) and share(array, y):
                    return y.copy()
        return y

    # ---- what it is made of -------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, each with its name."""
        return members(self, Module)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside, outermost first, with dotted names."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all inside."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name: the first one where it is shared."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, parameter in members(module, Parameter):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{prefix}.{name}" if prefix else name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    @property
    def dtype(self) -> Any:
        """The type of the parameters, float32 where there are none."""
        return next((p.dtype for p in self.parameters()), "float32")

    def dtype_for(self, x: Any) -> Any:
        """The type that data are cast to: x's own floating type where there are no parameters."""
        if self.takes_integers:
            return "int64"
        own = getattr(x, "dtype", None)
        name = str(own).removeprefix("torch.")
        floats = getattr(own, "kind", "") == "f" or name in ("float64", "float16")
        return name if floats and next(self.parameters(), None) is None else self.dtype

    # ---- modes --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training mode: backward is possible, dropout is on."""
        modules = list(self.modules())
        set_all(
            *[(module, "_training", mode) for module in modules],
            *[(module, "_kept", None) for module in modules],
        )
        return self

    def eval(self) -> Self:
        """Evaluation mode: nothing is stored and nothing is random."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget every gradient; until then backward adds to them."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter inside, but for buffers, which never learn."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad and not isinstance(parameter, Buffer)
            parameter.zero_grad()
        return self

    def to(self, backend: str | Backend | None = None, dtype: DType = None) -> Self:
        """Move to another backend, another floating type, or both.

        Parameters keep their identity, so an optimizer goes on with them and brings its state
        along at its next step.
        """
        target = self.backend if backend is None else _backend(backend)
        if dtype is not None and target.xp.dtype(dtype).kind != "f":
            raise TypeError(f"a model holds floating numbers, not {dtype}")
        modules = list(self.modules())
        set_all(
            *[
                change
                for parameter in self.parameters()
                for change in parameter.moved(target, dtype)
            ],
            *[(module, "backend", target) for module in modules],
            *[(module, "_kept", None) for module in modules],
        )
        return self

    # ---- values -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters' arrays by name: later training does not change them."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, Any], *, allow_nonfinite: bool = False) -> None:
        """Copy values in, from arrays of any backend, each cast to its parameter's type.

        Raises ValueError that lists every missing, unexpected and mis-shaped name and, unless
        `allow_nonfinite`, every array with a NaN or an infinity; the model is then as it was. Warns
        where a wider type is narrowed.
        """
        load_values(dict(self.named_parameters()), state, allow_nonfinite)

    # ---- use ----------------------------------------------------------------------------------

    def predict(self, x: Any, batch_size: int = 4096) -> Array:
        """The outputs for x, in eval mode, `batch_size` rows at a time.

        x may be an array of any origin and any numeric type; it is cast to the model's, a memory
        map so many rows at a time. Returns an array of the model's backend, the caller's own. The
        mode stays as it is, and threads may predict at once.
        """
        batch_size = positive_integer("batch_size", batch_size)
        dtype = self.dtype_for(x)
        x = readable(x) if on_disk(x) else self.backend.asarray(x, dtype)
        if x.ndim == 0:
            raise ValueError(f"predict takes a batch, got the number {x}: give an array of samples")

        def outputs(rows: Array) -> Array:
            given = self.backend.asarray(rows, dtype)
            return check_output(self, evaluated(self, given)).copy()

        if len(x) <= batch_size:
            return outputs(x)
        starts = range(0, len(x), batch_size)
        return self.backend.xp.concatenate([outputs(x[i : i + batch_size]) for i in starts])

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """A table of the layers, their output shapes for one sample, and their parameters."""
        return summarize([*self.named_modules()], self.predict, self.dtype, input_shape)


def check_output(module: Module, y: Any) -> Array:
    """What a model made; TypeError where it is no array of its backend."""
    if not module.backend.owns(y):
        if is_traced(y):
            raise DeviceError(f"{module!r} computed with {STRAY}")
        kind = "None" if y is None else f"a {type(y).__name__}"
        raise TypeError(
            f"{module!r} returned {kind}: its forward must return an array of the backend "
            f"{module.backend.name}"
        )
    return y


def shape_of_output(model: Module, x: Array) -> tuple[int, ...]:
    """The shape of what a model makes of one sample; of two, as one has no statistics."""
    two = model.backend.xp.concatenate([x[:1], x[:1]])
    return tuple(check_output(model, model.predict(two)).shape[1:])


def check_gradient(layer: Module, grad: Array | None) -> Array:
    """The gradient that a layer's backward returned; TypeError where it returned None."""
    if grad is None:
        raise TypeError(f"{layer!r}.backward returned None: it must return ∂L/∂x")
    return grad


def _backend(name: str | Backend) -> Backend:
    try:
        return get_backend(name)
    except ValueError as error:
        if str(name).rstrip("0123456789") in ("float", "double", "half", "int", "uint", "bool"):
            raise ValueError(
                f"no backend is named {name!r}: a type is given as model.to(dtype={name!r})"
            ) from error
        raise
