"""ONNX: what every layer is there, as ONNX Runtime computes it; read back; in NumPy alone."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import ldl
import ldl.onnx
from catalog import ROWS, Row, learned, named
from ldl import nn

NO_CHAIN = {
    "SiLU*": "Mul",
    "Softplus(beta*": "Mul",
    "GELU*": "Mul",
    "AutoEncoder": "encoder.1/Mul",
    "AutoEncoder, convolutional": "decoder.0/ConvTranspose",
    "ConvTranspose1d, longer*": "Pad",
    "ConvTranspose2d, dilated*": "Pad",
    "Residual": "Add",
    "GLU*": "Split",
    "Softmin*": "Neg",
    "Mish*": "Mul",
    "MaxPool2d, to the end": "MaxPool",
    "AvgPool*, to the end": "AveragePool",
    "Parallel*": "branches.1.0/Gemm",
    "AdaptiveAvgPool1d": "Einsum",
    "RMSNorm": "Mul",
    "GroupNorm": "ReduceMean",
    "ZeroPad": "Pad",
    "Upsample, nearest": "Resize",
    "Upsample, nearest,*": "Einsum",
    "Upsample, *linear*": "Einsum",
    "PositionalEncoding*": "Slice",
    "MultiHeadAttention*": "Split",
    "TransformerBlock*": "attention/Split",
    "RNN*": "Transpose",
    "LSTM*": "Transpose",
    "GRU*": "Transpose",
}
"""What without the architecture beside is no chain of layers, and the node that says so."""


def no_chain(row: Row) -> str | None:
    """The node that is named where a row's graph is no chain that ldl can read."""
    return next((node for name, node in NO_CHAIN.items() if fnmatchcase(row.name, name)), None)


def batches(row: Row) -> list[Any]:
    """Batches of N, of one and of none."""
    x = row.input()
    return [np.concatenate([x, x])[: len(x) + 1], x[:1], x[:0]]


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def close(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def expected_of(module: Any, x: Any) -> Any:
    """What the module predicts; a softmax over samples of which there are none is nothing."""
    return module.predict(x) if len(x) or x.ndim > 1 else x


@pytest.mark.parametrize(**named(ROWS))
def test_onnx_runtime_computes_what_the_layer_does(row: Row, tmp_path: Path) -> None:
    module, path = row.module().eval(), tmp_path / "m.onnx"
    ldl.onnx.export(module, path, row.shape[1:])
    onnx.checker.check_model(onnx.load(path), full_check=True)
    run = session(path)
    like = module.predict(row.input())
    for x in batches(row):
        close(run.run(["output"], {"input": x})[0], expected_of(module, x))
    back = ldl.onnx.load(path)
    assert not back.training
    assert [type(m) for m in back.modules()] == [type(m) for m in module.modules()]
    for name, parameter in module.named_parameters():
        own = dict(back.named_parameters())[name]
        np.testing.assert_array_equal(own.data, parameter.data, name)
    np.testing.assert_array_equal(back.predict(row.input()), like)


@pytest.mark.parametrize(**named(ROWS))
def test_numpy_alone_computes_what_the_layer_does(row: Row, tmp_path: Path) -> None:
    module, path = row.module().eval(), tmp_path / "m.py"
    ldl.onnx.export_python(module, path, row.shape[1:])
    text = path.read_text()
    assert [line for line in text.splitlines() if "import " in line and line[0] != " "] == [
        "import numpy as np"
    ]
    space: dict[str, Any] = {"__name__": "m"}
    exec(compile(text, path, "exec"), space)
    space["_check"]()
    for x in batches(row):
        close(space["predict"](x), expected_of(module, x))
    with pytest.raises(ValueError, match="x must be"):
        space["predict"](np.zeros((1, *row.shape[1:], 2)))


@pytest.mark.parametrize(**named([row for row in ROWS if row.name != "Permute"]))
def test_chains_are_read_without_ldls_notes_and_others_name_their_operator(
    row: Row, tmp_path: Path
) -> None:
    module, path = row.module().eval(), tmp_path / "m.onnx"
    ldl.onnx.export(module, path, row.shape[1:])
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    node = no_chain(row)
    if node is not None:
        with pytest.raises(ValueError, match=rf"no layer for the operator \w+ \({node}"):
            ldl.onnx.load(path)
        return
    back = ldl.onnx.load(path)
    np.testing.assert_allclose(
        back.predict(row.input()), module.predict(row.input()), rtol=2e-5, atol=2e-6
    )


def test_tokens_and_a_transformer(tmp_path: Path) -> None:
    ldl.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(11, 8),
        nn.PositionalEncoding(8, 16, learned=True),
        nn.TransformerBlock(8, 2, causal=True),
        nn.Linear(8, 11),
    ).eval()
    tokens = np.random.default_rng(0).integers(0, 11, (3, 6))
    ldl.onnx.export(model, tmp_path / "m.onnx", 6)
    run = session(tmp_path / "m.onnx")
    expected = model.predict(tokens)
    for n in (3, 1, 0):
        found = run.run(None, {"input": tokens[:n]})[0]
        np.testing.assert_allclose(found, expected[:n], rtol=2e-5, atol=2e-6)
    back = ldl.onnx.load(tmp_path / "m.onnx")
    longer = np.random.default_rng(1).integers(0, 11, (2, 16))
    np.testing.assert_array_equal(back.predict(longer), model.predict(longer))
    ldl.onnx.export_python(model, tmp_path / "m.py", 6)
    space: dict[str, Any] = {"__name__": "m"}
    exec((tmp_path / "m.py").read_text(), space)
    np.testing.assert_allclose(space["predict"](tokens), expected, rtol=2e-5, atol=2e-6)


def test_names_and_turns_are_few(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 2),
    )  # fmt: skip
    ldl.onnx.export(model, tmp_path / "m.onnx", (8, 8, 1))
    graph = onnx.load(tmp_path / "m.onnx").graph
    names = [node.name for node in graph.node]
    assert names == [
        *("0/Transpose", "0/Conv", "1/BatchNormalization", "2/Relu", "3/MaxPool"),
        *("4/Transpose", "4/Reshape", "5/Gemm"),
    ]
    assert {"0.weight", "0.bias", "1.running_mean", "5.weight"} <= {
        w.name for w in graph.initializer
    }
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, grad: Any) -> Any:
            return 2 * grad

    model = nn.Sequential(nn.Linear(3, 2), Twice())
    with pytest.raises(ValueError, match=r"Twice at 1 has no form in ONNX: .*register\(Twice\)"):
        ldl.onnx.export(model, tmp_path / "m.onnx")

    @ldl.onnx.register(Twice)
    def twice(graph: Any, layer: Any, x: Any, path: str) -> Any:
        return graph.node("Mul", path, x, graph.constant(f"{path}.two", np.float32(2)))

    ldl.onnx.export(model, tmp_path / "m.onnx")
    x = np.ones((4, 3), np.float32)
    found = session(tmp_path / "m.onnx").run(None, {"input": x})[0]
    np.testing.assert_allclose(found, model.predict(x), rtol=1e-6)
    with pytest.raises(ValueError, match=r"operator Mul \(1/Mul\)"):
        ldl.onnx.load(tmp_path / "m.onnx")


# ---- files of others -----------------------------------------------------------------------------


def saved(path: Path, nodes: Any, shape: Any, out: Any, **weights: Any) -> Path:
    """An ONNX file of these nodes, from x to y."""
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *dims])
        for name, dims in (("x", shape), ("y", out))
    ]
    arrays = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], arrays)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_a_net_as_pytorch_writes_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    path = saved(
        tmp_path / "net.onnx",
        [
            helper.make_node("Conv", ["x", "cw", "cb"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["c"]),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["e"], ["f"]),
            helper.make_node("Gemm", ["f", "lw", "lb"], ["h"], transB=1),
            helper.make_node("Softmax", ["h"], ["y"], axis=1),
        ],
        *((2, 6, 6), (5,)),
        cw=draw(4, 2, 3, 3),
        cb=draw(4),
        g=draw(4),
        b=draw(4),
        m=draw(4),
        v=draw(4) ** 2,
        lw=draw(5, 36),
        lb=draw(5),
    )
    x = draw(3, 2, 6, 6)
    model = ldl.onnx.load(path)
    expected = session(path).run(None, {"x": x})[0]
    np.testing.assert_allclose(
        model.predict(x.transpose(0, 2, 3, 1)), expected, rtol=2e-5, atol=1e-6
    )
    assert "Conv2d(2, 4" in repr(model)


def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path) -> None:
    path = saved(tmp_path / "odd.onnx", [helper.make_node("Cos", ["x"], ["y"], "c")], (3,), (3,))
    with pytest.raises(ValueError, match=r"no layer for the operator Cos \(c\)"):
        ldl.onnx.load(path)
    whole = tmp_path / "m.onnx"
    ldl.onnx.export(nn.Sequential(nn.Linear(3, 2)), whole)
    content = whole.read_bytes()
    for bad in (b"", b"no model", content[: len(content) // 2], b"\0" * 100):
        whole.write_bytes(bad)
        with pytest.raises(ValueError, match="damaged, or no ONNX file") as caught:
            ldl.onnx.load(whole)
        assert "\n" not in str(caught.value)
    proto = onnx.load_from_string(content)
    (bias,) = (w for w in proto.graph.initializer if w.name == "0.bias")
    proto.graph.initializer.remove(bias)
    whole.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="is missing, or of another shape"):
        ldl.onnx.load(whole)
    with pytest.raises(FileNotFoundError):
        ldl.onnx.load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("ldl.shape", "[3]", "[3, 1000000, 1000000]"),
        ("ldl.shape", "[3]", "[0]"),
        ("ldl", '"in_features": 3', '"in_features": 1000000000'),
        ("ldl", '"Linear"', '"Liner"'),
    ],
)
def test_notes_that_ask_for_too_much_take_no_memory(
    tmp_path: Path, key: str, old: str, new: str
) -> None:
    path = tmp_path / "m.onnx"
    ldl.onnx.export(nn.Sequential(nn.Linear(3, 2)), path)
    proto = onnx.load(path)
    for entry in proto.metadata_props:
        if entry.key == key:
            assert old in entry.value
            entry.value = entry.value.replace(old, new)
    onnx.save(proto, path)
    with pytest.raises(ValueError, match="cannot be built again: ") as caught:
        ldl.onnx.load(path)
    assert "\n" not in str(caught.value)


def test_a_model_comes_back_in_its_type(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.GELU()).to(dtype="float64")
    ldl.onnx.export(model, tmp_path / "m.onnx")
    back = ldl.onnx.load(tmp_path / "m.onnx")
    assert back.dtype == np.float64
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(back.predict(x), model.predict(x))


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(bytes(24))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
        for name, n in (("x", 3), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [tensor])
    (inside / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match="damaged, or no ONNX file"):
        ldl.onnx.load(inside / "m.onnx")


def test_a_shape_is_asked_for_where_the_layers_do_not_say_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the shape of a sample: shape=\(28, 28, 1\)"):
        ldl.onnx.export(nn.Sequential(nn.Conv2d(1, 2, 3)), tmp_path / "m.onnx")


READ = [
    *("relu", "sigmoid", "tanh", "elu", "elu_default", "leakyrelu", "leakyrelu_default"),
    *("softplus", "softmax_axis_1", "softmax_axis_2", "softmax_negative_axis", "identity"),
    *("logsoftmax_axis_1", "logsoftmax_negative_axis", "flatten_axis1", "gelu_default_1"),
    *("gemm_alpha", "gemm_beta", "gemm_default_no_bias"),
    *("gemm_default_vector_bias", "gemm_transposeB", "matmul_2d"),
    *("conv_with_strides_padding", "conv_with_strides_no_padding", "basic_conv_with_padding"),
    *("basic_conv_without_padding", "conv_with_strides_and_asymmetric_padding"),
    *("convtranspose", "convtranspose_1d", "convtranspose_dilations"),
    *("convtranspose_pad", "maxpool_1d_default"),
    *("maxpool_2d_default", "maxpool_2d_strides", "maxpool_2d_dilations"),
    *("maxpool_2d_same_upper", "averagepool_1d_default", "averagepool_2d_default"),
    "averagepool_2d_strides",
    *("globalaveragepool", "batchnorm_example", "batchnorm_epsilon", "instancenorm_example"),
    *("instancenorm_epsilon", "layer_normalization_2d_axis_negative_1", "dropout_default"),
]


REFUSED = {
    "convtranspose_output_shape": "output_shape",
    "maxpool_2d_pads": "at most half",
    "averagepool_2d_pads": "at most half",
    "conv_with_autopad_same": "SAME_LOWER",
    "gemm_transposeA": "is turned",
}
"""What ldl has no layer for, and what is said of it."""

OPERATORS = (
    *(
        "relu",
        "sigmoid",
        "tanh",
        "elu",
        "leakyrelu",
        "softplus",
        "softmax",
        "logsoftmax",
        "flatten",
    ),
    *("gelu", "gemm", "matmul", "conv", "convtranspose", "maxpool", "averagepool"),
    *(
        "dropout",
        "globalaveragepool",
        "batch_normalization",
        "instance_normalization",
        "layernormalization",
        "identity",
    ),
)


@lru_cache
def node_cases() -> dict[str, Any]:
    """ONNX's own cases for these operators, by name."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in OPERATORS:
            import_module(f"{node.__name__}.{name}")
    return {case.name.removeprefix("test_"): case for case in node._NodeTestCases}


def written(case: Any, path: Path) -> tuple[Any, Any]:
    """A case as a file whose weights are in it; its input and what is expected."""
    proto, (arrays, (expected, *_)) = case.model, case.data_sets[0]
    infos = list(proto.graph.input)
    for info, array in zip(infos[1:], arrays[1:], strict=True):
        proto.graph.initializer.append(numpy_helper.from_array(array, info.name))
        proto.graph.input.remove(info)
    for output in list(proto.graph.output)[1:]:
        proto.graph.output.remove(output)
    onnx.save(proto, path)
    return arrays[0], expected


@pytest.mark.parametrize("name", REFUSED)
def test_node_data_without_a_layer_is_refused_by_name(name: str, tmp_path: Path) -> None:
    written(node_cases()[name], tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=f"no layer for the .*{REFUSED[name]}"):
        ldl.onnx.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", READ)
def test_onnx_own_node_data(name: str, tmp_path: Path) -> None:
    x, expected = written(node_cases()[name], tmp_path / "m.onnx")
    model = ldl.onnx.load(tmp_path / "m.onnx")
    pictures = ("Conv", "Pool", "BatchNorm", "InstanceNorm")
    if x.ndim < 3 or not any(word in type(layer).__name__ for layer in model for word in pictures):
        found = model.predict(x)
    else:
        y = model.predict(x.transpose(0, *range(2, x.ndim), 1))
        found = y.transpose(0, y.ndim - 1, *range(1, y.ndim - 1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# ---- the command ---------------------------------------------------------------------------------


def command(*words: Any) -> Any:
    """`ldl export`, and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "ldl.cli", "export", *map(str, words)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )


def test_the_command_writes_files_that_work_without_ldl(tmp_path: Path) -> None:
    ldl.manual_seed(0)
    model = nn.AutoEncoder.symmetric(12, 4)
    ldl.save(model, tmp_path / "model.safetensors")
    done = command(tmp_path / "model.safetensors", "--to", "python")
    assert done.returncode == 0, done.stderr
    assert "model.py" in done.stdout
    check = subprocess.run(
        [sys.executable, "-I", tmp_path / "model.py"], capture_output=True, text=True, check=True
    )
    assert "right: outputs are within" in check.stdout
    done = command(tmp_path / "model.safetensors", "--to", "onnx", "--out", tmp_path / "a.onnx")
    assert done.returncode == 0, done.stderr
    notes = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(notes["ldl.shape"]) == [12]
    ldl.save(nn.Sequential(nn.Conv2d(1, 2, 3)), tmp_path / "c.safetensors")
    done = command(tmp_path / "c.safetensors", "--to", "onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "give --shape, such as 28,28,1" in done.stderr
    done = command(tmp_path / "c.safetensors", "--to", "onnx", "--shape", "8,8,1")
    assert done.returncode == 0, done.stderr


def test_learned_weights_go_along(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    assert set(learned(model)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    ldl.fit(model, (x, x[:, :1]), nn.MSELoss(), ldl.optim.Adam(model), 2)
    ldl.onnx.export(model, tmp_path / "m.onnx")
    np.testing.assert_array_equal(ldl.onnx.load(tmp_path / "m.onnx").predict(x), model.predict(x))
