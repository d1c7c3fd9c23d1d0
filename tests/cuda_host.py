"""CUDA kernels run on the host: g++ compiles their source behind cuda_host.h.

    host = compile_host(source, sanitize=True)
    host.run("fill_uniform", 2, 256, out, np.int64(out.size), key)

A launch is a process of its own, so that a kernel's fault ends that process and not the tests. Its
arrays are copies, each in memory of its own to the byte, and are copied back. With `sanitize` the
compiler's address and undefined-behavior sanitizers watch: a kernel that reads or writes one byte
outside an array or a shared array, or a vector at an address not aligned for it, raises HostError.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.array_utils import byte_bounds

HEADER = Path(__file__).with_name("cuda_host.h")
KERNEL = re.compile(r"__global__\b[^;{}()]*?(?:__launch_bounds__\s*\([^)]*\)[^;{}()]*?)?(\w+)\s*\(")
FLAGS = ["-std=c++17", "-O1", "-w", "-x", "c++"]
SANITIZE = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"}
MISSING = "install g++ (apt-get install g++) to run CUDA kernels on the host"

Dim = int | tuple[int, ...]


class HostError(Exception):
    """A kernel that does not compile, is given what it does not take, or commits a fault."""


def kernel_names(source: str) -> list[str]:
    """The names of the `__global__` functions of a source, comments aside."""
    return KERNEL.findall(re.sub(r"//.*|/\*.*?\*/", "", source, flags=re.MULTILINE))


def compiler() -> str | None:
    """g++, where it is installed."""
    return shutil.which("g++")


class Strided:
    """An array that a kernel goes through by strides: the bytes from its first to its last."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        first, end = byte_bounds(array)
        self.start = array.ctypes.data - first
        facts = {"data": (first, not array.flags.writeable), "shape": (end - first,)}
        self.bytes = np.asarray(_Bytes(facts, array))
        self.before = self.bytes.copy()


class _Bytes:
    """Memory, as NumPy asks for it."""

    def __init__(self, facts: dict[str, Any], owner: Any) -> None:
        self.__array_interface__ = facts | {"typestr": "|u1", "version": 3}
        self.owner = owner


class Host:
    """The kernels of a source, compiled."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def run(self, name: str, grid: Dim, block: Dim, *args: Any, backward: bool = False) -> None:
        """Launch a kernel on NumPy arrays, NumPy's scalars and None, a null pointer.

        Arrays hold afterwards what the kernel left in them. `backward` runs the last block and the
        last thread first. No other argument may hold what it writes.
        """
        arrays = [a for a in args if isinstance(a, (np.ndarray, Strided))]
        for i, a in enumerate(arrays):
            if isinstance(a, np.ndarray) and not a.flags.c_contiguous:
                raise HostError(f"array {i} of {name} is not C-contiguous")
        head = [name, *_three(grid), *_three(block), int(backward), len(args)]
        message = b" ".join(str(word).encode() for word in head) + b"\n"
        message += b"".join(_packed(a) for a in args)
        done = subprocess.run(
            [self.program], input=message, capture_output=True, env=os.environ | ENVIRONMENT
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").splitlines()
            said = [line for line in said if "makecontext" not in line and "=====" not in line[:5]]
            raise HostError(f"{name}: " + "\n".join(said[:8] or [f"exit {done.returncode}"]))
        at = 0
        for i, given in enumerate(arrays):
            a = given.bytes if isinstance(given, Strided) else given
            left = np.frombuffer(done.stdout, a.dtype, a.size, at).reshape(a.shape)
            at += a.nbytes
            before = given.before if isinstance(given, Strided) else a
            if left.tobytes() == before.tobytes():
                continue
            if any(_meet(given, b) for b in arrays if b is not given):
                raise HostError(f"array {i} of {name} is written and shares memory")
            if isinstance(given, Strided):
                a[left != before] = left[left != before]
            else:
                a[...] = left  # a read-only array refuses
        assert at == len(done.stdout)


def compile_host(source: str, sanitize: bool = False) -> Host:
    """Compile a CUDA source for the host, or find it compiled before.

    A test that comes here is skipped where there is no g++; those of a GPU never do.
    """
    found = compiler()
    if found is None:
        pytest.skip(MISSING)
    names = kernel_names(source)
    table = "".join(f"HOST_KERNEL({name}), " for name in names)
    text = f'#include "{HEADER}"\n#line 1 "source.cu"\n{source}\n'
    text += f"static host::Kernel kernels[] = {{{table}}};\n"
    text += "int main() { return host::serve(kernels); }\n"
    flags = FLAGS + (SANITIZE if sanitize else [])
    key = "\n".join((text, HEADER.read_text(), *flags))
    folder = Path(tempfile.gettempdir()) / f"ldl-cuda-host-{os.getuid()}"
    program = folder / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not program.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "program"
            command = [found, *flags, "-", "-o", str(made)]
            done = subprocess.run(command, input=text, capture_output=True, text=True)
            if done.returncode:
                raise HostError(done.stderr)
            made.replace(program)
    return Host(program)


def _meet(*given: Any) -> bool:
    """Whether arguments have an element in common."""
    return bool(np.shares_memory(*(x.array if isinstance(x, Strided) else x for x in given)))


def _three(dim: Dim) -> tuple[int, ...]:
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return dims + (1,) * (3 - len(dims))


def _packed(arg: Any) -> bytes:
    """An argument as cuda_host.h reads it: kind, size, address modulo 16, first element, bytes."""
    if arg is None:
        return b"null 0 0 0\n"
    if isinstance(arg, Strided):
        memory = arg.bytes
        head = f"p8 {memory.nbytes} {memory.ctypes.data % 16} {arg.start}\n"
        return head.encode() + memory.tobytes()
    if isinstance(arg, np.ndarray):
        return f"p8 {arg.nbytes} {arg.ctypes.data % 16} 0\n".encode() + arg.tobytes()
    if isinstance(arg, np.generic):
        kind = "f" if arg.dtype.kind == "f" else "i"
        return f"{kind}{arg.nbytes} {arg.nbytes} 0 0\n".encode() + arg.tobytes()
    raise HostError(f"a kernel takes NumPy's scalars, not {type(arg).__name__}: {arg!r}")
