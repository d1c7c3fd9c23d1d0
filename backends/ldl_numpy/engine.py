"""LLVM: Python's functions, translated and compiled for this processor, by their addresses.

`LDL_DUMP=loops` in the environment prints to standard error what becomes of each.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from threading import RLock
from typing import Any

import llvmlite.binding as llvm

from ldl.forks import guarded
from ldl_numpy import elementary, language, translate

lock = guarded(RLock())
"""Held while LLVM works, which serves one thread at a time; a fork waits for it."""

NAMES = {**vars(elementary), **language.NAMES}
"""What a text may name."""

_addresses: dict[Any, int] = {}
_numbers = itertools.count()


def addresses(texts: Sequence[str]) -> list[int]:
    """The addresses of the last function of each text; those that are new are compiled together."""
    with lock:
        new = [text for text in dict.fromkeys(texts) if text not in _addresses]
        for some in [[text] for text in new] if dumps() else [new] if new else []:
            found = [_last(translate.functions(text, NAMES, _prefix())) for text in some]
            _addresses.update(zip(some, _compiled(found, some), strict=True))
        return [_addresses[text] for text in texts]


def function(python: Any, *args: Any) -> Callable[..., None]:
    """A Python function as one of C's that takes such arguments and gives nothing."""
    with lock:
        if python not in _addresses:
            text = translate.text(python)
            made = _last(translate.functions(text, python.__globals__, _prefix()))
            (_addresses[python],) = _compiled([made], [text])
    return ctypes.CFUNCTYPE(None, *args)(_addresses[python])


def _prefix() -> str:
    return f"ldl{next(_numbers)}_"


def _last(functions: dict[str, translate.Function]) -> translate.Function:
    return list(functions.values())[-1]


def _compiled(functions: list[translate.Function], texts: list[str]) -> list[int]:
    """Compile functions, with what they need, in one module."""
    machine, engine = _host()
    module = llvm.parse_assembly(translate.module(functions))
    for text in texts if dumps() else []:
        _say("the source", text)
        _say("what LLVM says of its vectors", "")
    optimise(module, machine)
    if dumps():
        _say("LLVM's language", str(module))
        _say("assembly", machine.emit_assembly(module))
    engine.add_module(module)
    engine.finalize_object()
    return [engine.get_function_address(function.name) for function in functions]


@cache
def _host() -> tuple[Any, Any]:
    """The processor, with all its features, and what links code into this process."""
    if dumps():
        for option in ("", "-missed", "-analysis"):
            llvm.set_option("", f"-pass-remarks{option}=loop-vectorize")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2,
        jit=True,
    )
    return machine, llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def optimise(module: Any, machine: Any) -> None:
    """Let LLVM's passes make what they can of a module: those of its second level, of three."""
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = True
    options.slp_vectorization = False
    options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


@cache
def dumps() -> bool:
    """Whether loops are printed as they are compiled: LDL_DUMP=loops."""
    given = os.environ.get("LDL_DUMP", "").strip()
    if given not in ("", "loops"):
        raise ValueError(f"LDL_DUMP in the environment must be loops, got {given[:40]!r}")
    return given == "loops"


def _say(title: str, text: str) -> None:
    print(f"==== {title}\n\n{text.strip()}\n", file=sys.stderr, flush=True)
