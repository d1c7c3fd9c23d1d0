"""scikit-learn's own checks of estimators, all of them, none excused."""

import doctest
from importlib import import_module
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from ldl.sklearn import (
    AutoEncoder,
    AutoEncoderDetector,
    MLPClassifier,
    MLPRegressor,
)

QUICK: dict[str, Any] = {"max_iter": 30, "learning_rate": 1e-2}
ESTIMATORS = [
    MLPClassifier(**QUICK),
    MLPRegressor(**QUICK),
    AutoEncoder(**QUICK),
    AutoEncoderDetector(**QUICK),
]


@parametrize_with_checks(ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("name", ["classifier", "regressor", "autoencoder", "detector"])
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(import_module(f"ldl.sklearn.{name}"))
    assert found.attempted > 4
    assert not found.failed
