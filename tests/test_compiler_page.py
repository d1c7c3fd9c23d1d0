"""The page that explains the compiler shows what it writes, and knows its modules."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np

import ldl.compiler
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Trace
from ldl.compiler.traced import Traced
from ldl_cupy.source import CudaSource
from ldl_numpy.source import Source

PAGE = str(ldl.compiler.__doc__)


def examples() -> list[str]:
    """The parts of the page that are code."""
    found = re.findall(r"(?:^    .*\n)+", PAGE.replace("\n\n", "\n \n"), flags=re.MULTILINE)
    return [textwrap.dedent(code) for code in found]


def test_the_loop_on_the_page_is_the_one_that_is_written() -> None:
    trace = Trace()
    x, w, b = (Traced.wrap(trace, np.ones(s, "float32")) for s in ((8, 4), (4, 4), (4,)))
    said, for_the_host, for_a_gpu = examples()
    space = {"maximum": np.maximum, "x": x, "w": w, "b": b}
    exec(said, space)
    product, *rest = trace.ops
    assert product.ufunc == "matmul"
    loop = Loop((8, 4))
    for op in rest:
        step = loop.step(op)
        assert step is not None
        loop.add(step)
    stored = {space["y"].ref.value}
    assert for_the_host in textwrap.dedent(Source(loop, stored).text().replace("\n    ", "\n"))
    assert for_a_gpu in CudaSource(loop, stored).text.replace("\n            ", "\n")


def test_the_page_names_every_module() -> None:
    for path in Path(str(ldl.compiler.__file__)).parent.glob("[a-z]*.py"):
        assert f"`{path.stem}" in PAGE, path.stem
