"""What `fit` asks of its arguments before it begins, and what it remembers of them."""

from __future__ import annotations

import errno
import os
from typing import Any

from ldl.backend import Backend
from ldl.calls import call, text
from ldl.data.batching import Arrays, Stored, as_data
from ldl.data.splitting import split
from ldl.distributed.world import World
from ldl.nn.containers import check_distinct
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer
from ldl.train.callbacks import Callback, Run, with_state
from ldl.train.evaluation import check_kinds, shown

Given = Arrays | Stored
"""Data as `as_data` makes it of what a user gives."""


def check_arguments(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    resume: bool,
    checkpoint: str | os.PathLike[str] | None,
) -> None:
    """Raise TypeError, ValueError or OSError for what cannot be trained as it is asked."""
    check_parts(model, loss, optimizer)
    check_distinct(model)
    _check_types(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("every parameter is frozen, so nothing learns: model.requires_grad_()")
    if checkpoint is not None:
        _check_path(checkpoint)
    elif resume:
        raise ValueError("resume=True needs checkpoint=PATH, the file to resume from")


def check_parts(model: Any, loss: Any, optimizer: Any) -> None:
    """TypeError or ValueError for what a step cannot be made of."""
    check_kinds(model, loss)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            "optimizer must be an optimizer such as ldl.optim.Adam(model, lr=1e-3), "
            f"got {shown(optimizer)}"
        )
    own = {id(p) for p in model.parameters()}
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if own.isdisjoint(moved):
        kind = type(optimizer).__name__
        raise ValueError(
            "the optimizer moves none of the model's parameters, but another model's: "
            f"make it of this one, {kind}(model, ...)"
        )
    if loss.reduction == "none":
        raise ValueError("training needs a loss that is one number: another reduction than 'none'")


def divided(
    data: Any, sample_weight: Any, validation: Any, fraction: float | None, backend: Backend
) -> tuple[Given, Given | None]:
    """The data to train on, and those that are held out, given as such or split off."""
    given = as_data(data, sample_weight)
    if fraction is None:
        return given, None if validation is None else as_data(validation)
    if validation is not None:
        raise ValueError("validation and validation_split are given: leave one of them out")
    if not isinstance(given, Arrays):
        raise TypeError(
            "validation_split divides arrays, not batches that were made already: give (x, y), or "
            "other batches as validation"
        )
    return split(given, fraction, backend)


def settings(
    run: Run,
    data: Given,
    validation: Given | None,
    batch_size: int,
    callbacks: list[Callback],
    checked: bool,
) -> dict[str, Any]:
    """What two runs must have in common for one to go on where the other stopped.

    Arrays are compared by their checksums where they are to be `checked`, and of callbacks those
    that have a state.
    """
    model, loss = run.model, run.loss
    layers = [m for m in model.modules() if next(m.named_children(), None) is None]
    dtype = model.dtype if checked else None
    return {
        "type": str(model.dtype),
        "seed": run.seed,
        "batch_size": batch_size,
        "layers": ", ".join(call(type(layer), *layer._arguments) for layer in layers),
        "loss": call(type(loss), *loss._arguments),
        **_of_data(data, dtype, run.world),
        "validation": validation is not None,
        **_of_data(validation, dtype, run.world, " of validation"),
        "random streams": len(run.streams),
        "optimizer": type(run.optimizer).__name__,
        **changing(run),
        "callbacks": [call(type(c), *c._arguments) for c in with_state(callbacks)],
    }


def changing(run: Run) -> dict[str, Any]:
    """Those of the settings that callbacks may change in the course of a run."""
    frozen = [n for n, p in run.model.named_parameters() if not p.requires_grad]
    return {"frozen": frozen, **run.optimizer.settings()}


def _of_data(data: Given | None, dtype: Any, world: World, place: str = "") -> dict[str, Any]:
    known = data if isinstance(data, Arrays) else None
    count = None if known is None else len(known)
    if known is not None and known.is_shard:  # however many ranks have them
        count, dtype = sum(world.gather(len(known))), None
    return {
        f"samples{place}": count,
        f"shape of x{place}": None if known is None else list(known.x.shape[1:]),
        f"shape of y{place}": None if known is None else list(known.y.shape[1:]),
        f"data{place} (CRC-32)": None if known is None or not dtype else known.checksum(dtype),
        f"noise{place}": None if known is None or known.noise is None else text(known.noise),
    }


def _check_types(model: Module) -> None:
    types: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        types.setdefault(str(parameter.dtype), name)
    if len(types) > 1:
        (a, first), (b, second) = list(types.items())[:2]
        raise ValueError(
            f"the model's parameters are of several types, {first} is {a} and {second} is {b}: "
            f"make them one with model.to(dtype={a!r})"
        )
    if "float16" in types:
        raise ValueError(
            "fit does not train in float16, in which small updates are lost: train with "
            "model.to(dtype='float32') and move the model to float16 afterwards"
        )


def _check_path(path: str | os.PathLike[str]) -> None:
    name = os.fspath(path)
    if os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, "a checkpoint is a file, and this a folder", name)
    if not os.path.isdir(os.path.dirname(os.path.realpath(name))):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder for the checkpoint", name)
