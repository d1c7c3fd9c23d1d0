"""A model as boxes: layers under each other, branches side by side, what goes past them."""

from __future__ import annotations

import re
from typing import Any

from ldl.nn._summary import output_shapes
from ldl.nn.autoencoder import AutoEncoder
from ldl.nn.containers import Parallel, Residual, Sequential
from ldl.nn.module import Module
from ldl.plots.axes import AMBER, BLUE, SKY, Axes, new_figure, on_white
from ldl.plots.boxes import Beside, Box, Chain, Part, Past

TALLEST = 30.0
"""Inches beyond which a figure of its own is drawn smaller."""


def model_graph(
    model: Module, input_shape: tuple[int, ...] | None = None, ax: Axes | None = None
) -> Axes:
    """The layers as boxes, each with the shape of what it makes of a sample and its parameters.

    What a Residual adds goes past its body, the branches of a Parallel stand side by side, a nested
    Sequential and the halves of an AutoEncoder have a frame. A layer of one's own is one box, what
    is inside counted with it. `input_shape` is one sample's, by default as `summary` guesses it.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model_graph takes a model (ldl.nn.Module), got a {type(model).__name__}")
    start, shapes = output_shapes([*model.named_modules()], model.predict, model.dtype, input_shape)
    counted: set[int] = set()
    first = Box("input", "" if start is None else _shape(start), SKY)
    whole = Chain([first, *_parts(model, shapes, counted)])
    width, height = whole.width + 0.4, whole.height + 0.4
    if ax is None:
        scale = min(1.0, TALLEST / height)
        figure = new_figure(max(width * scale, 2.0), height * scale)
        ax = on_white(figure.add_axes((0, 0, 1, 1)))
    ax.set_xlim(-width / 2, width / 2)
    ax.set_ylim(-height + 0.2, 0.2)
    ax.set_aspect("equal")
    ax.set_axis_off()
    box = ax.get_window_extent()
    inch = min(box.width / width, box.height / height) / ax.figure.dpi
    whole.draw(ax, 0.0, 0.0, min(1.0, inch))
    return ax


def _parts(module: Module, shapes: dict[int, Any], counted: set[int]) -> list[Part]:
    """What a module that stands in a chain is drawn as."""
    if isinstance(module, Sequential):
        return [part for layer in module for part in _nested(layer, shapes, counted)]
    if isinstance(module, AutoEncoder):
        halves = (("encoder", module.encoder), ("decoder", module.decoder))
        return [Chain(_parts(half, shapes, counted), name) for name, half in halves]
    return _nested(module, shapes, counted)


def _nested(module: Module, shapes: dict[int, Any], counted: set[int]) -> list[Part]:
    if type(module) is Sequential:
        inside = _parts(module, shapes, counted)
        return [Chain(inside, "Sequential")] if inside else []
    if type(module) is Residual:
        return [Past(Chain(_parts(module.body, shapes, counted)))]
    if type(module) is Parallel:
        branches: list[Part] = [Chain(_parts(b, shapes, counted)) for b in module.branches]
        return [Beside(branches, module.merge)]
    if isinstance(module, AutoEncoder):
        return [Chain(_parts(module, shapes, counted), "AutoEncoder")]
    own = {id(p): p.size for p in module.parameters() if id(p) not in counted}
    counted.update(own)
    total = sum(own.values())
    said = [_shape(shapes[id(module)])] if id(module) in shapes else []
    said += [f"{total:,} parameter{'s' * (total != 1)}"] if total else []
    title = re.sub(r", \w*init='\w*'", "", repr(module))
    title = title if "\n" not in title and len(title) <= 40 else type(module).__name__
    return [Box(title, ", ".join(said), BLUE if total else AMBER)]


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(["N", *map(str, shape)])
