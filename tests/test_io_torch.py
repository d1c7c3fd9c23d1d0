"""A model and PyTorch's give the same outputs with the same weights, whichever had them first."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import ROWS, learned, named
from checks import one_line
from fake_device import FakeBackend
from ldl import nn
from ldl.io.torch import from_torch, read_state, to_torch
from ldl.io.torch.layers import rule

torch = pytest.importorskip("torch")
from torch_models import CASES, Case, Halves  # noqa: E402

T = torch.nn


def last(x: Any) -> Any:
    """Channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def build(model: Any) -> Any:
    """In eval mode, all of its state random, variances positive."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.dtype.is_floating_point:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - ("var" not in name) * 0.4)
    return model.eval()


def shuffled(model: Any) -> Any:
    """The same of ldl's."""
    rng = np.random.default_rng(4)
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, nn.Buffer) or "running" in name:
            low = 0.1 if "var" in name else -0.4
            parameter.data[...] = rng.uniform(low, 0.6, parameter.shape)
    return model.eval()


def batch(shape: tuple[int, ...], model: Any) -> Any:
    rng = np.random.default_rng(5)
    if model.takes_integers:
        return rng.integers(0, 9, shape)
    return rng.standard_normal(shape).astype("float32")


def outputs(case: Case, torch_model: Any, model: Any) -> tuple[Any, Any]:
    """Of the same batch, both channels last."""
    _, _, shape, how = case
    x = batch(shape, model)
    with torch.no_grad():
        y = torch_model(torch.from_numpy(x)).numpy()
    same = how.get("same", False)
    back = how.get("back", not same) and y.ndim > 2
    return model.predict(x if same else last(x)), last(y) if back else y


def options(case: Case) -> dict[str, Any]:
    return {"channels": case[3]["channels"]} if "channels" in case[3] else {}


def tensors(state: Any) -> Any:
    return {name: torch.from_numpy(array) for name, array in state.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_model_computes_what_pytorchs_does(name: str) -> None:
    case = CASES[name]
    theirs, ours = build(case[0]()), case[1]()
    assert from_torch(ours, theirs.state_dict(), **options(case)) == ([], [])
    found, expected = outputs(case, theirs, ours)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_pytorchs_model_computes_what_ours_does(name: str) -> None:
    case = CASES[name]
    theirs, ours = build(case[0]()), shuffled(case[1]())
    state = to_torch(ours, like=theirs.state_dict(), **options(case))
    theirs.load_state_dict(tensors(state))
    found, expected = outputs(case, theirs, ours)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_bit_for_bit(name: str) -> None:
    case = CASES[name]
    ours, other = shuffled(case[1]()), case[1]()
    from_torch(other, to_torch(ours, **options(case)), **options(case))
    np.testing.assert_equal(other.state_dict(), ours.state_dict())


def test_batches_are_counted_where_statistics_are_the_mean_of_all() -> None:
    """A model that comes from PyTorch goes on as PyTorch's would."""
    theirs, ours = torch.nn.BatchNorm1d(4, momentum=None), nn.BatchNorm1d(4, momentum=None)
    for k in range(3):
        theirs(torch.tensor(batch((5, 4), ours) + k))
    from_torch(ours, theirs.state_dict())
    assert to_torch(ours)["num_batches_tracked"] == 3
    x = batch((6, 4), ours) * 2
    theirs(torch.tensor(x)), ours(x)
    np.testing.assert_allclose(ours.running_var.data, theirs.running_var, rtol=1e-5)
    before = {k: v for k, v in theirs.state_dict().items() if k != "num_batches_tracked"}
    from_torch(ours, before)
    assert to_torch(ours)["num_batches_tracked"] == 4


@pytest.mark.parametrize(**named(ROWS))
def test_every_layer_is_known_and_its_state_comes_back(row: Any) -> None:
    model, other = row.module(), row.build()
    state = to_torch(model, channels=1)
    assert from_torch(other, state, channels=1) == ([], [])
    for name, value in learned(model).items():
        np.testing.assert_array_equal(learned(other)[name].data, value.data)
    kinds = {rule(m) for m in model.modules()} - {None, nn.TiedLinear, nn.PositionalEncoding}
    compared = {rule(m) for case in CASES.values() for m in case[1]().modules()}
    assert kinds <= compared, "compare the outputs with PyTorch's"


# ---- which is which ------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(4, 4, 3), nn.Flatten()),
        *(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 3)),
    )


class Net(T.Module):
    """The same under other names, defined in the order of use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = T.Conv2d(1, 4, 3), T.Conv2d(4, 4, 3)
        self.fc1, self.fc2, self.out = T.Linear(16, 16), T.Linear(16, 16), T.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        x = self.conv2(self.conv1(x).relu()).flatten(1)
        return self.out(self.fc2(self.fc1(x).tanh()))


NAMES = {"0": "conv1", "3": "conv2", "5": "fc1", "7": "fc2", "8": "out"}
NET: Case = (Net, network, (2, 1, 6, 6), {})


def loaded(state: Any, **how: Any) -> Any:
    model = network()
    from_torch(model, state, **how)
    return model


def refused(state: Any, kind: type[Exception] = ValueError, model: Any = None, **how: Any) -> str:
    """The one line with which a state is refused; the model is as it was."""
    model = model or network()
    before = model.state_dict()
    with pytest.raises(kind) as error:
        from_torch(model, state, **how)
    np.testing.assert_equal(model.state_dict(), before)
    message = one_line(error)
    assert len(message) < 600
    return message


def test_layers_of_other_names_are_found_by_their_order_or_as_they_are_said() -> None:
    theirs = build(Net())
    state = theirs.state_dict()
    wrapped = {f"model.module.{name}": tensor for name, tensor in state.items()}
    backwards = dict(reversed(state.items()))
    for ours in (
        loaded(state),
        loaded(wrapped),
        loaded(backwards, names=NAMES),
        loaded(dict(sorted(state.items()))),
    ):
        found, expected = outputs(NET, theirs, ours)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    for how in ({"names": NAMES}, {"like": state}):
        assert list(to_torch(network(), **how)) == list(state)


def test_a_state_of_other_layers_is_refused_naming_layers_and_shapes() -> None:
    state = build(Net()).state_dict()
    other = {**state, "fc1.weight": torch.zeros(16, 20)}
    message = refused(other, names=NAMES)
    assert "fc1.weight has shape (16, 20) where layer '5', Linear(16, 16)," in message
    assert "takes (16, 16)" in message
    del other["fc1.weight"]
    assert "missing fc1.weight" in refused(other, names=NAMES)
    more = {**state, "head.weight": torch.zeros(1), "head.bias": torch.zeros(1)}
    assert "unexpected head.weight, head.bias" in refused(more, names=NAMES)
    shifted = T.Sequential(T.Conv2d(1, 4, 3), T.ReLU(), T.Conv2d(4, 4, 3)).state_dict()
    message = refused(shifted)
    assert "missing 3.weight, 3.bias, 5.weight" in message
    assert "unexpected 2.weight" in message
    assert "names={" in message


def test_what_is_left_out_is_said_where_it_is_asked_for() -> None:
    theirs = build(Net())
    state = dict(theirs.state_dict())
    state["head.bias"] = state.pop("out.bias")
    model = network()
    before = model.state_dict()
    left = from_torch(model, state, names=NAMES, strict=False)
    assert left.missing_keys == ["out.bias"]
    assert left.unexpected_keys == ["head.bias"]
    np.testing.assert_array_equal(model.state_dict()["8.bias"], before["8.bias"])
    np.testing.assert_array_equal(model[8].weight.data, theirs.out.weight.detach().T)
    wrong = {**state, "fc1.bias": torch.zeros(3)}
    assert "fc1.bias has shape (3,)" in refused(wrong, names=NAMES, strict=False)


def test_sorted_names_say_nothing_about_order() -> None:
    model = nn.AutoEncoder(nn.Linear(4, 4), nn.Linear(4, 4))
    state = T.Sequential(OrderedDict(first=T.Linear(4, 4), second=T.Linear(4, 4))).state_dict()
    other = {f"z{k}" if k[0] == "f" else f"a{k}": v for k, v in state.items()}
    from_torch(model, other)
    np.testing.assert_array_equal(model.encoder.weight.data, state["first.weight"].T)
    message = refused(dict(sorted(other.items())), model=model)
    assert "which of asecond, zfirst is 'encoder' cannot be told" in message
    numbered = {f"fc{i}.{k}": torch.zeros(4, *s) + i for i in (2, 10) for k, s in SHAPES.items()}
    from_torch(model, dict(sorted(numbered.items())))
    assert model.encoder.bias.data[0] == 2
    assert model.decoder.bias.data[0] == 10


SHAPES: dict[str, tuple[int, ...]] = {"weight": (4,), "bias": ()}


# ---- flattened images ----------------------------------------------------------------------------


def test_images_whose_channels_no_layer_tells_are_asked_for() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    state = T.Sequential(T.Flatten(), T.Linear(12, 2)).state_dict()
    for call in (lambda: from_torch(model, state), lambda: to_torch(model)):
        with pytest.raises(ValueError, match=r"give channels=\{'1': C\}") as error:
            call()
        one_line(error)
    weight = state["1.weight"].numpy()
    for channels in (3, {"1": 3}, {"0": 3}):
        from_torch(model, state, channels=channels)
        expected = weight.reshape(2, 3, 4).transpose(2, 1, 0).reshape(12, 2)
        np.testing.assert_array_equal(model[1].weight.data, expected)
    for channels in (1, {"1": 1}):
        from_torch(model, state, channels=channels)
        np.testing.assert_array_equal(model[1].weight.data, weight.T)
    rows, same = nn.Linear(12, 2), T.Linear(12, 2)
    from_torch(rows, same.state_dict(), channels=3)  # images that are flattened before the model
    x = np.random.default_rng(0).random((4, 3, 2, 2)).astype("float32")
    expected = same(torch.from_numpy(x.reshape(4, 12))).detach().numpy()
    np.testing.assert_allclose(rows.predict(last(x).reshape(4, 12)), expected, atol=1e-6)
    for whole in (model, nn.BatchNorm1d(12)):
        assert "no images of 5 channels" in refused(state, model=whole, channels=5)
    assert "'7', which the model has not" in refused(state, model=model, channels={"7": 3})
    assert "channels must be" in refused(state, model=model, channels=0)


class Own(nn.Module):
    """Calls its parts in an order of its own."""

    def __init__(self) -> None:
        self.conv, self.fc = nn.Conv2d(2, 3, 1), nn.Linear(12, 2)

    def forward(self, x: Any) -> Any:
        return self.fc(self.conv(x).reshape(len(x), -1))


class OwnOfPytorch(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = T.Conv2d(2, 3, 1), T.Linear(12, 2)

    def forward(self, x: Any) -> Any:
        return self.fc(self.conv(x).flatten(1))


def test_a_module_of_ones_own_says_what_it_flattens() -> None:
    theirs, model = build(OwnOfPytorch()), Own()
    message = refused(theirs.state_dict(), model=model)
    assert "layer 'fc', Linear(12, 2)" in message
    from_torch(model, theirs.state_dict(), channels={"fc": 3})
    found, expected = outputs((None, None, (3, 2, 2, 2), {}), theirs, model)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    whole = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), Plain(), nn.Linear(8, 2))
    assert "layer '3'" in refused({}, model=whole)
    rows = nn.Sequential(nn.Linear(4, 3), Plain(), nn.Linear(3, 2))
    assert list(to_torch(rows)) == ["0.weight", "0.bias", "1.slope", "2.weight", "2.bias"]


class Plain(nn.Module):
    def __init__(self) -> None:
        self.slope = nn.Parameter(np.ones(1, "float32"))

    def forward(self, x: Any) -> Any:
        return x * self.slope.data


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([nn.Conv2d(1, 4, 1), nn.Flatten(), nn.GroupNorm(2, 16)], "in front of Flatten"),
        ([nn.Conv2d(1, 4, 1), nn.Flatten(), nn.GLU(), nn.Linear(8, 2)], "layer '3'"),
        ([nn.Linear(4, 24), nn.GLU(), nn.Reshape(2, 2, 3), nn.Conv2d(3, 1, 1)], "one Sequential"),
        (
            [
                nn.Linear(4, 12),
                nn.Residual(nn.Linear(12, 12)),
                nn.Reshape(2, 2, 3),
                nn.MaxPool2d(1),
            ],
            "one Sequential",
        ),
        (
            [
                nn.Linear(4, 12),
                nn.Parallel(nn.Identity(), nn.Linear(12, 12), merge="sum"),
                nn.Reshape(2, 2, 3),
                nn.MaxPool2d(1),
            ],
            "one Sequential",
        ),
        ([nn.Linear(4, 12), Plain(), nn.Reshape(2, 2, 3), nn.Conv2d(3, 1, 1)], "one Sequential"),
        ([nn.Linear(4, 12), nn.Reshape(2, 2, -1), nn.Conv2d(3, 1, 1)], "the number of channels"),
        ([nn.Conv2d(1, 4, 1), nn.Permute(2, 1, 3), nn.Flatten(), nn.Linear(4, 2)], "channels={"),
        (
            [
                *(nn.Conv2d(1, 4, 1), nn.Flatten()),
                *(nn.Residual(nn.Sequential(Plain(), nn.Flatten())), nn.Linear(4, 2)),
            ],
            "layer '3'",
        ),
    ],
)
def test_an_order_that_cannot_be_told_is_refused(layers: Any, says: str) -> None:
    assert says in refused({}, model=nn.Sequential(*layers))


def test_axes_that_a_model_turns_itself_are_followed() -> None:
    first = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Permute(3, 1, 2), nn.Flatten(), nn.Linear(12, 2))
    then = nn.Sequential(nn.Linear(3, 12), nn.Reshape(3, 2, 2), nn.Permute(2, 3, 1))
    then = nn.Sequential(*then, nn.Conv2d(3, 1, 1))
    for model in (first, then):
        linear = next(m for m in model.modules() if type(m) is nn.Linear)
        name = next(n for n, m in model.named_modules() if m is linear)
        np.testing.assert_array_equal(to_torch(model)[f"{name}.weight"], linear.weight.data.T)


# ---- weights of several layers, types, files -----------------------------------------------------


def test_tied_weights_are_two_of_pytorchs_and_must_be_equal() -> None:
    ours = shuffled(nn.AutoEncoder.symmetric(6, [4, 3], tied=True))
    theirs = Halves(
        T.Sequential(T.Linear(6, 4), T.ReLU(), T.Linear(4, 3), T.ReLU()),
        T.Sequential(T.Linear(3, 4), T.ReLU(), T.Linear(4, 6), T.Sigmoid()),
    )
    state = to_torch(ours)
    theirs.load_state_dict(tensors(state))
    found, expected = outputs((None, None, (5, 6), {}), theirs, ours)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    again = nn.AutoEncoder.symmetric(6, [4, 3], tied=True)
    from_torch(again, theirs.state_dict())
    np.testing.assert_equal(again.state_dict(), ours.state_dict())
    alone = {k: v for k, v in state.items() if "decoder" not in k or "bias" in k}
    from_torch(again, alone)
    state["decoder.0.weight"] = state["decoder.0.weight"] + 1
    assert "one weight of several layers" in refused(state, model=again)


@pytest.mark.parametrize("images", [True, False])
def test_a_tied_decoder_gives_images_in_the_order_in_which_the_encoder_takes_them(
    images: bool,
) -> None:
    source = nn.Linear(12, 4)
    decoder = [nn.TiedLinear(source), nn.Sigmoid()]
    ours = nn.AutoEncoder(
        nn.Sequential(nn.Flatten(), source, nn.Tanh()),
        nn.Sequential(*decoder, *[nn.Reshape(2, 2, 3)] * images),
    )
    theirs = Halves(
        T.Sequential(T.Flatten(), T.Linear(12, 4), T.Tanh()),
        T.Sequential(T.Linear(4, 12), T.Sigmoid(), T.Unflatten(1, (3, 2, 2))),
    )
    theirs.load_state_dict(tensors(to_torch(shuffled(ours), channels=3)))
    torch.testing.assert_close(theirs.decoder[0].weight, theirs.encoder[1].weight.T)
    found, expected = outputs((None, None, (5, 3, 2, 2), {}), theirs, ours)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    before = ours.state_dict()
    from_torch(shuffled(ours), theirs.state_dict(), channels=3)
    np.testing.assert_equal(ours.state_dict(), before)


def test_positions_that_are_learned_are_weights_and_others_none() -> None:
    assert to_torch(nn.PositionalEncoding(4, 5)) == {}
    learned = shuffled(nn.PositionalEncoding(4, 5, learned=True))
    np.testing.assert_array_equal(to_torch(learned)["weight"], learned.weight.data)
    model = nn.PositionalEncoding(4, 5, learned=True)
    from_torch(model, {"positions": torch.ones(5, 4)}, names={"": "positions"}, strict=False)
    masked = nn.MultiHeadAttention(2, 1, mask=[[True, False], [True, True]])
    from_torch(masked, T.MultiheadAttention(2, 1).state_dict())
    np.testing.assert_array_equal(masked.allowed.data, [[1, 0], [1, 1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision_is_taken_from_memory_and_from_files(dtype: str, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    theirs = build(Net()).to(getattr(torch, dtype))
    save_file(theirs.state_dict(), tmp_path / "net.safetensors")
    models = [loaded(theirs.state_dict()), loaded(tmp_path / "net.safetensors", names=NAMES)]
    models.append(loaded(str(tmp_path / "net.safetensors")))
    for ours in models:
        assert ours.dtype == np.float32
        found, expected = outputs(NET, theirs.float(), ours)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_a_file_of_ours_is_read_by_pytorch(tmp_path: Any) -> None:
    from safetensors.torch import load_file

    ours, theirs = shuffled(network()), Net().eval()
    ldl.io.write_tensors(tmp_path / "net.safetensors", to_torch(ours, names=NAMES), {})
    theirs.load_state_dict(load_file(tmp_path / "net.safetensors"))
    found, expected = outputs(NET, theirs, ours)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert list(read_state(tmp_path / "net.safetensors")) == sorted(to_torch(ours, names=NAMES))


def test_pytorch_itself_is_never_imported(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2, 3).bfloat16(), "bias": torch.ones(2)}, tmp_path / "m")
    code = f"""
import sys, ldl
assert "ldl.io.torch" not in sys.modules
model = ldl.nn.Linear(3, 2)
ldl.io.torch.from_torch(model, {str(tmp_path / "m")!r})
assert (ldl.io.torch.to_torch(model)["weight"] == 1).all()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_types_are_the_models_own_and_narrowing_is_warned_of() -> None:
    state = build(Net()).double().state_dict()
    with pytest.warns(UserWarning, match="narrows 0.weight from float64 to float32"):
        ours = loaded(state)
    assert to_torch(ours)["0.weight"].dtype == np.float32
    assert to_torch(ours.to(dtype="float16"))["0.weight"].dtype == np.float16
    bad = {**build(Net()).state_dict(), "out.bias": torch.full((3,), float("nan"))}
    assert "8.bias has NaN" in refused(bad)
    assert np.isnan(loaded(bad, allow_nonfinite=True)[8].bias.data).all()


def test_a_state_that_requires_gradients_is_taken_and_shares_no_memory() -> None:
    theirs = Net()
    ours = loaded(dict(theirs.named_parameters()))
    state = to_torch(ours)
    state["0.weight"][...] = 7
    with torch.no_grad():
        theirs.fc1.weight.fill_(7)
    assert not any((p.data == 7).any() for p in ours.parameters())


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (T.Linear(2, 2), r"give its \.state_dict\(\)"),
        ([1], "tensors by name, got a list"),
        ({"state_dict": {}, "epoch": 3}, "give what it has under 'state_dict'"),
        ({0: torch.zeros(1)}, "as 0"),
        (None, "got a NoneType"),
    ],
    ids=str,
)
def test_what_is_no_state_is_answered_with_what_is(state: Any, says: str) -> None:
    import re

    assert re.search(says, refused(state, TypeError))


def test_files_that_are_no_state_are_refused_with_the_way_out(tmp_path: Any) -> None:
    ldl.save(network(), tmp_path / "ours")
    torch.save(Net().state_dict(), tmp_path / "pickle")
    torch.save(Net().state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    (tmp_path / "cut").write_bytes((tmp_path / "ours").read_bytes()[:-9])
    (tmp_path / "empty").write_bytes(b"")
    small = {"a": torch.ones(2).to(torch.float8_e4m3fn)}
    __import__("safetensors.torch").torch.save_file(small, tmp_path / "small")
    for name, says in {
        "ours": "ldl.load",
        "pickle": "weights_only=True",
        "old": "weights_only=True",
        "cut": "cut",
        "empty": "empty",
        "small": "a of type F8_E4M3",
    }.items():
        message = refused(tmp_path / name, ldl.CheckpointError)
        assert says in message
        assert str(tmp_path / name) in message
    refused(tmp_path / "none", FileNotFoundError)
    with pytest.raises(TypeError, match="model must be"):
        to_torch(T.Linear(2, 2))
    with pytest.raises(ValueError, match="like is the state of another model"):
        to_torch(network(), like=T.Linear(2, 2).state_dict())


def test_a_model_on_a_device_takes_and_gives_arrays_of_the_host() -> None:
    theirs = build(Net())
    with ldl.use_backend(FakeBackend()) as fake:
        ours = loaded(theirs.state_dict())
        assert fake.owns(ours[0].weight.data)
        state = to_torch(ours, like=theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(state[name], tensor)


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2, 3), "bias": torch.ones(2).bfloat16()}, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for i in range(0, len(content), 2):
        for change in (1, 0x80):
            (tmp_path / "m").write_bytes(
                content[:i] + bytes([content[i] ^ change]) + content[i + 1 :]
            )
            try:
                read_state(tmp_path / "m")
            except ldl.CheckpointError as error:
                said = str(error)
            else:
                continue
            assert "\n" not in said
            assert str(tmp_path / "m") in said
