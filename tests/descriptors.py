"""What cuBLASLt itself holds of the descriptors that ldl makes: `python descriptors.py` prints it.

Descriptors need the library and a driver that tells its version, no GPU: where there is no driver,
`read_back` compiles a stub of libcuda.so.1 that tells one. It works in a process of its own, since
a process that has loaded the stub takes it for a driver.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PRECISIONS = ("float32", "tf32", "bf16", "stored bf16", "float64")
STUB = "int cuDriverGetVersion(int *version) { *version = 13000; return 0; }"
ROOT = Path(__file__).parent.parent


@cache
def read_back(folder: Path) -> Any:
    """What the library holds, by precision; the stub lies in the folder."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}"}
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        made = ["-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "libcuda.so.1")]
        subprocess.run(["g++", *made], input=STUB, text=True, check=True)
        environment["LD_LIBRARY_PATH"] = f"{folder}:{environment.get('LD_LIBRARY_PATH', '')}"
    command = [sys.executable, __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def _read(getter: Any, handle: int, attribute: int, dtype: Any) -> int:
    value, written = np.zeros(1, dtype), np.zeros(1, np.uint64)
    getter(handle, attribute, value.ctypes.data, value.nbytes, written.ctypes.data)
    assert written[0] == value.nbytes
    return int(value[0])


def _held(precision: str) -> dict[str, Any]:
    from ldl_cupy import algorithm
    from ldl_cupy.layout import describe

    algorithm.describe_one()
    lt = algorithm.lt
    told = describe((2, 7), (8, 16), (7, 5), (40, 8), (40, 8), (8, 8), "sums_b")
    assert told is not None
    found: dict[str, Any] = {}
    desc, made = algorithm.operation(told, precision), algorithm.preference((4, 8, 16))
    for name in ("TRANSA", "TRANSB", "EPILOGUE", "COMPUTE_TYPE"):
        at, kind = lt.MatmulDescAttribute[name], np.int32
        found[name] = _read(lt.matmul_desc_get_attribute, desc, at, kind)
    for layout, of in zip(algorithm.layouts(told, precision), "ABD", strict=True):
        for name, kind in (("ROWS", "u8"), ("COLS", "u8"), ("LD", "i8"), ("TYPE", "u4")):
            at = lt.MatrixLayoutAttribute[name]
            found[f"{name} {of}"] = _read(lt.matrix_layout_get_attribute, layout, at, kind)
    for name in ("MAX_WORKSPACE_BYTES", *(f"MIN_ALIGNMENT_{x}_BYTES" for x in "ABCD")):
        at, kind = lt.MatmulPreferenceAttribute[name], "u8" if "MAX" in name else "u4"
        found[name] = _read(lt.matmul_preference_get_attribute, made, at, kind)
    return found


if __name__ == "__main__":
    print(json.dumps({precision: _held(precision) for precision in PRECISIONS}))
