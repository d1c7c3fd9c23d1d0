"""What every test shares."""

import pytest

import ldl


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


@pytest.fixture(autouse=True)
def _same_seed():
    """What a test builds does not depend on the tests before it."""
    ldl.manual_seed(0)
