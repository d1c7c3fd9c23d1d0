"""The examples of the README run as they stand, on every backend that there is."""

import re
from pathlib import Path

import pytest

import ldl

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_first_example_denoises(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ldl.manual_seed(0)
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    noisy, denoised = re.search(r"noisy (\S+) denoised (\S+)", capsys.readouterr().out).groups()
    assert float(denoised) < float(noisy) / 4


def layer_of_ones_own():
    ldl.manual_seed(0)
    exec(compile(BLOCKS[1], "README.md", "exec"), {})


def test_the_second_example_is_a_layer_in_under_fifteen_lines():
    layer = re.search(r"class Scale.*?\n\n(?=model)", BLOCKS[1], flags=re.DOTALL).group()
    assert len([line for line in layer.splitlines() if line.strip()]) < 15


def test_the_second_example_trains_on_the_host():
    layer_of_ones_own()


@pytest.mark.gpu
def test_the_second_example_trains_on_the_gpu():
    with ldl.use_backend("cupy"):
        layer_of_ones_own()
