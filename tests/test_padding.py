"""Sequences that are filled up to one length: masks of padding, from a call to every export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ldl
from ldl import nn
from ldl.io.torch import from_torch, to_torch

X = np.random.default_rng(0).normal(size=(3, 5, 6))
HIDDEN = np.zeros((3, 5), bool)
HIDDEN[0, 3:], HIDDEN[1, :2] = True, True
TOKENS = np.random.default_rng(1).integers(1, 9, (4, 5))
TOKENS[0, 3:], TOKENS[1, :2], TOKENS[3] = 0, 0, 0


def model(**how: Any) -> nn.Padded:
    ldl.manual_seed(3)
    return nn.Padded(
        nn.Embedding(9, 6, padding_idx=0),
        nn.PositionalEncoding(6, 8),
        nn.Sequential(nn.TransformerBlock(6, 2, 8, **how)),
        nn.Residual(nn.MultiHeadAttention(6, 2, **how)),
        nn.Parallel(nn.MultiHeadAttention(6, 3), nn.Linear(6, 6), merge="sum"),
        nn.GlobalAvgPool(),
        nn.Linear(6, 3),
        padding_idx=0,
    )


class Hidden(nn.Module):
    """A layer given one mask whatever comes."""

    def __init__(self, layer: nn.Module, hidden: Any) -> None:
        self.layer, self.hidden = layer, hidden

    def forward(self, x: Any) -> Any:
        return self.layer(x, key_padding_mask=self.hidden)

    def backward(self, grad: Any) -> Any:
        return self.layer.backward(grad)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_what_pytorch_takes_it_for(causal: bool) -> None:
    T = pytest.importorskip("torch")
    ours = nn.MultiHeadAttention(6, 2, causal=causal).to(dtype="float64")
    theirs = T.nn.MultiheadAttention(6, 2, batch_first=True, dtype=T.float64)
    theirs.load_state_dict({k: T.from_numpy(v.copy()) for k, v in to_torch(ours).items()})
    later = T.ones(5, 5, dtype=T.bool).triu(1) if causal else None
    x = T.from_numpy(X)
    y, _ = theirs(x, x, x, key_padding_mask=T.from_numpy(HIDDEN), attn_mask=later)
    seen = ~(np.logical_and.accumulate(HIDDEN, axis=1) if causal else np.zeros((3, 5), bool))
    expected = y.detach().numpy()
    assert not np.isnan(expected[seen]).any()
    found = ours(X, key_padding_mask=HIDDEN)
    np.testing.assert_allclose(found[seen], expected[seen], rtol=1e-10, atol=1e-12)
    bias = np.broadcast_to(ours.out.bias.data, found[~seen].shape)
    np.testing.assert_allclose(found[~seen], bias)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MultiHeadAttention(6, 2, causal=True),
        nn.MultiHeadAttention(6, 2, mask=np.random.default_rng(0).normal(size=(5, 5))),
        nn.TransformerBlock(6, 2, 8, dropout=0.3),
        nn.TransformerBlock(6, 2, 8, norm_first=False),
        nn.GlobalAvgPool(),
        nn.Residual(nn.Sequential(nn.LayerNorm(6), nn.MultiHeadAttention(6, 2))),
        nn.Parallel(nn.MultiHeadAttention(6, 2), nn.Linear(6, 4)),
    ],
    ids=repr,
)
def test_gradients_under_padding(layer: nn.Module) -> None:
    hidden = HIDDEN.copy()
    hidden[2] = True
    ldl.check_gradients(Hidden(layer, hidden), X)


def test_what_stands_in_padding_changes_nothing() -> None:
    layer = nn.Sequential(nn.TransformerBlock(6, 2, 8), nn.GlobalAvgPool()).eval()
    other = np.where(HIDDEN[:, :, None], 100.0, X).astype("float32")
    found = layer(X.astype("float32"), key_padding_mask=HIDDEN)
    np.testing.assert_array_equal(layer(other, key_padding_mask=HIDDEN), found)
    short = layer(X[:1, :3].astype("float32"))
    np.testing.assert_allclose(found[:1], short, rtol=1e-5, atol=1e-6)
    everything = np.ones((3, 5), bool)
    assert np.all(layer(other, key_padding_mask=everything) == 0)


def test_a_mask_reaches_attention_in_branches_and_round_layers() -> None:
    alone = nn.MultiHeadAttention(6, 2)
    for whole in (nn.Residual(alone), nn.Parallel(alone, nn.Linear(6, 6), merge="sum")):
        assert whole.takes_padding
        chain = nn.Sequential(whole).to(dtype="float64")
        rest = X if isinstance(whole, nn.Residual) else whole.branches[1](X)
        found = chain(X, key_padding_mask=HIDDEN)
        np.testing.assert_allclose(found - rest, alone(X, key_padding_mask=HIDDEN), rtol=1e-9)
    assert not nn.Residual(nn.Linear(6, 6)).takes_padding


@pytest.mark.parametrize("causal", [False, True])
def test_a_recorded_step_is_the_layers_own_code(causal: bool) -> None:
    labels, losses = np.array([0, 1, 2, 1]), []
    for record in (True, False):
        net, loss = model(causal=causal), nn.CrossEntropyLoss()
        step = ldl.TrainStep(net, loss, ldl.optim.Adam(net.parameters(), 0.01), record=record)
        losses.append([float(step(TOKENS, labels)) for _ in range(4)])
        if record:
            assert all(r.played for r in step.recordings().values())
    np.testing.assert_allclose(*losses, rtol=1e-5)
    net = model(causal=causal)
    optimizer = ldl.optim.Adam(net.parameters(), 0.01)
    history = ldl.fit(net, (TOKENS, labels), nn.CrossEntropyLoss(), optimizer, epochs=9)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("causal", [False, True])
def test_files_and_onnx_and_python_have_the_mask(causal: bool, tmp_path: Path) -> None:
    net = model(causal=causal).eval()
    expected = net.predict(TOKENS)
    assert np.isfinite(expected).all()
    ldl.save(net, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(ldl.load(tmp_path / "m.safetensors").predict(TOKENS), expected)
    ldl.onnx.export(net, tmp_path / "m.onnx", 5)
    run = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for n in (4, 1, 0):
        found = run.run(None, {"input": TOKENS[:n]})[0]
        np.testing.assert_allclose(found, expected[:n], rtol=2e-5, atol=2e-6)
    ldl.onnx.export_python(net, tmp_path / "m.py", 5)
    space: dict[str, Any] = {"__name__": "m"}
    exec((tmp_path / "m.py").read_text(), space)
    np.testing.assert_allclose(space["predict"](TOKENS), expected, rtol=2e-5, atol=2e-6)
    other = model(causal=causal)
    for p in other.parameters():
        p.data[...] *= 1 if isinstance(p, nn.Buffer) else 0
    from_torch(other, to_torch(net))
    np.testing.assert_allclose(other.eval().predict(TOKENS), expected, rtol=1e-6)


def test_a_mask_of_numbers_goes_through_files(tmp_path: Path) -> None:
    mask = np.triu(np.full((5, 5), -np.inf), 1)
    block = nn.TransformerBlock(6, 2, mask=mask)
    ldl.save(block, tmp_path / "b.safetensors")
    net = nn.MultiHeadAttention(6, 2, mask=mask).eval()
    x = X.astype("float32")
    causal = nn.MultiHeadAttention(6, 2, causal=True).eval()
    causal.qkv, causal.out = net.qkv, net.out
    np.testing.assert_allclose(net.predict(x), causal.predict(x), rtol=1e-5, atol=1e-6)
    ldl.save(net, tmp_path / "m.safetensors")
    back = ldl.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(back.predict(x), net.predict(x))
    assert np.isneginf(mask).any()  # the caller's


@pytest.mark.parametrize(
    ("mask", "error", "says"),
    [
        (HIDDEN[:, :4], ValueError, r"must be of shape \(3, 5\)"),
        (HIDDEN.astype("float32"), TypeError, "True where a place is padding"),
        (HIDDEN.tolist(), TypeError, "asarray"),
    ],
)
def test_a_mask_that_is_none_says_so(mask: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        nn.MultiHeadAttention(6, 2)(X.astype("float32"), key_padding_mask=mask)


def test_masks_and_chains_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="3 heads, and there are 2"):
        nn.MultiHeadAttention(6, 2, mask=np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="nothing to look at"):
        nn.MultiHeadAttention(6, 2, mask=np.full((4, 4), -np.inf))
    with pytest.raises(ValueError, match="has others"):
        nn.MultiHeadAttention(6, 2, mask=np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="use Sequential"):
        nn.Padded(nn.Embedding(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="first layer must be an Embedding"):
        nn.Padded(nn.TransformerBlock(4, 2))
    with pytest.raises(ValueError, match=r"tokens \(N, T\)"):
        model()(np.zeros(4, "int64"))
