"""The option --backend of the kernels' benchmarks."""

from __future__ import annotations

import pytest

import ldl


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --backend."""
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="backend to time, such as numpy or cupy; may be repeated (default: all that run here)",
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
