"""What PyTorch calls the tensors of a layer, and how they lie there.

| layer | PyTorch's tensors |
|---|---|
| Linear | weight (out, in) of W (in, out) |
| Conv1d, Conv2d, their transposes | weight (out, in / groups, k …) of W (k …, in / groups, out) |
| BatchNorm, InstanceNorm | weight, bias, running_mean, running_var, num_batches_tracked |
| MultiHeadAttention | in_proj_weight (3d, d), in_proj_bias, out_proj.weight, out_proj.bias |
| TransformerBlock | those of TransformerEncoderLayer |
| RNN, LSTM, GRU | weight_ih_l0 (gates, in), weight_hh_l0, bias_ih_l0, bias_hh_l0, …_reverse |
| other layers, and those of your own | the parameters' names and shapes |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ldl import nn
from ldl.nn.differentiable import members
from ldl.nn.module import Module
from ldl.nn.parameter import Buffer, Parameter
from ldl.nn.recurrent import _Recurrent
from ldl.nn.running import Running

Tensor = np.ndarray[Any, np.dtype[Any]]
Tensors = dict[str, Tensor]


@dataclass
class Part:
    """A layer that has state: where it stands, and what PyTorch holds of it.

    `tensors` are PyTorch's by their names below the layer's; `read` gives of such tensors the
    arrays of the layer's parameters, by their names below the layer's. A state may lack those in
    `optional`.
    """

    path: str
    layer: Module
    tensors: Tensors
    read: Callable[[Tensors], Tensors]
    optional: frozenset[str] = field(default=frozenset())


Rule = Callable[[Any], tuple[Tensors, Callable[[Tensors], Tensors]]]


def value(parameter: Parameter) -> Tensor:
    """A parameter's array, a copy on the host."""
    return np.array(parameter.backend.to_numpy(parameter.data))


def _own(layer: Module) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """The parameters as they are."""
    return {name: value(p) for name, p in members(layer, Parameter)}, dict


def _turned(*axes: int) -> Rule:
    """A weight whose axes PyTorch has in another order, and a bias."""
    back = tuple(np.argsort(axes).tolist())

    def rule(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
        given, _ = _own(layer)
        given["weight"] = given["weight"].transpose(axes)

        def read(tensors: Tensors) -> Tensors:
            return {**tensors, "weight": tensors["weight"].transpose(back)}

        return given, read

    return rule


def _tied(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """The source's weight (in, out) is what a Linear in its place has as (out, in)."""
    return _own(layer)


def _running(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """PyTorch always counts batches; ldl where running statistics are the mean of all."""
    given, _ = _own(layer)
    own, name = layer.num_batches_tracked, "num_batches_tracked"
    count = 0 if own is None else int(value(own)[0])
    if layer.running_mean is not None:
        given[name] = np.array(count, np.int64)

    def read(tensors: Tensors) -> Tensors:
        found = {k: v for k, v in tensors.items() if k != name}
        counted = np.reshape(tensors.get(name, np.array(count)), 1)
        return found if own is None else {**found, name: counted}

    return given, read


def _nothing(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    return {}, dict


def _positions(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    return _own(layer) if layer.learned else _nothing(layer)


_ATTENTION = {
    "in_proj_weight": "qkv.weight",
    "in_proj_bias": "qkv.bias",
    "out_proj.weight": "out.weight",
    "out_proj.bias": "out.bias",
}


def _named(layer: Any, names: dict[str, str]) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """Parameters under other names, matrices transposed."""
    own = {name: value(p) for name, p in layer.named_parameters() if name in names.values()}
    given = {theirs: own[ours].T for theirs, ours in names.items() if ours in own}

    def read(tensors: Tensors) -> Tensors:
        return {names[theirs]: tensor.T for theirs, tensor in tensors.items()}

    return given, read


def _attention(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    return _named(layer, _ATTENTION)


def _block(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    names = {f"self_attn.{theirs}": f"attention.{ours}" for theirs, ours in _ATTENTION.items()}
    for theirs, place in (("linear1", 0), ("linear2", len(layer.mlp) - 1)):
        names |= {f"{theirs}.{kind}": f"mlp.{place}.{kind}" for kind in ("weight", "bias")}
    same = [f"{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")]
    return _named(layer, names | {name: name for name in same})


def _recurrent(layer: Any) -> tuple[Tensors, Callable[[Tensors], Tensors]]:
    """Two biases, of which ours is the sum; but for what a GRU keeps apart, in the second."""
    ways = ["", "_reverse"] if layer.bidirectional else [""]
    ends = [f"l{k}{way}" for k in range(layer.num_layers) for way in ways]
    given: Tensors = {}
    for end, direction in zip(ends, layer.layers, strict=True):
        given[f"weight_ih_{end}"] = value(direction.weight_ih).T
        given[f"weight_hh_{end}"] = value(direction.weight_hh).T
        if direction.bias is None:
            continue
        first = given[f"bias_ih_{end}"] = value(direction.bias)
        second = given[f"bias_hh_{end}"] = np.zeros_like(first)
        if getattr(direction, "bias_n", None) is not None:
            second[2 * layer.hidden_size :] = value(direction.bias_n)

    def read(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for k, end in enumerate(ends):
            for side in ("ih", "hh"):
                found[f"layers.{k}.weight_{side}"] = tensors[f"weight_{side}_{end}"].T
            if f"bias_ih_{end}" not in tensors:
                continue
            first, second = tensors[f"bias_ih_{end}"], tensors[f"bias_hh_{end}"]
            if hasattr(layer.layers[k], "bias_n"):
                apart = 2 * layer.hidden_size
                found[f"layers.{k}.bias_n"] = second[apart:]
                second = np.concatenate([second[:apart], np.zeros_like(second[apart:])])
            found[f"layers.{k}.bias"] = first + second
        return found

    return given, read


_CONV1D, _CONV2D = _turned(2, 1, 0), _turned(3, 2, 0, 1)

RULES: dict[type, Rule] = {
    nn.Linear: _turned(1, 0),
    nn.TiedLinear: _tied,
    nn.Conv1d: _CONV1D,
    nn.Conv2d: _CONV2D,
    nn.ConvTranspose1d: _CONV1D,
    nn.ConvTranspose2d: _CONV2D,
    Running: _running,
    nn.PReLU: _own,
    nn.LayerNorm: _own,
    nn.RMSNorm: _own,
    nn.GroupNorm: _own,
    nn.Embedding: _own,
    nn.PositionalEncoding: _positions,
    nn.MultiHeadAttention: _attention,
    nn.TransformerBlock: _block,
    _Recurrent: _recurrent,
}
"""Of every layer of `ldl.nn` that has parameters of its own."""

OPTIONAL = {
    nn.TiedLinear: frozenset({"weight"}),
    Running: frozenset({"num_batches_tracked"}),
}


def rule(layer: Module) -> type | None:
    """The class of `RULES` that a layer is of, if it is of one."""
    return next((kind for kind in type(layer).__mro__ if kind in RULES), None)


def parts(model: Module, path: str = "") -> Iterator[Part]:
    """The layers of a model that have state, in the order in which they stand.

    TypeError for a layer of `ldl.nn` that has no rule.
    """
    kind = rule(model)
    inside = path + "." if path else ""
    if kind is not None:
        tensors, read = RULES[kind](model)
        tensors = {name: np.asarray(t, order="C") for name, t in tensors.items()}
        learned = {n for n, p in model.named_parameters() if not isinstance(p, Buffer)}
        if learned - read(tensors).keys():
            raise TypeError(f"PyTorch has no layer with the parameters of {model!r}")
        if tensors:
            yield Part(path, model, tensors, read, OPTIONAL.get(kind, frozenset()))
        return
    tensors, read = _own(model)
    if tensors:
        if type(model).__module__.startswith("ldl."):
            raise TypeError(f"ldl.io.torch does not know how PyTorch lays out {model!r}")
        yield Part(path, model, tensors, read)
    for name, child in model.named_children():
        yield from parts(child, inside + name)
