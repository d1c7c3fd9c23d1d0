"""ONNX's operators in NumPy, untyped, as `export_python` copies them into its files."""

import numpy as np


def _array(shape, dtype, *rows):
    """An array from the base 85 of its bytes: five digits make four of them."""
    digits = np.frombuffer("".join(rows).encode(), np.uint8)
    order = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    value = np.zeros(256, np.uint64)
    value[np.frombuffer(order.encode(), np.uint8)] = np.arange(85)
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    digits = np.concatenate([digits, np.full(-len(digits) % 5, ord("~"), np.uint8)])
    words = value[digits].reshape(-1, 5) @ (85 ** np.arange(4, -1, -1)).astype(np.uint64)
    data = words.astype(">u4").tobytes()[:count]
    return np.frombuffer(data, dtype).reshape(shape)


def _batch_norm(x, weight, bias, mean, var, eps):
    """x less mean over deviation, times weight, plus bias, of each channel."""
    scale = weight / np.sqrt(var + eps)
    shape = -1, *[1] * (x.ndim - 2)
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


def _conv(x, w, b, size, stride, pads, dilation, groups):
    """A convolution: x (N, C, ...), w (O, C / groups, ...)."""
    v = _windows(_padded(x, pads), size, stride, dilation)
    k = len(size)
    c, o = w.shape[1], len(w) // groups
    parts = [
        np.tensordot(
            v[:, g * c : (g + 1) * c],
            w[g * o : (g + 1) * o],
            ([1, *range(2 + k, 2 + 2 * k)], [1, *range(2, 2 + k)]),
        )
        for g in range(groups)
    ]
    y = np.moveaxis(np.concatenate(parts, -1), -1, 1)
    return y if b is None else y + b.reshape(-1, *[1] * k)


def _conv_transpose(x, w, b, size, stride, pads, more, dilation, groups):
    """A transposed convolution: x (N, C, ...), w (C, O / groups, ...)."""
    k, c = len(size), len(w) // groups
    whole = [
        (n - 1) * s + d * (t - 1) + 1 + m
        for n, s, d, t, m in zip(x.shape[2:], stride, dilation, size, more, strict=True)
    ]
    y = np.zeros((len(x), w.shape[1] * groups, *whole), x.dtype)
    for tap in np.ndindex(*size):
        at = tuple(
            slice(i * d, i * d + s * (n - 1) + 1, s)
            for i, d, s, n in zip(tap, dilation, stride, x.shape[2:], strict=True)
        )
        parts = [
            np.tensordot(
                x[:, g * c : (g + 1) * c], w[(slice(g * c, (g + 1) * c), slice(None), *tap)], (1, 0)
            )
            for g in range(groups)
        ]
        y[(slice(None), slice(None), *at)] += np.moveaxis(np.concatenate(parts, -1), -1, 1)
    inside = tuple(slice(a, n - z) for a, z, n in zip(pads[:k], pads[k:], whole, strict=True))
    y = y[(slice(None), slice(None), *inside)]
    return y if b is None else y + b.reshape(-1, *[1] * k)


def _erf(x):
    """erf x, to 1.2e-7 of 1 - |erf x|: a Chebyshev fit of Press et al., Numerical Recipes."""
    z = np.abs(x)
    t = 1 / (1 + z / 2)
    fit = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807]
    fit += [-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223]
    rest = t * np.exp(np.polyval(fit, t) - z * z)
    return (np.sign(x) * (1 - rest)).astype(x.dtype)


def _instance_norm(x, weight, bias, eps):
    """Each sample's channels, normalised over their pixels."""
    shape = -1, *[1] * (x.ndim - 2)
    axes = tuple(range(2, x.ndim))
    return _normalised(x, axes, eps, weight.reshape(shape), bias.reshape(shape))


def _max_pool(x, size, stride, pads, dilation):
    """The maximum of each window."""
    v = _windows(_padded(x, pads, -np.inf), size, stride, dilation)
    return v.max(tuple(range(-len(size), 0)))


def _mean_pool(x, size, stride, pads, whole):
    """The mean of each window; unless `whole`, of what is in it of x."""
    ones, last = [1] * len(size), tuple(range(-len(size), 0))
    y = _windows(_padded(x, pads), size, stride, ones).mean(last)
    if whole or not any(pads):
        return y
    real = _padded(np.ones((1, 1, *x.shape[2:]), x.dtype), pads)
    return y / _windows(real, size, stride, ones).mean(last)


def _normalised(x, axes, eps, weight, bias):
    """x less its mean along axes, over its deviation; times weight, plus bias."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps) * weight + bias


def _padded(x, pads, value=0):
    """x with what is put before and after each of its last axes."""
    n = len(pads) // 2
    pairs = [(0, 0)] * (x.ndim - n) + list(zip(pads[:n], pads[n:], strict=True))
    return np.pad(x, pairs, constant_values=value)


def _recurrent(kind, x, w, r, b, size, acts):
    """Outputs (T, directions, N, size) of x (T, N, C), and the last ones of each direction."""
    outputs, ends = [], []
    for k in range(len(w)):
        ahead = x if k == 0 else x[::-1]
        wb, rb = (0, 0) if b is None else np.split(b[k], 2)
        h = np.zeros((x.shape[1], size), x.dtype)
        c, found = h, []
        for z in ahead @ w[k].T + wb:
            a = h @ r[k].T + rb
            if kind == "RNN":
                h = np.tanh(z + a) if acts[k] == "Tanh" else np.maximum(z + a, 0)
            elif kind == "LSTM":
                i, o, f, g = np.split(z + a, 4, -1)
                c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
                h = _sigmoid(o) * np.tanh(c)
            else:
                (u, s, n), (p, q, m) = np.split(z, 3, -1), np.split(a, 3, -1)
                keep = _sigmoid(u + p)
                h = (1 - keep) * np.tanh(n + _sigmoid(s + q) * m) + keep * h
            found.append(h)
        outputs.append(np.stack(found if k == 0 else found[::-1]))
        ends.append(h)
    return np.stack(outputs, 1), np.stack(ends)


def _repeated(x, scales):
    """Each pixel several times along each axis."""
    for axis, scale in enumerate(scales):
        x = np.repeat(x, int(scale), axis)
    return x


def _selu(x, alpha, scale):
    """scale x where x > 0, else scale alpha (exp(x) - 1)."""
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _sigmoid(x):
    """1 / (1 + exp(-x))."""
    return (np.tanh(x / 2) + 1) / 2


def _softmax(x, axis):
    """exp(x) over its sum along an axis."""
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def _windows(x, size, stride, dilation):
    """Windows over (N, C, ...): axes of places in front, axes of the window behind."""
    axes = tuple(range(2, x.ndim))
    whole = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    w = np.lib.stride_tricks.sliding_window_view(x, whole, axes)
    places = [slice(None, None, s) for s in stride]
    taps = [slice(None, None, d) for d in dilation]
    return w[(slice(None), slice(None), *places, *taps)]


def _layer_norm(x, weight, bias, axis, eps):
    """Each sample, normalised over its last axes."""
    return _normalised(x, tuple(range(axis, 0)), eps, weight, bias)
