"""export_python: a model as one Python file whose only import is NumPy."""

from __future__ import annotations

import os
from base64 import b85encode
from inspect import getsource, isfunction
from typing import Any

import numpy as np

from ldl import nn
from ldl.io import check_writable, write_atomically
from ldl.onnx import numpy_operators
from ldl.onnx.calls import CALLS
from ldl.onnx.export import sample_shape
from ldl.onnx.graph import Graph, Host, Node, Tensor, graph_of

HEAD = '''"""{name}: a network of {parameters:,} parameters, written by ldl {version}.

    from {module} import predict

    y = predict(x)  # x {takes}, y (N, {gives})

Needs NumPy alone. Run as a program, it checks itself against what ldl predicted.
"""

import numpy as np
'''

TAIL = '''

def _check():
    """What ldl predicted for two samples, and how far off this file is."""
    x, y = {x}, {y}
    found = predict(x)
    apart = float(np.max(np.abs(found - y), initial=0.0))
    largest = float(np.max(np.abs(y), initial=0.0))
    if not apart <= 1e-4 * max(largest, 1.0):
        raise SystemExit(f"wrong: outputs are {{apart}} off, of {{largest}}")
    print(f"right: outputs are within {{apart:.1e}} of ldl's, the largest of them {{largest:.3g}}")


if __name__ == "__main__":
    _check()
'''


def export_python(
    model: nn.Module, path: str | os.PathLike[str], shape: tuple[int, ...] | int | None = None
) -> None:
    """Write a model as a Python file that predicts with NumPy alone.

        ldl.onnx.export_python(model, "denoiser.py", shape=784)

    The file has a function `predict(x)`, for batches (N, *shape), a line for each operator, the
    weights as base 85 of their bytes (5 characters for 4 bytes), and a check of itself by two
    samples: `python denoiser.py`. `shape` is as in `export`, and so are the errors.
    """
    check_writable(path)
    sample = sample_shape(model, shape)
    graph, x, y = graph_of(model, sample)
    write_atomically(path, source_of(model, graph, x, y, os.fspath(path)).encode())


def source_of(model: nn.Module, graph: Graph, x: Tensor, y: Tensor, path: str) -> str:
    """The text of the file."""
    import ldl

    module = os.path.basename(path).removesuffix(".py")
    names = _Names()
    body = [line for node in graph.nodes for line in _lines(node, names, graph)]
    parts = [
        HEAD.format(
            name=type(model).__name__,
            parameters=sum(p.size for p in model.parameters()),
            version=ldl.__version__,
            module=module,
            takes=f"({', '.join(map(str, ('N', *x.shape)))}{'' if x.shape else ','})"
            + (" of integers" if x.sample.dtype.kind == "i" else ""),
            gives=", ".join(map(str, y.shape)),
        ),
        "\n\ndef predict(x):\n",
        f'    """The outputs for samples x (N, {", ".join(map(str, x.shape))})."""\n',
        f"    {names('input')} = np.asarray(x, {x.sample.dtype.name!r})\n",
        f"    if {names('input')}.shape[1:] != {x.shape!r}:\n",
        f'        raise ValueError(f"x must be (N, {", ".join(map(str, x.shape))}), got ',
        f'{{{names("input")}.shape}}")\n',
        *[f"    {line}\n" for line in body],
        f"    return {names('output')}\n",
        *_functions("\n".join(body)),
        "\n\n",
        *_constants(graph, names),
    ]
    trial = _trial(x)
    expected = model.backend.to_numpy(model.predict(trial))
    parts.append(TAIL.format(x=_array(trial), y=_array(expected)))
    return "".join(parts)


class _Names:
    """Python's names for a graph's."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self.known:
            plain = "".join(c if c.isalnum() else "_" for c in name).strip("_").lower() or "v"
            plain = f"v{plain}" if plain[0].isdigit() else plain
            taken, n = plain, 1
            while taken in self.known.values() or taken in ("x", "np", "predict"):
                taken, n = f"{plain}_{n}", n + 1
            self.known[name] = taken
        return self.known[name]


def _functions(text: str) -> list[str]:
    """The functions that a text calls, and those that they call, as text."""
    known = {name: f for name, f in vars(numpy_operators).items() if isfunction(f)}
    used: dict[str, None] = {}
    todo = ["_array", *(name for name in known if f"{name}(" in text)]
    while todo:
        name = todo.pop()
        if name not in used:
            used[name] = None
            todo += [other for other in known[name].__code__.co_names if other in known]
    return [f"\n\n{getsource(known[name])}" for name in sorted(used)]


def _lines(node: Node, names: _Names, graph: Graph) -> list[str]:
    if node.op not in CALLS:
        raise ValueError(f"the operator {node.op} ({node.name}) has no form in NumPy")
    small = [
        repr(graph.constants[i].tolist()) if _is_setting(graph, i) else names(i) if i else "None"
        for i in node.inputs
    ]
    text = CALLS[node.op](small, node.attributes)
    return [f"{', '.join(names(o) for o in node.outputs)} = {text}"]


def _is_setting(graph: Graph, name: str) -> bool:
    """Whether a constant is a shape or the like, written where it is read."""
    held = graph.constants.get(name)
    return held is not None and held.dtype.kind == "i" and held.ndim <= 1


def _constants(graph: Graph, names: _Names) -> list[str]:
    return [
        f"{names(name)} = {_array(array)}\n"
        for name, array in graph.constants.items()
        if not _is_setting(graph, name)
    ]


def _array(array: Host) -> str:
    """An expression that makes the array."""
    array = np.asarray(array)
    kind = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
    if array.ndim == 0:
        return f"np.{array.dtype.name}({array.item()!r})"
    text = b85encode(array.astype(kind).tobytes()).decode()
    rows = "\n".join(f'    "{row}"' for row in _rows(text)) or '    ""'
    return f"_array({array.shape!r}, {kind.str!r},\n{rows}\n)"


def _rows(text: str) -> list[str]:
    return [text[i : i + 90] for i in range(0, len(text), 90)]


def _trial(x: Tensor) -> Any:
    """Two samples to check by."""
    chance = np.random.default_rng(0)
    if x.sample.dtype.kind == "i":
        return np.zeros((2, *x.shape), x.sample.dtype)
    return chance.uniform(0, 1, (2, *x.shape)).astype(x.sample.dtype)
