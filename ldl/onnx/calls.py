"""ONNX's operators as the text of Python expressions, of NumPy and of `numpy_operators`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Inputs = list[str]
How = dict[str, Any]
Call = Callable[[Inputs, How], str]


def _binary(sign: str) -> Call:
    return lambda i, how: f"{i[0]} {sign} {i[1]}"


def _text(form: str) -> Call:
    """A call whose text names inputs by number and attributes by name."""
    return lambda i, how: form.format(*i, **how)


def _gemm(i: Inputs, how: How) -> str:
    return f"{i[0]} @ {i[1]}" + (f" + {i[2]}" if len(i) > 2 else "")


def _third(i: Inputs) -> str:
    return i[2] if len(i) > 2 else "None"


def _conv(i: Inputs, how: How) -> str:
    form = "_conv({0}, {1}, {2}, {kernel_shape}, {strides}, {pads}, {dilations}, {group})"
    return form.format(i[0], i[1], _third(i), **how)


def _conv_transpose(i: Inputs, how: How) -> str:
    form = (
        "_conv_transpose({0}, {1}, {2}, {kernel_shape}, {strides}, {pads}, {output_padding}, "
        "{dilations}, {group})"
    )
    return form.format(i[0], i[1], _third(i), **how)


def _mean_pool(i: Inputs, how: How) -> str:
    none = [0] * 2 * len(how["kernel_shape"])
    how = {"pads": none, "count_include_pad": 1} | how
    return "_mean_pool({0}, {kernel_shape}, {strides}, {pads}, {count_include_pad})".format(
        *i, **how
    )


def _slice(i: Inputs, how: How) -> str:
    (start,), (end,) = (_numbers(text) for text in i[1:3])
    axis = _numbers(i[3])[0] if len(i) > 3 else 0
    return f"{i[0]}[{':, ' * axis}{start}:{end}]"


def _numbers(text: str) -> list[int]:
    """The numbers of a list that is written."""
    return [int(n) for n in text.strip("[]").split(",")]


def _reshape(i: Inputs, how: How) -> str:
    shape = _numbers(i[1])
    sizes = [f"{i[0]}.shape[{axis}]" if n == 0 else str(n) for axis, n in enumerate(shape)]
    return f"{i[0]}.reshape({', '.join(sizes)})"


def _mean(i: Inputs, how: How) -> str:
    keep = ", keepdims=True" if how["keepdims"] else ""
    return f"{i[0]}.mean({tuple(how['axes'])}{keep})"


def _recurrent(kind: str) -> Call:
    def call(i: Inputs, how: How) -> str:
        acts, size = how.get("activations"), how["hidden_size"]
        bias = i[3] if len(i) > 3 else "None"
        return f"_recurrent({kind!r}, {i[0]}, {i[1]}, {i[2]}, {bias}, {size}, {acts})"

    return call


CALLS: dict[str, Call] = {
    "Add": _binary("+"),
    "Sub": _binary("-"),
    "Mul": _binary("*"),
    "Div": _binary("/"),
    "MatMul": _binary("@"),
    "Gemm": _gemm,
    "Sum": lambda i, how: " + ".join(i),
    "Identity": _text("{0}"),
    "Relu": _text("np.maximum({0}, 0)"),
    "Tanh": _text("np.tanh({0})"),
    "Sqrt": _text("np.sqrt({0})"),
    "Erf": _text("_erf({0})"),
    "Sigmoid": _text("_sigmoid({0})"),
    "Softplus": _text("np.logaddexp({0}, 0)"),
    "Elu": _text("np.where({0} > 0, {0}, {alpha} * np.expm1(np.minimum({0}, 0)))"),
    "LeakyRelu": _text("np.where({0} > 0, {0}, {alpha} * {0})"),
    "Softmax": _text("_softmax({0}, {axis})"),
    "LogSoftmax": _text("np.log(_softmax({0}, {axis}))"),
    "Equal": _binary("=="),
    "Where": _text("np.where({0}, {1}, {2})"),
    "Concat": lambda i, how: f"np.concatenate([{', '.join(i)}], {how['axis']})",
    "Transpose": lambda i, how: f"{i[0]}.transpose({', '.join(map(str, how['perm']))})",
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": lambda i, how: f"np.split({i[0]}, {len(_numbers(i[1]))}, {how['axis']})",
    "Neg": _text("-{0}"),
    "Clip": _text("np.clip({0}, {1}, {2})"),
    "PRelu": _text("np.where({0} > 0, {0}, {1} * {0})"),
    "HardSigmoid": _text("np.clip({alpha} * {0} + {beta}, 0, 1)"),
    "HardSwish": _text("{0} * np.clip({0} / 6 + 0.5, 0, 1)"),
    "Selu": _text("_selu({0}, {alpha}, {gamma})"),
    "Gather": _text("{0}[{1}]"),
    "Einsum": _text("np.einsum({equation!r}, {0}, {1}, optimize=True)"),
    "ReduceMean": _mean,
    "Pad": _text("_padded({0}, {1})"),
    "Resize": _text("_repeated({0}, {2})"),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _text("_max_pool({0}, {kernel_shape}, {strides}, {pads}, {dilations})"),
    "AveragePool": _mean_pool,
    "BatchNormalization": _text("_batch_norm({0}, {1}, {2}, {3}, {4}, {epsilon})"),
    "LayerNormalization": _text("_layer_norm({0}, {1}, {2}, {axis}, {epsilon})"),
    "InstanceNormalization": _text("_instance_norm({0}, {1}, {2}, {epsilon})"),
    "RNN": _recurrent("RNN"),
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
}
"""Of each operator the text that computes it, from those of its inputs and from its attributes."""
