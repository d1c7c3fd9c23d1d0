"""Steps on several ranks: the model, its fit, what is measured. Nothing here depends on a time."""

from __future__ import annotations

import json
import subprocess
import sys
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as cpu
from benchmarks import report
from benchmarks.distributed import __main__ as entry
from benchmarks.distributed import measure, model, sections
from benchmarks.distributed.model import Cost, Network
from benchmarks.document import write_picture
from benchmarks.names import ALL, ALONE, ONE

ROOT = Path(__file__).parent.parent
ALPHA, BETA, GAMMA = 2e-6, 1e-9, 3e-10
NET = Network("net", ALPHA, BETA)


# ---- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 8, 1024])
def test_sums_take_what_the_formulas_say(ranks: int) -> None:
    rounds = ranks.bit_length() - 1
    large, small = 10**8, 8
    part = (ranks - 1) / ranks * large
    scattered = 2 * rounds * ALPHA + part * (2 * BETA + GAMMA)
    doubled = rounds * (ALPHA + small * (BETA + GAMMA))
    whole = rounds * (ALPHA + large * (BETA + GAMMA))
    assert isclose(model.summing(ranks, large, NET, GAMMA), min(scattered, whole))
    assert isclose(model.summing(ranks, small, NET, GAMMA), doubled)


def test_one_rank_sums_nothing_and_uneven_counts_take_another_round() -> None:
    assert model.summing(1, 10**6, NET, GAMMA) == 0
    assert model.doubling(5, 1)[0] == model.doubling(8, 1)[0] == 3


def test_a_step_of_a_closed_form() -> None:
    """Of r rows c r seconds, no latency: both scalings are then quotients that can be written."""
    c, size, rows = 1e-5, 10**6, 1024
    cost = Cost(lambda r: c * r, [size], Network("", 0.0, BETA))
    for p in (8, 64, 1024):
        whole = 2 * (p - 1) / p * size * BETA
        assert isclose(cost.strong(rows, p), c * rows / (c * rows / p + whole))
        assert isclose(cost.weak(rows, p), p * c * rows / (c * rows + whole))
    assert cost.step(rows, 1) == c * rows


def test_rows_that_do_not_divide_are_those_of_the_rank_with_most() -> None:
    cost = Cost(float, [], Network("", 0.0, 0.0))
    assert cost.step(10, 4) == 3
    assert cost.step(3, 8) == 1


def test_what_backward_hides_is_not_waited_for() -> None:
    half = Cost(lambda r: 1.0, [10**9], Network("", 0.0, 0.5e-9), overlap=0.25)
    none = Cost(half.compute, half.pieces, half.network)
    assert isclose(none.step(8, 2), 1 + 0.5)
    assert isclose(half.step(8, 2), 1 + 0.5 - 0.25)
    assert Cost(half.compute, half.pieces, half.network, overlap=1.0).step(8, 2) == 1


def test_every_piece_is_a_message_of_its_own() -> None:
    one, four = (Cost(lambda r: 1.0, [8 * 10**6 // k] * k, NET) for k in (1, 4))
    assert isclose(four.step(8, 8) - one.step(8, 8), 3 * 6 * ALPHA)


def test_it_stops_paying_where_the_formula_says_so() -> None:
    """With α alone a step is c B/P + α log2 P: the fastest is where c B/P = α / ln 2 or beside."""
    c, rows = 1e-5, 1024
    cost = Cost(lambda r: c * r, [0], Network("", 1e-4, 0.0))
    assert max(model.RANKS, key=lambda p: cost.strong(rows, p)) == 64  # c B ln 2 / α = 71
    half, enough, weak = cost.limits(rows)
    assert half == 16  # c B / P against α log2 P: 640 to 400 µs, at 32 320 to 500
    assert enough == 64  # 760 µs; at 32 820
    assert weak == model.RANKS[-1]
    slow = Cost(cost.compute, [10**9], NET).limits(rows)
    assert slow == (1, 1, 1)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((1, 1, 1), "is not divided with profit; with 9 rows a rank less than half is used too."),
        ((1, 4, 8), "never uses half of its processors, and gains nothing beyond 4 ranks; with"),
        ((8, 1024, 1024), "up to 8 ranks, and gains nothing beyond 1,024; with 9 rows a rank half"),
    ],
)
def test_where_it_stops_paying_is_said(limits: tuple[int, int, int], said: str) -> None:
    assert said in sections.ending(9, *limits)


@pytest.mark.parametrize("counts", [(2,), (2, 4, 16)])
def test_a_fit_gives_back_the_latency_and_bandwidth_that_made_the_data(counts: Any) -> None:
    made = [
        (p, size, model.summing(p, size, NET, GAMMA))
        for p in counts
        for size in (8, 512, 8192, 2**17, 2**21, 2**24)
    ]
    found, error = model.fit(made, GAMMA)
    assert isclose(found.latency, ALPHA, rel_tol=1e-6)
    assert isclose(found.per_byte, BETA, rel_tol=1e-6)
    assert error < 1e-6
    chance = np.random.default_rng(0)
    noisy = [(p, size, t * chance.uniform(0.95, 1.05)) for p, size, t in made]
    found, error = model.fit(noisy, GAMMA)
    assert found.latency == pytest.approx(ALPHA, rel=0.1)
    assert found.per_byte == pytest.approx(BETA, rel=0.1)
    assert 0 < error < 0.15


def test_a_fit_has_nothing_negative() -> None:
    """A time that falls with the size, and one that is all latency less than nothing."""
    found, _ = model.fit([(2, 8, 1e-5), (2, 10**6, 1e-6)])
    assert found.latency >= 0
    assert found.per_byte >= 0
    found, error = model.fit([(2, size, size * 1e-9 * (1 - 1e-3 / size)) for size in (8, 64)], 0.0)
    assert (found.latency, error < 0.01) == (0, True)


def test_times_lie_on_lines_between_what_was_measured_and_go_on() -> None:
    time = model.between([(8, 3.0), (1, 1.0), (4, 2.0)])
    assert [time(n) for n in (1, 2, 4, 6, 8, 12)] == pytest.approx([1, 4 / 3, 2, 2.5, 3, 4])


# ---- the part --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a quick run."""
    pytest.importorskip("mpi4py", reason="the extra `test` brings mpi4py and mpiexec")
    made = tmp_path_factory.mktemp("quick")
    command = [sys.executable, "-m", "benchmarks", "distributed", "--quick", "--out", str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_ranks_are_measured_in_turn_and_their_share_of_sums_is_told(folder: Path) -> None:
    part = json.loads((folder / "distributed.json").read_text())["distributed"]
    pair, four = part["2 ranks"], part["4 ranks"]
    assert set(pair["steps"]) == {ALONE, ONE, ALL}
    assert set(four["steps"]) == {ALL}
    assert len({one["blocks"] for one in pair["steps"].values()}) == 1, "they take turns"
    for found in (pair, four):
        assert len(found["share"]) == found["ranks"]
        assert all(0 < share < 1 for share in found["share"])
        assert [one["bytes"] for one in found["messages"]] == [8, 880, 1024, 65536]
    (net,) = part["alone"]["nets"].values()
    assert net["bytes"] == 4 * (12 * 6 + 6 + 6 * 4 + 4 + 4 * 6 + 6 + 6 * 12 + 12)
    (piece,) = net["pieces"]
    assert net["bytes"] <= piece < 2 * net["bytes"], "arrays begin at cache lines"
    assert [one["rows"] for one in net["steps"]] == [1, 4, 8]
    assert part["fit"]["per_byte"] >= 0


def test_the_report_says_where_it_stops_paying_and_a_picture_is_beside_it(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for said in ("## Several ranks", f"| {ALL} | ", "Where it stops paying:", "1/β", "| 1,024 |"):
        assert said in text
    assert (folder / "scaling.png").read_bytes().startswith(b"\x89PNG")
    (folder / "scaling.png").unlink()
    write_picture(folder, cpu.PARTS)
    assert (folder / "scaling.png").exists()


def test_without_mpiexec_the_part_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "mpiexec", lambda: None)
    assert "pip install mpi4py mpich" in str(measure.measure(None))  # type: ignore[arg-type]


def test_ranks_that_fail_are_an_error_with_their_words() -> None:
    pytest.importorskip("mpi4py")
    with pytest.raises(RuntimeError, match=r"1 ranks gave nothing: .*KeyError: 'nets'"):
        measure.ranks(1, float("inf"))


def test_a_report_of_what_was_cut_off_has_what_there_is() -> None:
    text = report.markdown({"distributed": {"distributed": {"status": 1}}}, ["distributed"])
    assert "## Several ranks" in text
    step = {"rows": 1, "median": 1e-3, "minimum": 1e-3, "blocks": 3}
    net = {
        "title": "A",
        "batch": 64,
        "bytes": 8,
        "pieces": [4, 4],
        "steps": [step],
        "adding": {"median": 1e-9},
    }
    lines = sections.section({"alone": {"nets": {"a": net}}}, {})
    assert "### A on a cluster" in lines


# ---- the command -----------------------------------------------------------------------------


def test_networks_of_ones_own_are_predicted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "own.png"
    words = ["--results", str(folder), "--network", "a: b:3:100", "--picture", str(picture)]
    assert entry.main([*words, "--overlap", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "| a: b, 100 Gb/s, 3 µs | strong, batch 8 |" in text
    assert "Ethernet" not in text
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network", "ours"], "such as 'ours:1.5:200', got 'ours'"),
        (["--network", "ours:1:0"], "got 'ours:1:0'"),
        (["--network", "ours:-1:9"], "got 'ours:-1:9'"),
        (["--overlap", "2"], "from 0 to 1, got '2'"),
        (["--results", "nowhere"], "measure first, python -m benchmarks distributed"),
    ],
)
def test_what_cannot_be_predicted_is_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        entry.main(words)
    assert said in capsys.readouterr().err
