"""Runs experiments and stores them as notebooks, with their outputs: python experiments [names].

An experiment is a text, experiments/NAME.py; NAME.ipynb beside it has the same cells and what they
printed and drew. Nothing of the machine or of the hour is stored, so that a further run changes
what it measures and no more.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import Any

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "__main__")


def read(name: str) -> Any:
    """The text as a notebook: cells that are numbered, no outputs."""
    notebook = jupytext.read(HERE / f"{name}.py")
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    return notebook


def execute(name: str) -> None:
    """Run every cell in order, and write NAME.ipynb."""
    notebook = read(name)
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # not that it speaks TCP
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"{name} wrote to standard error: {output.text}")
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    nbformat.validate(notebook)
    nbformat.write(notebook, HERE / f"{name}.ipynb")


def reword(name: str) -> None:
    """Put prose that has changed into NAME.ipynb; its code must be as it was executed."""
    notebook, kept = read(name), nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    if code(notebook) != code(kept):
        raise SystemExit(f"the code of {name} has changed: python experiments {name}")
    executed = iter(cell for cell in kept.cells if cell.cell_type == "code")
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            notebook.cells[place] = next(executed)
            notebook.cells[place].id = cell.id
    nbformat.write(notebook, HERE / f"{name}.ipynb")


def code(notebook: Any) -> list[str]:
    """The sources of the cells that are executed."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def main() -> None:
    """Those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--prose", action="store_true", help="run nothing, store changed prose")
    options = parser.parse_args()
    for name in options.names or NAMES:
        if name not in NAMES:
            parser.error(f"there is no {name}; there are: {', '.join(NAMES)}")
        if options.prose:
            reword(name)
            continue
        began = perf_counter()
        execute(name)
        size = (HERE / f"{name}.ipynb").stat().st_size
        print(f"{name}.ipynb: {perf_counter() - began:.0f} s, {size / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    main()
