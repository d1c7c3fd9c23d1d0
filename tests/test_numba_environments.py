"""Numba's environment: what is wrong with it is said in one line, once, and costs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from ldl import nn, optim
from ldl_numpy import source

program: Any = pytest.importorskip("ldl_numpy.program")

TEXT = "class entry:\n    address = {}\n"
X = np.ones((3, 4), "float32")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """The folder for compiled loops."""
    for name in ("cache_folder", "_temporary_folder"):
        monkeypatch.setattr(program, name, getattr(program, name).__wrapped__)
    monkeypatch.setattr(program, "_warned", set())
    monkeypatch.setenv("LDL_CACHE_DIR", str(tmp_path / "loops"))
    return tmp_path / "loops"


def loaded_anew(text: str) -> Any:
    """As in another process."""
    for name in [name for name in sys.modules if name.startswith("ldl_loop_")]:
        if getattr(sys.modules[name], "entry", None).__class__ is type:
            del sys.modules[name]
    return program.loaded(text)


def test_damaged_files_are_made_anew_where_they_were(folder: Path) -> None:
    text = TEXT.format(11)
    made = Path(loaded_anew(text).__file__)
    assert made.parent == folder
    for harm in (b"", b"1 +", b"\x00\xff"):
        made.write_bytes(harm)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert loaded_anew(text).entry.address == 11
        assert made.read_text() == text


@pytest.mark.parametrize("harm", ["a file in its place", "no permission", "a folder for a source"])
def test_a_folder_that_cannot_be_used_is_named_once(
    folder: Path, harm: str, monkeypatch: Any
) -> None:
    text = TEXT.format(12)
    if harm == "a file in its place":
        folder.write_text("")
    elif harm == "no permission":
        monkeypatch.setattr(program.os, "access", lambda *_: False)
    else:
        path = Path(loaded_anew(text).__file__)
        path.unlink()
        path.mkdir()
    with pytest.warns(RuntimeWarning, match="LDL_CACHE_DIR") as said:
        assert loaded_anew(text).entry.address == 12
    assert str(folder) in str(said[0].message)
    assert "\n" not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loaded_anew(text).entry.address == 12


def test_a_temporary_folder_goes_with_the_process(tmp_path: Path) -> None:
    (tmp_path / "loops").write_text("")
    (tmp_path / "tmp").mkdir()
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from ldl_numpy import program\n"
        f"program.loaded({TEXT.format(13)!r})\n"
        "import os, tempfile; assert os.listdir(tempfile.gettempdir())\n"
    )
    environment = {
        **os.environ,
        "LDL_CACHE_DIR": str(tmp_path / "loops"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not [p for p in (tmp_path / "tmp").iterdir() if p.name.startswith("ldl-")]


@pytest.fixture
def asked_anew() -> Any:
    """The environment is looked at again."""
    for function in (ldl_numpy.fuser, source.threads):
        function.cache_clear()
    yield
    for function in (ldl_numpy.fuser, source.threads):
        function.cache_clear()


@pytest.mark.parametrize("given", ["abc", "0", "-1", "1.5", "two", "²"])
def test_a_number_of_threads_that_is_none_is_refused_in_one_line(
    given: str, monkeypatch: Any, asked_anew: None
) -> None:
    model = nn.Linear(4, 4)
    monkeypatch.setenv("LDL_THREADS", given)
    ldl_numpy.fuser.cache_clear()
    source.threads.cache_clear()
    for act in (
        lambda: ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 1, progress=False),
        lambda: ldl.Predictor(model)(X),
    ):
        with pytest.raises(ValueError, match=r"LDL_THREADS.*1 or more") as error:
            act()
        assert "\n" not in str(error.value)


def test_a_disabled_compiler_is_as_none(monkeypatch: Any, asked_anew: None) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert ldl_numpy.fuser() is None
    model = nn.Linear(4, 4)
    ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 1, progress=False)


FORKS = """
import os, threading
import ldl
from ldl import random
from ldl_numpy import program

locks = [program.loading, program.lock, random._lock, ldl.backend._lock]
stop = threading.Event()

def hold(lock):
    while not stop.is_set():
        with lock:
            sum(range(2000))

threads = [threading.Thread(target=hold, args=(lock,)) for lock in locks]
for thread in threads:
    thread.start()
try:
    for _ in range(10):
        child = os.fork()
        if not child:
            os._exit(0 if all(lock.acquire(timeout=5) for lock in locks) else 1)
        assert os.waitpid(child, 0)[1] == 0, "a lock is held in the child"
finally:
    stop.set()
    for thread in threads:
        thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_finds_every_lock_free() -> None:
    folders = os.pathsep.join(str(Path(str(m.__file__)).parents[1]) for m in (ldl, ldl_numpy))
    environment = os.environ | {"PYTHONPATH": folders}
    subprocess.run([sys.executable, "-c", FORKS], env=environment, check=True)
