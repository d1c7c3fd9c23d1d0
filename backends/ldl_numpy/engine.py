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
from ldl_numpy import elementary, language, tile, translate, turns

lock = guarded(RLock())
"""Held while LLVM works, which serves one thread at a time; a fork waits for it."""

NAMES = {**vars(elementary), **language.NAMES}
"""What a text may name."""

_addresses: dict[Any, int] = {}
_numbers = itertools.count()


def addresses(wanted: Sequence[Any]) -> list[int]:
    """The addresses of Python functions, and of the last function of each text, in this order.

    Those that are new are compiled together.
    """
    with lock:
        new = [one for one in dict.fromkeys(wanted) if one not in _addresses]
        for some in [[one] for one in new] if dumps() else [new] if new else []:
            _addresses.update(zip(some, _compiled(some), strict=True))
        return [_addresses[one] for one in wanted]


def function(python: Any, *args: Any) -> Callable[..., None]:
    """A Python function as one of C's that takes such arguments and gives nothing."""
    return ctypes.CFUNCTYPE(None, *args)(*addresses([python]))


def _compiled(wanted: list[Any]) -> list[int]:
    """Compile these, with what they need, in one module."""
    machine, engine = _host()
    functions = []
    for one in wanted:
        is_text = isinstance(one, str)
        text, names = (
            (one, NAMES | tile.named(one) | turns.named(one))
            if is_text
            else (translate.text(one), one.__globals__)
        )
        made = translate.functions(text, names, f"ldl{next(_numbers)}_")
        functions.append(list(made.values())[-1])
        if dumps():
            _say("the source", text)
            _say("what LLVM says of its vectors", "")
    module = optimised(translate.module(functions))
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


def optimised(text: str) -> Any:
    """A module, as good as the passes of LLVM's second level make it; the third gained nothing.

    That arrays do not overlap is then forgotten: knowing it, LLVM puts stores before the loads of
    other arrays. Large arrays all begin at the same place of their pages, and a load waits for a
    store before it whose address has the same last twelve bits: Adam's loop took a fifth longer.
    """
    machine, _ = _host()
    module = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = True
    options.slp_vectorization = False
    options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return llvm.parse_assembly(str(module).replace("ptr noalias ", "ptr "))


@cache
def dumps() -> bool:
    """Whether loops are printed as they are compiled: LDL_DUMP=loops."""
    given = os.environ.get("LDL_DUMP", "").strip()
    if given not in ("", "loops"):
        raise ValueError(f"LDL_DUMP in the environment must be loops, got {given[:40]!r}")
    return given == "loops"


def _say(title: str, text: str) -> None:
    print(f"==== {title}\n\n{text.strip()}\n", file=sys.stderr, flush=True)
