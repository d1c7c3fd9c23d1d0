"""PyTorch's weights in models of ldl, and back. PyTorch itself is never needed.

    from ldl.io.torch import from_torch, to_torch

    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
    from_torch(model, torch_model.state_dict())      # tensors or arrays by name
    from_torch(model, "model.safetensors")           # a file of a state_dict
    state = to_torch(model)                          # arrays in PyTorch's names, shapes, layouts
    torch_model.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    ldl.io.write_tensors("back.safetensors", state, {})   # safetensors.torch.load_file reads it

Afterwards the two models compute the same, ldl's of images (N, H, W, C) and sequences (N, L, C)
what PyTorch's does of (N, C, H, W) and (N, C, L), in eval mode and with the same options: a state
holds no options, such as strides, activations, `eps` or PyTorch's `norm_first`, and PyTorch's
recurrent and attention layers are those with `batch_first=True`.

The features of flattened images stand in another order, (H, W, C) here and (C, H, W) there. The
rows of a Linear behind a Flatten, and the columns of one before a Reshape to images, are therefore
permuted, by the channels that the layers before and behind tell. Where they do not, say `channels`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ldl.arrays import host
from ldl.io.constants import same_value
from ldl.io.torch.layers import Part, Tensor, parts
from ldl.io.torch.matching import faults, joined, roots, several
from ldl.io.torch.order import Order
from ldl.io.torch.reading import read_state
from ldl.nn.module import Module

__all__ = ["LeftOut", "from_torch", "read_state", "to_torch"]

Path = str | os.PathLike[str]


class LeftOut(NamedTuple):
    """PyTorch's names of what a model has and the state had not, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def from_torch(
    model: Module,
    state: Mapping[str, Any] | Path,
    *,
    strict: bool = True,
    channels: int | Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
    allow_nonfinite: bool = False,
) -> LeftOut:
    """Load the weights of the equal PyTorch model, all of them or none.

    Args:
        model: of the same layers as PyTorch's; it keeps its type, device and mode.
        state: a state_dict of tensors or arrays, or the path of a safetensors file of one. Half
            precision and bfloat16 are taken; what is narrowed is warned of.
        strict: whether every tensor must be in both. If not, those that are not are left out; a
            tensor of another shape is an error all the same.
        channels: of the images that the model is given, a number; or, by the name of a Flatten or
            of a layer behind one, those of the images that were flattened, 1 where both orders are
            one. Only needed where the layers do not tell: an error says so, but where your own code
            flattens images before any layer of images.
        names: PyTorch's paths by ldl's, of layers or of what they stand in, such as {"0": "conv1"}.
            Without it layers have the same path in both, but for what all of PyTorch's begin with;
            or else the same place in the order of the layers, where all shapes fit.
        allow_nonfinite: take NaN and infinities.

    Returns:
        What was left out; two empty lists where `strict`.

    Raises ValueError for a state that does not fit, naming layers and both shapes, or flattened
    images whose channels are not known; TypeError for what is no state or no array, CheckpointError
    for a file that is damaged or of another kind, OSError for one that cannot be opened.
    """
    held = _state(state)
    plan = _plan(model, channels)
    shapes = {name: tuple(map(int, tensor.shape)) for name, tensor in held.items()}
    found = roots(plan, shapes, names)
    missing, unexpected, wrong = faults(plan, found, shapes)
    if wrong or (strict and (missing or unexpected)):
        said = wrong[:3]
        said += [f"missing {several(missing)}"] * bool(missing)
        said += [f"unexpected {several(unexpected)}"] * bool(unexpected)
        way = "" if wrong else " (names={...} says which is which, strict=False leaves them out)"
        raise ValueError(f"the state does not fit the model: {'; '.join(said)}{way}")
    values = _values(model, plan, found, held)
    model.load_state_dict({**model.state_dict(), **values}, allow_nonfinite=allow_nonfinite)
    return LeftOut(missing, unexpected)


def to_torch(
    model: Module,
    *,
    channels: int | Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
    like: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """The model's weights as PyTorch has them: NumPy arrays of its names, shapes and layouts.

    They are copies, in the model's own type, in the order of its layers. `channels` and `names` are
    those of `from_torch`; with `like`, a state_dict of the PyTorch model, names are as there, found
    as `from_torch` finds them. BatchNorm's `num_batches_tracked` is 0 unless its momentum is
    None, and a recurrent layer's second bias is 0, since ours is the sum of both.

    Raises ValueError for flattened images whose channels are not known and, with `like`, for one
    that does not fit.
    """
    plan = _plan(model, channels)
    shapes: dict[str, tuple[int, ...]] = {}
    if like is not None:
        shapes = {name: tuple(map(int, tensor.shape)) for name, tensor in _state(like).items()}
    found = roots(plan, shapes, names)
    if like is not None and any(lacks := faults(plan, found, shapes)):
        raise ValueError(
            f"like is the state of another model: {several([*lacks[2], *lacks[0], *lacks[1]])}"
        )
    given: dict[str, Tensor] = {}
    for part, root in zip(plan, found, strict=True):
        for name, tensor in part.tensors.items():
            if like is None or joined(root, name) in shapes:
                given[joined(root, name)] = tensor.copy()
    return given


def _plan(model: Module, channels: int | Mapping[str, int] | None) -> list[Part]:
    """The layers that have state, in PyTorch's order of features."""
    if not isinstance(model, Module):
        raise TypeError(f"model must be one of ldl's, such as ldl.nn.Linear(4, 2), got {model!r}")
    order = Order(model, channels)
    return [order.turned(part) for part in parts(model)]


def _state(state: Any) -> Mapping[str, Any]:
    """Tensors or arrays by name; TypeError for what is none."""
    if isinstance(state, (str, os.PathLike)):
        return read_state(state)
    if not isinstance(state, Mapping):
        way = "give its .state_dict()" if hasattr(state, "state_dict") else "give a state_dict"
        raise TypeError(f"state must be tensors by name, got a {type(state).__name__}: {way}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not hasattr(tensor, "shape"):
            way = ": give what it has under 'state_dict'" if "state_dict" in state else ""
            raise TypeError(
                f"state must be tensors by name, and has a {type(tensor).__name__} as {name!r}{way}"
            )
    return state


def _values(
    model: Module,
    plan: list[Part],
    found: list[str],
    held: Mapping[str, Any],
) -> dict[str, Tensor]:
    """The model's arrays, by its own names."""
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    values: dict[str, Tensor] = {}
    for part, root in zip(plan, found, strict=True):
        given = {
            name: held[joined(root, name)] for name in part.tensors if joined(root, name) in held
        }
        tensors = {name: host(tensor) for name, tensor in given.items()}
        inside = dict(part.layer.named_parameters())
        for name, array in part.read(tensors).items():
            target = own[id(inside[name])]
            if not same_value(values.get(target, array), array):
                raise ValueError(
                    f"{target!r} is one weight of several layers, and the state has others for "
                    f"{part.path!r}: tie them there too, or build the model without TiedLinear"
                )
            values[target] = array
    return values
