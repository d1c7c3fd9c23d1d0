"""Checkpoints: everything from which a run continues as if it had not stopped."""

from __future__ import annotations

import os
from math import isfinite
from typing import Any

from ldl.io import CheckpointError, read_tensors, write_tensors
from ldl.train.callbacks import Callback, Run

Path = str | os.PathLike[str]

VERSION = 2
"""Of the header: 2 has the run's settings, without which 1 is not resumed."""


def save_checkpoint(path: Path, run: Run, callbacks: list[Callback]) -> None:
    """Write weights, optimizer, streams, history and callbacks to a file, whole or not at all."""
    callbacks = _with_state(callbacks)
    optimizer = run.optimizer.state_dict()
    tensors = {f"model.{name}": a for name, a in run.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": a for name, a in optimizer.pop("slots").items()}
    for i, callback in enumerate(callbacks):
        tensors |= {f"callback{i}.{name}": a for name, a in callback.arrays().items()}
    header = {
        "format": "ldl-checkpoint",
        "version": VERSION,
        "before": run.before,
        "epoch": run.epoch,
        "stop": run.stop,
        "settings": run.settings,
        "draws": [stream.draw for stream in run.streams],
        "history": [list(row.items()) for row in run.history.rows],
        "optimizer": optimizer,
        "callbacks": [[type(c).__name__, c.state_dict()] for c in callbacks],
    }
    backend = run.model.backend
    arrays = {name: backend.to_numpy(a) for name, a in tensors.items()}
    write_tensors(path, arrays, _finite(header))


def load_checkpoint(path: Path, run: Run, callbacks: list[Callback]) -> list[int]:
    """Bring a run to where the file's stood; returns how far its streams had been drawn from.

    Raises CheckpointError, before anything is changed, where the file is damaged or is that of a
    run with other settings, another model or other callbacks.
    """
    callbacks = _with_state(callbacks)
    tensors, header = read_tensors(path)
    header = _as_it_was(header)
    if header.get("format") != "ldl-checkpoint":
        raise CheckpointError(f"{os.fspath(path)} is not a checkpoint of ldl.fit")
    if header.get("version") != VERSION:
        raise CheckpointError(
            f"{os.fspath(path)} is a checkpoint of version {str(header.get('version'))[:80]}, and "
            f"this ldl reads version {VERSION}: train anew, or with the ldl that wrote it"
        )
    own = {**run.settings, "callbacks": [type(c).__name__ for c in callbacks]}
    saved = {**header["settings"], "callbacks": [name for name, _ in header["callbacks"]]}
    differing = [
        f"{k} {saved[k]!r} in the file, {own[k]!r} here"
        for k in own
        if k in saved and saved[k] != own[k]
    ]
    if differing:
        raise CheckpointError(
            f"{os.fspath(path)} is of another run ({'; '.join(differing)}): resume with the same "
            "settings, or give another path"
        )
    try:
        before = {name: a.copy() for name, a in run.model.state_dict().items()}
        run.model.load_state_dict(_part(tensors, "model."))
        try:
            run.optimizer.load_state_dict(
                {**header["optimizer"], "slots": _part(tensors, "optimizer.")}
            )
        except ValueError:
            run.model.load_state_dict(before)
            raise
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(path)} is of another run: {error}") from error
    for i, (callback, (_, state)) in enumerate(zip(callbacks, header["callbacks"], strict=True)):
        arrays = _part(tensors, f"callback{i}.")
        backend = run.model.backend
        callback.load_state(state, {name: backend.asarray(a) for name, a in arrays.items()})
    run.history.rows[:] = [dict(row) for row in header["history"]]
    run.before, run.epoch, run.stop = header["before"], header["epoch"], header["stop"]
    return list(header["draws"])


def _with_state(callbacks: list[Callback]) -> list[Callback]:
    """Those that a resumed run cannot do without."""
    return [callback for callback in callbacks if callback.state_dict() or callback.arrays()]


def _finite(value: Any) -> Any:
    """The same with {"float": "nan"} and its like for numbers that JSON has no way to say."""
    if isinstance(value, float) and not isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _as_it_was(value: Any) -> Any:
    """What `_finite` was given."""
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            return float(value["float"])
        return {key: _as_it_was(item) for key, item in value.items()}
    return [_as_it_was(item) for item in value] if isinstance(value, list) else value


def _part(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): a for k, a in tensors.items() if k.startswith(prefix)}
