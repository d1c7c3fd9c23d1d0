"""Files that commands read and write: what is said where that cannot be."""

from __future__ import annotations

import os

import ldl
from ldl.cli.errors import CommandError, UsageError
from ldl.io import check_writable


def loaded(path: str) -> ldl.nn.Module:
    """A saved model; CommandError for a file that is none."""
    try:
        return ldl.load(path)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from error


def autoencoder(path: str, command: str) -> ldl.nn.AutoEncoder:
    """A saved autoencoder; CommandError for another model."""
    model = loaded(path)
    if not isinstance(model, ldl.nn.AutoEncoder):
        kind = type(model).__name__
        raise CommandError(f"{path} holds a {kind}, and {command} takes an AutoEncoder")
    return model


def check_out(out: str, *ends: str, option: str = "--out", **other: str) -> None:
    """CommandError for a name that cannot be written, before anything is computed."""
    if not out.lower().endswith(ends):
        raise UsageError(f"{option} must end in {' or '.join(ends)}, got {out!r}")
    try:
        for what, path in other.items():
            if os.path.realpath(out) == os.path.realpath(path):
                raise UsageError(f"{option} {out} is the {what}: give another name")
        check_writable(out)
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{out!r} is no name of a file: {error}") from error
