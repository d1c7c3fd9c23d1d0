"""The table that `Module.summary` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ldl.backend import Array
from ldl.nn.differentiable import Differentiable, members
from ldl.nn.parameter import Parameter
from ldl.numbers import positive_integer, pythonic

Named = Sequence[tuple[str, Differentiable]]
"""A model, whose name is empty, and the modules inside it, outermost first."""

Predict = Callable[[Array], Array]


def summarize(
    modules: Named, predict: Predict, dtype: Any, input_shape: tuple[int, ...] | None
) -> str:
    """A row for each leaf: name, layer, output shape, parameters; then totals.

    Shapes are those of one sample, found by predicting for one sample of zeros. `input_shape` is
    that sample's shape; where it is None it is guessed of the first Linear, and where the model
    does not take such a sample the shapes are left out.
    """
    backend = modules[0][1].backend
    shapes = output_shapes(modules, predict, dtype, input_shape)[1]
    rows = [("name", "layer", "output", "parameters")]
    parameters: dict[int, Parameter] = {}
    for name, module in modules:
        own = {id(p): p for _, p in members(module, Parameter) if id(p) not in parameters}
        parameters |= own
        inside = any(x != name and x.startswith(f"{name}." if name else "") for x, _ in modules)
        if inside and not own:
            continue
        layer = type(module).__name__ if inside else repr(module)
        shape = shapes.get(id(module))
        output = "" if shape is None else "N × " + " × ".join(map(str, shape))
        count = sum(p.size for p in own.values())
        rows.append((name or "(model)", layer, output, f"{count:,}"))
    total = sum(p.size for p in parameters.values())
    frozen = sum(p.size for p in parameters.values() if not p.requires_grad)
    size = sum(p.size * p.dtype.itemsize for p in parameters.values())
    columns = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{a:<{columns[0]}}  {b:<{columns[1]}}  {c:<{columns[2]}}  {d:>{columns[3]}}".rstrip()
        for a, b, c, d in rows
    ]
    rule = "─" * max(map(len, lines))
    tail = f"{total:,} parameters ({size / 2**20:.2f} MiB, {dtype}, {backend.name})"
    if frozen:
        tail += f", {frozen:,} of them frozen"
    return "\n".join([lines[0], rule, *lines[1:], rule, tail])


def output_shapes(
    modules: Named, predict: Predict, dtype: Any, input_shape: tuple[int, ...] | None
) -> tuple[tuple[int, ...] | None, dict[int, tuple[int, ...]]]:
    """The shape of one sample, and of what each module, by its id, makes of it."""
    backend = modules[0][1].backend

    def find(shape: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
        sample = backend.xp.zeros((1, *shape), dtype=dtype)
        return _watched([m for _, m in modules], predict, sample)

    if input_shape is not None:
        sizes = pythonic(input_shape)
        sizes = sizes if isinstance(sizes, (list, tuple)) else [sizes]
        given = tuple(positive_integer("every number of input_shape", n) for n in sizes)
        return given, find(given)
    widths = (getattr(module, "in_features", None) for _, module in modules)
    width = next((width for width in widths if width is not None), None)
    if width is not None:
        with suppress(Exception):
            return (width,), find((width,))
    return None, {}


def _watched(
    modules: list[Differentiable], predict: Predict, sample: Array
) -> dict[int, tuple[int, ...]]:
    """What every module made of one sample, found by watching one forward pass in eval mode."""
    shapes: dict[int, tuple[int, ...]] = {}

    def watch(module: Any) -> Any:
        forward = module.forward

        def watched(x: Any) -> Any:
            y = forward(x)
            shapes[id(module)] = tuple(y.shape[1:])
            return y

        return watched

    for module in modules:
        module.__dict__["forward"] = watch(module)
    try:
        predict(sample)
    finally:
        for module in modules:
            vars(module).pop("forward", None)
    return shapes
