"""Module: the base of every layer, container and model; Differentiable: what losses share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self
from warnings import warn

from ldl.backend import Array, Backend, DType, get_backend
from ldl.nn._summary import summarize
from ldl.nn.parameter import Parameter


class DeviceError(TypeError):
    """An array of the wrong device or kind reached a layer; the message names the fix."""


_evaluating: ContextVar[bool] = ContextVar("ldl_evaluating", default=False)


@contextmanager
def evaluation() -> Iterator[None]:
    """Inside the block, in this thread, everything behaves as in eval mode."""
    token = _evaluating.set(True)
    try:
        yield
    finally:
        _evaluating.reset(token)


class Differentiable:
    """What modules and losses share: a backend, a mode, and one slot between the two passes."""

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
        """Store what `backward` will need; in eval mode store nothing."""
        if self.training:
            self._kept = values

    def take(self) -> Any:
        """What `keep` stored, the value itself where it was one; the slot is then empty."""
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError(
                f"{self!r}: backward without a forward in training mode before it "
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
        parts = [_short(a) for a in args] + [f"{k}={_short(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


class Module(Differentiable):
    """A differentiable function with parameters.

    A subclass writes two methods:

        forward(x)      returns y, and passes what `backward` will need to `self.keep`;
        backward(grad)  takes it back with `self.take`, given grad = ∂L/∂y adds ∂L/∂θ to each
                        parameter θ (`Parameter.accumulate`), and returns ∂L/∂x.

    Parameters and modules that are attributes, or stand in a list or tuple that is one, are found
    by themselves; nothing is to be registered and `super().__init__()` need not be called. Arrays
    are handled with `self.backend.xp`, the namespace of the backend in force when the layer was
    built. `keep` stores nothing in eval mode, so several threads may run one model forward at once.
    """

    # ---- the two passes -----------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """The layer's function of a batch x, whose first axis is the sample."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad: Array) -> Array:
        """∂L/∂x from grad = ∂L/∂y; adds the parameters' gradients on the way."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Array) -> Array:
        """`forward`, with an error that names the fix when x is not an array of this device."""
        try:
            return self.forward(x)
        except DeviceError:
            raise
        except (TypeError, AttributeError) as error:
            if isinstance(x, self.backend.array_type):
                raise
            raise self._foreign(x) from error

    # ---- what it is made of -------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, each with its name."""
        return _members(self, Module)

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
            for name, parameter in _members(module, Parameter):
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

    # ---- modes --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training mode: backward is possible, dropout is on."""
        for module in self.modules():
            module.training = mode
            module._kept = None
        return self

    def eval(self) -> Self:
        """Evaluation mode: nothing is stored and nothing is random."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget every gradient; until then backward adds to them."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter inside."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
            parameter.zero_grad()
        return self

    def to(self, backend: str | Backend | None = None, dtype: DType = None) -> Self:
        """Move to another backend, another floating type, or both.

        Parameters keep their identity, so an optimizer goes on with them and brings its state
        along at its next step.
        """
        target = self.backend if backend is None else get_backend(backend)
        if dtype is not None and target.xp.dtype(dtype).kind != "f":
            raise TypeError(f"a model holds floating numbers, not {dtype}")
        for parameter in self.parameters():
            parameter.to(target, dtype)
        for module in self.modules():
            module.backend = target
            module._kept = None
        return self

    # ---- values -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """The parameters' arrays by name: the arrays themselves, not copies."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, Any], *, allow_nonfinite: bool = False) -> None:
        """Copy values in, from arrays of any backend, each cast to its parameter's type.

        Raises ValueError that lists every missing, unexpected and mis-shaped name and, unless
        `allow_nonfinite`, every array with a NaN or an infinity; the model is then as it was. Warns
        where a wider type is narrowed.
        """
        own = dict(self.named_parameters())
        faults = [f"missing {name}" for name in own if name not in state]
        faults += [f"unexpected {name}" for name in state if name not in own]
        arrays: dict[str, Array] = {}
        narrowed: list[str] = []
        for name, parameter in own.items():
            if name not in state:
                continue
            given = parameter.backend.asarray(state[name])
            arrays[name] = parameter.backend.asarray(given, parameter.dtype)
            if tuple(given.shape) != parameter.shape:
                faults.append(
                    f"{name} has shape {tuple(given.shape)} where the model has {parameter.shape}"
                )
            elif not (allow_nonfinite or parameter.backend.xp.isfinite(arrays[name]).all()):
                faults.append(f"{name} has NaN or infinity (allow_nonfinite=True takes them)")
            elif given.dtype.kind == "f" and given.dtype.itemsize > parameter.dtype.itemsize:
                narrowed.append(f"{name} from {given.dtype} to {parameter.dtype}")
        if faults:
            raise ValueError("state does not fit the model: " + "; ".join(faults))
        if narrowed:
            warn(f"load_state_dict narrows {', '.join(narrowed)}", stacklevel=2)
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]

    # ---- use ----------------------------------------------------------------------------------

    def predict(self, x: Any, batch_size: int = 4096) -> Array:
        """The outputs for x, in eval mode, `batch_size` rows at a time.

        x may be an array of any origin and any numeric type; it is cast to the model's. Returns an
        array of the model's backend. The mode stays as it is, and threads may predict at once.
        """
        x = self.backend.asarray(x, self.dtype)
        with evaluation():
            if len(x) <= batch_size:
                return self(x)
            parts = [self(x[i : i + batch_size]) for i in range(0, len(x), batch_size)]
            return self.backend.xp.concatenate(parts)

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """A table of the layers, their output shapes for one sample, and their parameters."""
        return summarize(self, input_shape)


def check_floating(layer: Module, x: Array) -> None:
    """TypeError for an array of integers."""
    if x.dtype.kind != "f":
        raise TypeError(f"{layer!r} takes floating numbers, got {x.dtype}: use x.astype(...)")


def _members(module: Module, kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The attributes of a kind, and the elements of the lists and tuples among them."""
    for name, value in vars(module).items():
        if name in ("_arguments", "_kept"):
            continue
        if isinstance(value, kind):
            yield name, value
        elif isinstance(value, (list, tuple)):
            for index, element in enumerate(value):
                if isinstance(element, kind):
                    yield f"{name}.{index}", element


def _short(value: Any) -> str:
    text = repr(value)
    return f"<{type(value).__name__} of {len(value)}>" if "\n" in text else text


def _kind(x: Any) -> str:
    if hasattr(x, "dtype"):
        return f"an array of {type(x).__module__.partition('.')[0]} ({type(x).__name__})"
    return f"a {type(x).__name__}"
