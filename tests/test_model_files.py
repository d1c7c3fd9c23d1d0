"""A saved model comes back bit for bit; anything else given as a model file is refused safely."""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
import zipfile
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

import ldl
from ldl import nn
from ldl.backend import Backend
from ldl.io import (
    CheckpointError,
    architecture,
    load,
    load_with_notes,
    register,
    save,
    write_tensors,
)
from ldl.nn import Module, Parameter, init


@register
class Gate(Module):
    """A layer of one's own: y = x * w ** power, w a learned vector; the rest is kept as given."""

    def __init__(self, width: int, *bodies: Module, power: float = 1.0, **extra: Any) -> None:
        self.weight = Parameter(init.ones((width,)))
        self.bodies = bodies
        self.power = power
        self.extra = extra

    def forward(self, x):
        for body in self.bodies:
            x = body(x)
        return x * self.weight.data**self.power


@register
class Block(Module):
    """A model of one's own, which makes its layers itself."""

    def __init__(self, width: int) -> None:
        self.inner = nn.Linear(width, 2 * width)
        self.built_on = ldl.get_backend().name

    def forward(self, x):
        return self.inner(x)


def round_trip(model: Module, folder: Path, **options) -> Module:
    save(model, folder / "model.ldl")
    return load(folder / "model.ldl", **options)


def randomise(model: Module) -> Module:
    """Give every parameter, biases too, values of its own."""
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape)
    return model


def same_state(a: Module, b: Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(
        x[n].dtype == y[n].dtype and x[n].shape == y[n].shape and x[n].tobytes() == y[n].tobytes()
        for n in x
    )


# ---- round trips ---------------------------------------------------------------------------------

MODELS = {
    "linear": lambda: nn.Linear(4, 3),
    "no bias": lambda: nn.Linear(4, out_features=3, bias=False),
    "activations": lambda: nn.Sequential(
        nn.LeakyReLU(0.2), nn.ELU(alpha=0.5), nn.GELU("tanh"), nn.Softplus(2.0), nn.Softmax(axis=1)
    ),
    "further activations": lambda: nn.Sequential(
        nn.PReLU(4), nn.Hardtanh(-2, 1.5), nn.Mish(), nn.Softmin(-1), nn.GLU(), nn.Flatten(1)
    ),
    "nested": lambda: nn.Sequential(
        nn.Linear(4, 6),
        nn.Residual(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.3))),
        nn.Parallel(nn.Linear(6, 2), nn.Sequential(nn.Linear(6, 3), nn.ReLU())),
        nn.Parallel(nn.Linear(5, 2), nn.Linear(5, 2), merge="sum"),
        nn.Flatten(),
    ),
    "autoencoder": lambda: nn.AutoEncoder.symmetric(4, [3, 2]),
    "tied": lambda: nn.AutoEncoder.symmetric(4, [3, 2], tied=True),
    "sliced": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))[:2],
    "custom": lambda: nn.Sequential(nn.Linear(4, 3), Gate(3, nn.Linear(3, 3), power=2)),
    "custom inside": lambda: nn.Sequential(Block(4), nn.ReLU()),
    "empty": lambda: nn.Sequential(),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, name, dtype):
    model = randomise(MODELS[name]().to(dtype=dtype))
    loaded = round_trip(model, tmp_path)
    assert architecture.describe(loaded) == architecture.describe(model)
    assert same_state(loaded, model)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(dtype)
    assert loaded(x).tobytes() == model.eval()(x).tobytes()


def test_types_may_differ_from_parameter_to_parameter(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[1].to(dtype="float64")
    assert same_state(round_trip(model, tmp_path), model)


def test_a_loaded_model_evaluates_and_its_original_goes_on_training(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    loaded = round_trip(model, tmp_path)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in loaded.modules())


@pytest.mark.parametrize("twist", [lambda w: w.T.copy().T, lambda w: np.repeat(w, 2, 1)[:, ::2]])
def test_transposed_and_strided_weights_come_back_bit_for_bit(tmp_path, twist):
    model = nn.Linear(5, 7)
    wanted = model.weight.data.copy()
    model.weight.data = twist(model.weight.data)
    assert not model.weight.data.flags.c_contiguous
    loaded = round_trip(model, tmp_path)
    assert loaded.weight.data.tobytes() == wanted.tobytes()


def test_tied_weights_are_still_one_array_that_gains_both_gradients(tmp_path):
    loaded = round_trip(nn.AutoEncoder.symmetric(4, [3], tied=True), tmp_path).train()
    encoder, decoder = loaded.encoder[0], loaded.decoder[0]
    assert decoder.weight is encoder.weight
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    loaded.backward(np.ones_like(loaded(x)))
    both = encoder.weight.grad.copy()

    loaded.zero_grad()
    to_code = loaded.decoder.backward(np.ones_like(loaded(x)))
    of_decoder = encoder.weight.grad.copy()
    loaded.zero_grad()
    loaded.encoder.backward(to_code)
    of_encoder = encoder.weight.grad
    assert np.abs(of_decoder).max() > 0
    assert np.abs(of_encoder).max() > 0
    np.testing.assert_allclose(both, of_decoder + of_encoder, rtol=1e-5, atol=1e-6)


def test_half_a_tied_model_comes_back_too(tmp_path):
    decoder = randomise(nn.AutoEncoder.symmetric(5, [4, 2], tied=True)).decoder
    assert same_state(round_trip(decoder, tmp_path), decoder)


def test_a_weight_tied_to_a_layer_inside_a_layer_stays_tied(tmp_path):
    block = Block(4)
    loaded = round_trip(nn.AutoEncoder(block, nn.TiedLinear(block.inner)), tmp_path)
    assert loaded.decoder.weight is loaded.encoder.inner.weight


def test_arguments_come_back_as_they_were_given(tmp_path):
    extra = {
        "shape": (3, (4, [5])),
        "table": {"z": 1, "a": None, "tuple": (), "class": "Linear"},
        "layers": [nn.ReLU(), {"deep": nn.Tanh()}],
        "text": 'q"uote\n☃',
        "number": 1e-300,
        "flag": True,
        "zero": -0.0,
    }
    loaded = round_trip(Gate(3, nn.Tanh(), power=2.5, **extra), tmp_path)
    assert isinstance(loaded.bodies[0], nn.Tanh)
    assert loaded.power == 2.5
    assert repr(loaded.extra) == repr(extra)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: Gate(2, power=float("nan")), "Gate: the argument 'power' holds nan"),
        (lambda: Gate(2, power=np.float32("inf")), "Gate: the argument 'power' holds inf"),
        (lambda: nn.Sequential(Gate(2, f=len)), "Gate: the argument 'extra' holds builtin_func"),
        (lambda: Gate(2, a=[np.array([None])]), "Gate: the argument 'extra' holds ndarray"),
        (lambda: Gate(2, a={1: 2}), "Gate: the argument 'extra' holds a dict with keys"),
        (lambda: Gate(2, a={3}), "Gate: the argument 'extra' holds set"),
    ],
)
def test_an_argument_that_a_file_cannot_hold_is_named_when_saving(tmp_path, model, words):
    with pytest.raises(TypeError, match=words):
        save(model(), tmp_path / "model.ldl")
    assert os.listdir(tmp_path) == []


def test_a_module_whose_weights_would_be_lost_is_not_saved(tmp_path):
    """What stands in a dict is not found by `parameters`."""
    with pytest.raises(TypeError, match=r"Linear\(2, 3\) stands where its weights are not found"):
        save(Gate(2, table={"hidden": nn.Linear(2, 3)}), tmp_path / "model.ldl")


def test_what_is_no_model_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"takes a model \(ldl.nn.Module\), got a MSELoss"):
        save(nn.MSELoss(), tmp_path / "model.ldl")


def test_a_model_too_deep_to_load_is_refused_when_saving(tmp_path):
    model = nn.ReLU()
    for _ in range(70):
        model = nn.Residual(model)
    with pytest.raises(ValueError, match="nests deeper than 64 levels"):
        save(model, tmp_path / "model.ldl")
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nests deeper than 64 levels"):
        save(Gate(2, a=circle), tmp_path / "model.ldl")


# ---- the registry --------------------------------------------------------------------------------


def test_every_module_of_nn_is_known(tmp_path):
    for name in nn.__all__:
        cls = getattr(nn, name)
        if isinstance(cls, type) and issubclass(cls, Module):
            assert register(cls) is cls


def test_an_unregistered_class_is_named_with_the_fix_when_saving(tmp_path):
    class Stranger(Module):
        pass

    with pytest.raises(TypeError, match=r"Stranger is not registered.*@ldl\.register"):
        save(nn.Sequential(Stranger()), tmp_path / "model.ldl")


def test_a_subclass_does_not_pass_for_the_class_whose_name_it_has(tmp_path):
    impostor = type("Linear", (nn.Linear,), {})
    with pytest.raises(TypeError, match="Linear is not registered"):
        save(impostor(2, 3), tmp_path / "model.ldl")
    with pytest.raises(ValueError, match=r"'Linear' is taken by ldl\.nn\.linear\.Linear"):
        register(impostor)


def test_a_name_belongs_to_one_class():
    first = register(type("Claimed", (Module,), {"__qualname__": "first.Claimed"}))
    with pytest.raises(ValueError, match=r"'Claimed' is taken by .*first\.Claimed"):
        register(type("Claimed", (Module,), {"__qualname__": "second.Claimed"}))
    assert register(first) is first


def test_only_modules_are_registered():
    for wrong in (dict, nn.MSELoss, len, nn.Linear(1, 1)):
        with pytest.raises(TypeError, match=r"takes a subclass of ldl\.nn\.Module"):
            register(wrong)


def test_a_class_defined_anew_replaces_the_old_one_and_old_instances_can_be_saved(tmp_path):
    def define(version):
        @register
        class Cell(Module):
            number = version

        return Cell

    old = define(1)()
    define(2)
    assert round_trip(old, tmp_path).number == 2


# ---- backends ------------------------------------------------------------------------------------


class DeviceArray:
    """An array that, like a GPU's, does not turn into a NumPy array by itself."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype, self.size = values.shape, values.dtype, values.size

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __setitem__(self, key, value):
        self.values[key] = value.values

    def copy(self):
        return DeviceArray(self.values.copy())


class Device(Backend):
    name = "device"
    xp = np
    array_type = DeviceArray
    device = "a stand-in"

    def asarray(self, data, dtype=None):
        if isinstance(data, DeviceArray):
            return data if dtype is None else DeviceArray(data.values.astype(dtype))
        return DeviceArray(np.array(data, dtype))

    def to_numpy(self, array):
        return array.values


def test_a_model_saved_on_a_device_loads_where_there_is_none(tmp_path):
    model = randomise(nn.AutoEncoder.symmetric(4, [3], tied=True))
    host = {name: array.copy() for name, array in model.state_dict().items()}
    model.to(Device())
    assert isinstance(model.encoder[0].weight.data, DeviceArray)
    loaded = round_trip(model, tmp_path)
    assert loaded.backend.name == "numpy"
    assert {n: a.tobytes() for n, a in loaded.state_dict().items()} == {
        n: a.tobytes() for n, a in host.items()
    }


def test_a_model_loads_onto_the_backend_asked_for_or_the_one_in_force(tmp_path):
    device = Device()
    model = nn.Linear(2, 3)
    loaded = round_trip(model, tmp_path, backend=device)
    with ldl.use_backend(device):
        in_force = load(tmp_path / "model.ldl")
        on_host = load(tmp_path / "model.ldl", "numpy")
    for moved in (loaded, in_force):
        assert moved.backend is device
        assert isinstance(moved.weight.data, DeviceArray)
        assert moved.weight.data.values.tobytes() == model.weight.data.tobytes()
    assert isinstance(on_host.weight.data, np.ndarray)


def test_a_model_is_built_on_the_host_and_moved_when_its_weights_are_in(tmp_path):
    assert round_trip(Block(2), tmp_path, backend=Device()).built_on == "numpy"
    with ldl.use_backend(Device()):
        assert load(tmp_path / "model.ldl").built_on == "numpy"


def test_loading_draws_no_random_numbers(tmp_path):
    save(nn.Linear(2, 3), tmp_path / "model.ldl")
    ldl.manual_seed(5)
    wanted = nn.Linear(2, 3)
    ldl.manual_seed(5)
    load(tmp_path / "model.ldl")
    assert same_state(nn.Linear(2, 3), wanted)


# ---- states that do not fit ----------------------------------------------------------------------


def test_load_state_dict_lists_every_fault_and_leaves_the_model_as_it_was():
    model = randomise(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["0.weight"], state["2.bias"]
    state["2.weight"] = np.zeros((1, 3), "float32")
    state["4.weight"] = np.zeros(2, "float32")
    with pytest.raises(ValueError, match="does not fit") as caught:
        model.load_state_dict(state)
    faults = ("missing 0.weight", "missing 2.bias", "unexpected 4.weight", "2.weight has shape (1")
    for fault in faults:
        assert fault in str(caught.value)
    assert all((model.state_dict()[name] == before[name]).all() for name in before)


LINEAR = {"class": "Linear", "args": {"in_features": 2, "out_features": 3}}
STATE = {"weight": np.ones((2, 3), "float32"), "bias": np.ones(3, "float32")}


def write_model(path: Path, model: Any, state: dict | None = None, **header: Any) -> Path:
    """A file with a right checksum, whatever it says."""
    content = {"format": "ldl-model", "version": 1, "model": model, **header}
    write_tensors(path, STATE if state is None else state, content)
    return path


def refusal(path: Path, **options) -> str:
    """The message with which a file is refused, which is one line that begins with its name."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    assert len(message) < 700 + len(str(path))
    return message


def test_a_state_that_does_not_fit_the_architecture_is_refused_with_every_fault(tmp_path):
    state = {"weight": np.ones((3, 2), "float32"), "scale": np.ones(3, "float32")}
    message = refusal(write_model(tmp_path / "m", LINEAR, state))
    for fault in ("missing bias", "unexpected scale", "weight has shape (3, 2)"):
        assert fault in message


def test_weights_of_another_kind_are_refused(tmp_path):
    state = {name: array.astype("int32") for name, array in STATE.items()}
    assert "is int32 where" in refusal(write_model(tmp_path / "m", LINEAR, state))


def test_narrowing_is_warned_of_and_nan_refused_by_load_state_dict():  # case 19
    model = nn.Linear(2, 3)
    state = {"weight": np.full((2, 3), 1 / 3), "bias": np.zeros(3, "float32")}
    with pytest.warns(UserWarning, match="narrows weight from float64 to float32"):
        model.load_state_dict(state)
    assert (model.weight.data == np.float32(1 / 3)).all()
    state["weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="weight has NaN or infinity"):
        model.load_state_dict(state)
    assert (model.weight.data == np.float32(1 / 3)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weights_that_are_not_finite_are_refused_unless_allowed(tmp_path, value, dtype):
    model = nn.Linear(2, 3).to(dtype=dtype)
    model.bias.data[1] = value
    save(model, tmp_path / "m")
    message = refusal(tmp_path / "m")
    assert "bias has NaN or infinity" in message
    assert "allow_nonfinite=True" in message
    assert same_state(load(tmp_path / "m", allow_nonfinite=True), model)


# ---- files that are no models --------------------------------------------------------------------


def bomb(levels: int) -> dict:
    """Doubles its size at every level by a reference: 2 ** levels modules, written out."""
    value: dict = {"class": "ReLU", "args": {}}
    for n in range(levels):
        again = {"module": n, "path": ""}
        value = {"class": "Softmax", "args": {"axis": [value, again]}}
    return value


def nest(levels: int) -> dict:
    value: dict = {"class": "ReLU", "args": {}}
    for _ in range(levels):
        value = {"class": "Residual", "args": {"body": value}}
    return value


def linear(**args: Any) -> dict:
    return {"class": "Linear", "args": {**LINEAR["args"], **args}}


HOSTILE = {
    "a billion squared": (linear(in_features=10**9, out_features=10**9), "more weights than"),
    "just too large": (linear(in_features=3), "weight has shape (2, 3) where the model has (3, 3)"),
    "many layers": (
        {"class": "Sequential", "args": {"layers": [linear()] * 3000}},
        "more weights than",
    ),
    "too many layers": (
        {"class": "Sequential", "args": {"layers": [{"class": "ReLU", "args": {}}] * 20_000}},
        "larger than 500000",
    ),
    "as many layers as may be, deep down": (
        {
            "class": "Residual",
            "args": {
                "body": {
                    "class": "Sequential",
                    "args": {"layers": [nest(20)] * 300},
                }
            },
        },
        "does not fit",
    ),
    "depth bomb": (nest(200), "nests deeper than 64"),
    "list bomb": (
        linear(bias=json.loads("[" * 300 + "]" * 300)),
        "nests deeper than 64",
    ),
    "doubling bomb": (bomb(30), "larger than 500000"),
    "doubling bomb in an error": (linear(in_features=bomb(28)), "larger than 500000"),
    "negative width": (linear(in_features=-1), "positive integer"),
    "float width": (linear(in_features=2.0), "positive integer"),
    "text width": (linear(in_features="2"), "positive integer"),
    "list width": (linear(in_features=[2]), "positive integer"),
    "module width": (linear(in_features=LINEAR), "positive integer"),
    "long text": (linear(weight_init="x" * 400_000), "no initialiser is named"),
    "extra argument": (linear(extra=1), "Linear takes no argument 'extra'"),
    "missing argument": ({"class": "Linear", "args": {"in_features": 2}}, "out_features"),
    "no layers": ({"class": "Sequential", "args": {"layers": 5}}, "cannot be built"),
    "layers of text": ({"class": "Sequential", "args": {"layers": "ab"}}, "takes modules"),
    "extra key": ({**LINEAR, "more": 1}, "no value or module"),
    "no class": ({"args": {}}, "not a module"),
    "class that is a list": ({"class": ["Linear"], "args": {}}, "no value or module"),
    "unknown class": ({"class": "Elsewhere", "args": {}}, "import the module that defines it"),
    "function for a class": ({"class": "init", "args": {}}, "'init'"),
    "loss for a class": ({"class": "MSELoss", "args": {}}, "'MSELoss'"),
    "builtin for a class": ({"class": "eval", "args": {"source": "1"}}, "'eval'"),
    "path for a class": ({"class": "os.system", "args": {"command": "id"}}, "'os.system'"),
    "dunder for a class": ({"class": "__builtins__", "args": {}}, "'__builtins__'"),
    "a list for a model": ([LINEAR], "not a module"),
    "nothing for a model": (None, "not a module"),
    "number for a model": (3, "not a module"),
    "reference for a model": ({"module": 0, "path": ""}, "not a module"),
    "reference to itself": (
        linear(bias={"module": 0, "path": ""}),
        "before it is there",
    ),
    "reference before": (linear(bias={"module": -1, "path": ""}), "before it is there"),
    "reference by truth": (
        {"class": "Sequential", "args": {"layers": [LINEAR, {"module": False, "path": ""}]}},
        "no value or module",
    ),
    "reference twice": (
        {"class": "Sequential", "args": {"layers": [LINEAR, {"module": 0, "path": ""}]}},
        "stands in the model twice",
    ),
    "reference to nowhere": (
        {"class": "Sequential", "args": {"layers": [LINEAR, {"module": 0, "path": "x"}]}},
        "refers to a module that is not there",
    ),
    "a dict of no pairs": (linear(bias={"dict": [["a"]]}), "no pair"),
    "self": (linear(self=1), "takes no argument 'self'"),
}


def measured(path: Path, **options) -> tuple[str, float, int]:
    tracemalloc.start()
    start = time.perf_counter()
    message = refusal(path, **options)
    taken = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return message, taken, peak


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_architecture_is_refused_in_bounded_time_and_memory(tmp_path, name):
    model, words = HOSTILE[name]
    path = write_model(tmp_path / "m", model)
    message, taken, peak = measured(path)
    assert words in message
    assert taken < 20
    assert peak < 1_000_000 + 60 * path.stat().st_size


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"version": 2}, "is of version 2, and this ldl reads up to 1: update ldl"),
        ({"version": 10**300}, "update ldl"),
        ({"version": 0}, "no model file of version 1"),
        ({"version": None}, "no model file of version 1"),
        ({"version": "1"}, "no model file of version 1"),
        ({"format": "ldl-training"}, "its format is 'ldl-training'"),
        ({"format": ["x"] * 1000}, "no model file"),
        ({"more": 1}, "no model file of version 1"),
        ({"notes": 1}, "no model file of version 1"),
    ],
)
def test_a_file_of_another_version_or_format_is_refused(tmp_path, header, words):
    assert words in refusal(write_model(tmp_path / "m", LINEAR, **header))


def test_notes_are_kept_beside_a_model(tmp_path):
    path, model = tmp_path / "m", nn.Linear(2, 3)
    said = {"columns": ["a", "b"], "mean": [0.1, 1e300, -3], "none": None}
    save(model, path, notes=said)
    again, notes = load_with_notes(path)
    assert notes == said
    assert (again.weight.data == model.weight.data).all()
    assert (load(path).weight.data == model.weight.data).all()
    save(model, path)
    assert load_with_notes(path)[1] == {}
    with pytest.raises(ValueError, match="JSON"):
        save(model, path, notes={"x": float("nan")})
    assert load_with_notes(path)[1] == {}


def test_a_file_of_weights_alone_is_refused_with_the_way_to_read_it(tmp_path):
    path = tmp_path / "weights.safetensors"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(to_safetensors(STATE, metadata=metadata))
        message = refusal(path)
        assert "safetensors.numpy.load_file" in message
        assert "ldl.io.torch.from_torch" in message
        assert "model.load_state_dict" in message


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", data)
    return stream.getvalue()


def framed(header: bytes, claim: int | None = None) -> bytes:
    length = len(header) if claim is None else claim
    return length.to_bytes(8, "little") + header


ZEROS = bytes(100_000_000)
FOREIGN = {
    "empty": b"",
    "one byte": b"\x00",
    "zeros": bytes(100),
    "text": b"These are not the weights you are looking for.\n",
    "gzip bomb": gzip.compress(ZEROS, 1),
    "zip bomb": zipped(ZEROS),
    "header of 2**40 bytes": framed(b"{}" * 50, 2**40),
    "header of 2**64-1 bytes": framed(b"{}" * 50, 2**64 - 1),
    "header longer by one": framed(b"{}" * 50, 101),
    "header of 17 MiB": framed(b" " * 17 * 2**20),
    "header that is no JSON": framed(b"{]"),
    "header of brackets": framed(b"[" * 100_000),
    "header in latin-1": framed('{"é": 1}'.encode("latin-1")),
    "tensor of 2**62 elements": framed(
        b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}'
    ),
    "tensor of 2**40 elements in nothing": framed(
        b'{"w":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}'
    ),
    "tensor before the data": framed(b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}'),
}

TRUNCATED = "is truncated or not a safetensors file"
WORDS = {
    "empty": "is empty",
    "header of 17 MiB": "takes 17825792 bytes, and at most 16777216 are read",
    **dict.fromkeys(
        [
            "one byte",
            "text",
            "gzip bomb",
            "zip bomb",
            "header of 2**40 bytes",
            "header of 2**64-1 bytes",
            "header longer by one",
        ],
        TRUNCATED,
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_refused_in_bounded_time_and_memory(tmp_path, name):
    path = tmp_path / "m"
    path.write_bytes(FOREIGN[name])
    message, taken, peak = measured(path)
    assert WORDS.get(name, "cannot be read") in message
    assert taken < 5
    assert peak < 1_000_000


def test_a_pickle_is_refused_and_not_opened(tmp_path):
    trap = pickle.dumps(Trap(str(tmp_path / "sprung")))
    for data in (trap, zipped(trap), gzip.compress(trap), framed(trap), framed(b"{}") + trap):
        (tmp_path / "m").write_bytes(data)
        refusal(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()


def with_metadata(text: str) -> bytes:
    return to_safetensors(STATE, metadata={"ldl": text})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"header":{}}',
        '{"header":{},"sha256":null}',
        '{"header":[],"sha256":""}',
        '{"header":{},"sha256":"","x":1}',
        '{"header":{"a":NaN},"sha256":""}',
        '{"header":{"a":1e999},"sha256":""}',
        '{"header":{"a":1,"a":2},"sha256":""}',
        '{"header":{"a":' + "9" * 5000 + '},"sha256":""}',
        "[" * 100_000,
        '{"header":' + '{"a":' * 50_000 + "1" + "}" * 50_000 + ',"sha256":""}',
    ],
    ids=lambda text: text[:30],
)
def test_a_header_that_ldl_does_not_write_is_refused(tmp_path, text):
    (tmp_path / "m").write_bytes(with_metadata(text))
    refusal(tmp_path / "m")


def test_the_checksum_is_the_one_documented_and_the_json_canonical(tmp_path):
    """SHA-256 of the JSON of [header, [[name, type, shape], ...]], then of the tensors' bytes."""
    header = {"format": "ldl-model", "version": 1, "model": LINEAR}
    kinds = [["bias", "float32", [3]], ["weight", "float32", [2, 3]]]
    text = json.dumps([header, kinds], sort_keys=True, separators=(",", ":"))
    digest = sha256(text.encode() + STATE["bias"].tobytes() + STATE["weight"].tobytes())
    content = {"header": header, "sha256": digest.hexdigest()}
    (tmp_path / "m").write_bytes(
        with_metadata(json.dumps(content, sort_keys=True, separators=(",", ":")))
    )
    assert isinstance(load(tmp_path / "m"), nn.Linear)
    (tmp_path / "m").write_bytes(with_metadata(json.dumps(content, sort_keys=True)))
    assert "canonical JSON" in refusal(tmp_path / "m")


def test_what_is_no_file_is_refused(tmp_path):
    assert "is not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_every_flipped_bit_is_noticed(tmp_path):
    model = randomise(nn.Linear(1, 1, False))
    path = tmp_path / "m"
    save(model, path)
    data = path.read_bytes()
    for i in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            try:
                loaded = load(path)
            except CheckpointError:
                continue
            assert same_state(loaded, model), f"bit {bit} of byte {i}"
            assert repr(loaded) == repr(model), f"bit {bit} of byte {i}"


def test_every_truncation_and_any_addition_is_noticed(tmp_path):
    path = tmp_path / "m"
    save(nn.Linear(1, 1), path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        refusal(path)
    for more in (b"\0", b"more", data):
        path.write_bytes(data + more)
        refusal(path)


def test_random_damage_is_noticed(tmp_path):
    path = tmp_path / "m"
    save(nn.AutoEncoder.symmetric(6, [4], tied=True), path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        start, length = rng.integers(len(data)), rng.integers(1, 64)
        noise = rng.integers(0, 256, length, "uint8").tobytes()
        damaged[start : start + length] = noise[: rng.integers(length + 1)]
        if damaged != data:
            path.write_bytes(damaged)
            refusal(path)


def test_hostile_files_are_refused_where_little_memory_is_to_be_had(tmp_path):
    """What safetensors itself allocates counts here too."""
    paths = []
    for name, data in FOREIGN.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    for name, (model, _) in HOSTILE.items():
        paths.append(write_model(tmp_path / f"model {name}", model))
    save(nn.Linear(1, 1), tmp_path / "good")
    script = """
import resource, sys
sys.path[:0] = {path!r}
import ldl.io
folder, names = sys.argv[1], sys.argv[2:]
ldl.io.load(folder + "/good")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in names:
    try:
        ldl.io.load(name)
    except ldl.io.CheckpointError:
        continue
    print(name, "was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script.format(path=[p or "." for p in sys.path]), str(tmp_path)]
        + [str(path) for path in paths],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000  # KiB


# ---- NumPy's scalars and arrays as arguments -----------------------------------------------------


@ldl.register
class Scaled(nn.Module):
    """Multiplies by what it is given."""

    def __init__(self, factor, *, others=()):
        self.factor = factor
        self.others = others

    def forward(self, x):
        return x * self.factor


NUMPYS = {
    "widths in an array": lambda: nn.AutoEncoder.symmetric(16, np.array([8, 4])),
    "widths of NumPy": lambda: nn.AutoEncoder.symmetric(np.int64(16), [np.uint8(8)], tied=np.True_),
    "a width without axes": lambda: nn.AutoEncoder.symmetric(np.array(16), np.array(8)),
    "numbers": lambda: nn.Sequential(
        nn.Linear(np.int64(16), np.int32(3), bias=np.False_),
        nn.Dropout(np.float32(0.3)),
        nn.LeakyReLU(np.float16(0.1)),
        nn.ELU(np.array(0.5)),
        nn.Softplus(np.longdouble(2)),
        nn.Softmax(axis=np.int64(-1)),
    ),
    "fractions": lambda: nn.Sequential(
        nn.Dropout(Fraction(1, 4)),
        nn.LeakyReLU(Decimal("0.1")),
        Scaled(1, others=[Decimal("0.1")]),
    ),
    "a single": lambda: Scaled(np.float32(0.1)),
    "an array of singles": lambda: Scaled(np.linspace(0, 1, 16, dtype="float32")),
    "an array of doubles": lambda: Scaled(np.linspace(0, 1, 16).astype(">f8")),
    "a matrix of bools": lambda: Scaled(np.eye(16, dtype=bool)[:5]),
    "an empty array": lambda: Scaled(1, others=np.zeros((0, 3), "int16")),
    "scalars in lists": lambda: Scaled(1, others=[np.float32(0.1), (np.int64(2), {"a": np.True_})]),
}


@pytest.mark.parametrize("build", NUMPYS.values(), ids=NUMPYS)
def test_models_built_of_numpys_scalars_and_arrays_come_back(build, tmp_path):
    model = build().eval()
    x = np.linspace(-1, 1, 80, dtype="float32").reshape(5, 16)
    path = tmp_path / "model.ldl"
    ldl.save(model, path)
    loaded = ldl.load(path)
    y, again = model(x), loaded(x)
    assert y.dtype == again.dtype
    np.testing.assert_array_equal(y, again)
    if isinstance(model, Scaled) and isinstance(model.others, np.ndarray):
        assert loaded.others.dtype == model.others.dtype
        assert loaded.others.shape == model.others.shape
    first = path.read_bytes()
    ldl.save(loaded, path)
    assert path.read_bytes() == first


def test_one_model_is_one_file_whoever_numbered_it(tmp_path):
    for name, kind in (("a", int), ("b", np.int64)):
        ldl.manual_seed(0)
        ldl.save(nn.Sequential(nn.Linear(kind(3), kind(2)), nn.Dropout(kind(0))), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.array(0.25), 0.25])
def test_an_attribute_changed_to_a_number_of_any_kind_is_saved_as_it_is(number, tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    model[1].p = number
    ldl.save(model, tmp_path / "m")
    assert ldl.load(tmp_path / "m")[1].p == 0.25


def test_an_array_that_was_changed_is_saved_as_it_is(tmp_path):
    model = Scaled(np.ones(3, "float32"))
    model.factor = model.factor * 2
    ldl.save(model, tmp_path / "m")
    np.testing.assert_array_equal(ldl.load(tmp_path / "m").factor, [2, 2, 2])
    model.factor[0] = 7
    ldl.save(model, tmp_path / "m")
    np.testing.assert_array_equal(ldl.load(tmp_path / "m").factor, [7, 2, 2])


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.0, np.nan]),
        np.ma.array([1.0]),
        np.array(["a"]),
        np.array([1j]),
        np.array([None]),
        np.complex64(1),
        np.float32(np.inf),
        np.zeros(10**6),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_small_array_of_finite_numbers_is_no_argument(value, tmp_path):
    with pytest.raises((TypeError, ValueError)) as error:
        ldl.save(Scaled(value), tmp_path / "m")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"array": [1, 2], "dtype": "float32", "shape": [3]},
        {"array": [1, 2], "dtype": "float32", "shape": [-1]},
        {"array": [1, 2], "dtype": "float32", "shape": [2.0]},
        {"array": [1, 2], "dtype": "object", "shape": [2]},
        {"array": [1, "2"], "dtype": "float32", "shape": [2]},
        {"array": [[1], [2]], "dtype": "float32", "shape": [2]},
        {"array": [], "dtype": "float32", "shape": [2**40, 0]},
        {"array": [300], "dtype": "uint8", "shape": [1]},
        {"array": [1], "dtype": "float32", "shape": [1] * 65},
        {"array": [1], "dtype": "float32", "shape": [1], "more": 1},
        {"array": [1], "dtype": "float32"},
    ],
    ids=str,
)
def test_a_false_array_in_a_file_is_refused(entry, tmp_path):
    description = {"class": "Scaled", "args": {"factor": entry}}
    header = {"format": "ldl-model", "version": 1, "model": description}
    ldl.io.files.write_tensors(tmp_path / "m", {}, header)
    with pytest.raises(ldl.CheckpointError) as error:
        ldl.load(tmp_path / "m")
    assert "\n" not in str(error.value)
