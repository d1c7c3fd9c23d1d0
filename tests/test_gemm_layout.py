"""What cuBLASLt is told of a row-major product, done column-major on the same memory, is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_cublaslt import LAYOUTS, finish, matrix, seen
from ldl_cupy.layout import Gemm, describe


def emulate(told: Gemm, a: Any, b: Any, out: Any, vector: Any = None, beta: int = 0) -> None:
    """Do as told with the memory of the arrays, as cuBLASLt would."""
    left = seen(b.ctypes.data, b.dtype, *told.stored_a, told.lda)
    right = seen(a.ctypes.data, a.dtype, *told.stored_b, told.ldb)
    left, right = left.T if told.transa else left, right.T if told.transb else right
    d = seen(out.ctypes.data, out.dtype, told.m, told.n, told.ldd)
    d[:] = left @ right + (beta * d if beta else 0)
    finish(d, left, right, told.epilogue, vector)


def described(a: Any, b: Any, out: Any, epilogue: str | None = None) -> Gemm | None:
    sizes = a.dtype.itemsize, out.dtype.itemsize
    return describe(a.shape, a.strides, b.shape, b.strides, out.strides, sizes, epilogue)


sizes = st.tuples(*[st.integers(1, 37)] * 3)
layouts = st.tuples(*[st.sampled_from(LAYOUTS)] * 2, st.sampled_from(LAYOUTS[:2]))


@given(sizes, layouts, st.integers(0, 1))
def test_a_product_of_any_two_layouts_is_described(
    size: tuple[int, int, int], layout: tuple[str, str, str], beta: int
) -> None:
    (m, k, n), (of_a, of_b, of_out) = size, layout
    a, b, out = matrix(m, k, of_a), matrix(k, n, of_b), matrix(m, n, of_out)
    expected = a @ b + beta * out
    told = described(a, b, out)
    assert told is not None
    emulate(told, a, b, out, beta=beta)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    if of_out == "padded rows":
        assert np.isnan(out.base[:, n:]).all()


@given(st.tuples(*[st.integers(2, 37)] * 3), layouts)
def test_a_bias_is_one_number_a_column(
    size: tuple[int, int, int], layout: tuple[str, str, str]
) -> None:
    (m, k, n), (of_a, of_b, of_out) = size, layout
    a, b, out, bias = matrix(m, k, of_a), matrix(k, n, of_b), matrix(m, n, of_out), np.arange(n)
    told = described(a, b, out, "bias")
    assert told is not None
    assert told.vector == n
    emulate(told, a, b, out, bias)
    np.testing.assert_allclose(out, a @ b + bias, atol=1e-12)


@given(st.tuples(*[st.integers(2, 37)] * 3), layouts, st.sampled_from("ab"))
def test_sums_are_of_the_operand_that_is_named(
    size: tuple[int, int, int], layout: tuple[str, str, str], of: str
) -> None:
    (m, k, n), (of_a, of_b, of_out) = size, layout
    a, b, out = matrix(m, k, of_a), matrix(k, n, of_b), matrix(m, n, of_out)
    told = described(a, b, out, f"sums_{of}")
    assert told is not None
    sums = np.empty(told.vector)
    emulate(told, a, b, out, sums)
    np.testing.assert_allclose(out, a @ b, atol=1e-12)
    np.testing.assert_allclose(sums, b.sum(0) if of == "b" else a.sum(1), atol=1e-12)


def test_a_row_major_product_is_the_transposed_column_major_one() -> None:
    a, b, out = matrix(2, 3), matrix(3, 5), matrix(2, 5)
    assert described(a, b, out) == Gemm(5, 2, 3, False, False, 5, 3, 5)
    x, grad, weight = matrix(7, 2), matrix(7, 5), matrix(2, 5)
    assert described(x.T, grad, weight, "sums_b") == Gemm(
        *(5, 2, 7, False, True, 5, 2, 5), "BGRADA", 5
    )
    assert described(grad, weight.T, x) == Gemm(2, 7, 5, True, False, 5, 5, 2)


def test_the_stride_between_rows_does_not_matter_where_there_is_one() -> None:
    row, column = matrix(6, 4)[::-1][:1], matrix(6, 4)[::-1][:1].T
    out = matrix(6, 5)[::-2][:1]
    for a, b, into in ((row, matrix(4, 5), out), (column, matrix(1, 5), matrix(4, 5))):
        told = described(a, b, into)
        assert told is not None
        emulate(told, a, b, into)
        np.testing.assert_allclose(into, a @ b, atol=1e-12)


@pytest.mark.parametrize("change", [lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x[:0]])
def test_other_strides_and_empty_matrices_are_not_described(change: Any) -> None:
    x = change(matrix(6, 6))
    square, out = np.ones((x.shape[1], 6)), np.empty((x.shape[0], 6))
    assert described(x, square, out) is None
    assert described(square.T, x.T, out.T.copy()) is None


def test_epilogues_are_not_asked_for_along_a_dimension_of_one() -> None:
    for m, k, n in ((4, 1, 4), (4, 4, 1)):
        assert described(matrix(m, k), matrix(k, n), matrix(m, n), "bias") is None
    assert described(matrix(1, 4), matrix(4, 4), matrix(1, 4), "bias") is not None
