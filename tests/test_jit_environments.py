"""The compiler's surroundings: what is wrong with them is said in one line, and nothing is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from interrupts import interrupt
from ldl import nn, optim
from ldl_numpy import translate

engine: Any = pytest.importorskip("ldl_numpy.engine")

FOLDERS = os.pathsep.join(str(Path(str(m.__file__)).parents[1]) for m in (ldl, ldl_numpy))
X = np.ones((3, 4), "float32")

STEP = """
import numpy as np, warnings, ldl, sys
from ldl import nn, optim
warnings.simplefilter("error")
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
x = np.ones((3, 4), "float32")
step(x, x)
assert "llvmlite" in sys.modules
"""


def run(code: str, **settings: str) -> Any:
    """Run it in a process of its own."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("LDL_")}
    environment = {**given, "PYTHONPATH": FOLDERS, **settings}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )


def look_anew() -> None:
    """At the environment."""
    for function in (ldl_numpy.fuser, engine.dumps):
        function.cache_clear()


@pytest.fixture
def asked_anew(monkeypatch: Any) -> Any:
    """The environment is looked at again afterwards."""
    yield
    monkeypatch.undo()
    look_anew()


@pytest.mark.parametrize("given", ["loop", "1", "yes\n"])
def test_a_dump_of_what_is_unknown_is_refused_in_one_line(
    given: str, monkeypatch: Any, asked_anew: None
) -> None:
    model = nn.Linear(4, 4)
    monkeypatch.setenv("LDL_DUMP", given)
    look_anew()
    for act in (
        lambda: ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 1, progress=False),
        lambda: ldl.Predictor(model)(X),
    ):
        with pytest.raises(ValueError, match=r"LDL_DUMP .* must be loops, got ") as error:
            act()
        assert str(error.value).isprintable()


def test_a_dump_shows_each_loop_and_what_became_of_it() -> None:
    said = run(STEP, LDL_DUMP="loops").stderr
    shown = said.count("==== the source")
    assert shown >= 4
    assert said.count("==== LLVM's language") == said.count("==== assembly") == shown
    assert "def part(" in said
    assert "define" in said
    assert "vectorized loop" in said
    assert run(STEP).stderr == ""


def test_nothing_is_written_to_disk(tmp_path: Path) -> None:
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    tmp_path.chmod(0o500)
    try:
        run(STEP, **places, PYTHONDONTWRITEBYTECODE="1")
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o700)


def test_threads_that_want_the_same_loop_at_once_all_get_the_same() -> None:
    text = f"def entry(words: [i8]):\n    words[0] = {time.time_ns()}\n"
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(engine.addresses([text, text])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


def test_an_interrupt_leaves_llvms_lock_free() -> None:
    text = "def entry(words: [i8]):\n    words[0] = 5\n"
    free: list[bool] = []

    def look() -> None:
        free.append(engine.lock.acquire(timeout=5))
        engine.lock.release()

    line = 0
    while interrupt(lambda: engine.addresses([text]), line) is not None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        line += 1
    assert len(free) > 3
    assert all(free)


def test_what_cannot_be_translated_harms_nothing_after_it() -> None:
    for text in (
        "def entry(words: [i8]):\n    words[0] = nothing\n",
        "def entry(x: f4): yield x\n",
    ):
        with pytest.raises((KeyError, NotImplementedError)):
            engine.addresses([text])
    assert engine.addresses(["def entry(words: [i8]):\n    words[0] = 5\n"])[0]


def test_stores_do_not_come_before_the_loads_of_other_arrays() -> None:
    """Which a processor may take for loads of what is stored (see `engine.optimised`)."""
    text = (
        "def f(n: i8, a: [f4], b: [f4]):\n    for i in range(n):\n"
        "        x, y = a[i], b[i]\n        a[i] = x * 2\n        b[i] = np.sqrt(x / y)\n"
    )
    made = translate.functions(text, engine.NAMES, "test_")["f"]
    module = str(engine.optimised(translate.module([made])))
    assert "noalias" in made.text
    assert "x float>" in module, "it was known while loops were vectorised"
    assert "noalias" not in module, "and is not when instructions are put in order"


FORKS = """
import os, threading
import ldl
from ldl import random
from ldl_numpy import engine

locks = [engine.lock, random._lock, ldl.backend._lock]
stop = threading.Event()

def hold(lock):
    while not stop.is_set():
        with lock:
            sum(range(2000))

def compile_on():
    n = 0
    while not stop.is_set():
        n += 1
        engine.addresses([f"def entry(words: [i8]):\\n    words[0] = {n}\\n"])

threads = [threading.Thread(target=hold, args=(lock,)) for lock in locks]
threads.append(threading.Thread(target=compile_on))
for thread in threads:
    thread.start()
try:
    for i in range(10):
        child = os.fork()
        if not child:
            free = all(lock.acquire(timeout=5) for lock in locks)
            made = engine.addresses([f"def entry(words: [i8]):\\n    words[0] = -{i}\\n"])
            os._exit(0 if free and made[0] else 1)
        assert os.waitpid(child, 0)[1] == 0, "a lock is held in the child"
finally:
    stop.set()
    for thread in threads:
        thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_process_that_compiles_finds_every_lock_free_and_compiles() -> None:
    run(FORKS)
