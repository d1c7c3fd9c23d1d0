"""The `ldl` command: what it writes, what it says, and that a run stopped half-way can go on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ldl
from ldl.cli import denoise, info, main, plots
from ldl.data.mnist import DataUnavailableError

KEYS = [
    "data",
    "backend",
    "device",
    "seed",
    "epochs",
    "noise",
    "test_bce",
    "test_mse",
    "psnr_noisy",
    "psnr_denoised",
    "seconds",
]
FILES = ["denoised.png", "history.csv", "loss.png", "metrics.json", "model.safetensors"]
PNG = b"\x89PNG\r\n\x1a\n"


QUICK = {"--data": "digits", "--hidden": "16", "--epochs": "2", "--backend": "numpy"}


def run(*args):
    """`ldl denoise` with these options, else QUICK's; the exit code."""
    given = [str(arg) for arg in args]
    missing = [] if "--resume" in given else [name for name in QUICK if name not in given]
    return main(["denoise", *given, *(word for name in missing for word in (name, QUICK[name]))])


def one_line(capsys, code, expected):
    """Check the exit code and that stderr is one line; the line."""
    line = capsys.readouterr().err
    assert code == expected, line
    assert line.count("\n") == 1, line
    assert "Traceback" not in line
    return line


def history(folder):
    """The rows of history.csv, as dicts."""
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """What a test writes without naming a folder lands in one of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def pictures():
    """What a test asks for whose pictures must be drawn."""


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Drawing takes half a second; most tests do without."""
    if "pictures" not in request.fixturenames:
        for name in ("draw_samples", "draw_loss"):
            monkeypatch.setattr(denoise.plots, name, lambda *_: PNG)


@pytest.fixture
def npz(tmp_path):
    """A file of 40 curves of 30 values."""
    path = tmp_path / "curves.npz"
    t = np.linspace(0, 6, 30)
    phase = np.linspace(0, 3, 40)[:, None]
    np.savez(path, x=(0.5 + 0.4 * np.sin(t + phase)).astype(np.float32))
    return path


# ---- a run -------------------------------------------------------------------------------------


def test_files_and_figures(tmp_path, capsys, pictures):
    out = tmp_path / "deep" / "run"
    assert run("--epochs", 12, "--hidden", "64,32", "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [*FILES, "checkpoint.safetensors", "run.json"]
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics) == KEYS
    assert metrics["data"] == "digits"
    assert metrics["backend"] == "numpy"
    assert metrics["epochs"] == 12
    assert metrics["seed"] == 0
    assert metrics["noise"] == "gaussian:0.5"
    assert metrics["psnr_denoised"] > metrics["psnr_noisy"] + 3
    assert metrics["psnr_denoised"] == pytest.approx(-10 * np.log10(metrics["test_mse"]))
    assert 0 < metrics["test_bce"] < 1
    assert metrics["seconds"] >= 0

    for name in ("denoised.png", "loss.png"):
        picture = (out / name).read_bytes()
        assert picture.startswith(PNG)
        assert len(picture) > 10_000
    rows = history(out)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["val_loss"]) == pytest.approx(metrics["test_bce"], rel=1e-5)

    said = capsys.readouterr().out
    for figure in ("psnr_noisy", "psnr_denoised"):
        assert f"{metrics[figure]:.2f} dB" in said
    assert f"{metrics['test_mse']:.4f}" in said
    assert f"{metrics['test_bce']:.4f}" in said
    assert all(name in said for name in FILES)


def test_the_model_comes_back(tmp_path):
    run("--out", tmp_path)
    model = ldl.load(tmp_path / "model.safetensors")
    assert isinstance(model, ldl.nn.AutoEncoder)
    assert model.denoise(np.zeros((3, 64), np.float32)).shape == (3, 64)


def test_one_seed_gives_one_file(tmp_path):
    files = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run("--seed", seed, "--out", tmp_path / name)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize("noise", ["masking:0.3", "salt-pepper:0.2", "square:4"])
@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_noises_and_losses(tmp_path, noise, loss):
    assert run("--noise", noise, "--loss", loss, "--out", tmp_path) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["noise"] == noise


def test_curves_from_a_file(tmp_path, npz, capsys, pictures):
    assert run("--data", npz, "--out", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"] == str(npz)
    said = capsys.readouterr().out
    assert "curves: 32 training and 8 test samples of 30 values" in said


def test_a_single_array_from_a_file(tmp_path, npz, capsys):
    np.save(tmp_path / "curves.npy", np.load(npz)["x"])
    assert run("--data", tmp_path / "curves.npy", "--out", tmp_path / "run") == 0
    assert "curves: 32 training and 8 test samples" in capsys.readouterr().out


def test_a_run_that_is_begun_anew_leaves_nothing_of_the_one_before(tmp_path, npz, monkeypatch):
    out = tmp_path / "run"
    assert run("--data", npz, "--epochs", 2, "--out", out) == 0
    assert (out / "model.safetensors").exists()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ldl, "fit", interrupted)
    assert run("--data", npz, "--hidden", "8", "--out", out) == 130
    assert sorted(path.name for path in out.iterdir()) == ["run.json"]


def test_a_run_whose_data_have_moved_is_resumed_with_their_new_place(tmp_path, npz, capsys):
    out, moved = tmp_path / "run", tmp_path / "moved.npz"
    assert run("--data", npz, "--epochs", 2, "--out", out) == 0
    npz.rename(moved)
    assert run("--out", out, "--resume") == 2
    assert "give its new place with --data" in capsys.readouterr().err
    assert run("--data", moved, "--out", out, "--resume") == 0
    assert json.loads((out / "run.json").read_text())["data"] == str(moved)
    other = tmp_path / "other.npz"
    np.savez(other, x=1 - np.load(moved)["x"])
    assert run("--data", other, "--out", out, "--resume") == 1
    assert "data (CRC-32)" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text())["data"] == str(moved)


def test_errors_speak_of_the_commands_options(tmp_path, npz, capsys, monkeypatch):
    def diverged(*_, **__):
        raise ldl.DivergedError(1, 2, "the loss", ldl.History())

    assert run("--data", npz, "--backend", "cupy", "--out", tmp_path / "a") == 1
    assert "--backend numpy" in capsys.readouterr().err
    monkeypatch.setattr(ldl, "fit", diverged)
    assert run("--data", npz, "--out", tmp_path / "b") == 1
    said = capsys.readouterr().err
    assert "epoch 1, batch 2" in said
    assert "a lower --lr" in said
    assert "clip_norm" not in said


def test_black_images_still_give_json(tmp_path):
    np.savez(tmp_path / "black.npz", x=np.zeros((10, 8, 8), np.uint8))
    code = run("--data", tmp_path / "black.npz", "--noise", "masking:0.5", "--out", tmp_path)
    assert code == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["psnr_noisy"] is None
    assert "Infinity" not in (tmp_path / "metrics.json").read_text()


def test_a_second_run_replaces_the_first(tmp_path):
    run("--epochs", 3, "--out", tmp_path)
    run("--epochs", 1, "--out", tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 1


# ---- stopped and resumed -----------------------------------------------------------------------

KILLED = ["--data", "digits", "--hidden", "16", "--backend", "numpy", "--epochs", "40"]

SLOW_EPOCHS = """
import signal, sys, time
from ldl.cli import main
from ldl.train import loop
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
save = loop.save_checkpoint
def slow(*args):
    save(*args)
    time.sleep(0.2)
loop.save_checkpoint = slow
sys.exit(main(sys.argv[1:]))
"""


def stop_half_way(folder, number):
    """Start a run in a process of its own and send it a signal once an epoch is saved."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_EPOCHS, "denoise", *KILLED, "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert not (folder / "model.safetensors").exists(), "it ended before it was stopped"
    return process.returncode, said


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory):
    """The model file of the run that was not stopped."""
    folder = tmp_path_factory.mktemp("unstopped")
    subprocess.run(
        [sys.executable, "-m", "ldl.cli", "denoise", *KILLED, "--out", str(folder)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_model(tmp_path, unstopped, number):
    code, said = stop_half_way(tmp_path, number)
    if number == signal.SIGINT:
        assert code == 130
        assert said == f"ldl denoise: stopped; to continue: ldl denoise --out {tmp_path} --resume\n"
    else:
        assert code == -signal.SIGKILL
    subprocess.run(
        [sys.executable, "-m", "ldl.cli", "denoise", "--out", str(tmp_path), "--resume"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (tmp_path / "model.safetensors").read_bytes() == unstopped
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 40


def test_resuming_a_run_that_has_ended_changes_nothing(tmp_path):
    run("--out", tmp_path)
    kept = [name for name in FILES if name != "history.csv"]
    before = [(tmp_path / name).read_bytes() for name in kept]
    rows = history(tmp_path)
    assert run("--out", tmp_path, "--resume") == 0
    assert [(tmp_path / name).read_bytes() for name in kept] == before
    assert history(tmp_path) == rows


def test_resuming_with_other_settings(tmp_path, capsys):
    run("--out", tmp_path)
    capsys.readouterr()
    code = run("--out", tmp_path, "--resume", "--hidden", "8,4", "--seed", "0", "--lr", "0.1")
    line = one_line(capsys, code, 2)
    assert "--hidden 16 (not 8,4), --lr 0.002 (not 0.1)" in line
    assert "--seed" not in line


def test_resuming_with_the_same_settings_and_auto(tmp_path):
    run("--out", tmp_path)
    assert run("--out", tmp_path, "--resume", "--hidden", "16", "--backend", "auto") == 0


def test_resuming_where_there_is_no_run(tmp_path, capsys):
    args = ["--data", "digits", "--hidden", "8", "--epochs", "1", "--backend", "numpy"]
    assert main(["denoise", *args, "--out", str(tmp_path), "--resume"]) == 0
    assert f"no run to resume in {tmp_path}: starting one" in capsys.readouterr().out


def test_a_new_run_forgets_the_old_checkpoint(tmp_path, monkeypatch):
    run("--epochs", 1, "--out", tmp_path)

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ldl, "fit", stop)
        assert run("--epochs", 3, "--out", tmp_path) == 130
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert run("--out", tmp_path, "--resume") == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 3


@pytest.mark.parametrize("name", ["run.json", "checkpoint.safetensors"])
def test_resuming_from_damaged_files(tmp_path, capsys, name):
    run("--out", tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert name in one_line(capsys, run("--out", tmp_path, "--resume"), 1)


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--hidden", "256,x"], "positive widths such as 256,64, got '256,x'"),
        (["--hidden", "0"], "positive widths"),
        (["--hidden", ""], "positive widths"),
        (["--noise", "fog:1"], "gaussian:0.5, masking:0.3, salt-pepper:0.2 or square:8"),
        (["--noise", "masking:2"], "(0, 1]"),
        (["--loss", "l1"], "invalid choice"),
        (["--hidden", "9" * 5000], "positive widths"),
        (["--epochs", "0"], "whole number from 1"),
        (["--epochs", "9" * 400], "whole number from 1"),
        (["--batch-size", "1.5"], "whole number from 1"),
        (["--lr", "nan"], "positive number"),
        (["--lr", "fast"], "positive number"),
        (["--seed", "-1"], "from 0 to 2**64 - 1"),
        (["--data", "cifar"], "mnist-5k, mnist, digits, PATH.npz, PATH.npy"),
        (["--data", "none.npz"], "there is no file"),
        (["--data", "~nobody-of-that-name/x.npz"], "there is no file"),
        (["--backend", "abacus"], "auto, numpy, cupy"),
        (["--turbo"], "no such option: --turbo (see"),
        (["--epoch", "3"], "no such option: --epoch 3, did you mean --epochs? (see"),
        (["--batchsize=3"], "did you mean --batch-size?"),
        (["--hidden", "256", "64"], "no such argument: 64"),
        (["--out", __file__], "is a file"),
        (["--out", ""], "needs a folder, got ''"),
        (["--out", " "], "needs a folder, got ' '"),
    ],
)
def test_mistakes_take_one_line(capsys, args, words):
    line = one_line(capsys, main(["denoise", *args]), 2)
    assert words in line
    assert line.startswith("ldl denoise: ")


def test_unknown_command(capsys):
    assert "'learn'" in one_line(capsys, main(["learn"]), 2)


def test_data_that_does_not_fit(tmp_path, capsys):
    np.savez(tmp_path / "far.npz", x=np.full((9, 3), 7.0))
    line = one_line(capsys, main(["denoise", "--data", str(tmp_path / "far.npz")]), 2)
    assert "ranges from 7.0 to 7.0" in line


def test_missing_data(tmp_path, monkeypatch, capsys):
    def missing(_name):
        raise DataUnavailableError("no network")

    monkeypatch.setattr(denoise, "load_dataset", missing)
    assert one_line(capsys, run("--out", tmp_path), 1) == "ldl denoise: no network\n"


def test_missing_backend(monkeypatch, capsys):
    def missing(_name=None):
        raise ldl.BackendUnavailableError("no GPU")

    monkeypatch.setattr(ldl, "get_backend", missing)
    assert one_line(capsys, main(["denoise", "--backend", "cupy"]), 1) == "ldl denoise: no GPU\n"


def test_without_matplotlib_all_but_the_pictures_is_written(
    tmp_path, monkeypatch, capsys, pictures
):
    (tmp_path / "loss.png").write_bytes(PNG)
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("--out", tmp_path) == 0
    written = {p.name for p in tmp_path.iterdir()}
    assert {"model.safetensors", "metrics.json", "history.csv"} <= written
    assert not written & {"denoised.png", "loss.png"}, "a picture of another run"
    said = capsys.readouterr().out
    assert "pip install 'ldl[demo]'" in said.splitlines()[-1]
    assert f"ldl denoise --out {tmp_path} --resume" in said.splitlines()[-1]
    assert "denoised.png  " not in said
    monkeypatch.undo()
    assert main(["denoise", "--out", str(tmp_path), "--resume"]) == 0
    assert (tmp_path / "denoised.png").read_bytes().startswith(PNG)
    assert "need matplotlib" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "hidden", ["2000000000000", "99999999999999999999", "9999999999,9999999999"]
)
def test_a_model_too_large_for_the_memory(tmp_path, capsys, hidden):
    run("--out", tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    capsys.readouterr()
    line = one_line(capsys, run("--hidden", hidden, "--out", tmp_path), 1)
    assert "parameters" in line
    assert "smaller --hidden" in line
    assert (tmp_path / "run.json").read_bytes() == before, "the run that was there is gone"


def test_no_memory_left_while_training(tmp_path, monkeypatch, capsys):
    def fit(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(ldl, "fit", fit)
    line = one_line(capsys, run("--out", tmp_path), 1)
    assert "smaller --batch-size or --hidden" in line


def test_a_result_that_is_worse_than_its_input(tmp_path, capsys):
    assert run("--lr", "1e10", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["psnr_denoised"] < metrics["psnr_noisy"]
    assert "worse than its input" in said
    assert "lower --lr (now 1e+10)" in said
    assert run("--epochs", 30, "--out", tmp_path) == 0
    assert "worse than its input" not in capsys.readouterr().out


def test_an_out_that_the_system_refuses(capsys):
    assert "cannot write" in one_line(capsys, run("--out", "n" * 300), 1)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    def full(path, _data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(denoise, "write_atomically", full)
    line = one_line(capsys, run("--out", tmp_path), 1)
    assert line == f"ldl denoise: cannot write {tmp_path / 'run.json'}: No space left on device\n"


def test_divergence_takes_one_line(tmp_path, capsys):
    code = run("--loss", "mse", "--lr", "1e38", "--epochs", "3", "--out", tmp_path)
    assert "try a lower --lr" in one_line(capsys, code, 1)


# ---- apply -------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path):
    """The file of an autoencoder of 64 values."""
    ldl.manual_seed(0)
    ldl.save(ldl.nn.AutoEncoder.symmetric(64, [8]), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def apply(model, source, out):
    return main(["apply", str(model), str(source), "--out", str(out)])


@pytest.mark.parametrize("shape", [(5, 64), (5, 8, 8), (5, 16, 4), (1, 8, 8, 1), (3000, 8, 8)])
@pytest.mark.parametrize("dtype", ["uint8", "float64", "bool"])
def test_apply(tmp_path, model_file, capsys, shape, dtype):
    x = np.random.default_rng(0).random(shape)
    x = (x * 255).astype(dtype) if dtype == "uint8" else x.round().astype(dtype)
    np.savez(tmp_path / "in.npz", x=x)
    assert apply(model_file, tmp_path / "in.npz", tmp_path / "out.npz") == 0
    with np.load(tmp_path / "out.npz") as file:
        assert file.files == ["x"]
        y = file["x"]
    assert y.shape == shape
    assert y.dtype == np.float32
    rows = x.reshape(len(x), 64).astype(np.float32) / (255 if dtype == "uint8" else 1)
    assert np.allclose(y.reshape(len(x), 64), ldl.load(model_file).denoise(rows), atol=1e-6)
    said = capsys.readouterr().out
    assert str(tmp_path / "out.npz") in said
    assert str(shape) in said


def test_apply_goes_by_batches(tmp_path, model_file, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        ldl.nn.Linear, "__call__", lambda self, x: sizes.append(len(x)) or self.forward(x)
    )
    np.savez(tmp_path / "in.npz", x=np.zeros((5000, 64), np.uint8))
    assert apply(model_file, tmp_path / "in.npz", tmp_path / "out.npz") == 0
    assert max(sizes) <= 1024
    assert sum(sizes) == 2 * 5000


APPLY_MISTAKES = {
    "other width": ({"x": np.zeros((4, 28, 28))}, 2, "784 values (28x28), the model takes 64"),
    "a range": ({"x": np.full((4, 64), 3.0)}, 2, "or cut it with x.clip(0, 1)"),
    "nan": ({"x": np.full((4, 64), np.nan)}, 2, "x holds nan at [0, 0]"),
    "no x": ({"a": np.zeros(3), "b": np.zeros(3)}, 2, "needs an array x; it has a, b"),
    "text": ({"x": np.array([["a"] * 64])}, 2, "holds <U1"),
}


@pytest.mark.parametrize("case", APPLY_MISTAKES)
def test_apply_refuses_data_that_do_not_fit(tmp_path, model_file, capsys, case):
    arrays, code, words = APPLY_MISTAKES[case]
    np.savez(tmp_path / "in.npz", **arrays)
    line = one_line(capsys, apply(model_file, tmp_path / "in.npz", tmp_path / "out.npz"), code)
    assert words in line
    assert line.startswith("ldl apply: ")
    assert not (tmp_path / "out.npz").exists()


def test_apply_refuses_files_that_do_not_fit(tmp_path, model_file, capsys):
    source, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, x=np.zeros((2, 64)))
    content = source.read_bytes()

    def line(code, model=model_file, source=source, out=out):
        return one_line(capsys, apply(model, source, out), code)

    assert "there is no file" in line(2, source=tmp_path / "none.npz")
    assert "none.safetensors: No such file" in line(1, model=tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    assert "bad.safetensors" in line(1, model=tmp_path / "bad.safetensors")
    ldl.save(ldl.nn.Sequential(ldl.nn.Linear(64, 64)), tmp_path / "other.safetensors")
    assert "a Sequential, and ldl apply takes an AutoEncoder" in line(
        1, model=tmp_path / "other.safetensors"
    )
    halved = ldl.nn.AutoEncoder(ldl.nn.Linear(64, 8), ldl.nn.Linear(8, 32))
    ldl.save(halved, tmp_path / "halved.safetensors")
    assert "gives 32 values for 64" in line(1, model=tmp_path / "halved.safetensors")
    assert "must end in .npz or .npy, got" in line(2, out=tmp_path / "out.png")
    assert "is the input" in line(2, out=source)
    assert source.read_bytes() == content
    assert "cannot write" in line(1, out=tmp_path / "no folder" / "out.npz")
    assert "--out" in one_line(capsys, main(["apply", str(model_file), str(source)]), 2)


# ---- help and info -----------------------------------------------------------------------------


def test_help(capsys):
    assert main(["denoise", "--help"]) == 0
    said = capsys.readouterr().out
    for words in ("--hidden", "mnist-5k", "gaussian:S", "default", "examples:", "--resume"):
        assert words in said


def test_the_rates_warm_up_is_in_the_help(capsys):
    main(["denoise", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "it rises over the first 2 % of the steps" in said
    assert "ldl.optim.TrapezoidLR" in said


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ldl {ldl.__version__}\n"


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "denoise" in capsys.readouterr().out


def test_help_is_light():
    heavy = "{'matplotlib', 'sklearn', 'mlxtend', 'tqdm', 'pooch', 'cupy'} & set(sys.modules)"
    code = f"import sys; from ldl.cli import main; main(['--help']); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_info(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for words in ("ldl 0.", "Python 3.", f"numpy                 {np.__version__}", "cupy", "CPUs"):
        assert words in said
    assert "OMP_NUM_THREADS       7" in said


def test_info_never_fails(monkeypatch, capsys):
    def broken(*_args, **_kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(info, "get_backend", broken)
    monkeypatch.setattr(np, "show_config", broken)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert main(["info"]) == 0
    assert "broken: RuntimeError: broken" in capsys.readouterr().out


# ---- pictures ----------------------------------------------------------------------------------


def test_psnr():
    assert plots.psnr(np.zeros(4), np.full(4, 0.1)) == pytest.approx(20)
    assert plots.psnr(np.ones(4), np.ones(4)) == float("inf")


def test_one_of_each_class_is_shown():
    labels = np.array([3, 3, 1, 2, 1, 3])
    assert plots.pick(labels, 6, 4) == [2, 3, 0, 1]
    assert plots.pick(None, 3, 12) == [0, 1, 2]


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (4, 4, 3), None])
@pytest.mark.parametrize("count", [1, 20])
def test_samples_of_any_shape_can_be_drawn(shape, count, pictures):
    x = np.random.default_rng(0).random((count, int(np.prod(shape or 30))), np.float32)
    assert plots.draw_samples(x, x * 0.5, x, None, shape, "title").startswith(PNG)


@pytest.mark.parametrize("epochs", [1, 30])
def test_a_loss_curve_can_be_drawn(epochs, pictures):
    losses = [1 / (i + 1) for i in range(epochs)]
    assert plots.draw_loss(losses, losses, 0.1, "squared error", "title").startswith(PNG)


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "ldl.cli", "denoise", "--lr", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ldl denoise: ")


def test_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run() == 0
    assert Path("runs/denoise/metrics.json").exists()
