"""`ldl train` and `ldl predict`: what they write and say of good tables and of bad ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ldl
from ldl.cli import main
from ldl.table import TableModel
from test_table import people

PNG = b"\x89PNG\r\n\x1a\n"
QUICK = ("--hidden", "8", "--epochs", "3")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder with people.csv, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    people().to_csv("people.csv", index=False)
    return tmp_path


@pytest.fixture
def drawn() -> None:
    """What a test asks for whose pictures must be drawn."""


@pytest.fixture(autouse=True)
def no_pictures(request: Any, monkeypatch: Any) -> None:
    """Drawing takes a while; most tests do without."""
    if "drawn" not in request.fixturenames:
        for name in ("draw_history", "draw_confusion", "draw_residuals"):
            monkeypatch.setattr(f"ldl.cli.plots.{name}", lambda *_: PNG)


def train(*words: object) -> int:
    return main(["train", *map(str, words), *QUICK])


def write(frame: pd.DataFrame, name: str = "other.csv", **options: Any) -> str:
    frame.to_csv(name, index=False, **options)
    return name


def refusal(capsys: Any, code: int, expected: int = 2) -> str:
    """The one line on stderr with which a command ended."""
    said = capsys.readouterr()
    assert code == expected, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return str(said.err)


# ---- good tables ---------------------------------------------------------------------------------


def test_a_table_is_learned(capsys: Any) -> None:
    assert main(["train", "people.csv", "--target", "buys", "--ignore", "spent"]) == 0
    said = capsys.readouterr().out
    for part in (
        "people.csv: 200 rows (130 training, 30 stopping, 40 held out)",
        "4 columns (2 number, 1 text, 1 boolean) giving 6 inputs",
        "classify  target 'buys': one of 2 classes: 'no', 'yes'",
        "6-64-64-2, 4,738 parameters on numpy",
        "40 rows held out",
        "always the most frequent class",
        "written people.safetensors, people-loss.png, people-confusion.png",
        "for other rows: ldl predict people.safetensors NEW.csv",
    ):
        assert part in said
    assert isinstance(ldl.load("people.safetensors"), ldl.nn.Sequential)


def test_a_number_is_learned(capsys: Any) -> None:
    assert train("people.csv", "--target", "spent", "--out", "m.safetensors") == 0
    said = capsys.readouterr().out
    assert "regress   target 'spent': a number" in said
    assert "R²" in said
    assert "always the mean" in said
    assert Path("m.safetensors").exists()


def test_results_as_json(capsys: Any) -> None:
    assert train("people.csv", "--target", "buys", "--json", "--categories", "member") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert found["task"] == "classify"
    assert found["classes"] == ["no", "yes"]
    assert found["rows"] == {
        "table": 200,
        "dropped": 0,
        "training": 130,
        "validation": 30,
        "test": 40,
    }
    assert found["layers"] == [8, 2]
    assert found["epochs"] == 3
    assert np.trace(found["confusion"]) / 40 == found["test"]["accuracy"]
    assert found["columns"] == ["age", "income", "town", "member", "spent"]


def test_the_same_table_in_other_files_gives_the_same_model(capsys: Any) -> None:
    frame = pd.read_csv("people.csv")
    frame.to_parquet("p.parquet")
    write(frame, "s.csv", sep=";", decimal=",")
    write(frame, "t.tsv", sep="\t")
    write(frame, "z.csv.gz")
    write(frame, "l.csv", encoding="latin-1")
    frame.to_csv("n.csv")  # with a first column without a name
    write(frame, "b.csv", encoding="utf-8-sig")
    found = []
    for name, *options in (
        ("people.csv",),
        ("p.parquet",),
        ("s.csv", "--decimal", ","),
        ("t.tsv",),
        ("z.csv.gz",),
        ("l.csv", "--encoding", "latin-1"),
        ("n.csv",),
        ("b.csv",),
    ):
        assert train(name, "--target", "buys", "--out", "m.safetensors", *options) == 0, name
        found.append(Path("m.safetensors").read_bytes())
    assert set(found) == {found[0]}
    assert capsys.readouterr().err == ""


def test_columns_with_commas_in_their_names(capsys: Any) -> None:
    write(people().rename(columns={"spent": "spent, in all", "age": "id"}))
    assert train("other.csv", "--target", "buys", "--ignore", "spent, in all", "--json") == 0
    assert train("other.csv", "--target", "buys", "--ignore", "id,town", "--json") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["left_out"] == ["spent, in all"]
    assert second["left_out"] == ["id", "town"]


def test_what_is_odd_about_a_table_is_noted_on_stderr(capsys: Any) -> None:
    write(people().assign(id=range(200), k=1))
    assert train("other.csv", "--target", "buys", "--json") == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines == [f"note: {line}" for line in json.loads(said.out)["notes"]]
    assert (
        "column 'id' looks like a number of the row: give --ignore id to leave it out" in said.err
    )
    assert "column 'k' is the same in all training rows and is left out" in said.err


def test_a_net_that_is_no_better_than_the_baseline_is_said_to_be(capsys: Any) -> None:
    r = np.random.default_rng(0)
    write(pd.DataFrame({"a": r.normal(size=200), "t": r.choice(["u", "v"], 200, p=[0.9, 0.1])}))
    assert train("other.csv", "--target", "t") == 0
    assert "no better than the baseline" in capsys.readouterr().out


def test_pictures_are_drawn_beside_the_model(drawn: None, capsys: Any) -> None:
    write(people().rename(columns={"buys": "$b$"}), "a $x$.csv")
    assert train("a $x$.csv", "--target", "$b$", "--out", "m.safetensors") == 0
    assert train("a $x$.csv", "--target", "spent", "--out", "n.safetensors", "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out.splitlines()[-1])["pictures"] == ["n-loss.png", "n-residuals.png"]
    for name in ("m-loss", "m-confusion", "n-loss", "n-residuals"):
        picture = Path(f"{name}.png").read_bytes()
        assert picture.startswith(PNG)
        assert len(picture) > 5_000


def test_a_picture_that_cannot_be_drawn_costs_a_line(capsys: Any, monkeypatch: Any) -> None:
    def fail(*_: Any) -> bytes:
        raise ValueError("no\nink")

    monkeypatch.setattr("ldl.cli.plots.draw_confusion", fail)
    assert train("people.csv", "--target", "buys") == 0
    said = capsys.readouterr()
    assert said.err == "note: no picture people-confusion.png: no ink\n"
    assert "written people.safetensors, people-loss.png\n" in said.out
    assert not Path("people-confusion.png").exists()


def test_without_matplotlib_the_model_is_written(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("ldl.cli.extra.missing", lambda: ["matplotlib"])
    assert train("people.csv", "--target", "buys") == 0
    assert "pip install 'ldl[plot]'" in capsys.readouterr().err
    assert Path("people.safetensors").exists()
    assert not list(Path().glob("*.png"))


# ---- predictions ---------------------------------------------------------------------------------


@pytest.fixture
def model(folder: Path, capsys: Any) -> str:
    assert (
        train("people.csv", "--target", "buys", "--ignore", "spent", "--out", "m.safetensors") == 0
    )
    capsys.readouterr()
    return "m.safetensors"


def predict(*words: object) -> int:
    return main(["predict", *map(str, words)])


def test_predictions_are_printed(model: str, capsys: Any) -> None:
    frame = people(20, 1).drop(columns="buys")
    assert predict(model, write(frame)) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines == ["buys", *TableModel.load(model).predict(frame)]


def test_predictions_are_written(model: str, capsys: Any) -> None:
    frame = people(20, 1)
    out = ("--keep", "age,buys", "--probabilities")
    for name in ("p.csv", "p.tsv", "p.parquet"):
        assert predict(model, write(frame), "--out", name, *out) == 0
    said = capsys.readouterr()
    assert "20 rows with a known target" in said.out
    assert "written p.csv: 20 predictions" in said.out
    read = [pd.read_csv("p.csv"), pd.read_csv("p.tsv", sep="\t"), pd.read_parquet("p.parquet")]
    for found in read:
        assert list(found) == [
            "age",
            "buys",
            "predicted buys",
            "probability of no",
            "probability of yes",
        ]
        assert list(found.age) == list(frame.age)
        likely = found[["probability of no", "probability of yes"]]
        assert np.allclose(likely.sum(axis=1), 1)
        assert ((likely["probability of yes"] > 0.5) == (found["predicted buys"] == "yes")).all()


def test_predictions_as_json(model: str, capsys: Any) -> None:
    frame = people(20, 1)
    frame.loc[3, "income"] = np.nan
    frame.loc[4, "town"] = "Trier"
    data = write(frame.assign(more=1))
    assert predict(model, data, "--json", "--missing", "drop", "--probabilities") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["rows"] == 20
    assert found["predictions"][3] is None
    assert found["probabilities"][3] is None
    assert found["unseen"] == {"town": 1}
    assert found["missing"] == {"income": 1}
    assert found["scored"] == 19
    assert 0 <= found["scores"]["accuracy"] <= 1
    for part in (
        "note: columns that the model does not know are passed over: 'more'",
        "note: categories that the model has no input for count as none: 'town' (1)",
        "note: 1 row with missing values got no prediction",
    ):
        assert part in said.err


def test_predicted_numbers(capsys: Any) -> None:
    assert train("people.csv", "--target", "spent", "--out", "m.safetensors") == 0
    assert predict("m.safetensors", "people.csv", "--out", "p.csv") == 0
    assert "R²" in capsys.readouterr().out
    frame = pd.read_csv("people.csv")
    expected = TableModel.load("m.safetensors").predict(frame)
    np.testing.assert_allclose(pd.read_csv("p.csv").spent, expected, rtol=1e-15)
    code = predict("m.safetensors", "people.csv", "--probabilities")
    assert "predicts a number" in refusal(capsys, code)


def test_what_predict_refuses(model: str, capsys: Any) -> None:
    frame = people(20, 1)
    lacking = write(frame.drop(columns=["age"]))
    assert "the table lacks 'age'" in refusal(capsys, predict(model, lacking))
    wrong = write(frame.assign(age="old"))
    assert "text in row 1 ('old')" in refusal(capsys, predict(model, wrong))
    frame.loc[2, "town"] = None
    gaps = refusal(capsys, predict(model, write(frame)))
    assert "'town' (1): give --missing mean or --missing drop" in gaps
    assert "there is no file" in refusal(capsys, predict(model, "nothing.csv"))
    assert "no column 'size'" in refusal(capsys, predict(model, "people.csv", "--keep", "size"))
    same = refusal(capsys, predict(model, "people.csv", "--out", "people.csv"))
    assert "is the data: give another name" in same
    ldl.save(ldl.nn.Linear(2, 2), "other.safetensors")
    line = refusal(capsys, predict("other.safetensors", "people.csv"), 1)
    assert "was not trained on a table's columns" in line
    line = refusal(capsys, predict("people.csv", "people.csv"), 1)
    assert "people.csv is truncated or not a safetensors file" in line
    line = refusal(capsys, predict("none.safetensors", "people.csv"), 1)
    assert "there is no file none.safetensors" in line


# ---- bad tables ----------------------------------------------------------------------------------

TEXTS = {
    "empty": (b"", "is empty"),
    "names alone": (b"a,y\n", "has no rows"),
    "two of a name": (b"a,b,a\n1,2,3\n", "two columns named 'a': rename one of them"),
    "a longer row": (b"a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
    "longer rows": (b"a,b\n1,2,3\n3,4,5\n", "more cells than there are names"),
    "no names": (b"1,2,3\n4,5,6\n", "begin it with a line of names"),
    "a name missing": (b"a,,y\n1,2,3\n", "column 2 has no name"),
    "not text": (bytes(range(256)), "is not utf-8 text"),
    "zeros": (b"a,\0,y\n", "is no text file"),
    "latin-1": ("größe,y\n1,2\n".encode("latin-1"), "save it as UTF-8, or give --encoding latin-1"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_table_is_refused_in_one_line(name: str, capsys: Any) -> None:
    content, words = TEXTS[name]
    Path("bad.csv").write_bytes(content)
    line = refusal(capsys, train("bad.csv", "--target", "y"))
    assert line.startswith("ldl train: ")
    assert words in line
    assert not Path("bad.safetensors").exists()


def test_faults_are_named_with_the_options_that_help(capsys: Any) -> None:
    frame = people()
    frame.loc[::10, "income"] = np.nan

    def line(data: pd.DataFrame, *options: str) -> str:
        return refusal(capsys, train(write(data), "--target", "buys", *options))

    assert "'income' (20): give --missing mean or --missing drop" in line(frame)
    assert "or give --ignore when" in line(people().assign(when="2024-01-05"))
    assert "or give --ignore 'the day'" in line(people().assign(**{"the day": "2024-01-05"}))
    assert "give --task classify" in line(people(), "--task", "regress")
    assert "did you mean 'town'" in line(people(), "--ignore", "towm")


def test_what_train_refuses(capsys: Any) -> None:
    def line(*words: str, expected: int = 2) -> str:
        return refusal(capsys, train(*words), expected)

    assert "arguments are required: --target" in line("people.csv")
    assert "no column is named 'bys' (target); did you mean 'buys'?" in line(
        "people.csv", "--target", "bys"
    )
    good = ("people.csv", "--target", "buys")
    assert "must end in .safetensors" in line(*good, "--out", "m.bin")
    assert "cannot write no/m.safetensors" in line(*good, "--out", "no/m.safetensors", expected=1)
    assert "must end in .csv" in line("people.xlsx", "--target", "buys")
    assert "from 0 to less than 1" in line(*good, "--dropout", "1")
    assert "share between 0 and 0.5" in line(*good, "--test", "0.9")
    assert "one character" in line(*good, "--separator", ";;")
    assert "no encoding is named 'martian'" in line(*good, "--encoding", "martian")
    assert "did you mean --target?" in line("people.csv", "--target", "buys", "--tarpet", "x")
    Path("folder.csv").mkdir()
    assert "folder.csv is a folder" in line("folder.csv", "--target", "buys")
    Path("bad.parquet").write_bytes(b"PAR1")
    assert "bad.parquet cannot be read" in line("bad.parquet", "--target", "buys")


def test_a_rate_that_is_too_high_is_said_to_be(capsys: Any) -> None:
    assert train("people.csv", "--target", "buys", "--lr", "1e12") == 1
    assert "try a lower --lr (now 1e+12)" in capsys.readouterr().err
    assert not Path("people.safetensors").exists()


def test_an_interrupt_leaves_nothing(capsys: Any, monkeypatch: Any) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ldl.cli.train.train", interrupted)
    assert train("people.csv", "--target", "buys") == 130
    assert capsys.readouterr().err == "ldl train: stopped; nothing was written\n"
    assert not Path("people.safetensors").exists()


def test_without_pandas_a_line_says_what_to_install(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    line = refusal(capsys, train("people.csv", "--target", "buys"), 1)
    assert "pip install 'ldl[table]'" in line


def test_help_teaches(capsys: Any) -> None:
    for command, words in (
        ("train", ["examples:", "--target", "--missing", "held out"]),
        ("predict", ["examples:", "--probabilities", "MODEL.safetensors"]),
    ):
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert all(word in said for word in words)


# ---- runs that are cut off -----------------------------------------------------------------------


def cut_off(monkeypatch: Any, after: int) -> None:
    """Ctrl-C in the epoch after so many."""
    from ldl.train.epochs import Epochs

    own = Epochs.train

    def interrupted(self: Any, order: Any) -> Any:
        if self.run.epoch > after:
            raise KeyboardInterrupt
        return own(self, order)

    monkeypatch.setattr(Epochs, "train", interrupted)


def test_a_run_that_is_cut_off_goes_on_to_the_same_model(capsys: Any, monkeypatch: Any) -> None:
    asked = ("people.csv", "--target", "buys", "--dropout", "0.2")
    assert train(*asked, "--out", "whole.safetensors") == 0
    with monkeypatch.context() as patch:
        cut_off(patch, 2)
        assert train(*asked, "--resume") == 130
        said = capsys.readouterr()
        assert said.err.endswith("stopped; to continue: the same command with --resume\n")
        assert "no run to resume in people-checkpoint.safetensors: starting one" in said.out
        assert not Path("people.safetensors").exists()
    assert train(*asked, "--resume") == 0
    assert "resuming the run in people-checkpoint.safetensors" in capsys.readouterr().out
    found, whole = (TableModel.load(f"{name}.safetensors") for name in ("people", "whole"))
    for name, value in whole.net.state_dict().items():
        np.testing.assert_array_equal(found.net.state_dict()[name], value)
    assert train(*asked, "--resume", "--json") == 0  # it is done, and says so again
    assert json.loads(capsys.readouterr().out)["epochs"] == 3


def test_only_the_same_run_is_resumed(capsys: Any, monkeypatch: Any) -> None:
    asked = ("people.csv", "--target", "buys", "--checkpoint", "c.safetensors")
    assert train(*asked) == 0
    capsys.readouterr()
    assert train(*asked, "--resume", "--lr", "0.1") == 1
    assert "c.safetensors is of another run (lr 0.002 in the file" in capsys.readouterr().err
    people(190).to_csv("people.csv", index=False)
    assert train(*asked, "--resume") == 1
    assert "c.safetensors is of another run (samples" in capsys.readouterr().err
    for path, says in (
        ("c.bin", "--checkpoint must end in .safetensors"),
        ("people.safetensors", "--checkpoint people.safetensors is the model"),
    ):
        assert says in refusal(capsys, train(*asked[:-1], path))
    with monkeypatch.context() as patch:
        cut_off(patch, 0)
        assert train(*asked[:-1], "new.safetensors") == 130
        assert "nothing was written" in capsys.readouterr().err
