"""Work on the edge of a matrix product that cuBLASLt does in the product's own kernel.

db = Σ_rows G comes with dW = Xᵀ G, which reads G anyway, and with Z = X W a bias that no loop could
add. ReLU does not: cuBLASLt's makes zeros of NaN, and a model full of NaN would look sound
(forums.developer.nvidia.com/t/329783).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ldl.compiler.loops import KNOWN
from ldl.compiler.operations import Op, Ref, Value

Offers = Callable[[str | None, Any, Any, Any], bool]
"""Whether there is a kernel for an epilogue, or for none, with arrays like a, b and a @ b."""

TRANSPOSED = (("transpose", ()),)


def with_epilogues(ops: list[Op], kept: set[Value], offers: Offers) -> list[Op]:
    """The operations, those that an epilogue does with their product; `kept` are read in the end.

    Products are then named "matmul_bias", which takes (a, b, bias), and "matmul_sums_a" or
    "matmul_sums_b", which give (a @ b, sums): those of a's rows, or of b's columns.
    """
    return _with_biases(_with_sums(ops, offers), kept, offers)


def _with_sums(ops: list[Op], offers: Offers) -> list[Op]:
    done = list(ops)
    for op in ops:
        if op.ufunc != "sum" or op.axis != (0,) or op.keepdims:
            continue
        (g,), (sums,) = op.inputs, op.outputs
        place = done.index(op)
        for at, product in enumerate(done[place + 1 :], place + 1):
            which = _reads_along(product, g)
            in_the_way = _touches(product, g.value, sums.value)
            if which and not in_the_way and offers(f"sums_{which}", *_like(product)):
                outputs = (*product.outputs, sums)
                done[at] = replace(product, outputs=outputs, ufunc=f"matmul_sums_{which}")
                del done[place]
                break
            if in_the_way:
                break
    return done


def _reads_along(op: Op, g: Ref) -> str:
    """Which operand of a product is G, summed over its rows: "a", "b" or none."""
    if op.ufunc != "matmul" or g.path or len(g.value.shape) != 2:
        return ""
    if op.inputs[1] == g:
        return "b"
    return "a" if op.inputs[0] == Ref(g.value, TRANSPOSED) else ""


def _touches(op: Op, read: Value, written: Value) -> bool:
    """Whether the operation changes the one, or reads or changes the other."""
    return any(out.value in (read, written) for out in op.outputs) or any(
        isinstance(x, Ref) and x.value is written for x in op.inputs
    )


def _with_biases(ops: list[Op], kept: set[Value], offers: Offers) -> list[Op]:
    done: list[Op] = []
    for i, op in enumerate(ops):
        product = done[-1] if done else None
        if (
            product is not None
            and _adds_bias(op, product)
            and _stands_alone(op, product.outputs[0].value, ops[i + 1 :], kept)
            and offers("bias", *_like(product))
        ):
            inputs = (*product.inputs, op.inputs[1])
            done[-1] = Op(product.run, inputs, op.outputs, ufunc="matmul_bias")
        else:
            done.append(op)
    return done


def _adds_bias(op: Op, product: Op) -> bool:
    """Whether it adds a vector to each row of the product, and not into one of its operands."""
    if op.ufunc != "add" or product.ufunc != "matmul" or op.inputs[0] != product.outputs[0]:
        return False
    (z, bias), (out,) = op.inputs, op.outputs
    if not isinstance(bias, Ref) or z.path or bias.path or out.path:
        return False
    fits = len(z.value.shape) == 2 and bias.value.shape == z.value.shape[1:]
    same = out.value.shape == z.value.shape and out.value.dtype == z.value.dtype
    operands = {x.value for x in product.inputs if isinstance(x, Ref)}
    return fits and same and bias.value.dtype == z.value.dtype and out.value not in operands


def _stands_alone(op: Op, z: Value, later: list[Op], kept: set[Value]) -> bool:
    """Whether Z itself is not read, and no loop reads Z + b, which would add b for nothing."""
    out = op.outputs[0].value
    readers = [x for x in later if any(isinstance(r, Ref) and r.value is out for r in x.inputs)]
    alone = out is z or not (
        z in kept
        or any(isinstance(r, Ref) and r.value is z for x in later for r in (*x.inputs, *x.outputs))
    )
    return alone and not any(x.ufunc in KNOWN for x in readers)


def _like(product: Op) -> list[Any]:
    """Arrays such as those of the product, which hold nothing."""
    return [ref.resolve(ref.value.array) for ref in (*product.inputs, *product.outputs)]
