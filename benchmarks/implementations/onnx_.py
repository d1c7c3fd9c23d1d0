"""ONNX Runtime, prediction only, on a graph written here node by node."""

from __future__ import annotations

from itertools import cycle

from benchmarks import threads
from benchmarks.device import Device
from benchmarks.implementation import Implementation, Prepared
from benchmarks.workloads import Batch, Weights, Workload


def graph(workload: Workload, weights: Weights) -> bytes:
    """The net as an ONNX model: Gemm and Relu, and Sigmoid at the end where there is one."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for k, (w, b) in enumerate(weights):
        constants += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"]))
        last = k == len(weights) - 1
        kind = "Relu" if not last else "Sigmoid" if workload.output == "sigmoid" else "Identity"
        name = "y" if last else f"h{k}"
        nodes.append(helper.make_node(kind, [f"z{k}"], [name]))
    wide, narrow = workload.widths[0], workload.widths[-1]
    ends = [
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, [workload.batch, width])]
        for end, width in (("x", wide), ("y", narrow))
    ]
    made = helper.make_graph(nodes, workload.name, *ends, initializer=constants)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(made, opset_imports=[opset], ir_version=8).SerializeToString()


class Predicts(Implementation):
    """A session with all optimisations, in as many threads as the others or in one."""

    needs = ("onnxruntime", "onnx")
    predicts = True

    def __init__(self, name: str, one_thread: bool) -> None:
        self.name = name
        self.one_thread = one_thread

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The session's `run`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if self.one_thread else threads.count()
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            graph(workload, weights), options, providers=["CPUExecutionProvider"]
        )
        turn = cycle([{"x": x} for x, _ in batches])
        return Prepared(lambda: session.run(None, next(turn))[0])


IMPLEMENTATIONS = [
    Predicts("ONNX Runtime", one_thread=False),
    Predicts("ONNX Runtime, one thread", one_thread=True),
]
