"""A program's threads: every job is done once, whoever is late, and nobody else's are changed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from ldl import nn, optim

threads: Any = pytest.importorskip("ldl_numpy.threads")
if not threads._functions():
    pytest.skip("this BLAS cannot be told its number of threads", allow_module_level=True)

from ldl_numpy import blas, engine, player, pool, program  # noqa: E402

FOLDERS = os.pathsep.join(str(Path(str(m.__file__)).parents[1]) for m in (ldl, ldl_numpy))
JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
own_threads = blas.find("openblas_get_num_threads")
tell_blas = blas.find("openblas_set_num_threads")


@pytest.fixture
def among(monkeypatch: Any) -> Iterator[Callable[[int], None]]:
    """Says how many threads the programs have that are made from now on."""

    def say(count: int) -> None:
        monkeypatch.setenv("LDL_THREADS", str(count))
        threads.threads.cache_clear()

    yield say
    monkeypatch.undo()
    threads.threads.cache_clear()


@pytest.fixture
def blas_has_two() -> Iterator[None]:
    """Of threads, for the others."""
    before = own_threads()
    tell_blas(2)
    yield
    tell_blas(before)


def play(*calls: tuple[Any, Any, int]) -> None:
    """Play a program: functions or their addresses, their words, their numbers of jobs."""
    played = np.array([len(calls)] + [0, 0, 0] * len(calls), np.int64)
    for row, (f, words, jobs) in zip(played[1:].reshape(-1, 3), calls, strict=True):
        row[0] = f if isinstance(f, int) else ctypes.cast(f, ctypes.c_void_p).value
        row[1:] = 0 if words is None else words.ctypes.data, jobs
    player.players()[0](played.ctypes.data, threads.address())


def in_python(job: Callable[[int], Any]) -> Any:
    """A function whose jobs are Python's."""
    return JOB(lambda _, number: job(number) and None)


def counting() -> int:
    """A function that counts how often each of its jobs is done."""
    return engine.addresses(["def entry(words: [i8], job: i8):\n    words[job] += 1\n"])[0]


def train(batch: int, steps: int = 3) -> list[np.ndarray[Any, Any]]:
    ldl.manual_seed(3)
    sides = nn.Linear(200, 160), nn.Linear(160, 200)
    model = nn.Sequential(sides[0], nn.Tanh(), nn.Dropout(0.2), sides[1], nn.Sigmoid())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
    x = np.random.default_rng(0).random((batch, 200), "float32")
    losses = [np.asarray(step(x, x)) for _ in range(steps)]
    return [*losses, *(p.data.copy() for p in model.parameters())]


@pytest.mark.parametrize("callers", [1, 4])
def test_every_job_is_done_once(callers: int, among: Any) -> None:
    among(3)
    entry = counting()
    counts = [np.zeros(7, np.int64) for _ in range(callers)]

    def call(mine: Any) -> None:
        for _ in range(3000):
            play((entry, mine, 7), (entry, mine, 1), (entry, mine, 2))

    others = [threading.Thread(target=call, args=(mine,)) for mine in counts]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    for mine in counts:
        assert mine.tolist() == [9000, 6000, 3000, 3000, 3000, 3000, 3000]


def test_threads_that_sleep_are_woken(among: Any) -> None:
    among(3)
    entry, counts = counting(), np.zeros(6, np.int64)
    for _ in range(20):
        play((entry, counts, 6))
        asleep = threads._memory()[pool.ASLEEP // 8 :]
        until = time.monotonic() + 60
        while asleep[0] < len(threads._started):
            assert time.monotonic() < until
            time.sleep(0.001)
    assert counts.tolist() == [20] * 6


def test_a_late_thread_holds_up_the_job_that_it_has_begun_and_no_other(among: Any) -> None:
    among(2)
    jobs, last = 8, threading.Event()
    done: list[int] = []

    begun = threading.Semaphore(1)

    def slow_once(number: int) -> None:
        if begun.acquire(blocking=False):
            assert last.wait(60)
        done.append(number)
        if len(done) == jobs - 1:
            last.set()

    function = in_python(slow_once)
    play((function, None, jobs))
    assert sorted(done) == list(range(jobs))


def test_a_caller_alone_does_all_the_jobs(among: Any, monkeypatch: Any) -> None:
    """As in a child of a fork, which has no threads of its own at first."""
    among(1)
    entry, counts = counting(), np.zeros(5, np.int64)
    memory = threads._memory().copy()
    monkeypatch.setattr(threads, "_memory", lambda: memory)
    threads._make_ready(memory)
    play((entry, counts, 5))
    assert counts.tolist() == [1] * 5


def test_a_program_within_a_job_is_played(among: Any) -> None:
    among(3)
    entry, counts = counting(), np.zeros(4, np.int64)
    function = in_python(lambda _: play((entry, counts, 4)))
    play((function, None, 1), (function, None, 1))
    assert counts.tolist() == [2] * 4
    once = threading.Semaphore(1)
    function = in_python(lambda _: once.acquire(blocking=False) and play((entry, counts, 4)))
    play((function, None, 5))
    assert counts.tolist() == [3] * 4


def test_blas_has_one_thread_while_programs_run_and_its_own_afterwards(
    among: Any, blas_has_two: None
) -> None:
    among(2)
    seen: list[int] = []
    look = in_python(lambda _: seen.append(own_threads()))
    inside = in_python(lambda _: play((look, None, 1)))
    play((look, None, 1), (inside, None, 1), (look, None, 1))
    assert seen == [1, 1, 1]
    assert own_threads() == 2


def test_results_are_the_same_whoever_does_the_jobs(among: Any) -> None:
    among(3)
    expected = train(64)
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            sum(range(1000))

    others = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        for _ in range(3):
            for a, b in zip(train(64), expected, strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        stop.set()


@pytest.mark.parametrize("batch", [1, 64, 300])
def test_results_depend_on_the_number_of_threads_by_rounding_alone(batch: int, among: Any) -> None:
    among(1)
    expected = train(batch)
    for count in (2, 5):
        among(count)
        for a, b in zip(train(batch), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_large_work_is_cut_and_small_is_not(among: Any, monkeypatch: Any) -> None:
    cut: list[int] = []
    made = program._Program.add

    def add(self: Any, op: Any) -> None:
        made(self, op)
        cut.append(self.calls[-1][2])

    monkeypatch.setattr(program._Program, "add", add)
    among(3)
    train(300, steps=1)
    assert max(cut) == 6
    assert min(cut) == 1
    cut.clear()
    train(1, steps=1)
    assert 1 in cut
    among(1)
    cut.clear()
    train(300, steps=1)
    assert set(cut) == {1}


def test_others_products_are_right_beside_steps(among: Any, blas_has_two: None) -> None:
    among(2)
    expected = train(64, steps=30)
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-8, 8, (150, 150)).astype("float32") for _ in range(2))
    exact = (a.astype("int64") @ b.astype("int64")).astype("float32")
    wrong: list[int] = []
    stop = threading.Event()

    def multiply() -> None:
        while not stop.is_set():
            wrong.append(int((a @ b != exact).sum()))

    others = [threading.Thread(target=multiply) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        for found in (train(64, steps=30) for _ in range(5)):
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_array_equal(x, y)
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert len(wrong) > 3
    assert sum(wrong) == 0
    assert own_threads() == 2


def test_another_blas_keeps_its_threads(among: Any, monkeypatch: Any) -> None:
    among(4)
    found = blas.find
    monkeypatch.setattr(blas, "find", lambda name: None if "set_num" in name else found(name))
    threads._functions.cache_clear()
    threads.threads.cache_clear()
    try:
        assert threads.threads() == 1
        assert threads.address() == 0
        assert np.isfinite(train(64)[0])
    finally:
        threads._functions.cache_clear()


@pytest.mark.parametrize("given", ["abc", "0", "-1", "1.5", "two", "²"])
def test_a_number_of_threads_that_is_none_is_refused_in_one_line(
    given: str, among: Any, monkeypatch: Any
) -> None:
    model, x = nn.Linear(4, 4), np.ones((3, 4), "float32")
    monkeypatch.setenv("LDL_THREADS", given)
    threads.threads.cache_clear()
    ldl_numpy.fuser.cache_clear()
    for act in (
        lambda: ldl.fit(model, x, nn.MSELoss(), optim.SGD(model), 1, progress=False),
        lambda: ldl.Predictor(model)(x),
    ):
        with pytest.raises(ValueError, match=r"LDL_THREADS.*1 or more") as error:
            act()
        assert "\n" not in str(error.value)


def run(code: str, **settings: str) -> Any:
    """Run it in a process of its own, in which BLAS has two threads and a program three."""
    given = {name: x for name, x in os.environ.items() if not name.startswith(("LDL_", "OPENBLAS"))}
    settings = {"OMP_NUM_THREADS": "2", "LDL_THREADS": "3", "PYTHONPATH": FOLDERS, **settings}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEP + code],
        env={**given, **settings},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout.split()


STEP = """
import os, threading, time
import numpy as np, ldl
from ldl import nn, optim
from ldl_numpy import blas, pool, threads
own_threads = blas.find("openblas_get_num_threads")
x = np.random.default_rng(0).random((64, 200), "float32")

def train(steps=5):
    ldl.manual_seed(3)
    model = nn.Sequential(nn.Linear(200, 160), nn.Tanh(), nn.Linear(160, 200), nn.Sigmoid())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
    return [float(step(x, x)) for _ in range(steps)], step
"""


def test_without_a_word_a_program_has_blas_number_of_threads() -> None:
    say = "print(threads.threads(), own_threads())"
    assert run(say, LDL_THREADS="") == ["2", "2"]
    assert run(say, LDL_THREADS="", OMP_NUM_THREADS="1") == ["1", "1"]
    assert run("train(); print(len(threads._started), own_threads())") == ["2", "2"]


def test_a_process_ends_with_threads_awake_asleep_or_at_work() -> None:
    assert run("train(); print('end')") == ["end"]
    assert run("train(); time.sleep(0.2); print('end')") == ["end"]
    on = "threading.Thread(target=train, args=(10**6,), daemon=True).start()"
    assert run(f"train(); {on}; time.sleep(0.2); print('end')") == ["end"]


FORK = """
expected, step = train()
stop = threading.Event()

def go_on():
    while not stop.is_set():
        step(x, x)

mine = train()[1]
thread = threading.Thread(target=go_on)
thread.start()
good = 0
for i in range(20):
    time.sleep(0.0003 * i)
    child = os.fork()
    if not child:
        found = own_threads() == 2 and np.isfinite(float(mine(x, x))) and not threads._started
        found = found and train()[0] == expected and len(threads._started) == 2
        found = found and own_threads() == 2
        os._exit(0 if found else 1)
    good += os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print(good, own_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_waits_for_programs_and_its_child_starts_threads_of_its_own() -> None:
    assert run(FORK) == ["20", "2"]


FIRST = """
import sys
sys.setswitchinterval(1e-6)
threads.threads()
held, most = [], 0
for _ in range(10):
    barrier, found = threading.Barrier(16), []

    def ask():
        barrier.wait()
        found.append(threads.address())

    others = [threading.Thread(target=ask) for _ in range(16)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    held.append(threads._memory())
    threads._memory.cache_clear()
    threads._started.clear()
    most = max(most, len(set(found)))
print(most)
"""


def test_threads_that_come_first_at_once_make_one_pool() -> None:
    assert run(FIRST) == ["1"]


ALWAYS_BUSY = """
import ctypes
from ldl_numpy import player
sleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value
played = np.array([1, sleep, 200_000, 1])
play, to_play, pool_at = player.players()[0], played.ctypes.data, threads.address()
ended, stop = [], threading.Event()

def go_on():
    while not stop.is_set() and len(ended) < 40:
        play(to_play, pool_at)
        ended.append(1)

for _ in range(4):
    threading.Thread(target=go_on).start()
    time.sleep(0.05)
before = len(ended)
child = os.fork()
if not child:
    os._exit(0)
print(len(ended) - before)
os.waitpid(child, 0)
stop.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_waits_for_the_programs_that_run_and_for_no_further_ones() -> None:
    """Four threads go from program to program, each of 0.2 s, so that one of them always plays."""
    assert int(*run(ALWAYS_BUSY)) <= 8


ENDS = """
import numpy as np, ldl
from ldl import nn, optim
from ldl_numpy import pool
pool.TRIES = 10**12  # the pool's threads look for work for ever, also while Python ends
model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
x = np.ones((128, 512), np.float32)
for _ in range(3): step(x, x)
"""


def test_a_process_may_end_while_the_pools_threads_look_for_work() -> None:
    env = {**os.environ, "PYTHONPATH": FOLDERS, "LDL_THREADS": "4"}
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", ENDS], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
