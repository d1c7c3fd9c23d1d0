"""CUDA source compiled to machine code by NVRTC, on a machine without a GPU.

    compile_cuda(source, "sm_90")["fill_uniform"].registers

NVRTC and CUDA's headers are wheels; what they need is no driver. CUDA 12 compiles for sm_50 to
sm_121, CUDA 13 no longer for what comes before sm_75.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ldl_cupy.launch import OPTIONS

ARCHITECTURES = ("sm_70", "sm_80", "sm_90", "sm_100")
MISSING = "pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 to compile CUDA sources"
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy adds to a raw kernel's options."""


class Compiled(NamedTuple):
    """What a kernel takes of a multiprocessor."""

    registers: int
    stack: int
    """Bytes of local memory, which is device memory, for a thread's arrays."""
    spill_stores: int
    spill_loads: int


class CompileError(Exception):
    """NVRTC's log."""


def folder(package: str, inside: str) -> Path | None:
    """A folder of one of NVIDIA's wheels; None where the wheel is not installed."""
    nvidia = find_spec("nvidia")
    for place in nvidia.submodule_search_locations or () if nvidia else ():
        for path in (Path(place, package, inside), Path(place, "cu13", inside)):
            if path.is_dir():
                return path
    return None


@cache
def library() -> Any:
    """NVRTC; None where it is not installed."""
    place = folder("cuda_nvrtc", "lib")
    found = sorted(place.glob("libnvrtc.so.*")) if place else []
    return ctypes.CDLL(str(found[0])) if found else None


def architectures() -> list[str]:
    """What this NVRTC compiles for: nothing where it is not installed."""
    if library() is None:
        return []
    count = ctypes.c_int()
    library().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library().nvrtcGetSupportedArchs(numbers)
    return [f"sm_{number}" for number in numbers]


def supported() -> list[str]:
    """Those of `ARCHITECTURES`: CUDA 13 left out sm_70."""
    return [name for name in ARCHITECTURES if name in architectures()]


@cache
def log_of(source: str, architecture: str, options: tuple[str, ...] = OPTIONS) -> str:
    """What NVRTC and its assembler say of a source; CompileError, saying it, where they fail."""
    nvrtc = library()
    headers = folder("cuda_runtime", "include")
    given = [*options, *CUPY_OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
    given += [f"-I{headers}"] if headers else []
    encoded = (ctypes.c_char_p * len(given))(*[option.encode() for option in given])
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(given), encoded)
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if status:
        raise CompileError(text)
    return text


ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def compile_cuda(source: str, architecture: str) -> dict[str, Compiled]:
    """What each kernel of a source takes on an architecture."""
    return {
        entry["name"]: Compiled(
            *(int(entry[key]) for key in ("registers", "stack", "stores", "loads"))
        )
        for entry in ENTRY.finditer(log_of(source, architecture))
    }


def warnings_of(source: str, architecture: str) -> list[str]:
    """The warnings of a source, apart from the one that an architecture is an old one."""
    found = re.findall(r".*warning.*", log_of(source, architecture), re.IGNORECASE)
    return [line for line in found if "Architectures prior to" not in line]
