"""Checkpoints: everything from which a run continues as if it had not stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import isfinite
from typing import Any

from ldl.calls import text
from ldl.io import CheckpointError, read_tensors, write_tensors
from ldl.io.files import one_line
from ldl.io.table import from_integers, from_tensors, integers, to_tensors
from ldl.io.values import decode, encode, from_text, to_text
from ldl.nn.module import Module
from ldl.numbers import optional_positive, short
from ldl.optim.loading import as_before_on_error, is_count
from ldl.train.arguments import changing
from ldl.train.callbacks import Callback, Run, with_state
from ldl.train.start import Start

Path = str | os.PathLike[str]
Tensors = dict[str, Any]

FORMAT, VERSION = "ldl-checkpoint", 3
"""Of the header: 3 has lists in tensors, and the epochs of earlier fits."""

CLIPPING = ("clip_norm", "clip_value")


def save_checkpoint(path: Path, run: Run, callbacks: list[Callback]) -> None:
    """Write weights, optimizer, streams, history and callbacks to a file, whole or not at all.

    Whatever may be long is a tensor: the header takes little, however long the run. TypeError for a
    figure or a callback's state that a file cannot hold, naming it.
    """
    callbacks = with_state(callbacks)
    optimizer = run.optimizer.state_dict()
    rows, history = to_tensors(run.history.rows)
    arrays = {f"model.{name}": a for name, a in run.model.state_dict().items()}
    arrays |= {f"optimizer.{name}": a for name, a in optimizer.pop("slots").items()}
    for i, callback in enumerate(callbacks):
        given = _said(callback, "arrays", callback.arrays())
        arrays |= {f"callback{i}.{name}": a for name, a in given.items()}
    tensors = {name: run.model.backend.to_numpy(a) for name, a in arrays.items()}
    tensors |= {f"history.{name}": a for name, a in rows.items()}
    tensors["epochs"] = integers([run.before, run.epoch])
    tensors["settings"] = to_text(_sayable(run.settings), "a setting")
    tensors["now"] = to_text(_sayable(changing(run)), "a setting")
    tensors["learn"] = integers([int(p.requires_grad) for p in run.model.parameters()])
    tensors["draws"] = integers([stream.draw for stream in run.streams])
    clipping = {name: getattr(run.optimizer, name) for name in CLIPPING}
    tensors["clipping"] = to_text(clipping, f"the clipping of {run.optimizer!r}")
    tensors["steps"] = integers(optimizer.pop("param_steps"))
    tensors["optimizer"] = to_text(optimizer, f"the state of {run.optimizer!r}")
    for i, callback in enumerate(callbacks):
        tensors[f"callback{i}"] = to_text(
            _said(callback, "state_dict", callback.state_dict()), f"the state of {callback!r}"
        )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "before": run.before,
        "epoch": run.epoch,
        "stop": bool(run.stop),
        "history": history,
    }
    write_tensors(path, tensors, header)


def _said(callback: Callback, method: str, found: Any) -> dict[str, Any]:
    """What a callback's method returned; TypeError unless it can be loaded again."""
    if not isinstance(found, dict) or (
        method == "arrays" and not all(isinstance(name, str) for name in found)
    ):
        raise TypeError(
            f"{type(callback).__name__}.{method} must return a dict by names, got {short(found)}"
        )
    return found


def load_checkpoint(path: Path, run: Run, callbacks: list[Callback]) -> list[int]:
    """Bring a run to where the file's stood; returns how far its streams had been drawn from.

    Raises CheckpointError, and everything is as it was, where the file is damaged or is that of a
    run with other settings, another model or other callbacks.
    """
    name, callbacks = os.fspath(path), with_state(callbacks)
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{name} is not a checkpoint of ldl.fit")
    version = header.get("version")
    if version != VERSION:
        raise CheckpointError(
            f"{name} is a checkpoint of version {short(version)[:80]}, and this ldl reads version "
            f"{VERSION}: train anew, or with the ldl that wrote it"
        )
    try:
        saved = _state(tensors, "settings")
        differing = _differing(saved, _state(tensors, "now"), _sayable(run.settings))
        if not differing:
            run.settings = saved
            return _load(tensors, header, run, callbacks)
    except MemoryError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{name} is of another run, or damaged: {one_line(error)}; give another path, or "
            "restore it from a copy"
        ) from error
    raise CheckpointError(
        f"{name} is of another run ({'; '.join(differing)}): resume with the same settings, or "
        "give another path"
    )


def _load(
    tensors: Tensors, header: dict[str, Any], run: Run, callbacks: list[Callback]
) -> list[int]:
    """Check all that can be, take over what loads itself, or nothing, and then the rest."""
    before, epoch, stop = _counts(header)
    draws = from_integers(tensors, "draws", len(run.streams))
    rows = from_tensors(_part(tensors, "history."), header.get("history"))
    learn = from_integers(tensors, "learn", len(list(run.model.parameters())))
    if max(learn, default=0) > 1:
        raise ValueError("its tensor 'learn' says neither that a parameter learns nor that not")
    found = _state(tensors, "clipping")
    clipping = {name: optional_positive(name, found[name]) for name in CLIPPING}
    if from_integers(tensors, "epochs", 2) != [before, epoch]:
        raise ValueError("its header and its tensors name different epochs")
    weights, optimizer = _part(tensors, "model."), _optimizer(tensors, run)
    _check_types(run.model, weights)
    states = [_state(tensors, f"callback{i}") for i in range(len(callbacks))]
    start = Start(run)
    start.take()
    with as_before_on_error(callbacks):
        try:
            run.model.load_state_dict(weights)
            run.optimizer.load_state_dict(optimizer)
            for i, (callback, state) in enumerate(zip(callbacks, states, strict=True)):
                _load_callback(callback, state, _part(tensors, f"callback{i}."), run.model, epoch)
        except BaseException:
            start.put_back()
            raise
    for parameter, flag in zip(run.model.parameters(), learn, strict=True):
        parameter.requires_grad = bool(flag)
    for name, value in clipping.items():
        setattr(run.optimizer, name, value)
    run.history.rows[:] = rows
    run.before, run.epoch, run.stop = before, epoch, stop
    return draws


def _counts(header: dict[str, Any]) -> tuple[int, int, bool]:
    """The epochs of earlier fits, those of this one, and whether it was to stop."""
    for key in ("before", "epoch"):
        if not is_count(header.get(key)) or header[key] >= 2**62:
            raise ValueError(f"its header has no number of epochs {key!r}")
    if header["epoch"] < 1 or not isinstance(header.get("stop"), bool):
        raise ValueError("its header says neither how many epochs there were nor whether to stop")
    return header["before"], header["epoch"], header["stop"]


def _optimizer(tensors: Tensors, run: Run) -> dict[str, Any]:
    """What the optimizer's `state_dict` gave; slots of the parameters' types, all finite."""
    groups, slots = run.optimizer.param_groups, _part(tensors, "optimizer.")
    types = {str(parameter.dtype) for group in groups for parameter in group["params"]}
    for name, slot in slots.items():
        if slot.dtype.name not in types:
            raise ValueError(f"{name} is {slot.dtype} and not {' or '.join(types)}")
        if not isfinite(float(abs(slot).max(initial=0))):
            raise ValueError(f"{name} is not finite")
    number = sum(len(group["params"]) for group in groups)
    steps = from_integers(tensors, "steps", number)
    return {**_state(tensors, "optimizer"), "slots": slots, "param_steps": steps}


def _state(tensors: Tensors, name: str) -> dict[str, Any]:
    if name not in tensors:
        raise ValueError(f"its tensor {name!r} is missing")
    state = from_text(tensors[name])
    if not isinstance(state, dict):
        raise ValueError(f"its tensor {name!r} says no dict")
    return state


def _check_types(model: Module, weights: Tensors) -> None:
    for name, parameter in model.named_parameters():
        if name in weights and weights[name].dtype.name != str(parameter.dtype):
            raise ValueError(f"{name} is {weights[name].dtype} and not {parameter.dtype}")


def _load_callback(
    callback: Callback, state: dict[str, Any], arrays: Tensors, model: Module, epoch: int
) -> None:
    backend = model.backend
    try:
        callback.load_state(state, {n: backend.asarray(a.copy()) for n, a in arrays.items()})
        callback.check_loaded(model, epoch)
    except Exception as error:
        raise ValueError(
            f"{type(callback).__name__} does not take its state: {type(error).__name__}: {error}"
        ) from error


def _sayable(settings: dict[str, Any]) -> dict[str, Any]:
    """What is compared; what JSON cannot say is said as a text."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        try:
            found[key] = decode(encode(value, key))
        except TypeError:
            found[key] = text(value)
    return found


def _differing(saved: dict[str, Any], now: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Settings that are neither those of the run's beginning nor those that it had come to."""
    differing = [
        "{} {} in the file, {} here".format(key, *_apart(repr(saved[key]), repr(own[key])))
        for key in own
        if key in saved and own[key] not in (saved[key], now.get(key, saved[key]))
    ]
    if not differing and saved.keys() != own.keys():
        names = ", ".join(sorted(saved.keys() ^ own.keys()))
        raise ValueError(
            f"its settings and those of this run have not all names in common: {names}"
        )
    return differing


def _apart(a: str, b: str) -> Iterator[str]:
    """Two texts, of long ones what stands where they begin to differ."""
    pairs = enumerate(zip(a, b, strict=False))
    start = max(next((i for i, (x, y) in pairs if x != y), 0) - 60, 0)
    for said in (a, b):
        yield said if len(said) <= 300 else f"{'…' * (start > 0)}{said[start : start + 240]}…"


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): a for k, a in tensors.items() if k.startswith(prefix)}
