"""The options of the kernels' benchmarks: which backends, and what is done already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ldl


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --backend and --done."""
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="backend to time, such as numpy or cupy; may be repeated (default: all that run here)",
    )
    parser.addoption(
        "--done",
        type=Path,
        metavar="FILE",
        help='JSON {"name": {"backend": …}} of what is not to be timed again; rows are printed',
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each backend asked for; one that cannot run here is skipped by name."""
    if "backend" not in metafunc.fixturenames:
        return
    asked = metafunc.config.getoption("--backend")
    parameters = []
    for name in dict.fromkeys(asked or ldl.backend_names()):
        try:
            parameters.append(pytest.param(ldl.get_backend(name), id=name))
        except ldl.BackendUnavailableError as error:
            if asked:
                parameters.append(pytest.param(None, id=name, marks=pytest.mark.skip(str(error))))
    metafunc.parametrize("backend", parameters)


@pytest.fixture(scope="session")
def done(pytestconfig: pytest.Config) -> dict[str, dict[str, object]] | None:
    """What is not to be timed again, by name and backend; None where no rows are printed."""
    file = pytestconfig.getoption("--done")
    return None if file is None else json.loads(file.read_text())
