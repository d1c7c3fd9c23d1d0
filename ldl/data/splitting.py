"""Splitting samples into those that are learned and those that are held out."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from ldl import random
from ldl.arrays import is_array
from ldl.backend import Backend
from ldl.data.batching import Arrays
from ldl.data.streaming import picked
from ldl.numbers import number

Rows = np.ndarray[Any, np.dtype[np.int64]]


def split(data: Arrays, fraction: float, backend: Backend) -> tuple[Arrays, Arrays]:
    """The samples to learn and those to hold out, each in the order in which they stood.

    Which are held out depends on nothing but how many samples there are, so that it is the same in
    every run and for every seed, whatever the samples' order; whatever is held of a sample goes
    along, and noise is noise of both parts. ValueError where a part would be empty.
    """
    fraction = number("validation_split", fraction, high=1.0, open_low=True)
    count = len(data)
    held = round(count * fraction)
    if not 0 < held < count:
        raise ValueError(
            f"validation_split={fraction:g} of {count} samples holds out {held}: each part needs "
            "one at least"
        )
    order = random.permutation(count, random.Stream(0, random.SPLIT).next())
    learned, others = (np.sort(order[held:]), np.sort(order[:held]))
    return _part(data, learned, backend), _part(data, others, backend)


def _part(data: Arrays, rows: Rows, backend: Backend) -> Arrays:
    """Some of the samples; arrays that are one stay one."""
    part, taken = copy(data), {}
    for name, array in vars(data).items():
        if is_array(array):
            if id(array) not in taken:
                taken[id(array)] = picked(array, rows, backend)
            setattr(part, name, taken[id(array)])
    return part
