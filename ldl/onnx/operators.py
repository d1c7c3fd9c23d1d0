"""What ONNX's operators are among ldl's layers, for graphs that are a chain of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ldl import nn
from ldl.onnx.graph import Host

PASSED = ("Identity", "Dropout")


class Reader:
    """A chain of operators as layers.

    ONNX has channels first and ldl last: `turned` says whether the value that the chain has come to
    stands the one way in the file and the other way in the model.
    """

    def __init__(self, onnx: Any, proto: Any, weights: dict[str, Host]) -> None:
        self._onnx = onnx
        self.weights = dict(weights)
        graph = proto.graph
        inputs = [x for x in graph.input if x.name not in weights]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ValueError(
                f"ldl reads models of one input and one output, this one has {len(inputs)} and "
                f"{len(graph.output)}"
            )
        self.at = inputs[0].name
        self.rank: int | None = len(inputs[0].type.tensor_type.shape.dim) or None
        self.turned = False
        self.layers: list[nn.Module] = []
        self._nodes, self._end = list(graph.node), graph.output[0].name

    def model(self) -> nn.Sequential:
        """The layers that follow each other."""
        for node in self._nodes:
            how = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self.weights[node.output[0]] = self._onnx.numpy_helper.to_array(how["value"])
                continue
            given = [self.weights.get(name) for name in node.input]
            read = [name for name in node.input if name and name not in self.weights]
            function = OPERATORS.get(node.op_type)
            if read != [self.at] or (function is None and node.op_type not in PASSED):
                raise self.refused(node, "" if function is None else "which stands in no chain")
            if function is not None:
                try:
                    found = function(self, given, how)
                except (KeyError, IndexError, ValueError, TypeError) as error:
                    raise self.refused(node, str(error)) from error
                self.layers += found
            self.at = node.output[0]
        if self.at != self._end:
            raise ValueError("the model's output is not the last operator's")
        return nn.Sequential(*self.layers)

    def refused(self, node: Any, why: str) -> ValueError:
        """The error that names an operator."""
        name = f" ({node.name})" if node.name else ""
        more = f": {why}" if why else ""
        return ValueError(f"ldl has no layer for the operator {node.op_type}{name}{more}")

    def images(self, axes: int) -> None:
        """From here on values are images in the file's order."""
        if not self.turned and (self.layers or self.rank not in (None, axes + 2)):
            raise ValueError("its input is no image")
        self.turned, self.rank = True, axes + 2


Given = list[Host | None]
How = dict[str, Any]
Read = Callable[[Reader, Given, How], list[nn.Module]]
OPERATORS: dict[str, Read] = {}


def reads(*names: str) -> Callable[[Read], Read]:
    """Enter what reads an operator."""

    def decorator(function: Read) -> Read:
        for name in names:
            OPERATORS[name] = function
        return function

    return decorator


def filled(layer: nn.Module, **arrays: Any) -> nn.Module:
    """The layer with these weights, in their type."""
    dtype = str(next(iter(arrays.values())).dtype)
    layer.to(dtype=dtype if dtype in ("float32", "float64") else "float32")
    for name, array in arrays.items():
        parameter = getattr(layer, name)
        if parameter.shape != array.shape:
            raise ValueError(f"its {name} is {array.shape}, not {parameter.shape}")
        parameter.data[...] = array
    return layer


def known(x: Host | None) -> Host:
    """A weight; ValueError where it is not one that the file holds."""
    if x is None:
        raise ValueError("its weights are computed, not stored")
    return x


def _linear(weight: Host, bias: Host | None) -> list[nn.Module]:
    if weight.ndim != 2:
        raise ValueError(f"its weight has {weight.ndim} axes")
    if bias is not None and bias.ndim > 1 and bias.shape[0] > 1:
        raise ValueError(f"its bias is another for each sample: {bias.shape}")
    each = None if bias is None else np.broadcast_to(bias.reshape(-1), weight.shape[1:])
    more = {} if each is None else {"bias": each}
    n_in, n_out = weight.shape
    layer = nn.Linear(n_in, n_out, bias=bias is not None)
    return [filled(layer, weight=weight, **more)]


@reads("Gemm")
def _gemm(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if how.get("transA") or r.turned:
        raise ValueError("its first operand is turned")
    weight = how.get("alpha", 1.0) * known(given[1])
    bias = how.get("beta", 1.0) * known(given[2]) if len(given) > 2 else None
    return _linear(weight.T if how.get("transB") else weight, bias)


@reads("MatMul")
def _matmul(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if r.turned:
        raise ValueError("its operand is an image")
    return _linear(known(given[1]), None)


@reads("Add")
def _add(r: Reader, given: Given, how: How) -> list[nn.Module]:
    last = r.layers[-1] if r.layers else None
    bias = given[0] if given[1] is None else given[1]
    if not isinstance(last, nn.Linear) or last.bias is not None or bias is None:
        raise ValueError("it adds no bias to a product")
    r.layers.pop()
    return _linear(last.weight.data, bias.reshape(-1))


# ---- activations and shapes ----------------------------------------------------------------------


def _plain(make: Callable[[How], nn.Module]) -> Read:
    return lambda r, given, how: [make(how)]


reads("Relu")(_plain(lambda how: nn.ReLU()))
reads("Sigmoid")(_plain(lambda how: nn.Sigmoid()))
reads("Tanh")(_plain(lambda how: nn.Tanh()))
reads("Softplus")(_plain(lambda how: nn.Softplus()))
reads("Elu")(_plain(lambda how: nn.ELU(how.get("alpha", 1.0))))
reads("LeakyRelu")(_plain(lambda how: nn.LeakyReLU(how.get("alpha", 0.01))))
reads("Selu")(_plain(lambda how: nn.SELU()))
reads("Mish")(_plain(lambda how: nn.Mish()))
reads("HardSwish")(_plain(lambda how: nn.Hardswish()))
reads("Gelu")(_plain(lambda how: nn.GELU(how.get("approximate", b"none").decode())))


@reads("HardSigmoid")
def _hardsigmoid(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if abs(how.get("alpha", 0.2) - 1 / 6) > 1e-6 or how.get("beta", 0.5) != 0.5:
        raise ValueError("its slope is not 1/6")
    return [nn.Hardsigmoid()]


@reads("Clip")
def _clip(r: Reader, given: Given, how: How) -> list[nn.Module]:
    low, high = (float(known(x)) for x in given[1:3])
    return [nn.Hardtanh(low, high)]


@reads("PRelu")
def _prelu(r: Reader, given: Given, how: How) -> list[nn.Module]:
    weight = known(given[1])
    channel = weight.ndim - 1 if not r.turned else weight.ndim - (r.rank or 0) + 1
    if weight.size != 1 and (channel < 0 or weight.size != weight.shape[channel]):
        raise ValueError(f"its slopes are of shape {weight.shape}")
    return [filled(nn.PReLU(weight.size), weight=weight.reshape(-1))]


def _axis(r: Reader, axis: int) -> int:
    """An axis of the file as the model's."""
    if not r.turned:
        return axis
    rank = r.rank or 0
    at = axis % rank
    return 0 if at == 0 else rank - 1 if at == 1 else at - 1


@reads("Softmax")
def _softmax(r: Reader, given: Given, how: How) -> list[nn.Module]:
    return [nn.Softmax(_axis(r, how.get("axis", -1)))]


@reads("LogSoftmax")
def _log_softmax(r: Reader, given: Given, how: How) -> list[nn.Module]:
    return [nn.LogSoftmax(_axis(r, how.get("axis", -1)))]


def flattened(r: Reader) -> list[nn.Module]:
    """All axes of a sample as one, in the file's order."""
    turn: list[nn.Module] = []
    if r.turned and r.rank is not None:
        turn = [nn.Permute(r.rank - 1, *range(1, r.rank - 1))]
    r.turned, r.rank = False, 2
    return [*turn, nn.Flatten()]


@reads("Flatten")
def _flatten(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if how.get("axis", 1) != 1:
        raise ValueError(f"its axis is {how['axis']}")
    return flattened(r)


@reads("Reshape")
def _reshape(r: Reader, given: Given, how: How) -> list[nn.Module]:
    shape = [int(n) for n in known(given[1])]
    if len(shape) == 2 and (shape[0] in (0, -1) or shape[1] == -1):
        return flattened(r)
    if r.turned or shape[0] not in (0, -1):
        raise ValueError(f"it makes {shape} of a batch")
    r.rank = len(shape)
    return [nn.Reshape(*shape[1:])]


@reads("Transpose")
def _transpose(r: Reader, given: Given, how: How) -> list[nn.Module]:
    perm = list(how["perm"])
    rank = len(perm)
    to_first, to_last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    if perm == (to_last if r.turned else to_first) and rank > 2:
        r.turned, r.rank = not r.turned, rank
        return []
    if r.turned or perm[0] != 0:
        raise ValueError(f"its perm is {perm}")
    r.rank = rank
    return [nn.Permute(*perm[1:])]


@reads("LayerNormalization")
def _layer_norm(r: Reader, given: Given, how: How) -> list[nn.Module]:
    weight = known(given[1])
    if r.turned or how.get("axis", -1) not in (-weight.ndim, (r.rank or 0) - weight.ndim):
        raise ValueError("it goes over other axes than the last")
    layer = nn.LayerNorm(weight.shape, how.get("epsilon", 1e-5), bias=len(given) > 2)
    more = {"bias": known(given[2])} if len(given) > 2 else {}
    return [filled(layer, weight=weight, **more)]
