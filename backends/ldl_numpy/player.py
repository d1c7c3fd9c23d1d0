"""What goes through a program's calls, and what points their words to other arrays."""

# mypy: ignore-errors
# (LLVM, not Python, gives these functions their types.)

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from ldl_numpy.engine import function
from ldl_numpy.language import call, glue, memory
from ldl_numpy.pool import enter, leave, share

i8 = np.int64
HEADER = object.__basicsize__
"""Where in an array's object NumPy keeps the address of its memory."""


@glue
def play_calls(calls: [i8], pool: i8):
    """Call functions one after another.

    After the number of calls come for each the addresses of a function and of its words, and how
    many jobs it is.
    """
    if pool != 0:
        enter(pool)
    for i in range(calls[0]):
        function, words, jobs = calls[3 * i + 1], calls[3 * i + 2], calls[3 * i + 3]
        if jobs == 1:
            call(function, words, i8(0))
        else:
            share(pool, function, words, jobs)
    if pool != 0:
        leave(pool)


@glue
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
    return (
        function(play_calls, at, ctypes.c_int64),
        function(point_words, at, ctypes.py_object),
    )
