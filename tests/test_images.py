"""Layers of images and of sequences: their options, their errors, what a step of them is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

RNG = np.random.default_rng(0)


def images(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype("float32")


# ---- layout ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "fix"),
    [
        (nn.Conv2d(3, 4, 3), (32, 3, 28, 28), "x.transpose(0, 2, 3, 1)"),
        (nn.ConvTranspose2d(3, 4, 3), (2, 3, 8, 9), "x.transpose(0, 2, 3, 1)"),
        (nn.Conv1d(3, 4, 3), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.BatchNorm2d(3), (2, 3, 8, 9), "x.transpose(0, 2, 3, 1)"),
        (nn.InstanceNorm(3), (2, 3, 8, 9), "x.transpose(0, 2, 3, 1)"),
        (nn.LSTM(3, 4), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.ConvTranspose1d(3, 4, 3), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.BatchNorm1d(3), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.GroupNorm(1, 3), (32, 3, 28, 28), "x.transpose(0, 2, 3, 1)"),
        (nn.LayerNorm(3), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.RMSNorm(3), (2, 3, 8, 9), "x.transpose(0, 2, 3, 1)"),
        (nn.MultiHeadAttention(4, 2), (2, 4, 7), "x.transpose(0, 2, 1)"),
        (nn.TransformerBlock(4, 2), (2, 4, 7), "x.transpose(0, 2, 1)"),
        (nn.PositionalEncoding(4, 8), (2, 4, 7), "x.transpose(0, 2, 1)"),
        (nn.GRU(3, 4), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.RNN(3, 4), (2, 3, 8), "x.transpose(0, 2, 1)"),
        (nn.Conv2d(1, 4, 3), (5, 28, 28), "x[..., None]"),
        (nn.Conv1d(1, 4, 3), (5, 28), "x[..., None]"),
        (nn.LSTM(1, 4), (5, 28), "x[..., None]"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else None,
)
def test_channels_that_come_first_are_named_with_the_fix(
    layer: nn.Module, shape: tuple[int, ...], fix: str
) -> None:
    with pytest.raises(ValueError, match="ldl takes channels last") as error:
        layer(images(*shape))
    message = one_line(error)
    assert message.startswith(f"got {shape}")
    assert message.endswith(fix)
    x = images(*shape)
    assert layer(np.ascontiguousarray(eval(fix, {"x": x}))) is not None


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Conv2d(3, 4, 3), (8, 8, 3)), (nn.Conv1d(1, 4, 3), (8, 1)), (nn.LSTM(3, 4), (8, 3))],
    ids=repr,
)
def test_one_sample_without_its_batch_is_named_with_the_fix(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"takes a batch.*x\[None\]$") as error:
        layer(images(*shape))
    assert str(shape) in one_line(error)
    assert layer(images(*shape)[None]).shape[0] == 1


@pytest.mark.parametrize(
    ("layer", "shape", "takes"),
    [
        (nn.Conv2d(3, 4, 3), (2, 8, 8, 5), "(N, H, W, 3)"),
        (nn.Conv2d(3, 4, 3), (8, 3), "(N, H, W, 3)"),
        (nn.Conv1d(3, 4, 3), (2, 8, 8, 3), "(N, L, 3)"),
        (nn.MaxPool2d(2), (8, 8, 3), "(N, H, W, C)"),
        (nn.AvgPool1d(2), (8, 3), "(N, L, C)"),
        (nn.BatchNorm1d(3), (2, 4), "(N, C) or (N, L, C)"),
        (nn.GroupNorm(2, 4), (2, 5, 3), "(N, …, 4)"),
        (nn.LayerNorm((3, 4)), (2, 4, 3), "(N, …, 3, 4)"),
        (nn.GlobalAvgPool(), (2, 3), "(N, L, C) or (N, H, W, C)"),
        (nn.Dropout2d(0.5), (2, 3), "(N, L, C) or (N, H, W, C)"),
        (nn.MultiHeadAttention(4, 2), (2, 3, 5), "(N, T, 4)"),
        (nn.MultiHeadAttention(4, 2), (2, 0, 4), "sequences of one place at least"),
        (nn.PositionalEncoding(4, 3), (2, 5, 4), "T at most 3"),
        (nn.GRU(3, 4), (2, 5), "(N, L, 3)"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else None,
)
def test_another_shape_is_an_error_that_says_what_is_taken(
    layer: nn.Module, shape: tuple[int, ...], takes: str
) -> None:
    with pytest.raises(ValueError, match="takes") as error:
        layer(images(*shape))
    message = one_line(error)
    assert takes in message
    assert str(shape) in message


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 5), nn.MaxPool2d(5), nn.AvgPool2d(5)], ids=repr)
def test_images_that_are_smaller_than_a_window_are_an_error(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"windows do not fit into \(4, 6\).*padding='same'") as e:
        layer(images(2, 4, 6, 1))
    one_line(e)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "in_channels must be a positive integer"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be a multiple of groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be a multiple of groups"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), "kernel_size must be one integer or 2"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full"), "'same' or 'valid'"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "not negative"),
        (lambda: nn.Conv1d(1, 1, 3, stride=0), "stride must be a positive integer"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=1), "output_padding must be smaller"),
        (lambda: nn.MaxPool2d(3, padding=2), "at most half of kernel_size"),
        (lambda: nn.GroupNorm(3, 4), "multiple of num_groups"),
        (lambda: nn.BatchNorm1d(4, momentum=2), "momentum must be"),
        (lambda: nn.Upsample(), "scale_factor or size"),
        (lambda: nn.Upsample(2, mode="cubic"), "mode must be"),
        (lambda: nn.Upsample(2, align_corners=True), "'linear' or 'bilinear'"),
        (lambda: nn.Permute(1, 3), "dims must be"),
        (lambda: nn.Reshape(-1, -1), "one -1"),
        (lambda: nn.ZeroPad("1"), "padding must be"),
        (lambda: nn.MultiHeadAttention(5, 2), "multiple of num_heads"),
        (lambda: nn.MultiHeadAttention(4, 2, mask=[[True], [True]]), "square table"),
        (lambda: nn.MultiHeadAttention(4, 2, mask=[[False]]), "nothing to look at"),
        (
            lambda: nn.MultiHeadAttention(4, 2, causal=True, mask=[[False, True], [True, True]]),
            "nothing to look at: its row is False up to itself",
        ),
        (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), "'tanh' or 'relu'"),
        (lambda: nn.LSTM(3, 0), "hidden_size must be a positive integer"),
        (lambda: nn.AutoEncoder.convolutional((30, 28, 1), [4, 4]), "multiples of 4"),
        (lambda: nn.AutoEncoder.convolutional((28, 28), [4, 4, 4]), "multiples of 8"),
    ],
)
def test_options_are_checked(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        make()
    one_line(error)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_dropout_between_the_layers_of_one_is_said_to_do_nothing(kind: Any) -> None:
    with pytest.warns(UserWarning, match="there is one: it does nothing") as caught:
        kind(3, 4, dropout=0.2)
    assert caught[0].filename == __file__
    kind(3, 4, num_layers=2, dropout=0.2)


# ---- what layers do ----------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "n"), [(1, 7), (2, 7), (2, 8), (3, 10)])
def test_same_padding_gives_as_many_pixels_as_there_are_strides(stride: int, n: int) -> None:
    y = nn.Conv2d(1, 1, 3, stride=stride, padding="same")(images(1, n, n, 1))
    assert y.shape == (1, -(-n // stride), -(-n // stride), 1)
    back = nn.ConvTranspose2d(1, 1, 3, stride=stride, padding="same")(y)
    assert back.shape == (1, y.shape[1] * stride, y.shape[2] * stride, 1)


def test_batch_norm_follows_the_statistics_and_uses_them_in_eval_mode() -> None:
    torch = pytest.importorskip("torch")
    layer, other = nn.BatchNorm1d(3, momentum=0.3), torch.nn.BatchNorm1d(3, momentum=0.3)
    for k in range(3):
        x = images(6, 3) * (k + 1)
        np.testing.assert_allclose(layer(x), other(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.data, other.running_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.data, other.running_var, rtol=1e-5)
    before = layer.running_var.data.copy()
    layer.eval(), other.eval()
    y = layer(x)
    np.testing.assert_allclose(y, other(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)
    layer.train().predict(x)
    np.testing.assert_array_equal(layer.running_var.data, before)


RUNNING: dict[str, tuple[Any, str, dict[str, Any], tuple[int, ...]]] = {
    "BatchNorm1d": (nn.BatchNorm1d, "BatchNorm1d", {"momentum": None}, (6, 3)),
    "BatchNorm1d of sequences": (nn.BatchNorm1d, "BatchNorm1d", {"momentum": None}, (4, 5, 3)),
    "BatchNorm2d, not affine": (
        *(nn.BatchNorm2d, "BatchNorm2d", {"momentum": None, "affine": False}),
        (2, 4, 5, 3),
    ),
    "InstanceNorm": (nn.InstanceNorm, "InstanceNorm1d", {"momentum": 0.3}, (4, 5, 3)),
    "InstanceNorm, affine": (nn.InstanceNorm, "InstanceNorm2d", {"affine": True}, (2, 4, 5, 3)),
}


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("recorded", [False, True], ids=["layer by layer", "recorded"])
def test_running_statistics_are_pytorchs(name: str, recorded: bool, tmp_path: Any) -> None:
    """With momentum None the mean of all batches'; of InstanceNorm those of the samples' means."""
    torch = pytest.importorskip("torch")
    kind, theirs, options, shape = RUNNING[name]
    layer = kind(shape[-1], track_running_stats=True, **options)
    other = getattr(torch.nn, theirs)(shape[-1], track_running_stats=True, **options)
    last = lambda t: t.movedim(1, -1).detach().numpy()  # noqa: E731
    first = lambda x: torch.tensor(x).movedim(-1, 1)  # noqa: E731
    forward = lambda module, x: (module(x),)  # noqa: E731
    record: Any = ldl.get_backend().record if recorded else None
    played = record(forward, (layer,), (images(*shape),)) if recorded else None
    assert played is None or played.played
    for k in range(4):
        x = images(*shape) * (k + 1) + k
        y = played(x)[0] if recorded else layer(x)
        np.testing.assert_allclose(y, last(other(first(x))), rtol=1e-4, atol=1e-5)
        for own in ("running_mean", "running_var"):
            found, right = getattr(layer, own).data, getattr(other, own)
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
    ldl.save(layer, tmp_path / "m.safetensors")
    x, other = images(*shape), other.eval()
    for model in (layer.eval(), ldl.load(tmp_path / "m.safetensors")):
        np.testing.assert_allclose(model(x), last(other(first(x))), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ldl.Predictor(model)(x), model(x), rtol=1e-5, atol=1e-6)
        assert ldl.check_gradients(model, x)


def test_statistics_have_a_type_that_inputs_share() -> None:
    layer = nn.BatchNorm1d(3, affine=False)
    with pytest.raises(TypeError, match=r"holds float32 but got float64.*model\.to"):
        layer(images(4, 3).astype("float64"))
    assert layer.to(dtype="float64")(images(4, 3).astype("float64")).dtype == np.float64


def test_batch_norm_of_one_sample_is_an_error_that_names_the_fix() -> None:
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match=r"two samples at least, or call model\.eval\(\)") as error:
        layer(images(1, 3))
    one_line(error)
    assert layer.eval()(images(1, 3)).shape == (1, 3)
    assert nn.BatchNorm2d(3)(images(1, 2, 2, 3)).shape == (1, 2, 2, 3)


def test_buffers_stay_frozen_where_a_model_is_unfrozen() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.requires_grad_(False).requires_grad_(True)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["1.running_mean", "1.running_var"]


def test_the_layers_of_a_bidirectional_net_see_the_sequence_from_both_ends() -> None:
    layer = nn.LSTM(2, 3, bidirectional=True)
    x = images(1, 6, 2)
    y, last = layer(x), nn.LSTM(2, 3, bidirectional=True, last=True)
    last.load_state_dict(layer.state_dict())
    np.testing.assert_allclose(last(x)[0, :3], y[0, -1, :3], rtol=1e-6)
    np.testing.assert_allclose(last(x)[0, 3:], y[0, 0, 3:], rtol=1e-6)
    x[0, -1] += 1
    assert (layer(x)[0, 0, 3:] != y[0, 0, 3:]).all()
    np.testing.assert_array_equal(layer(x)[0, 0, :3], y[0, 0, :3])


def test_a_causal_place_sees_nothing_later() -> None:
    layer = nn.TransformerBlock(8, 2, causal=True)
    x = images(1, 5, 8)
    y = layer(x)
    x[0, 3] += 1
    changed = layer(x)
    np.testing.assert_array_equal(changed[0, :3], y[0, :3])
    assert (changed[0, 3:] != y[0, 3:]).any()


def test_the_denoiser_of_two_stages_has_28353_parameters() -> None:
    model = nn.AutoEncoder.convolutional((28, 28, 1), [32, 32])
    assert sum(p.size for p in model.parameters()) == 28_353
    assert model.encode(images(2, 28, 28, 1)).shape == (2, 7, 7, 32)
    flat = nn.AutoEncoder.convolutional((8, 4, 1), [3], latent=5)
    assert flat.encode(images(2, 8, 4, 1)).shape == (2, 5)
    assert flat(images(2, 8, 4, 1)).shape == (2, 8, 4, 1)
    line = nn.AutoEncoder.convolutional((16, 3), 4)
    assert line(images(2, 16, 3)).shape == (2, 16, 3)


def test_the_net_of_the_first_ancestor_works_by_its_names() -> None:
    """Conv1D(3, 1, 32, 1), MaxPool1D(2, 2), Flatten, Linear, ReLU, Linear, on rows of 256."""
    model = nn.Sequential(
        *(nn.Conv1d(1, 32, 3), nn.MaxPool1d(2, 2), nn.Flatten()),
        *(nn.Linear(4064, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    assert model.predict(images(3, 256, 1)).shape == (3, 10)


@pytest.mark.parametrize(
    "module",
    [
        nn.MultiHeadAttention(4, 2, dropout=0.4),
        nn.TransformerBlock(4, 2, 6, dropout=0.4),
        nn.TransformerBlock(4, 2, dropout=0.4, norm_first=False),
        nn.LSTM(4, 3, num_layers=3, dropout=0.4),
        nn.GRU(4, 3, num_layers=2, dropout=0.4, bidirectional=True),
    ],
    ids=repr,
)
def test_gradients_are_right_with_dropout_inside(module: nn.Module) -> None:
    assert max(ldl.check_gradients(module, images(3, 5, 4)).values()) < 1e-6
    masks = [m for m in module.modules() if isinstance(m, nn.Dropout)]
    assert len({m.stream.stream for m in masks}) == len(masks) > 0


def test_a_window_that_sees_no_pixel_reads_none() -> None:
    """Two taps, four apart, on either side of the one pixel: the maximum of nothing."""
    from ldl.backend import Window

    window = Window((2, 1), padding=((2, 2), (0, 0)), dilation=(4, 1))
    assert not window.sees((1, 1))
    assert Window((3, 3), padding=((1, 1), (1, 1))).sees((4, 4))

    class Pools(nn.Module):
        def forward(self, x: Any) -> Any:
            y, where = self.backend.max_pool(x, window)
            self.keep(where)
            return y

        def backward(self, grad: Any) -> Any:
            return self.backend.max_pool_input(grad, self.take(), window, (1, 1))

    x = images(2, 1, 1, 3)
    y = Pools()(x)
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(ldl.Predictor(Pools())(x), y)


# ---- recorded steps ----------------------------------------------------------------------------


def does(model: nn.Module, x: Any, y: Any, loss: nn.Loss) -> list[str]:
    """What a recorded step of the host is made of."""
    pytest.importorskip("llvmlite")
    step = ldl.TrainStep(model, loss, optim.Adam(model.parameters()))
    step(x, y)
    (recording,) = step._recordings.values()
    assert recording.played
    found: list[str] = recording._plan.does
    return found


LABELS = RNG.integers(0, 10, 8)


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def test_a_step_of_lenet_is_kernels_products_and_loops() -> None:
    found = does(lenet(), images(8, 28, 28, 1), LABELS, nn.CrossEntropyLoss())
    kernels = [name for name in found if name not in ("loop", "matmul")]
    forward = ["conv", "max_pool", "conv", "max_pool"]
    back = ["max_pool_input", "conv_weight", "conv_input", "max_pool_input", "conv_weight"]
    assert sorted(kernels) == sorted([*forward, *back])
    assert found.count("matmul") == 9


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda: nn.BatchNorm1d(6), (8, 6)),
        (lambda: nn.BatchNorm1d(6), (8, 5, 6)),
        (lambda: nn.BatchNorm2d(6), (8, 5, 4, 6)),
        (lambda: nn.LayerNorm(6), (8, 6)),
        (lambda: nn.LayerNorm((5, 6)), (8, 5, 6)),
        (lambda: nn.RMSNorm(6), (8, 5, 6)),
        (lambda: nn.GroupNorm(2, 6), (8, 5, 6)),
        (lambda: nn.InstanceNorm(6, affine=True), (8, 5, 4, 6)),
    ],
    ids=[
        "BatchNorm1d",
        "(N, L, C)",
        "BatchNorm2d",
        "Layer",
        "two axes",
        "RMS",
        "Group",
        "Instance",
    ],
)
def test_a_step_of_a_normalisation_is_loops(norm: Any, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    assert set(does(norm(), x, x, nn.MSELoss())) == {"loop"}


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_step_of_a_sequence_of_any_length_is_products_and_loops(kind: Any, length: int) -> None:
    found = does(kind(3, 4), images(5, length, 3), images(5, length, 4), nn.MSELoss())
    assert set(found) <= {"loop", "matmul"}


def test_a_step_of_a_transformer_is_products_and_loops() -> None:
    x = images(4, 6, 8)
    found = does(nn.TransformerBlock(8, 2, causal=True), x, x, nn.MSELoss())
    assert set(found) <= {"loop", "matmul"}


def test_a_trace_computes_no_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldl.compiler.dryrun import dry_run

    model, x = lenet(), images(2, 28, 28, 1)
    for name in ("conv", "conv_weight", "conv_input", "max_pool", "max_pool_input"):
        monkeypatch.setattr(
            type(ldl.get_backend("numpy")), name, lambda *a, **k: pytest.fail("computes"), False
        )

    def both(m: nn.Module, given: Any) -> tuple[Any, ...]:
        y = m(given)
        return y, m.backward(y)

    traced = dry_run(both, [model], [x], lambda a: a)
    assert {"conv", "conv_weight", "conv_input"} < {op.ufunc for op in traced.trace.ops}


def test_what_is_computed_of_constants_is_computed_once() -> None:
    x = images(2, 7, 3)
    for layer in (nn.AdaptiveAvgPool1d(3), nn.Upsample(size=5, mode="linear")):
        y = layer.predict(x)
        found = does(nn.Sequential(nn.Linear(3, 3), layer), x, y, nn.MSELoss())
        assert set(found) <= {"loop", "matmul"}


def test_draws_and_inputs_are_no_constants() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.MultiHeadAttention(4, 2, causal=True))
    predictor, x = ldl.Predictor(model.eval()), images(2, 3, 4)
    predictor(x)
    np.testing.assert_allclose(predictor(2 * x), model(2 * x), rtol=1e-5, atol=1e-6)
    step = ldl.TrainStep(model.train(), nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0))
    assert len({float(step(x, x)) for _ in range(6)}) == 6


@pytest.mark.parametrize(("times", "kept"), [(2, 0), (3, 1)])
def test_a_matrix_that_many_products_read_turned_is_turned_once(times: int, kept: int) -> None:
    class Chain(nn.Module):
        """x Wᵀ Wᵀ …"""

        def __init__(self) -> None:
            self.weight = nn.Parameter(nn.init.orthogonal((4, 4)))

        def forward(self, x: Any) -> Any:
            turned = self.weight.data.T.copy()
            for _ in range(times):
                x = self.backend.matmul(x, turned)
            return x

    x = images(5, 4)
    predictor = ldl.Predictor(Chain())
    right = x @ np.linalg.matrix_power(predictor.model.weight.data.T, times)
    np.testing.assert_allclose(predictor(x), right, rtol=1e-4, atol=1e-5)
    (recording,) = predictor.recordings().values()
    does = recording._plan.does  # type: ignore[attr-defined]
    assert does == ["loop"] * kept + ["matmul"] * times
