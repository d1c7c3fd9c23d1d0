"""LLVM's instructions for Python's operators, and its words for types and numbers."""

from __future__ import annotations

import ast
import operator
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

TYPES = {
    "f4": "float",
    "f8": "double",
    "i4": "i32",
    "i8": "i64",
    "u8": "i64",
    "b1": "i1",
    "": "void",
}
HELD = TYPES | {"b1": "i8"}
"""The types of numbers in memory."""

FLOATS: dict[type, str] = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
WHOLES: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.FloorDiv: "sdiv",
    ast.Mod: "srem",
    ast.LShift: "shl",
    ast.RShift: "ashr",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
PLAIN: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
"""What is done to plain numbers while translating."""

COMPARED: dict[type, tuple[str, str, str]] = {
    ast.Gt: ("ogt", "sgt", "ugt"),
    ast.GtE: ("oge", "sge", "uge"),
    ast.Lt: ("olt", "slt", "ult"),
    ast.LtE: ("ole", "sle", "ule"),
    ast.Eq: ("oeq", "eq", "eq"),
    ast.NotEq: ("une", "ne", "ne"),
}
"""Comparisons of floats, of whole numbers, and of those without a sign."""

INTRINSICS: dict[Any, str] = {np.sqrt: "sqrt", np.floor: "floor", np.copysign: "copysign"}


FOLDS: dict[Any, tuple[str, str]] = {
    np.add: ("", "add {0} {1}, {2}"),
    np.maximum: ("maximum", "call {0} @llvm.smax.{0}({0} {1}, {0} {2})"),
    np.minimum: ("minimum", "call {0} @llvm.smin.{0}({0} {1}, {0} {2})"),
}
"""What many numbers are put together by: of floats LLVM's function, of whole numbers the text."""


def literal(x: Any, kind: str) -> str:
    """A plain number in LLVM's text."""
    if kind == "b1":
        return "true" if x else "false"
    if kind[0] == "f":
        with np.errstate(over="ignore"):
            exact = float(np.float32(x)) if kind == "f4" else float(x)
        return f"0x{struct.unpack('>Q', struct.pack('>d', exact))[0]:016X}"
    return str(int(x))


def result(gives: str) -> str:
    """The type of what a function gives."""
    kinds = [TYPES[kind] for kind in gives.split()] or ["void"]
    return kinds[0] if len(kinds) == 1 else f"{{{', '.join(kinds)}}}"
