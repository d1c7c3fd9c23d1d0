"""Initial weights have the variance that their authors asked for."""

import numpy as np
import pytest

import ldl
from ldl import nn
from ldl.nn import init

IN, OUT = 300, 500
VARIANCES = {
    "he_normal": 2 / IN,
    "he_uniform": 2 / IN,
    "xavier_normal": 2 / (IN + OUT),
    "xavier_uniform": 2 / (IN + OUT),
    "lecun_normal": 1 / IN,
    "lecun_uniform": 1 / IN,
}


@pytest.mark.parametrize(("name", "variance"), VARIANCES.items())
def test_the_variance_is_the_authors(name, variance):
    ldl.manual_seed(0)
    w = init.get(name)((IN, OUT))
    assert w.dtype == "float32"
    assert w.var() == pytest.approx(variance, rel=0.02)
    assert abs(w.mean()) < 3 * (variance / w.size) ** 0.5
    if name.endswith("uniform"):
        assert abs(w).max() <= (3 * variance) ** 0.5 * (1 + 1e-6)
        assert abs(w).max() > 0.99 * (3 * variance) ** 0.5


def test_a_receptive_field_multiplies_the_fans():
    ldl.manual_seed(0)
    assert init.he_normal((3, 3, 50, 70)).var() == pytest.approx(2 / 450, rel=0.03)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (5, 8, 40)])
def test_orthogonal_matrices_are_orthogonal(shape):
    w = init.orthogonal(shape).reshape(-1, shape[-1]).astype("float64")
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_a_layer_takes_an_initialiser_by_name_and_a_wrong_name_lists_the_right_ones():
    w = nn.Linear(30, 20, weight_init="orthogonal").weight.data
    np.testing.assert_allclose(w.T @ w, np.eye(20), atol=1e-5)
    with pytest.raises(ValueError, match=r"no initialiser is named 'he'; there are: .*he_normal"):
        nn.Linear(3, 2, weight_init="he")


def test_biases_start_at_zero():
    assert not nn.Linear(3, 2).bias.data.any()
