"""Embedding, attention and recurrent layers, as ONNX has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl import nn
from ldl.onnx.dense import dense, under
from ldl.onnx.graph import Graph, Tensor, inside, register


@register(nn.Embedding)
def _embedding(g: Graph, m: nn.Embedding, x: Tensor, path: str) -> str:
    return str(g.node("Gather", path, g.constant(f"{path}.weight", m.weight.data), x, axis=0))


@register(nn.PositionalEncoding)
def _places(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x = g.last(x, path)
    t = x.shape[0]
    places = g.constant(f"{path}.weight", m.weight.data)
    if t != m.max_len:
        ends = (g.constant(f"{path}.{n}", [k], np.int64) for n, k in (("from", 0), ("to", t)))
        places = g.node("Slice", path, places, *ends)
    return str(g.node("Add", path, x, places))


@register(nn.MultiHeadAttention)
def _attention(g: Graph, m: Any, x: Tensor, path: str) -> str:
    (t, d), heads, dtype = x.shape, m.num_heads, x.sample.dtype
    qkv = m.qkv
    bias = None if qkv.bias is None else qkv.bias.data
    parts = g.node(
        "Split",
        path,
        dense(g, x, under(path, "qkv"), qkv.weight.data, bias),
        g.constant(f"{path}.parts", [d, d, d], np.int64),
        outputs=3,
        axis=-1,
    )
    shape = g.constant(f"{path}.heads", [0, t, heads, d // heads], np.int64)
    q, k, v = (
        g.node("Transpose", path, g.node("Reshape", path, part, shape), perm=list(perm))
        for part, perm in zip(parts, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
    )
    scale = g.constant(f"{path}.scale", np.asarray((d // heads) ** -0.5, dtype))
    s = g.node("Mul", path, g.node("MatMul", path, q, k), scale)
    allowed = m._seen(t)
    if m.added is not None:
        s = g.node("Add", path, s, g.constant(f"{path}.added", m.added.data))
    if allowed is not None:
        far = g.constant(f"{path}.mask", np.where(allowed, 0, -np.inf).astype(dtype))
        s = g.node("Add", path, s, far)
    if g.padding is None:
        p = g.node("Softmax", path, s, axis=-1)
    else:  # where every key is hidden a softmax is of equal numbers, and is then made 0
        far = g.constant(f"{path}.far", np.asarray(np.finfo(dtype).min / 2, dtype))
        p = g.node("Softmax", path, g.node("Where", path, _hidden(g, path, t), far, s), axis=-1)
        none, one = (
            g.constant(f"{path}.{n}", np.asarray(k, dtype)) for n, k in (("0", 0), ("1", 1))
        )
        p = g.node("Mul", path, p, g.node("Where", path, _hidden(g, path, t), none, one))
    y = g.node("MatMul", path, p, v)
    y = g.node("Transpose", path, y, perm=[0, 2, 1, 3])
    y = g.node("Reshape", path, y, g.constant(f"{path}.together", [0, t, d], np.int64))
    out = m.out
    held = Tensor(y, x.sample)
    bias = None if out.bias is None else out.bias.data
    return dense(g, held, under(path, "out"), out.weight.data, bias)


def _hidden(g: Graph, path: str, t: int) -> str:
    """Which keys are padding, along the last axis of scores."""
    shape = g.constant(f"{path}.keys", [0, 1, 1, t], np.int64)
    return str(g.node("Reshape", path, g.padding or "", shape))


@inside(nn.Padded)
def _padded(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    token = g.constant(f"{path}.padding_idx".lstrip("."), np.asarray(m.padding_idx, np.int64))
    g.padding = str(g.node("Equal", path, x, token))
    for name, layer in m.named_children():
        x = g.layer(layer, x, under(path, name))
    return x


@inside(nn.TransformerBlock)
def _block(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    def added(x: Tensor, y: Tensor) -> Tensor:
        return Tensor(g.node("Add", path, x, y), x.sample + y.sample)

    def part(name: str, x: Tensor) -> Tensor:
        return g.layer(getattr(m, name), x, under(path, name))

    x = g.last(x, path)
    if m.norm_first:
        h = added(x, part("attention", part("norm1", x)))
        return added(h, part("mlp", part("norm2", h)))
    h = part("norm1", added(x, part("attention", x)))
    return part("norm2", added(h, part("mlp", h)))


ORDERS = {nn.RNN: (0,), nn.LSTM: (0, 3, 1, 2), nn.GRU: (1, 0, 2)}
"""Where ONNX has each gate: ldl's are i, f, g, o and r, z, n, ONNX's i, o, f, g and z, r, n."""


def _gates(array: Any, order: tuple[int, ...]) -> Any:
    """Columns, gate by gate, as ONNX's rows."""
    parts = np.split(np.asarray(array), len(order), axis=-1)
    return np.concatenate([parts[k] for k in order], axis=-1).T


@register(nn.RNN, nn.LSTM, nn.GRU)
def _recurrent(g: Graph, m: Any, x: Tensor, path: str) -> str:
    op, order = type(m).__name__, ORDERS[type(m)]
    t, u, ways = x.shape[0], m.hidden_size, 2 if m.bidirectional else 1
    how: dict[str, Any] = {"hidden_size": u}
    how["direction"] = "bidirectional" if ways == 2 else "forward"
    if op == "RNN":
        how["activations"] = ["Tanh" if m.nonlinearity == "tanh" else "Relu"] * ways
    if op == "GRU":
        how["linear_before_reset"] = 1
    y: Any = g.node("Transpose", path, g.last(x, path), perm=[1, 0, 2])
    if op != "RNN":  # ONNX Runtime 1.32 aborts on a batch of none: one sample more goes along
        more = g.constant(f"{path}.more", np.zeros((t, 1, m.input_size), x.sample.dtype))
        y = g.node("Concat", path, y, more, axis=1)
        none, end = (g.constant(f"{path}.{n}", [k], np.int64) for n, k in (("from", 0), ("to", -1)))

    def own(name: str, axis: int) -> str:
        """Without that sample."""
        if op == "RNN":
            return name
        axes = g.constant(f"{path}.axis{axis}", [axis], np.int64)
        return str(g.node("Slice", path, name, none, end, axes))

    for k in range(m.num_layers):
        layers, at = m.layers[ways * k : ways * (k + 1)], under(path, f"layers.{k}")
        inputs = [np.stack([_gates(d.weight_ih.data, order) for d in layers])]
        inputs.append(np.stack([_gates(d.weight_hh.data, order) for d in layers]))
        if layers[0].bias is not None:
            inputs.append(np.stack([_biases(d, order) for d in layers]))
        names = [g.constant(f"{at}.{n}", a) for n, a in zip("WRB", inputs, strict=False)]
        out, ends = g.node(op, at, y, *names, outputs=2, **how)
        last = k == m.num_layers - 1
        if last and m.last:
            shape = g.constant(f"{path}.shape", [0, ways * u], np.int64)
            turned = g.node("Transpose", path, own(ends, 1), perm=[1, 0, 2])
            return str(g.node("Reshape", path, turned, shape))
        if last:
            shape = g.constant(f"{path}.shape", [0, t, ways * u], np.int64)
            turned = g.node("Transpose", at, own(out, 2), perm=[2, 0, 1, 3])
            return str(g.node("Reshape", at, turned, shape))
        shape = g.constant(f"{at}.shape", [0, 0, ways * u], np.int64)
        y = g.node("Reshape", at, g.node("Transpose", at, out, perm=[0, 2, 1, 3]), shape)
    raise AssertionError("a recurrent layer has a last layer")


def _biases(d: Any, order: tuple[int, ...]) -> Any:
    """What is added to x W, then what is added to h U."""
    own = _gates(d.bias.data, order)
    further = np.zeros_like(own)
    if getattr(d, "bias_n", None) is not None:
        further[-d.hidden_size :] = d.bias_n.data
    return np.concatenate([own, further])
