"""The examples of the README and of the guide run as they stand, and what is listed is there."""

import re
from pathlib import Path

import pytest

import ldl
from ldl import plots
from ldl.cli import main
from ldl.train import metrics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TEXT = README + (ROOT / "docs/guide.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def run(block, name):
    """Run one of the examples; the values of its names."""
    values = {"__name__": name}
    exec(compile(block, "README.md", "exec"), values)
    return values


def test_every_example_has_a_test():
    assert len(BLOCKS) == 6


def test_the_first_example_denoises(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ldl.manual_seed(0)
    run(BLOCKS[0], "denoise")
    noisy, denoised = re.search(r"noisy (\S+) denoised (\S+)", capsys.readouterr().out).groups()
    assert float(denoised) < float(noisy) / 4


def layer_of_ones_own():
    ldl.manual_seed(0)
    run(BLOCKS[1], "layer")


def test_the_second_example_is_a_layer_in_under_fifteen_lines():
    layer = re.search(r"class Scale.*?\n\n(?=model)", BLOCKS[1], flags=re.DOTALL).group()
    assert len([line for line in layer.splitlines() if line.strip()]) < 15


def test_the_second_example_trains_on_the_host():
    layer_of_ones_own()


@pytest.mark.gpu
def test_the_second_example_trains_on_the_gpu():
    with ldl.use_backend("cupy"):
        layer_of_ones_own()


def test_the_third_example_fits_a_sine():
    ldl.manual_seed(0)
    history = run(BLOCKS[2], "sine")["history"]
    assert history["loss"][-1] < history["loss"][0] / 20


def test_the_fourth_example_classifies_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run(BLOCKS[3], "classify")
    assert first["scores"]["accuracy"] > 0.95
    assert (first["labels"] == first["y_test"]).mean() == pytest.approx(first["scores"]["accuracy"])
    assert len(first["history"]) < first["epochs"], "it did not stop early"
    assert (tmp_path / "digits.checkpoint").exists()
    again = run(BLOCKS[3], "classify")
    assert again["scores"] == first["scores"]
    assert again["history"]["seconds"] == first["history"]["seconds"], "it trained anew"


def test_the_fifth_example_reads_images_and_rows(capsys):
    names = run(BLOCKS[4], "images")
    found = re.findall(r"'accuracy': ([\d.]+)", capsys.readouterr().out)
    assert len(found) == 2
    assert min(map(float, found)) > 0.96
    assert names["model"].predict(names["x"][0][None]).shape == (1, 10)


def test_the_sixth_example_is_at_home_in_scikit_learn(capsys):
    values = run(BLOCKS[5], "estimators")
    assert float(capsys.readouterr().out) > 0.9
    assert values["codes"].shape == (1797, 8)


# ---- what there is -------------------------------------------------------------------------------


def listed():
    """The names in the table of what there is, by the first word of their row."""
    section = TEXT.partition("## What there is")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", section, flags=re.MULTILINE)
    return {kind: re.findall(r"`([^`]+)`", names) for kind, names in rows}


def public(module, base, *left_out):
    """The names of a module's public classes under `base`, but for bases."""
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name
        for name, value in found.items()
        if isinstance(value, type) and issubclass(value, base) and name not in left_out
    }


def test_what_is_listed_is_what_there_is():
    names = listed()
    nn, optim, data = ldl.nn, ldl.optim, ldl.data
    modules = {*names["layers"], *names["activations"], *names["models"]}
    assert modules == public(nn, nn.Module, "Module", "Activation")
    assert set(names["losses"]) == public(nn, nn.Loss, "Loss", "ElementwiseLoss")
    optimizers = {name for name in names["optimizers"] if not name.startswith("clip_")}
    assert optimizers == public(optim, optim.Optimizer, "Optimizer")
    assert set(names["schedules"]) == public(optim, optim.Schedule, "Schedule")
    assert set(names["noises"]) == public(data, data.Noise, "Noise")
    own = {"ldl.Metric", "ldl.EpochMetric"}
    assert {f'"{name}"' for name in metrics._NAMED} == set(names["metrics"]) - own
    assert set(names["pictures"]) == set(plots.__all__) - {"save"}
    for name in (*names["callbacks"], *names["training"], *own):
        assert hasattr(ldl, name.removeprefix("ldl."))


def test_the_initialisers_listed_are_those_there_are():
    names = listed()["initialisers"]
    kinds = [name for name in names if name.endswith("_")]
    found = {f"{kind}{form}" for kind in kinds for form in ("normal", "uniform")}
    found |= set(names) - set(kinds) - {"normal", "uniform"}
    assert found == set(ldl.nn.init._NAMED)


def test_the_commands_of_the_readme_have_such_options(capsys):
    """Each `ldl` line parses: it is tried with an option that the command then refuses."""
    lines = re.findall(
        r"^ldl (?:denoise|apply|train|predict) .*?(?=  |$)", TEXT, flags=re.MULTILINE
    )
    lines += re.findall(r"`ldl (?=denoise --)(.*?)`", TEXT)
    assert len(lines) > 4
    for line in lines:
        words = line.removeprefix("ldl ").split()
        assert main([*words, "--nothing-of-that-name"]) in (0, 2)
        said = capsys.readouterr()
        assert "no such option: --nothing-of-that-name" in said.err or "usage:" in said.out, line


def test_the_readme_is_short_and_its_links_hold():
    assert len(README.splitlines()) < 120
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readmes_figures_are_the_guides():
    rows = re.findall(r"^\| .*\*\*.* \|$", README, flags=re.MULTILINE)
    assert len(rows) == 6
    assert all(row in TEXT.removeprefix(README) for row in rows)
