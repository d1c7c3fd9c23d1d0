"""Which of a state's tensors are a layer's: by its path or, where paths differ, by its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ldl.io.torch.layers import Part

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def joined(path: str, name: str) -> str:
    """A name below a path."""
    return f"{path}.{name}" if path and name else path or name


def roots(parts: Sequence[Part], shapes: Shapes, names: Mapping[str, str] | None) -> list[str]:
    """Where the state has each of the parts.

    At the part's own path, in which `names` replaces beginnings; below what all of the state's
    names begin with; or else at the same place in the state's order, where every shape fits.
    ValueError where names are sorted, so that their order says nothing, and shapes do not tell
    which is which.
    """
    own = [_renamed(part.path, names or {}) for part in parts]
    for prefix in _prefixes(shapes):
        found = [joined(prefix, path) for path in own]
        if all(_has(root, part, shapes) for root, part in zip(found, parts, strict=True)):
            return found
    ordered = None if names else _by_place(parts, shapes)
    return own if ordered is None else ordered


def _renamed(path: str, names: Mapping[str, str]) -> str:
    """The path with its longest beginning in `names` replaced."""
    for own in sorted(names, key=len, reverse=True):
        if not own or path == own or path.startswith(f"{own}."):
            return joined(names[own], path[len(own) :].removeprefix("."))
    return path


def _prefixes(shapes: Shapes) -> Iterator[str]:
    """Nothing, and what all names begin with, as "module" that DataParallel puts before them."""
    yield ""
    paths = [name.split(".")[:-1] for name in shapes]
    for n in range(1, min(map(len, paths), default=0) + 1):
        if len({tuple(path[:n]) for path in paths}) > 1:
            return
        yield ".".join(paths[0][:n])


def _has(root: str, part: Part, shapes: Shapes) -> bool:
    return all(joined(root, name) in shapes for name in part.tensors if name not in part.optional)


def _units(shapes: Shapes) -> dict[str, dict[str, Shape]]:
    """The state's tensors by the layer that they belong to, layers in the order of the first."""
    blocks = [
        name.removesuffix("self_attn.in_proj_weight").removesuffix(".")
        for name in shapes
        if name.endswith("self_attn.in_proj_weight")
    ]
    blocks = [root for root in blocks if joined(root, "linear1.weight") in shapes]
    attentions = [
        name.removesuffix("in_proj_weight").removesuffix(".")
        for name in shapes
        if name.endswith("in_proj_weight")
    ]
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        whole = [r for r in (*blocks, *attentions) if not r or name.startswith(f"{r}.")]
        root = whole[0] if whole else name.rpartition(".")[0]
        below = name.removeprefix(root).removeprefix(".")
        found.setdefault(root, {})[below] = shape
    return found


def _by_place(parts: Sequence[Part], shapes: Shapes) -> list[str] | None:
    """The layers' places by the order of the state; None where they do not fit one by one."""
    units = _units(shapes)
    if len(units) != len(parts):
        return None
    if list(shapes) == sorted(shapes):
        return _by_shape(parts, units)
    for part, unit in zip(parts, units.values(), strict=True):
        if not _fits(part, unit):
            return None
    return list(units)


def _fits(part: Part, unit: Mapping[str, Shape]) -> bool:
    own = {name: tensor.shape for name, tensor in part.tensors.items()}
    return all(own.get(name) == shape for name, shape in unit.items()) and all(
        name in unit for name in own if name not in part.optional
    )


def _by_shape(parts: Sequence[Part], units: dict[str, dict[str, Shape]]) -> list[str] | None:
    """The one way in which all shapes fit; those of the same shapes by the number in their names.

    Sorted names, as a file has them, say nothing about order: "decoder" stands before "encoder".
    """
    choices = [[root for root, unit in units.items() if _fits(part, unit)] for part in parts]
    found: list[str] = []
    for part, choice in zip(parts, choices, strict=True):
        alike = [p for p, other in zip(parts, choices, strict=True) if other == choice]
        if len(alike) != len(choice):
            return None
        if len(choice) > 1 and len({re.sub(r"\d+", "", root) for root in choice}) > 1:
            shown = ", ".join(choice[:4])
            raise ValueError(
                f"the state's names are sorted, and which of {shown} is {part.path!r} cannot be "
                f"told: say names={{{part.path!r}: ...}} for each layer, or give model.state_dict()"
            )
        place = [id(p) for p in alike].index(id(part))
        found.append(sorted(choice, key=_numbers)[place])
    return found


def _numbers(root: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", root)]


def faults(
    parts: Sequence[Part], found: Sequence[str], shapes: Shapes
) -> tuple[list[str], list[str], list[str]]:
    """The tensors that are missing, those that no layer takes, and what differs in shape."""
    missing, wrong = [], []
    taken: set[str] = set()
    for part, root in zip(parts, found, strict=True):
        for name, tensor in part.tensors.items():
            full = joined(root, name)
            if full not in shapes:
                missing += [] if name in part.optional else [full]
                continue
            taken.add(full)
            if shapes[full] != tensor.shape:
                wrong.append(
                    f"{full} has shape {shapes[full]} where {_layer(part)} takes {tensor.shape}"
                )
    return missing, [name for name in shapes if name not in taken], wrong


def _layer(part: Part) -> str:
    text = repr(part.layer)
    called = text if len(text) < 60 and "\n" not in text else type(part.layer).__name__
    return f"layer {part.path!r}, {called}," if part.path else called


def several(texts: Sequence[Any]) -> str:
    """At most five of them, and how many more there are."""
    more = [f"and {len(texts) - 5} more"] if len(texts) > 5 else []
    return ", ".join([*map(str, texts[:5]), *more])
