"""The experiments run as they are told, in their fast mode."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted(path for path in (ROOT / "experiments").glob("*.py") if path.stem != "__main__")


def printed(name: str) -> str:
    """What an experiment prints, warnings being errors."""
    environment = {**os.environ, "LDL_FAST": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", ROOT / "experiments" / f"{name}.py"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_convolution() -> None:
    text = printed("convolution")
    assert figure(text, "dense, 2 epochs: ") > 50, "512 digits"
    assert figure(text, "digits, held out: ") > 85, "two epochs of PyLDL's net"


def test_convolutional_denoiser() -> None:
    text = printed("convolutional_denoiser")
    assert "28,353 parameters" in text
    assert figure(text, "BCE ") < 0.4, "16 steps; it begins with 0.69"


def test_attention_has_the_losses_of_pytorch() -> None:
    pytest.importorskip("torch")
    text = printed("attention")
    found = re.search(r"first 40 steps: losses at most (\S+) apart", text)
    assert found
    assert float(found[1]) < 1e-6
    assert text.count("ROMEO:") == 2


def figure(text: str, after: str) -> float:
    """The number that stands right after some words."""
    found = re.search(re.escape(after) + r"([\d.e+-]+)", text)
    assert found, f"{after!r} is not in:\n{text}"
    return float(found[1])


def test_linear_network() -> None:
    text = printed("linear_network")
    assert figure(text, "apart by ") < 1e-9, "descent ends where least squares do"
    assert figure(text, "best rule: ") > 99.7
    assert figure(text, "net: ") > 99.5


def test_nonlinear() -> None:
    text = printed("nonlinear")
    assert figure(text, "moons, no hidden layer: ") < 92 < figure(text, "moons, 2-32-32: ")
    assert figure(text, "blobs, 2-32-32: ") > 98
    assert figure(text, "digits, held out: ") > 95, "five epochs"
    assert len(re.findall(r"^(optimizer|activation|hidden layers) ", text, re.M)) == 15


def test_backends_have_the_same_losses() -> None:
    text = printed("backends")
    line = next(line for line in text.splitlines() if line.startswith("numpy, layer by layer: "))
    assert figure(line, "losses at most ") < 1e-12
    assert figure(line, "outputs ") < 1e-9
    assert figure(line, "layer by layer: ") > 90
    assert re.search("^cupy: ", text, re.M), "it runs, or is named with the reason"


def test_autoencoder() -> None:
    text = printed("autoencoder")
    assert figure(text, "16 numbers: error ") < 0.5 * figure(text, "2 numbers: error ")
    row = [float(n) for n in re.findall(r"([\d.]+)%? ± ", text.split("denoised, dB\n")[1])]
    clean, noisy, denoised, before, after = row[:5]
    assert clean > denoised > noisy
    assert after > before + 2, "denoised"
    assert figure(text, "filled in: error ") < 0.75 * figure(text, "the mean image's ")
    alone = [re.search(rf"{name}: ([\d.]+) .* dB noisy, ([\d.]+)", text) for name in WORLDS]
    gained = [float(found[2]) - float(found[1]) for found in alone if found]
    assert len(gained) == 3
    assert gained[0] > 2 > max(gained[1:]), "what it has not learned it does not restore"


WORLDS = ("digits", "letters", "stripes")


def test_codes() -> None:
    text = printed("codes")
    assert figure(text, "held out: codes ") > 65, "two epochs; pixels have 79"
    assert 75 < figure(text, "pixels ") < 85


@pytest.mark.skipif(find_spec("keras") is None, reason="keras is in the extra test")
def test_keras_has_the_same_losses() -> None:
    text = printed("keras_comparison")
    assert figure(text, "losses at most ") < 1e-3
    scores = dict(re.findall(r"^(ldl|Keras) .* s +([\d.]+) ± ", text, re.M))
    assert float(scores["ldl"]) == pytest.approx(float(scores["Keras"]), rel=0.03)
    assert re.search(r"Keras / ldl: an epoch takes [\d.]+ times as long", text)


# ---- the stored notebooks ----------------------------------------------------------------------


def stored(text: Path) -> tuple[list[Any], list[Any]]:
    """The cells of an experiment's text, and those of its notebook."""
    jupytext = pytest.importorskip("jupytext")
    return jupytext.read(text).cells, jupytext.read(text.with_suffix(".ipynb")).cells


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_text_executed(text: Path) -> None:
    own, kept = stored(text)
    assert [(c.cell_type, c.source) for c in kept] == [(c.cell_type, c.source) for c in own], (
        f"make notebooks ARGS={text.stem}"
    )
    code = [cell for cell in kept if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        pictures = len(re.findall(r"^(?:plt\.)?show\(", cell.source, re.M))
        assert kinds.count("image/png") == pictures
        assert any(o.output_type == "stream" for o in cell.outputs) or not re.search(
            r"^print\(", cell.source, re.M
        )
        assert all(o.output_type != "error" and o.get("name") != "stderr" for o in cell.outputs)


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_tells_nothing_of_the_machine(text: Path) -> None:
    notebook = text.with_suffix(".ipynb")
    assert notebook.stat().st_size < 400_000
    _, kept = stored(text)
    said = [o.get("text", "") for c in kept for o in c.get("outputs", ())]
    assert not re.search(r"/(home|tmp|root|usr|work|Users)/|[A-Z]:\\|\d+:\d\d:\d\d", "".join(said))
    assert all(not cell.metadata for cell in kept), "no times of execution"
