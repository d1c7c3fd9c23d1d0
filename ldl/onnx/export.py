"""export: a model as an ONNX file."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ldl import nn
from ldl.io import check_writable, write_atomically
from ldl.io.architecture import describe
from ldl.numbers import positive_integer
from ldl.onnx.graph import Graph, Tensor, graph_of

OPSET = 17


def onnx_package() -> Any:
    """The package; ImportError that names the command where it is not there."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the onnx package: pip install onnx") from error
    return onnx


def export(
    model: nn.Module, path: str | os.PathLike[str], shape: tuple[int, ...] | int | None = None
) -> None:
    """Write a model as an ONNX file (opset 17), for batches of any size.

        ldl.onnx.export(model, "model.onnx", shape=(28, 28, 1))

    `shape` is that of a sample: (features,), (L, C) or (H, W, C), (T,) for tokens. It may be left
    out where the first layer is dense. Inputs and outputs are called "input" and "output" and are
    the model's own, channels last; nodes are called after the layers' paths, weights after the
    parameters. Layers are as in eval mode. The architecture goes along, so that `load` gives the
    same model again.

    Raises ValueError for a layer that has no form in ONNX, unless `register` gave it one, and
    ImportError without the onnx package.
    """
    onnx = onnx_package()
    check_writable(path)
    sample = sample_shape(model, shape)
    graph, x, y = graph_of(model, sample)
    proto = model_proto(onnx, graph, x, y)
    try:
        text = json.dumps(describe(model))
    except (TypeError, ValueError):  # a class that is not registered: the graph alone is written
        text = None
    if text is not None:
        onnx.helper.set_model_props(proto, {"ldl": text, "ldl.shape": json.dumps(sample)})
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(path, proto.SerializeToString())


def as_shape(given: Any) -> tuple[int, ...]:
    """A number, or several, as a shape."""
    numbers = [given] if isinstance(given, (int, np.integer)) else list(given)
    return tuple(positive_integer("every number of shape", n) for n in numbers)


def sample_shape(model: nn.Module, shape: Any) -> tuple[int, ...]:
    """The shape of a sample, from what is said or from a dense first layer."""
    if shape is not None:
        return as_shape(shape)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            return (module.in_features,)
        if next(iter(module.named_children()), None) is None and not isinstance(
            module, nn.Activation
        ):
            break
    raise ValueError(
        "export needs the shape of a sample: shape=(28, 28, 1) for images, (T, C) for sequences, "
        "(T,) for tokens"
    )


def model_proto(onnx: Any, graph: Graph, x: Tensor, y: Tensor) -> Any:
    """The graph as ONNX's message."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def info(tensor: Tensor) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(tensor.sample.dtype)
        return helper.make_tensor_value_info(tensor.name, kind, ["batch", *tensor.shape])

    nodes = [
        helper.make_node(n.op, list(n.inputs), list(n.outputs), name=n.name, **n.attributes)
        for n in graph.nodes
    ]
    weights = [numpy_helper.from_array(a, name) for name, a in graph.constants.items()]
    made = helper.make_graph(nodes, "ldl", [info(x)], [info(y)], weights)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, producer_name="ldl", ir_version=8)
