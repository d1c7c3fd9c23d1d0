"""Backends are found, chosen, scoped, and refused in one line; random numbers are theirs alike."""

import copy
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import ldl
from ldl import nn, optim, random


@pytest.fixture(autouse=True)
def numpy_afterwards():
    yield
    ldl.set_backend("numpy")


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed distribution that announces a backend called "counting"."""
    (tmp_path / "counting_backend.py").write_text(
        textwrap.dedent(
            """
            from ldl_numpy import NumpyBackend

            class Counting(NumpyBackend):
                name = "counting"
                products = 0

                def matmul(self, a, b, out=None, accumulate=False):
                    self.products += 1
                    return super().matmul(a, b, out=out, accumulate=accumulate)
            """
        )
    )
    info = tmp_path / "counting_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ldl.backends]\ncounting = counting_backend:Counting\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    ldl.backend._instances.pop("counting", None)
    sys.modules.pop("counting_backend", None)


def test_a_third_party_adds_a_backend_with_an_entry_point(third_party):
    assert "counting" in ldl.backend_names()
    with ldl.use_backend("counting") as backend:
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = np.ones((5, 3), "float32")
    ldl.fit(model, (x, x[:, :1]), nn.MSELoss(), optim.Adam(model), 2, batch_size=5)
    assert model.backend is backend
    assert backend.products >= 2 * 6
    ours = copy.deepcopy(model).to("numpy")
    np.testing.assert_array_equal(ours.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "fault", ["OSError(20, 'Not a directory', '/x/.cupy')", "KeyError('HOME')"]
)
def test_a_backend_that_fails_to_load_is_unavailable_and_says_why(third_party, tmp_path, fault):
    (tmp_path / "counting_backend.py").write_text(f"raise {fault}\n")
    with pytest.raises(ldl.BackendUnavailableError, match=r"counting backend .*Error: ") as error:
        ldl.get_backend("counting")
    assert "\n" not in str(error.value)
    assert "ldl.set_backend('numpy')" in str(error.value)


def test_an_unknown_name_is_answered_with_those_that_there_are(third_party):
    with pytest.raises(ValueError, match="'torch'; there are: counting, cupy, numpy") as error:
        ldl.set_backend("torch")
    assert "\n" not in str(error.value)


def test_the_default_is_numpy_and_set_backend_changes_it_for_every_thread(third_party):
    assert ldl.get_backend().name == "numpy"
    ldl.set_backend("counting")
    names = []
    thread = threading.Thread(target=lambda: names.append(nn.ReLU().backend.name))
    thread.start()
    thread.join()
    assert names == ["counting"]
    assert nn.Linear(2, 2).weight.backend.name == "counting"


def test_use_backend_holds_inside_its_block_and_its_thread_alone(third_party):
    names = []
    with ldl.use_backend("counting"):
        thread = threading.Thread(target=lambda: names.append(ldl.get_backend().name))
        thread.start()
        thread.join()
        with ldl.use_backend("numpy"):
            names.append(ldl.get_backend().name)
        names.append(ldl.get_backend().name)
    names.append(ldl.get_backend().name)
    assert names == ["numpy", "numpy", "counting", "numpy"]


def test_a_layer_keeps_the_backend_it_was_built_with(third_party):
    with ldl.use_backend("counting"):
        layer = nn.Linear(2, 2)
    assert layer.backend.name == layer.weight.backend.name == "counting"
    assert layer.to("numpy").backend is layer.weight.backend is ldl.get_backend("numpy")


def run(code):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_without_cupy_its_backend_is_refused_in_a_line_that_says_what_to_install():  # case 23
    message = run(
        """
        import sys
        sys.modules["cupy"] = None
        import ldl
        try:
            ldl.set_backend("cupy")
        except ldl.BackendUnavailableError as error:
            print(error)
        assert ldl.get_backend().name == "numpy"
        """
    )
    assert message.count("\n") == 1
    assert "pip install 'ldl[cuda12]'" in message


def test_without_a_device_its_backend_is_refused_in_a_line_that_says_what_to_do():  # case 23
    message = run(
        """
        import cupy
        cupy.cuda.is_available = lambda: False
        import ldl
        try:
            ldl.nn.Linear(2, 2).to("cupy")
        except ldl.BackendUnavailableError as error:
            print(error)
        """
    )
    assert message.count("\n") == 1
    assert "NVIDIA driver" in message
    assert "ldl.set_backend('numpy')" in message


def test_importing_ldl_imports_nothing_that_is_heavy():
    loaded = run("import ldl, sys; print(*sorted(sys.modules))").split()
    heavy = {"matplotlib", "sklearn", "tqdm", "cupy", "pooch", "mlxtend", "scipy", "pandas"}
    assert heavy.isdisjoint(loaded)
    assert "ldl.nn.linear" in loaded


# ---- random numbers ------------------------------------------------------------------------------


def test_uniform_numbers_are_philoxs_words_cut_to_24_bits():
    key = random.Key(5, 7, 11)
    philox = np.random.Philox(key=[5, 7], counter=[0, 11, 0, 0])
    words = philox.random_raw(50).view("uint32")
    expected = (words >> 8) * np.float32(2**-24)
    np.testing.assert_array_equal(random.uniform((100,), key), expected)


def test_draws_are_functions_of_seed_stream_and_number():
    stream = random.Stream(3, random.NOISE)
    first, second = stream.next(), stream.next()
    assert first == random.Stream(3, random.NOISE).next()
    keys = [
        first,
        second,
        random.Stream(4, random.NOISE).next(),
        random.Stream(3, random.DROPOUT).next(),
        random.Stream(3, random.NOISE, 1).next(),
    ]
    draws = np.stack([random.uniform((1000,), key) for key in keys])
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 0.12


@pytest.mark.parametrize("size", [1, 2, 7, 100_001])
def test_normal_numbers_are_normal(size):
    key = random.Key(0, 0, 0)
    n = ldl.get_backend().normal((size,), "float32", key)
    assert n.shape == (size,)
    assert n.dtype == "float32"
    assert np.isfinite(n).all()
    if size > 1000:
        assert abs(n.mean()) < 0.02
        assert abs(n.std() - 1) < 0.01
        assert abs((n**4).mean() - 3) < 0.1
        assert abs((abs(n) < 1.96).mean() - 0.95) < 0.005
        assert abs(np.corrcoef(n[:-1], n[1:])[0, 1]) < 0.02


def test_one_seed_builds_one_model():
    def build(seed):
        ldl.manual_seed(seed)
        return nn.AutoEncoder.symmetric(8, [4]).state_dict()

    a, b, c = build(0), build(0), build(1)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert (a["encoder.0.weight"] != c["encoder.0.weight"]).any()
    assert (a["encoder.0.weight"].ravel() != a["decoder.0.weight"].ravel()).any()
