"""What goes through a program's calls, and what points their words to other arrays."""

# mypy: ignore-errors
# (LLVM, not Python, gives these functions their types.)

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from ldl_numpy.engine import function
from ldl_numpy.language import call, memory

i8 = np.int64
HEADER = object.__basicsize__
"""Where in an array's object NumPy keeps the address of its memory."""


def play_calls(calls: [i8]):
    """Call functions one after another; after their number come pairs of addresses, of a function
    and of its arguments.
    """
    for i in range(calls[0]):
        call(calls[2 * i + 1], calls[2 * i + 2])


def point_words(spots: [i8], array: i8):
    """Write where an array, and offsets into it, begin to places among words.

    After the words' address come how many there are, and pairs of a place and an offset.
    """
    at = memory(i8, array + HEADER)[0]
    words = memory(i8, spots[0])
    for i in range(spots[1]):
        words[spots[2 * i + 2]] = at + spots[2 * i + 3]


@cache
def players():
    """`play_calls` and `point_words`, compiled."""
    at = ctypes.c_void_p
    return function(play_calls, at), function(point_words, at, ctypes.py_object)
