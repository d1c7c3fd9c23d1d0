"""Comparisons in which something fails, is late or dies: it is named, and the rest is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import pytest

import ldl
from benchmarks import compare
from benchmarks.compare import QUICK, Comparison, Workers
from benchmarks.device import Device
from benchmarks.document import Document
from benchmarks.implementations import ldl_
from benchmarks.names import TRAIN_STEP
from benchmarks.process import NoAnswerError, Process
from benchmarks.reference import reference
from benchmarks.workloads import TINY
from planted import Local
from test_benchmarks_compare import NET, measure, planted, rows_of, silent

# ---- what can go wrong -----------------------------------------------------------------------


class Mortal(Device):
    def alive(self) -> bool:
        return False


def test_a_lost_device_ends_one_process_and_the_next_workload_has_a_new_one() -> None:
    started: list[Any] = []

    class Counted(Local):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            started.append(self)

    owns = [ldl_.OneStep(TRAIN_STEP), *planted("raising")]
    found = measure({}, owns, workloads=[NET, TINY[2]], kind=Mortal, start=Counted)
    for one in found.values():
        assert one["rows"]["raising"]["reason"] == "MemoryError: no room"
        assert one["rows"][TRAIN_STEP]["status"] == "timed"
    assert len(started) == 3, "one of TrainStep's, two that were lost"


def test_without_time_every_comparison_says_so() -> None:
    found = measure({}, [], workloads=list(TINY), until=time() - 1)
    assert [one["status"] for one in found.values()] == ["out of time"] * 3


def test_time_that_runs_out_leaves_rows_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time()]
    monkeypatch.setattr(compare, "time", lambda: clock[0])

    class Late(Local):
        def ask(self, *given: Any, **more: Any) -> Any:
            clock[0] += 1000
            return super().ask(*given, **more)

    rows = rows_of({}, *planted("right", "changing"), start=Late)
    assert {name: row["reason"] for name, row in rows.items()} == dict.fromkeys(
        (TRAIN_STEP, "right", "changing"), "out of time"
    )


def test_figures_are_there_before_what_is_slow_is_built_and_are_kept_when_it_hangs() -> None:
    content: dict[str, Any] = {}

    class Hangs(Local):
        def ask(self, limit: float, where: str, *arguments: Any, **more: Any) -> Any:
            if "hanging" in str(arguments):
                before = content["comparisons"]["tiny/float32"]["rows"][TRAIN_STEP]
                assert before["blocks"] == QUICK.rounds[0]
                raise NoAnswerError("too slow", "no answer in 75 s")
            return super().ask(limit, where, *arguments, **more)

    said: list[str] = []
    rows = rows_of(content, *planted("hanging", "right"), start=Hangs, say=said.append)
    assert rows["hanging"]["status"] == "too slow"
    assert rows[TRAIN_STEP]["status"] == rows["right"]["status"] == "timed"
    assert "  hanging: too slow: no answer in 75 s" in said


def test_what_had_been_taken_is_given_back_when_it_fails_and_when_all_is_done() -> None:
    tidied: list[str] = []

    class Tidy(Device):
        def tidy(self) -> None:
            tidied.append("tidy")

    rows = rows_of({}, *planted("raising"), kind=Tidy)
    assert rows["raising"]["reason"] == "MemoryError: no room"
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert len(tidied) == 2, "after the failure, and after the comparison"


def test_what_was_measured_survives_an_interruption(tmp_path: Path) -> None:
    document = Document(tmp_path / "headline.json", ["headline"])

    class Stops(Local):
        def ask(self, limit: float, where: str, *arguments: Any, **more: Any) -> Any:
            if "right" in str(arguments[:1]) and "tf32" in arguments:
                raise KeyboardInterrupt
            return super().ask(limit, where, *arguments, **more)

    with pytest.raises(KeyboardInterrupt):
        measure(
            document.part("headline"),
            [ldl_.OneStep(TRAIN_STEP), *planted("right")],
            precisions=["float32", "tf32"],
            save=document.save,
            start=Stops,
        )
    ldl.set_matmul_precision("float32")
    stored = json.loads((tmp_path / "headline.json").read_text())["headline"]["comparisons"]
    assert stored["tiny/float32"]["status"] == "done"
    assert stored["tiny/float32"]["rows"][TRAIN_STEP]["wall"]["median"] > 0
    assert stored["tiny/tf32"]["status"] == "running"
    assert stored["tiny/tf32"]["rows"][TRAIN_STEP]["status"] == "right"
    assert stored["tiny/tf32"]["rows"]["right"]["status"] == "building"
    text = (tmp_path / "report.md").read_text()
    assert "right: building, cut off." in text
    assert "### Tiny autoencoder, tf32" in text


# ---- processes -------------------------------------------------------------------------------


def test_what_dies_or_hangs_takes_no_other_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes: one ends itself, one crashes in its turn, one heeds nothing."""
    monkeypatch.setenv("LDL_JIT", "0")
    owns = planted("dying", "dying_when_timed", "hanging", "right")
    said: list[str] = []
    with Workers("cpu", silent, Process) as workers:
        rows: dict[str, Any] = {}
        rules = replace(QUICK, build=20.0)
        right = reference(NET, NET.batches(7))
        ends = time() + 300, time() + 300
        one = Comparison(
            *(NET, "float32", owns[:2] + owns[3:], 7, right, rules, ends, workers, rows),
            *(lambda: None, said.append),
        )
        one.run()
        replace(one, implementations=owns[2:3], rules=replace(QUICK, build=2.0)).run()
        processes = [worker._process for worker in workers.started.values()]  # type: ignore[attr-defined]
    assert rows["right"]["status"] == "timed"
    assert rows["dying"]["reason"] == "the process ended with 7: a last word"
    assert rows["dying_when_timed"]["reason"].startswith("the process ended with -11")
    assert (rows["hanging"]["status"], rows["hanging"]["reason"]) == (
        "too slow",
        "no answer in 2 s",
    )
    assert all(process.poll() is not None for process in processes)
    assert len(said) == 3


def test_a_process_tells_how_far_it_is_and_what_it_prints_is_said() -> None:
    said: list[str] = []
    process = Process("cpu", said.append)
    heard: list[Any] = []
    try:
        found = process.ask(60, "test_benchmarks_failures:tells+", 3, progress=heard.append)
        assert (found, heard) == (["cpu", 3], [{"so far": 1}, {"so far": 2}])
        with pytest.raises(NoAnswerError, match="ZeroDivisionError") as error:
            process.ask(60, "test_benchmarks_failures:fails")
        assert error.value.status == "failed"
        assert process.alive
    finally:
        process.close()
    assert "    printed" in said
    assert not process.alive


def tells(device: Any, progress: Any, number: int) -> Any:
    print("printed")
    progress({"so far": 1})
    progress({"so far": 2})
    return [device.torch, number]


def fails(device: Any) -> Any:
    return 1 / 0
