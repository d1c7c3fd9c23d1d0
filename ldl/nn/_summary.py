"""The table that `Module.summary` returns."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ldl.numbers import positive_integer, pythonic

if TYPE_CHECKING:
    from ldl.nn.module import Module


def summarize(model: Module, input_shape: tuple[int, ...] | None) -> str:
    """A row for each leaf: name, layer, output shape, parameters; then totals.

    Shapes are those of one sample, found by running a batch of one sample of zeros. `input_shape`
    is that sample's shape; where it is None it is guessed of the first Linear, and where the model
    does not take such a sample the shapes are left out.
    """
    shapes: dict[int, tuple[int, ...]] = {}
    if input_shape is not None:
        sizes = pythonic(input_shape)
        sizes = sizes if isinstance(sizes, (list, tuple)) else [sizes]
        sample = tuple(positive_integer("every number of input_shape", n) for n in sizes)
        shapes = _output_shapes(model, sample)
    else:
        widths = (getattr(m, "in_features", None) for m in model.modules())
        width = next((width for width in widths if width is not None), None)
        if width is not None:
            with suppress(Exception):
                shapes = _output_shapes(model, (width,))
    rows = [("name", "layer", "output", "parameters")]
    seen: set[int] = set()
    for name, module in model.named_modules():
        children = list(module.named_children())
        own = [p for p in _own_parameters(module) if id(p) not in seen]
        seen.update(id(p) for p in own)
        if children and not own:
            continue
        layer = type(module).__name__ if children else repr(module)
        shape = shapes.get(id(module))
        output = "" if shape is None else "N × " + " × ".join(map(str, shape))
        rows.append((name or "(model)", layer, output, f"{sum(p.size for p in own):,}"))
    parameters = list(model.parameters())
    total = sum(p.size for p in parameters)
    frozen = sum(p.size for p in parameters if not p.requires_grad)
    size = sum(p.size * p.data.dtype.itemsize for p in parameters)
    columns = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{a:<{columns[0]}}  {b:<{columns[1]}}  {c:<{columns[2]}}  {d:>{columns[3]}}".rstrip()
        for a, b, c, d in rows
    ]
    rule = "─" * max(map(len, lines))
    tail = f"{total:,} parameters ({size / 2**20:.2f} MiB, {model.dtype}, {model.backend.name})"
    if frozen:
        tail += f", {frozen:,} of them frozen"
    return "\n".join([lines[0], rule, *lines[1:], rule, tail])


def _own_parameters(module: Module) -> list[Any]:
    inside = {id(p) for _, child in module.named_children() for p in child.parameters()}
    return [p for p in module.parameters() if id(p) not in inside]


def _output_shapes(model: Module, input_shape: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """What every module made of one sample, found by watching one forward pass in eval mode."""
    shapes: dict[int, tuple[int, ...]] = {}

    def watch(module: Module) -> Any:
        forward = module.forward

        def watched(x: Any) -> Any:
            y = forward(x)
            shapes[id(module)] = tuple(y.shape[1:])
            return y

        return watched

    modules = list(model.modules())
    for module in modules:
        module.__dict__["forward"] = watch(module)
    try:
        model.predict(model.backend.xp.zeros((1, *input_shape), dtype=model.dtype))
    finally:
        for module in modules:
            del module.__dict__["forward"]
    return shapes
