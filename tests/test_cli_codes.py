"""`ldl codes`: codes, their picture and their purity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn
from ldl.cli import main
from ldl.cli.codes import purity

SKLEARN = pytest.importorskip("sklearn")


def files(folder: Path, labelled: bool = True) -> tuple[Path, Path]:
    """A model that keeps its input's first four numbers, and samples of three kinds."""
    model = nn.AutoEncoder(nn.Linear(6, 4, bias=False), nn.Linear(4, 6))
    model.encoder.weight.data[...] = np.eye(6, 4)
    ldl.save(model, folder / "model.safetensors")
    rng = np.random.default_rng(0)
    y = np.repeat([3, 5, 9], 20)
    x = np.clip(0.2 * rng.random((60, 6)) + np.eye(6)[[0, 1, 2]].repeat(20, 0) * 0.8, 0, 1)
    np.savez(folder / "data.npz", x=x, **({"y": y} if labelled else {}))
    return folder / "model.safetensors", folder / "data.npz"


def test_codes_a_picture_and_purity(tmp_path: Path, capsys: Any) -> None:
    model, data = files(tmp_path)
    out = tmp_path / "codes.npz"
    assert main(["codes", str(model), str(data), "--out", str(out), "--plot"]) == 0
    said = capsys.readouterr().out
    assert "k-means, 3 clusters of 60 codes: 100.00% pure" in said
    with np.load(out) as found:
        np.testing.assert_allclose(found["codes"], np.load(data)["x"][:, :4], rtol=1e-6)
        np.testing.assert_array_equal(found["y"], np.load(data)["y"])
    assert (tmp_path / "codes.png").read_bytes().startswith(b"\x89PNG")


def test_without_labels_or_a_plane(tmp_path: Path, capsys: Any) -> None:
    model, data = files(tmp_path, labelled=False)
    assert main(["codes", str(model), str(data), "--out", str(tmp_path / "c.npz")]) == 0
    assert "has no labels y: no purity" in capsys.readouterr().out
    assert not (tmp_path / "c.png").exists()
    ldl.save(nn.AutoEncoder(nn.Linear(6, 1), nn.Linear(1, 6)), model)
    assert main(["codes", str(model), str(data), "--out", str(tmp_path / "c.npz"), "--plot"]) == 0
    assert "there is no plane for it" in capsys.readouterr().err


def test_purity_is_the_share_of_the_commonest() -> None:
    codes = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    assert purity(codes, np.array([0, 0, 1, 1, 1, 1])) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, d: ldl.save(nn.Sequential(nn.Linear(6, 2)), m), "ldl codes takes an AutoEnc"),
        (lambda m, d: np.savez(d, x=np.zeros((3, 5))), "does not take samples of 5 values"),
        (lambda m, d: np.savez(d, x=np.zeros((3, 6)), y=np.zeros(2)), "y"),
        (lambda m, d: d.unlink(), "there is no file"),
    ],
)
def test_what_cannot_be_done_is_a_line(
    tmp_path: Path, capsys: Any, change: Any, words: str
) -> None:
    model, data = files(tmp_path)
    change(model, data)
    assert main(["codes", str(model), str(data), "--out", str(tmp_path / "c.npz")]) in (1, 2)
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "c.npz").exists()
