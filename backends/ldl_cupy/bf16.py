"""Operands of large products stored as bfloat16, where products round them to that in any case.

With `set_matmul_precision("bf16")` the loop that computes an operand writes it in 16 bits too, and
in 32 no longer if only products read it: half the bytes, and tensor cores at their full rate. Sums,
losses and updates stay float32.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ldl.compiler.operations import Op, Ref, Value
from ldl_cupy.epilogues import Offers
from ldl_cupy.layout import ALIGNED

WORTH = 2**28
"""The multiplications of a product that pay for another write of its operands; not measured."""


def with_bf16(ops: list[Op], offers: Offers) -> list[Op]:
    """The operations, large products that are on offer being "matmul_bf16" of 16 bits.

    The operation "bf16" makes their operands, once for all that read them.
    """
    done: list[Op] = []
    narrow: dict[Value, Value] = {}
    for op in ops:
        if op.ufunc == "matmul" and _gains(op, offers):
            for x in op.inputs:
                if x.value not in narrow:
                    narrow[x.value] = Value(np.empty(x.value.shape, np.uint16))
                    done.append(Op(None, (Ref(x.value),), (Ref(narrow[x.value]),), ufunc="bf16"))
            operands = tuple(Ref(narrow[x.value], x.path) for x in op.inputs)
            done.append(Op(None, operands, op.outputs, ufunc="matmul_bf16"))
        else:
            done.append(op)
        for out in op.outputs:
            narrow.pop(out.value, None)
    return done


def _gains(op: Op, offers: Offers) -> bool:
    refs: tuple[Any, ...] = (*op.inputs, *op.outputs)
    if not all(isinstance(x, Ref) and x.value.dtype == np.float32 for x in refs):
        return False
    a, b, out = (x.resolve(x.value.array) for x in refs)
    if min(a.ndim, b.ndim) < 2 or prod(out.shape) * a.shape[-1] < WORTH:
        return False
    narrow = [np.empty(x.value.shape, np.uint16) for x in refs[:2]]
    left, right = (x.resolve(half) for x, half in zip(refs, narrow, strict=False))
    aligned = all(
        (view.ctypes.data - whole.ctypes.data) % ALIGNED == 0
        for view, whole in zip((left, right), narrow, strict=True)
    )
    contiguous = all(
        x.value.external is None or x.value.external.flags.c_contiguous for x in refs[:2]
    )
    return aligned and contiguous and offers(None, left, right, out)
