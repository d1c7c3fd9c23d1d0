"""A model as a graph of ONNX's operators: what `export` writes, and `export_python` spells out.

A table says for each class of layer which nodes it becomes. Values are known by their names and by
a sample, which tells their shapes; those of images may stand channels first, as ONNX wants them,
and are turned only where somebody reads them otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from ldl import nn
from ldl.nn.module import evaluated

Host = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Node:
    """One operator."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, of batches of any size."""

    name: str
    sample: Host
    """What it is for a batch of one, channels last."""
    first: bool = False
    """Whether channels stand first in the graph."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample, channels last."""
        return tuple(self.sample.shape[1:])


@dataclass
class Graph:
    """Nodes in order, and the constants that they read."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Host] = field(default_factory=dict)
    padding: str | None = None
    """Which places (N, T) of the tokens are padding, inside a Padded, for layers that ask."""

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        """A constant of that name, or of one like it where another has it."""
        array = np.ascontiguousarray(value, dtype)
        array = array.reshape(np.shape(value))
        taken, n = name, 1
        while taken in self.constants:
            held = self.constants[taken]
            if held.dtype == array.dtype and np.array_equal(held, array, equal_nan=True):
                return taken
            taken, n = f"{name}.{n}", n + 1
        self.constants[taken] = array
        return taken

    def node(self, op: str, path: str, *inputs: Tensor | str, outputs: int = 1, **how: Any) -> Any:
        """A node's output, or its outputs, by name; it is called after the layer's path."""
        taken = {node.name for node in self.nodes}
        name, n = f"{path}/{op}".lstrip("/"), 1
        while name in taken:
            name, n = f"{path}/{op}.{n}".lstrip("/"), n + 1
        found = tuple(name if k == 0 else f"{name}:{k}" for k in range(outputs))
        read = tuple(x.name if isinstance(x, Tensor) else x for x in inputs)
        self.nodes.append(Node(op, name, read, found, how))
        return found[0] if outputs == 1 else found

    # ---- where channels stand --------------------------------------------------------------------

    def last(self, x: Tensor, path: str) -> Tensor:
        """The value with its channels last."""
        if not x.first:
            return x
        axes = [0, *range(2, x.sample.ndim), 1]
        return Tensor(self._turned(x, path, axes), x.sample)

    def channels_first(self, x: Tensor, path: str) -> Tensor:
        """The value with its channels first."""
        if x.first or x.sample.ndim < 3:
            return x
        axes = [0, x.sample.ndim - 1, *range(1, x.sample.ndim - 1)]
        return Tensor(self._turned(x, path, axes), x.sample, True)

    def _turned(self, x: Tensor, path: str, axes: list[int]) -> str:
        for node in self.nodes:
            if node.op != "Transpose":
                continue
            if node.inputs == (x.name,) and node.attributes["perm"] == axes:
                return node.outputs[0]
        return str(self.node("Transpose", path, x, perm=axes))

    # ---- layers ----------------------------------------------------------------------------------

    def layer(self, module: nn.Module, x: Tensor, path: str) -> Tensor:
        """What a layer makes of a value."""
        before = self.padding
        if not module.takes_padding:
            self.padding = None
        try:
            return self._layer(module, x, path)
        finally:
            self.padding = before

    def _layer(self, module: nn.Module, x: Tensor, path: str) -> Tensor:
        kind = type(module)
        if kind in INSIDE:
            whole: Tensor = INSIDE[kind](self, module, x, path)
            return whole
        if kind not in LAYERS:
            raise ValueError(
                f"{kind.__name__} at {path or 'the top'} has no form in ONNX: write one with "
                f"@ldl.onnx.register({kind.__name__})"
            )
        y = evaluated(module, x.sample.copy())
        found = LAYERS[kind](self, module, x, path)
        if isinstance(found, Tensor):
            return Tensor(found.name, y, found.first)
        return Tensor(found, y)


Emit = Callable[[Graph, Any, Tensor, str], Any]
E = TypeVar("E", bound=Emit)

LAYERS: dict[type[nn.Module], Emit] = {}
"""Of each class how its nodes are made: a function that gives the output's name, or a Tensor."""

INSIDE: dict[type[nn.Module], Emit] = {}
"""Of each class of containers how its parts follow each other."""


def register(*kinds: type[nn.Module]) -> Callable[[E], E]:
    """Say how layers of a class are written; a decorator.

        @ldl.onnx.register(Scale)
        def scale(graph, layer, x, path):
            x = graph.last(x, path)  # with its channels last
            s = graph.constant(f"{path}.s", layer.s.data)
            return graph.node("Mul", path, x, s)

    The function gets the graph, the layer in eval mode on the host, the value before it (its
    `name`, its sample's `shape`), and the layer's path; it gives the name of the value after it.
    """

    def decorator(function: E) -> E:
        for kind in kinds:
            LAYERS[kind] = function
        return function

    return decorator


def inside(*kinds: type[nn.Module]) -> Callable[[E], E]:
    """As `register`, of containers: the function gives the Tensor after the last part."""

    def decorator(function: E) -> E:
        for kind in kinds:
            INSIDE[kind] = function
        return function

    return decorator


def graph_of(model: nn.Module, shape: tuple[int, ...]) -> tuple[Graph, Tensor, Tensor]:
    """The graph of a model for samples of a shape, its input and its output, channels last."""
    model = deepcopy(model).to("numpy").eval()
    graph = Graph()
    dtype = np.dtype("int64") if model.takes_integers else np.dtype(str(model.dtype))
    x = Tensor("input", np.zeros((1, *shape), dtype))
    with np.errstate(all="ignore"):
        y = graph.last(graph.layer(model, x, ""), "output")
    if y.name in (x.name, *graph.constants):
        y = Tensor(graph.node("Identity", "output", y), y.sample)
    last = graph.nodes[-1]
    graph.nodes[-1] = replace(last, outputs=("output", *last.outputs[1:]))
    return graph, x, Tensor("output", y.sample)
