"""The examples of the site run as they stand, and no page, layer or loss is left out of it."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import ldl
from ldl import nn, optim

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
EXAMPLES = [
    pytest.param(block, id=f"{page}-{number}")
    for page, text in sorted(PAGES.items())
    if page != "guide.md"  # whose examples test_readme runs
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
]
MATHEMATICS = {page: text for page, text in PAGES.items() if page.startswith("mathematics/")}


def test_there_are_examples():
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_runs_alone(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ldl.manual_seed(0)
    exec(compile(block, "docs", "exec"), {"__name__": "docs"})


def test_every_example_asserts_something_or_checks_gradients():
    for example in EXAMPLES:
        (block,) = example.values
        assert re.search(r"^assert |^ *ldl\.check_gradients", block, flags=re.MULTILINE), example.id


def test_every_layer_and_loss_has_its_mathematics():
    """As a name in a heading."""
    pages = [text for page, text in MATHEMATICS.items() if "optimizers" not in page]
    headings = re.findall(r"^##+ (.*)$", "\n".join(pages), flags=re.MULTILINE)
    told = {name for heading in headings for name in re.findall(r"`(\w+)`", heading)}
    bases = {"Module", "Loss", "ElementwiseLoss", "Activation"}
    there = {
        name
        for name in nn.__all__
        if isinstance(value := getattr(nn, name), type) and issubclass(value, (nn.Module, nn.Loss))
    }
    assert told - there == set()
    assert there - bases - told == set()


def test_every_optimizer_and_schedule_has_its_mathematics():
    page = MATHEMATICS["mathematics/optimizers.md"]
    told = set(re.findall(r"^## `(\w+)`$|^\| `(\w+)`", page, flags=re.MULTILINE))
    there = {name for name in optim.__all__ if name[0].isupper()} - {"Optimizer", "Schedule"}
    assert {name for pair in told for name in pair if name} == there


def test_the_pages_fetch_nothing():
    """What a reader without a network would not see."""
    settings = (DOCS.parent / "mkdocs.yml").read_text()
    fetched = re.findall(r"^  - (.*)$", settings, flags=re.MULTILINE)
    files = [name for name in fetched if name.endswith((".css", ".js"))]
    assert len(files) == 5
    assert all((DOCS / name).is_file() for name in files)
    assert not re.findall(r"!\[[^]]*\]\(https?:", "\n".join(PAGES.values()))
    fonts = re.findall(r"url\((fonts/[^)]*)\)", (DOCS / "katex/katex.min.css").read_text())
    assert fonts
    assert all((DOCS / "katex" / font).is_file() for font in fonts)


def test_every_experiment_is_told():
    told = re.findall(r"^\| (\w+) \|", PAGES["experiments.md"], flags=re.MULTILINE)
    there = (DOCS.parent / "experiments").glob("*.py")
    assert sorted(set(told) - {"notebook"}) == sorted(p.stem for p in there if p.stem[0] != "_")


@pytest.mark.parametrize("page", sorted(PAGES))
def test_formulas_are_closed(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", PAGES[page], flags=re.DOTALL)
    assert text.count(r"\(") == text.count(r"\)")
    assert text.count(r"\[") == text.count(r"\]")
    for formula in re.findall(r"\\\((.*?)\\\)|\\\[(.*?)\\\]", text, flags=re.DOTALL):
        found = "".join(formula)
        assert found.replace(r"\{", "").count("{") == found.replace(r"\}", "").count("}"), found


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(PAGES)


def test_the_api_names_what_a_module_of_its_name_would_hide():
    """Of an `__all__` the site shows what is no module, and takes a function for its file's."""
    pages = "\n".join(text for page, text in PAGES.items() if page.startswith("api/"))
    packages = re.findall(r"^::: (ldl(?:\.\w+)*)$", pages, flags=re.MULTILINE)
    hidden = 0
    for package in map(module, packages):
        for name in getattr(package, "__all__", ()):
            home = getattr(getattr(package, name), "__module__", "")
            if home.endswith(f".{name}"):
                hidden += 1
                assert f"::: {home}.{name}\n" in pages, f"{package.__name__}.{name}"
    assert hidden


def module(name):
    """The module of that name; None for what is a function."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None
