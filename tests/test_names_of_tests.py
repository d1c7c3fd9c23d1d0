"""Every process that collects the tests finds the same names, whenever and wherever it does."""

import os
import subprocess
import sys
import time
from pathlib import Path

SOURCE = """
import time, pytest

@pytest.mark.parametrize(("content", "word"), [(str(time.time()).encode(), "a"), (b"", "b")])
def test_bytes(content, word): ...
"""


def names(folder: Path, seed: int) -> str:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={folder}", str(folder)],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return "".join(line for line in done.stdout.splitlines(True) if "::" in line)


def test_bytes_of_the_second_are_named_by_their_argument(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(SOURCE)
    first = names(tmp_path, 1)
    time.sleep(0.01)
    assert first == names(tmp_path, 2)
    assert first.count("test_it.py::test_bytes[") == 2
