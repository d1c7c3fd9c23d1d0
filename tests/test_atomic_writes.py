"""A write replaces a file whole or not at all, whatever happens in the middle of it."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import ldl
from ldl.io import check_writable, load, read_tensors, save, write_atomically, write_tensors

PREAMBLE = "import sys; sys.path[:0] = {path!r}\nfrom ldl.io import *\n"


def python(script: str, *args: object, **kwargs) -> subprocess.Popen:
    """A child that runs a script with this process's import path."""
    code = PREAMBLE.format(path=[p or "." for p in sys.path]) + script
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **kwargs)


def output(script: str, *args: object) -> str:
    with python(script, *args) as child:
        out, _ = child.communicate(timeout=120)
    assert child.returncode == 0, out
    return out


def temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.ldl"
    path.write_bytes(b"old")
    return path


# ---- what a write does ---------------------------------------------------------------------------


def test_a_write_makes_or_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new.bin"
    for data in (b"first", b"second, longer", b""):
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["new.bin"]


def test_a_name_without_a_folder_means_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically("here.bin", b"data")
    assert (tmp_path / "here.bin").read_bytes() == b"data"


def test_the_bytes_are_on_the_disk_before_the_rename_and_the_rename_before_the_return(
    target, monkeypatch
):
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            events.append("folder")
        else:
            events.append(f"file of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def recorded_replace(source, destination):
        events.append("replace")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_atomically(target, b"12345")
    assert events == ["file of 5", "replace", "folder"]


def test_a_symbolic_link_is_followed(target):
    link = target.with_name("latest.ldl")
    link.symlink_to(target.name)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_permissions_are_not_widened(target):
    target.chmod(0o600)
    write_atomically(target, b"new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_threads_that_write_one_file_leave_one_of_their_contents(target):
    contents = [bytes([i]) * 200_000 for i in range(4)]
    errors = []

    def write(data):
        try:
            for _ in range(10):
                write_atomically(target, data)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert target.read_bytes() in contents
    assert temporaries(target.parent) == []


# ---- failures reach the caller and change nothing ------------------------------------------------


def test_a_full_disk_raises_and_leaves_the_old_file_alone(tmp_path):
    """A limit on file sizes makes the kernel refuse in the middle, as a full disk does."""
    script = """
import json, os, resource, signal
import numpy as np
path = sys.argv[1]
write_tensors(path, {"w": np.zeros(10)}, {"version": "old"})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_tensors(path, {"w": np.zeros(100_000)}, {"version": "new"})
except OSError as error:
    print(json.dumps([error.errno, read_tensors(path)[1], os.listdir(os.path.dirname(path))]))
"""
    code, header, names = json.loads(output(script, tmp_path / "model.ldl"))
    assert code == errno.EFBIG
    assert header == {"version": "old"}
    assert names == ["model.ldl"]


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_failing_disk_raises_and_leaves_the_old_file_alone(target, monkeypatch, operation):
    def fail(*args):
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(OSError, match="the disk fails"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == [target.name]


def test_an_interrupt_leaves_the_old_file_alone(target, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == [target.name]


def test_a_folder_that_fails_to_sync_raises(target, monkeypatch):
    fsync = os.fsync

    def fail_for_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "the disk fails")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(OSError, match="the disk fails"):
        write_atomically(target, b"new")


def test_a_file_system_that_cannot_sync_folders_is_good_enough(target, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not for folders")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_path_that_can_be_no_file_raises_the_systems_own_error(target, tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "model.ldl", b"new")
    with pytest.raises(NotADirectoryError):
        write_atomically(target / "model.ldl", b"new")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"new")
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="not a regular file"):
        write_atomically(fifo, b"new")
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["model.ldl", "pipe"]


# ---- names ---------------------------------------------------------------------------------------

NAMES = {
    "as long as the system takes": "n" * 255,
    "255 bytes of letters of two": "é" * 127 + "n",
    "bytes that are no UTF-8": os.fsdecode(b"a\xff\xfe.bin"),
    "a pattern": "[a-z]*(?P<x>.{3}$%s{}",
    "lines": "a\nb\tc",
    "an emoji, quotes and spaces": "\N{GRINNING FACE} '\" \\ ",
    "an option": "--out",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_whatever_the_system_takes_for_a_name_can_be_written(tmp_path, monkeypatch, name):
    path = tmp_path / name
    leave_an_orphan(path, monkeypatch)
    for data in (b"first", b"second"):
        check_writable(path)
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == [name]
    save(ldl.nn.Linear(2, 3), path)
    assert load(path).out_features == 3
    save(ldl.nn.Linear(2, 4), os.fsencode(path))
    assert load(os.fsencode(path)).out_features == 4
    ldl.History([{"epoch": 1}]).to_csv(path)
    assert path.read_text() == "epoch\n1\n"


@pytest.mark.parametrize("name", ["a\nb", os.fsdecode(b"\xff"), "\x1b[31m", "$x {} %s"])
def test_a_file_that_is_refused_is_named_on_one_line(tmp_path, name):
    path = tmp_path / name
    write_tensors(path, {}, {})
    whole = path.read_bytes()
    model = ldl.nn.Linear(2, 1)
    for content in (b"", b"short", whole[:-1], whole[:20] + b"x" + whole[21:], whole):
        path.write_bytes(content)
        with pytest.raises(ldl.CheckpointError) as caught:
            load(path)
        assert str(caught.value).isprintable()
        optimizer = ldl.optim.SGD(model, lr=0.1)
        data = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
        with pytest.raises(ldl.CheckpointError) as caught:
            ldl.fit(model, data, ldl.nn.MSELoss(), optimizer, 1, checkpoint=path, resume=True)
        assert str(caught.value).isprintable()


def test_a_name_that_is_too_long_is_the_systems_error_and_names_the_file(tmp_path):
    path = tmp_path / ("n" * 256)
    for attempt in (check_writable, lambda p: write_atomically(p, b"")):
        with pytest.raises(OSError, match="name too long") as caught:
            attempt(path)
        assert caught.value.errno == errno.ENAMETOOLONG
        assert caught.value.filename == str(path)


def test_a_check_is_refused_where_a_write_is_and_leaves_everything_as_it_was(target, tmp_path):
    check_writable(target)
    check_writable(tmp_path / "new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [target.name]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing" / "a", target / "a", tmp_path / "pipe", ""):
        errors = []
        for attempt in (check_writable, lambda p: write_atomically(p, b"")):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                attempt(path)
            errors.append((type(caught.value), caught.value.errno, caught.value.filename))
        assert errors[0] == errors[1]
        assert errors[0][2] == str(path)
    assert sorted(os.listdir(tmp_path)) == [target.name, "pipe"]


def test_a_check_on_a_full_disk_is_refused(target, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match="No space left") as caught:
        check_writable(target)
    assert caught.value.filename == str(target)


def test_without_permission_the_systems_own_error_is_raised():
    script = """
import json, os
import numpy as np
folder = sys.argv[1]
path, secret = os.path.join(folder, "model.ldl"), os.path.join(folder, "secret.ldl")
write_tensors(path, {"w": np.zeros(3)}, {"version": "old"})
write_tensors(secret, {}, {})
os.chmod(path, 0o644); os.chmod(secret, 0); os.chmod(folder, 0o555)
if os.getuid() == 0:
    os.setuid(65534)
seen = []
for attempt in (lambda: write_tensors(path, {}, {}), lambda: read_tensors(secret)):
    try:
        attempt()
    except Exception as error:
        seen.append(type(error).__name__)
print(json.dumps([seen, read_tensors(path)[1], sorted(os.listdir(folder))]))
"""
    with tempfile.TemporaryDirectory() as folder:
        seen, header, names = json.loads(output(script, folder))
        os.chmod(folder, 0o755)
    assert seen == ["PermissionError", "PermissionError"]
    assert header == {"version": "old"}
    assert names == ["model.ldl", "secret.ldl"]


# ---- killed processes ----------------------------------------------------------------------------


def test_a_file_is_whole_whenever_its_writer_is_killed_and_orphans_do_not_pile_up(tmp_path):
    """Kills a writer until ten kills have hit it in the middle of a write."""
    script = """
import json, os, random, signal, time
import numpy as np
path = sys.argv[1]
folder = os.path.dirname(path)
versions = [np.full(300_000, k, np.float32) for k in range(2)]
write_tensors(path, {"w": versions[0]}, {"k": 0})
wrong, hits, most, kills = [], 0, 0, 0
rng = random.Random(0)
while hits < 10 and kills < 1000:
    child = os.fork()
    if child == 0:
        k = 0
        while True:
            k = 1 - k
            write_tensors(path, {"w": versions[k]}, {"k": k})
    time.sleep(rng.uniform(0.002, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
    try:
        tensors, header = read_tensors(path)
        if not np.array_equal(tensors["w"], versions[header["k"]]):
            wrong.append("mixed")
    except Exception as error:
        wrong.append(str(error))
    orphans = sum(name.endswith(".tmp") for name in os.listdir(folder))
    most = max(most, orphans)
    hits += orphans > 0
write_tensors(path, {"w": versions[0]}, {"k": 0})
print(json.dumps([wrong, hits, most, os.listdir(folder)]))
"""
    wrong, hits, most, names = json.loads(output(script, tmp_path / "model.ldl"))
    assert wrong == []
    assert hits == 10
    assert most == 1
    assert names == ["model.ldl"]


def test_a_temporary_file_is_left_alone_while_its_process_lives(tmp_path):
    script = """
import os
fsync = os.fsync
def wait(descriptor):
    fsync(descriptor)
    print("writing", flush=True)
    sys.stdin.readline()
os.fsync = wait
write_atomically(sys.argv[1], b"theirs")
"""
    path = tmp_path / "model.ldl"
    with python(script, path, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "writing\n"
        (theirs,) = temporaries(tmp_path)
        write_atomically(path, b"ours")
        assert temporaries(tmp_path) == [theirs]
        assert path.read_bytes() == b"ours"
        child.communicate("\n\n\n", timeout=60)
    assert child.returncode == 0
    assert path.read_bytes() == b"theirs"
    assert temporaries(tmp_path) == []


def leave_an_orphan(target, monkeypatch):
    """The temporary file of a write that ended between its making and the rename; its name."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, _target: None)
        write_atomically(target, b"orphan")
    (orphan,) = temporaries(target.parent)
    return orphan


def test_an_orphan_of_the_same_target_is_removed(target, monkeypatch):
    leave_an_orphan(target, monkeypatch)
    write_atomically(target, b"new")
    assert temporaries(target.parent) == []


def test_a_writer_whose_new_temporary_file_was_swept_away_makes_another(target, monkeypatch):
    """Between the making of the file and the lock on it, another process may sweep."""
    import fcntl

    flock = fcntl.flock
    swept = []

    def sweep_first(file, operation):
        if not swept:
            swept.append(file.name)
            os.unlink(file.name)
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    write_atomically(target, b"new")
    assert len(swept) == 1
    assert target.read_bytes() == b"new"


def test_files_that_are_nobodys_orphans_are_left_alone(target, monkeypatch):
    orphan = leave_an_orphan(target, monkeypatch)
    start = orphan.rpartition("-")[0]
    target.with_name(orphan).unlink()
    others = {
        ".ldl-00000000-0123456789abcdef.tmp",
        f"{start}-notes.tmp",
        f"{start}-0123456789abcdef0.tmp",
        f"{start[1:]}-0123456789abcdef.tmp",
        f".{target.name}.tmp",
    }
    for name in others:
        target.with_name(name).write_bytes(b"")
    write_atomically(target, b"new")
    assert set(temporaries(target.parent)) == others


# ---- tensors -------------------------------------------------------------------------------------

DTYPES = ["bool", "float16", "float32", "float64"] + [
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
]
LAYOUTS = {
    "plain": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, 1::2],
    "reversed": lambda a: a[::-1, ::-1],
    "fortran": lambda a: np.asfortranarray(a),
    "broadcast": lambda a: np.broadcast_to(a[:1], (5, 6)),
    "scalar": lambda a: a[:1, :1].reshape(()),
    "empty": lambda a: a[:0],
    "swapped": lambda a: a.reshape(1, 4, 1, 6).swapaxes(1, 3),
}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "layout",
    LAYOUTS.values(),
    ids=LAYOUTS.keys(),
)
def test_arrays_come_back_bit_for_bit(tmp_path, dtype, layout):
    source = np.random.default_rng(0).integers(0, 255, 24 * 8, "uint8").view("uint64")
    source = (source % 2 == 0) if dtype == "bool" else source.view(dtype)[:24]
    array = layout(source.reshape(4, 6))
    write_tensors(tmp_path / "t", {"a": array}, {})
    tensors, _ = read_tensors(tmp_path / "t")
    assert same_bits(tensors["a"], array)


def test_big_endian_arrays_come_back_with_the_same_values(tmp_path):
    array = np.arange(6, dtype=">f4")
    write_tensors(tmp_path / "t", {"a": array}, {})
    read = read_tensors(tmp_path / "t")[0]["a"]
    assert read.dtype == np.float32
    assert (read == array).all()


def test_a_header_comes_back(tmp_path):
    header = {"b": [1, 2.5, None, True, "\N{SNOWMAN}"], "a": {"n": -0.0, "big": 2**70}}
    write_tensors(tmp_path / "t", {}, header)
    assert read_tensors(tmp_path / "t") == ({}, header)


def test_any_safetensors_reader_opens_the_file(tmp_path):
    from safetensors.numpy import load_file

    write_tensors(tmp_path / "t", {"a": np.arange(3)}, {"n": 1})
    assert same_bits(load_file(tmp_path / "t")["a"], np.arange(3))


def test_the_order_of_names_does_not_change_the_bytes(tmp_path):
    a, b = np.arange(3), np.ones(2)
    write_tensors(tmp_path / "1", {"a": a, "b": b}, {"x": 1, "y": 2})
    write_tensors(tmp_path / "2", {"b": b, "a": a}, {"y": 2, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_two_processes_write_the_same_bytes(tmp_path):
    script = """
import ldl
ldl.manual_seed(3)
nn = ldl.nn
save(nn.AutoEncoder.symmetric(6, [5, 2], tied=True), sys.argv[1])
"""
    output(script, tmp_path / "1")
    output(script, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize(
    ("tensors", "header", "kind", "words"),
    [
        ({"c": np.zeros(2, "complex64")}, {}, TypeError, "'c' is complex64"),
        ({"o": np.array([object()])}, {}, TypeError, "'o' is object"),
        ({"d": np.zeros(2, "datetime64[s]")}, {}, TypeError, "'d' is datetime64"),
        ({"l": np.zeros(2, "longdouble")}, {}, TypeError, "'l' is"),
        ({"n": [1.0, 2.0]}, {}, TypeError, "'n' must be a NumPy array, got a list"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "__metadata__"),
        ({}, {"loss": float("nan")}, ValueError, "JSON"),
        ({}, {"f": object()}, TypeError, "JSON"),
        ({}, {"long": "x" * 2**24}, ValueError, "would take more than 16777216 bytes"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_before_anything_is_written(
    target, tensors, header, kind, words
):
    with pytest.raises(kind, match=words):
        write_tensors(target, tensors, header)
    assert target.read_bytes() == b"old"


def test_a_model_that_cannot_be_saved_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model.ldl"
    save(ldl.nn.Linear(2, 3), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save(ldl.nn.Sequential(type("Foreign", (ldl.nn.ReLU,), {})()), path)
    assert path.read_bytes() == before
    assert load(path).out_features == 3
