"""How steps ran is what was counted, and is said beside every figure."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import ldl
from benchmarks import report
from benchmarks.device import Device
from benchmarks.how import Watch
from benchmarks.implementations import ldl_, torch_
from benchmarks.implementations.floor import Products
from benchmarks.names import EAGER, FLOOR, TRAIN_STEP
from cuda_device import CudaOnHost
from test_benchmarks_compare import NET, measure, planted, rows_of

# ---- how steps ran ---------------------------------------------------------------------------


def on(backend: Any) -> Any:
    """The host as a CUDA device."""

    def made() -> Device:
        device = Device()
        device.backend = backend
        return device

    return made


def ldls_rows(backend: Any) -> Any:
    """The rows of ldl's own implementations, and the report."""
    content: dict[str, Any] = {}
    net = replace(NET, widths=(4, 2, 4), compare=1)
    owns = [ldl_.OneStep(TRAIN_STEP), ldl_.Eager(EAGER)]
    (one,) = measure(content, owns, workloads=[net], kind=on(backend)).values()
    return one["rows"], report.markdown({"headline": {"headline": content}}, ["headline"])


def test_graphs_are_told_from_the_layers_own_code() -> None:
    rows, text = ldls_rows(CudaOnHost())
    assert {name: row["how"] for name, row in rows.items()} == {
        TRAIN_STEP: "graph",
        EAGER: "layer by layer",
    }
    assert f"| {TRAIN_STEP} | graph | " in text
    assert "kernel by kernel |" not in text


def test_a_failed_capture_is_seen_beside_its_figure_with_its_reason() -> None:
    backend = CudaOnHost()
    backend.connection.fails = "matmul"
    with pytest.warns(UserWarning, match="kernel by kernel"):
        rows, text = ldls_rows(backend)
    row = rows[TRAIN_STEP]
    assert (row["status"], row["how"]) == ("timed", "kernel by kernel")
    assert row["why"] == "matmul cannot be captured"
    assert f"{TRAIN_STEP}: kernel by kernel (matmul cannot be captured)." in text
    overview = next(line for line in text.splitlines() if line.startswith("| Tiny"))
    assert overview.count(", kernel by kernel |") == 1


def test_without_cublaslt_steps_run_layer_by_layer_and_say_so() -> None:
    backend = CudaOnHost()
    backend.gemm = None
    assert ldls_rows(backend)[0][TRAIN_STEP]["how"] == "layer by layer"


def test_a_step_is_also_timed_without_what_makes_it_fast() -> None:
    """On a backend that stands for CuPy's: it is asked for one that leaves something out."""
    made: list[Any] = []

    class Leaving(type(ldl.get_backend("numpy"))):  # type: ignore[misc]
        leaves_out: frozenset[str] = frozenset()

        def __init__(self) -> None:
            made.append(self)

    own = ldl_.Without("epilogues")
    assert rows_of({}, own)[own.name]["reason"] == "numpy has nothing to leave out"
    leaving = Leaving()
    rows = measure({}, [own], kind=on(leaving))["tiny/float32"]["rows"]
    assert rows[own.name]["status"] == "timed"
    assert [backend.leaves_out for backend in made] == [frozenset(), frozenset({"epilogues"})]
    rows = measure({}, [own], kind=on(leaving), precisions=["bf16"])["tiny/bf16"]["rows"]
    assert rows[own.name]["reason"] == "products in bf16 have no epilogues"


def test_what_changes_its_ways_is_said_to() -> None:
    row = rows_of({}, *planted("changing"))["changing"]
    assert sum(row["ways"].values()) == 2
    assert row["how"] == " and ".join(row["ways"])
    assert len(row["ways"]) == 2
    assert row["why"] in ("", "why")


def test_a_watch_tells_graphs_from_pieces() -> None:
    capture = SimpleNamespace(graphs=3, singles=2, why="")
    watch = Watch(SimpleNamespace(capture=capture))
    capture.graphs += 1
    assert watch() == ("graph", "")
    capture.graphs, capture.singles = 6, 4
    assert watch() == ("kernel by kernel", "2 pieces, 2 graphs")


@pytest.mark.parametrize(
    ("stats", "breaks", "skips", "how"),
    [
        (1, 0, 0, ("compiled", "")),
        (0, 0, 0, ("eager", "torch.compile compiled nothing")),
        (2, 1, 3, ("compiled", "1 breaks in the trace, 3 parts without a CUDA graph")),
    ],
)
def test_what_pytorch_compiled_is_what_it_counted(
    stats: int, breaks: int, skips: int, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters: Any = defaultdict(Counter)
    counters["stats"]["unique_graphs"] = stats
    counters["graph_break"]["why"] = breaks
    counters["inductor"]["cudagraph_skips"] = skips
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    assert torch_.compiled() == how


def test_products_that_cannot_be_captured_are_launched_one_by_one_and_say_so() -> None:
    class Refuses(Device):
        def capture(self, function: Any) -> Any:
            raise NotImplementedError("cannot be captured")

    row = rows_of({}, Products(), kind=Refuses)[FLOOR]
    assert (row["status"], row["how"]) == ("timed", "kernel by kernel")
    assert row["why"] == "not captured: NotImplementedError: cannot be captured"
