"""What is written for people never fails the one who writes it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr
from typing import Any

import pytest

from ldl.console import Tolerant, quoted, shown


class Failing(io.StringIO):
    """Fails at the nth call of write or flush."""

    def __init__(self, error: Exception, at: str = "write") -> None:
        super().__init__()
        self.error, self.at = error, at

    def write(self, text: str) -> int:
        if self.at == "write":
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.at == "flush":
            raise self.error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS: dict[str, Any] = {
    "missing": lambda: None,
    "closed": closed,
    "full": lambda: open("/dev/full", "w"),  # noqa: SIM115
    "full in its file": lambda: Failing(OSError(28, "No space left on device"), "flush"),
    "gone": lambda: Failing(BrokenPipeError(32, "Broken pipe")),
    "of letters alone": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "of something else": lambda: object(),
}


@pytest.fixture(params=STREAMS.keys())
def stream(request: Any) -> Any:
    """A Tolerant around a stream of each kind."""
    tolerant = Tolerant(STREAMS[request.param]())
    yield tolerant
    if isinstance(tolerant.stream, io.IOBase):
        tolerant.stream.close()


def test_no_stream_fails_its_writer(stream: Tolerant) -> None:
    for text in ("a\n", "épsilon ∂ \ud800\n", "x" * 100_000):
        print(text, file=stream, flush=True)
    assert stream.write("four") == 4
    assert not stream.isatty()
    assert isinstance(stream.encoding, str)


def test_a_bar_is_drawn_on_any_stream(stream: Tolerant) -> None:
    from tqdm import tqdm

    bar = tqdm(total=3, file=stream, dynamic_ncols=True, mininterval=0)
    for _ in range(3):
        bar.set_description("épsilon ∂")
        bar.update()
    bar.close()


def test_a_terminal_without_a_width_still_shows_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    from ldl.train.progress import Progress

    ours, theirs = pty.openpty()
    said = b""
    with open(ours, "rb", buffering=0) as reader, open(theirs, "w") as terminal:
        assert Tolerant(terminal).columns == 0
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = Progress(None, 2, 10, 0)
        bar.epoch({"epoch": 1, "loss": 0.25, "seconds": 1.0})
        bar.close()
        while b"\n" not in said:
            said += reader.read(4096)
    assert b"epoch 1/2" in said


def test_what_an_encoding_has_not_is_escaped() -> None:
    raw = io.BytesIO()
    stream = Tolerant(io.TextIOWrapper(raw, encoding="latin-1"))
    print("é ∂ \N{GRINNING FACE} \udcff", file=stream, flush=True)
    assert raw.getvalue() == b"\xe9 \\u2202 \\U0001f600 \\udcff\n"


def test_after_a_failure_nothing_more_is_tried() -> None:
    inner = Failing(OSError(28, "full"))
    stream = Tolerant(inner)
    print("a", file=stream)
    assert stream.failure is inner.error
    inner.at = "nothing"
    print("b", file=stream, flush=True)
    assert inner.getvalue() == ""


def test_what_is_left_in_a_failed_stream_fails_nobody_when_it_is_closed() -> None:
    with open("/dev/full", "w") as file:
        stream = Tolerant(file)
        print("a" * 10, file=stream, flush=True)
        assert isinstance(stream.failure, OSError)


def test_what_the_stream_has_the_wrapper_has() -> None:
    read, write = os.pipe()
    with open(write, "w") as file, open(read) as other:
        stream = Tolerant(file)
        assert stream.fileno() == write
        with redirect_stderr(stream):
            print("here", file=sys.stderr, flush=True)
        assert other.readline() == "here\n"
    with pytest.raises(io.UnsupportedOperation):
        Tolerant(None).fileno()
    assert hasattr(Tolerant(None), "fileno")
    assert not hasattr(Tolerant(None), "buffer")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain $x$ {} % 'é' ∂", "plain $x$ {} % 'é' ∂"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        (os.fsdecode(b"\xff.npz"), r"\udcff.npz"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
    ],
)
def test_a_name_is_shown_on_one_line(name: str, words: str) -> None:
    assert shown(name) == words


@pytest.mark.parametrize(
    "name",
    ["plain", "with space", "it's $HOME", "a\nb", os.fsdecode(b"\xff'\\1"), "-x", "\x1b[3", "é\t"],
)
def test_a_quoted_path_is_what_a_shell_reads_back(name: str) -> None:
    text = quoted(name)
    assert text.isprintable()
    done = subprocess.run(
        [b"bash", b"-c", b"printf %s " + os.fsencode(text)], capture_output=True, check=True
    )
    assert os.path.normpath(done.stdout) == os.fsencode(name)
