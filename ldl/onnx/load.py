"""load: a model of ldl from an ONNX file."""

from __future__ import annotations

import json
import os
from math import prod
from typing import Any

import numpy as np

from ldl import nn
from ldl.backend import use_backend
from ldl.console import shown
from ldl.io import architecture
from ldl.io.files import one_line
from ldl.nn import init
from ldl.onnx.export import as_shape, onnx_package
from ldl.onnx.graph import Host, graph_of
from ldl.onnx.operators import Reader

FIRST = 2.0**40
"""Numbers of weights begin here: no constant of a graph is as large."""

LARGEST = 2**24
"""Numbers of a sample, at most."""


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model in an ONNX file, in eval mode.

    A file that `export` wrote gives the model that was exported. Of others, chains of operators
    that ldl has layers for are read: Gemm, MatMul and Add, Conv, ConvTranspose, pooling,
    normalisation, activations, Flatten. Where the file's images have channels first, the model's
    have them last: give it x.transpose(0, 2, 3, 1).

    Raises ValueError that names the first operator without a layer, and for files that are damaged
    or no ONNX; ImportError without the onnx package.
    """
    onnx = onnx_package()
    try:
        proto = onnx.load(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # the parser's own, and the checks' of files of weights beside it
        reason = one_line(error)
        raise ValueError(f"{shown(str(path))} is damaged, or no ONNX file: {reason}") from error
    if not proto.graph.node:
        raise ValueError(f"{shown(str(path))} is damaged, or no ONNX file: it has no operators")
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in proto.graph.initializer}
    known = {entry.key: entry.value for entry in proto.metadata_props}
    if "ldl" in known:
        try:
            return _rebuilt(json.loads(known["ldl"]), json.loads(known["ldl.shape"]), weights)
        except (LookupError, MemoryError, TypeError, ValueError) as error:
            fault = f"{shown(str(path))} cannot be built again: {one_line(error)}"
            raise ValueError(fault) from error
    return Reader(onnx, proto, weights).model().eval()


def _rebuilt(description: Any, shape: Any, weights: dict[str, Host]) -> nn.Module:
    """The model of an architecture, its weights found where `export` puts them.

    A model whose weights are their own numbers is written once more: where a number comes out, the
    file has that weight.
    """
    architecture.check(description)
    sample = as_shape(shape)
    if prod(sample) > LARGEST:
        raise ValueError(f"its samples are of {shape}, too large to be true")
    with use_backend("numpy"), init.budget(2 * sum(a.size for a in weights.values())):
        model = architecture.build(description).eval()
    parameters = {id(p): p for p in model.parameters()}.values()
    dtype = str(model.dtype)
    model.to(dtype="float64")
    found = [p.data.copy() for p in parameters]
    start = FIRST
    for p in parameters:
        p.data[...] = start + np.arange(p.data.size).reshape(p.shape)
        start += p.data.size
    graph, _, _ = graph_of(model, sample)
    flat = np.concatenate([a.reshape(-1) for a in found]) if found else np.zeros(0)
    for name, numbers in graph.constants.items():
        held = weights.get(name)
        if held is None or held.shape != numbers.shape:
            raise ValueError(f"the weight {name!r} is missing, or of another shape")
        if numbers.dtype.kind == "f":
            which = numbers >= FIRST
            dtype = str(held.dtype) if which.any() else dtype
            flat[(numbers[which] - FIRST).astype(np.int64)] = held[which]
    start = 0
    for p in parameters:
        p.data[...] = flat[start : start + p.data.size].reshape(p.shape)
        start += p.data.size
    return model.to(dtype=dtype)
