"""What the values of `ldl denoise`'s settings may be: functions from a text, and ValueErrors."""

from __future__ import annotations

import os
from math import isfinite

import ldl
from ldl.data.datasets import FILES, KNOWN, NAMES
from ldl.data.noise import parse_noise
from ldl.random import check_seed

LOSSES = ("bce", "mse")


def cut(text: str) -> str:
    """The text, no longer than a line takes."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def data(text: str) -> str:
    """The name of a data set, or the absolute path of a file."""
    if text in NAMES:
        return text
    if not text.lower().endswith(FILES):
        raise ValueError(f"no data set is named {cut(text)!r}; there are: {KNOWN}")
    return os.path.realpath(os.path.expanduser(text))


def backend(text: str) -> str:
    """The name of a backend, or auto."""
    known = ldl.backend_names()
    if text not in ("auto", *known):
        raise ValueError(f"no backend is named {cut(text)!r}; there are: auto, {', '.join(known)}")
    return text


def hidden(text: str) -> list[int]:
    """Widths of layers, separated by commas."""
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise ValueError(f"needs positive widths such as 256,64, got {cut(text)!r}")
    return widths


def noise(text: str) -> str:
    """A noise, in the words in which it writes itself."""
    return str(parse_noise(text))


def square(text: str) -> str:
    """What is to be painted in."""
    found = noise(text)
    if not found.startswith("square:"):
        raise ValueError(f"must look like square:8, got {text!r}")
    return found


def at_least_one(text: str) -> int:
    """A count of what there must be one of at least."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError(f"needs a whole number from 1 to 999999999, got {cut(text)!r}")
    return int(text)


def folder(text: str) -> str:
    """A path that can be a folder's."""
    if not text.strip() or "\0" in text:
        raise ValueError(f"needs a folder, got {text!r}")
    return text


def lr(text: str) -> float:
    """A learning rate, finite and positive."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ValueError(f"needs a positive number such as 0.001, got {cut(text)!r}")
    return value


def seed(text: str) -> int:
    """A seed of 64 bits."""
    try:
        return check_seed(int(text))
    except ValueError:
        raise ValueError(f"needs a whole number from 0 to 2**64 - 1, got {cut(text)!r}") from None
