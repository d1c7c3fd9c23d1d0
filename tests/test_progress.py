"""What is shown of a fit never stops it, wherever standard error leads."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

X = np.random.default_rng(0).random((40, 3)).astype("float32")


class Full(io.TextIOBase):
    """A terminal on a full disk."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class Mute:
    """What some programs put in the place of standard error."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def ascii_only() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


class Broken(io.StringIO):
    """A pipe whose reader has gone after the first lines."""

    def write(self, text: str) -> int:
        if self.tell() > 20:
            raise BrokenPipeError
        return super().write(text)


ODD: dict[str, Any] = {
    "none": lambda: None,
    "closed": closed,
    "full": Full,
    "no terminal": Mute,
    "ascii": ascii_only,
    "broken": Broken,
}


def fit(**options: Any) -> ldl.History:
    ldl.manual_seed(0)
    model = nn.Linear(3, 3)
    return ldl.fit(model, X, nn.MSELoss(), optim.SGD(model), 3, **options)


@pytest.mark.parametrize("show", [None, True, False])
@pytest.mark.parametrize("tqdm", [True, False])
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("error")
def test_a_fit_is_what_it_is_without_a_bar(
    kind: str, tqdm: bool, show: bool | None, monkeypatch: Any
) -> None:
    expected = fit(progress=False)["loss"]
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", ODD[kind]())
    assert fit(progress=show)["loss"] == expected


def test_a_fit_runs_where_standard_error_is_closed() -> None:
    program = (
        "import sys, numpy as np, ldl\n"
        "from ldl import nn, optim\n"
        "m = nn.Linear(3, 3)\n"
        "for show in (None, True):\n"
        "    ldl.fit(m, np.ones((4, 3)), nn.MSELoss(), optim.SGD(m), 1, progress=show)\n"
        "print(sys.stderr, 'done')"
    )
    command = f'exec {sys.executable} -c "$PROGRAM" 2>&-'
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**__import__("os").environ, "PROGRAM": program},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "None done\n")


@pytest.mark.parametrize("tqdm", [True, False])
def test_figures_of_every_kind_are_shown(tqdm: bool, monkeypatch: Any) -> None:
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    figures = {"name": "low", "none": None, "both": [1, 2], "score": np.float32(0.5), "n": 12}

    def add(run: ldl.Run) -> None:
        run.history.rows[-1].update(figures)

    fit(progress=True, callbacks=add)
    for part in ("name=low", "score=0.5", "n=12", "loss="):
        assert part in stream.getvalue()


def test_an_error_of_the_fit_is_not_hidden_by_that_of_the_bar(monkeypatch: Any) -> None:
    def fail(run: ldl.Run) -> None:
        raise LookupError("mine")

    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(LookupError, match="mine"):
        fit(progress=True, callbacks=fail)
