"""Contexts of their own: what holds inside a call, and leaves nothing behind however it ends.

ldl calculates with NumPy's floating-point errors ignored, whatever the program has set with
`np.seterr`: an underflow in a tail, or an infinity that a formula goes through, is no error of the
program's. So do layers, losses, noises and updates of one's own; metrics and callbacks of one's own
run as the program has set it. `fit` reports a loss or weights that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

_calm: ContextVar[bool] = ContextVar("ldl_calm", default=False)


def within(variable: ContextVar[Any], value: Any, function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`, with a context variable that has this value inside the call alone."""
    context = copy_context()
    context.run(variable.set, value)
    return context.run(function, *args)


def calm(function: Callable[P, T]) -> Callable[P, T]:
    """The function, in which floating-point errors are ignored."""

    @wraps(function)
    def calmed(*args: P.args, **kwargs: P.kwargs) -> T:
        if _calm.get():
            return function(*args, **kwargs)
        context = copy_context()
        context.run(_begin)
        return context.run(function, *args, **kwargs)

    return calmed


def _begin() -> None:
    _calm.set(True)
    np.seterr(all="ignore")
