"""What every test shares."""

import os

import pytest

import ldl

os.environ.setdefault("SCIPY_ARRAY_API", "1")
"""For scikit-learn's checks of estimators, before SciPy is imported: none of them is skipped."""


def pytest_addoption(parser):
    """How many random programs tests/test_rewriting.py runs in each way."""
    parser.addoption("--programs", type=int, default=120)


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped, by name, where CuPy cannot run."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        ldl.get_backend("cupy")
    except ldl.BackendUnavailableError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their argument: what they hold may be of the second in which it was made
    (gzip writes the time), and every process that shares the tests out must find the same names.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _same_seed():
    """What a test builds does not depend on the tests before it."""
    ldl.manual_seed(0)
