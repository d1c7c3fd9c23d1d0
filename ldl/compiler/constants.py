"""What is computed of constants alone, once: masks of places, the matrices of an interpolation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ldl.compiler.backend import Draw
from ldl.compiler.operations import Op, Ref, Value

MOST = 2**22
"""Elements of an array that is kept rather than computed at every step."""


def without_constants(ops: list[Op], constants: set[Value], kept: set[Value]) -> list[Op]:
    """The operations but for those on constants, whose outputs are now constants themselves."""
    writes = Counter(out.value for op in ops for out in op.outputs)
    known: dict[Value, Any] = {value: value.external for value in constants}
    done = []
    for op in ops:
        read = {x.value for x in op.inputs if isinstance(x, Ref)}
        out, *others = op.outputs
        value = out.value
        whole = writes[value] == 1 and not (others or out.path or op.partial_write)
        ours = whole and value.external is None and value not in kept and value.array.size <= MOST
        if isinstance(op.run, Draw) or not (ours and read and read <= known.keys()):
            done.append(op)
            continue
        given = [x.resolve(known[x.value]) if isinstance(x, Ref) else x for x in op.inputs]
        found = np.zeros(value.shape, value.dtype)
        op.run(*given, found)
        known[value] = value.external = found
    return done
