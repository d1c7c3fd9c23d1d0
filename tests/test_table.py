"""Tables: what is made of columns, what is refused, and that a model's file needs nothing else."""

from __future__ import annotations

import datetime
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ldl
from checks import one_line
from ldl import nn, table
from ldl.io import CheckpointError
from ldl.table import TableError, TableModel, cells, scores
from ldl.table.columns import Category, Cells, Number
from ldl.table.target import Classes, Scale

QUICK: dict[str, Any] = {"hidden": 8, "epochs": 3}


def people(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Ages, incomes, towns, members; a class and a number that follow from them."""
    r = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": r.integers(18, 90, rows),
            "income": r.normal(3e4, 1e4, rows),
            "town": r.choice(["Bonn", "Köln", "Ulm"], rows),
            "member": r.random(rows) < 0.5,
        }
    )
    points = frame.age + 20 * (frame.town == "Ulm") + 10 * frame.member
    frame["buys"] = np.where(points > 65, "yes", "no")
    frame["spent"] = points + frame.income / 1e3 + r.normal(0, 1, rows)
    return frame


def refused(data: Any, target: str = "buys", **options: Any) -> str:
    """The line with which a table is refused."""
    with pytest.raises(TableError) as error:
        table.fit_table(data, target, **QUICK, **options)
    return one_line(error)


def prepared(frame: Any, target: str = "buys", **options: Any) -> Any:
    settings = table.Settings(**options)
    return table.preparing.prepare(table.read_table(frame), target, settings)


def notes(frame: Any, target: str = "buys", **options: Any) -> str:
    return "\n".join(note.text() for note in prepared(frame, target, **options).notes)


# ---- learning ------------------------------------------------------------------------------------


def test_classes_are_learned_and_measured_on_rows_held_out() -> None:
    frame = people(600)
    found = table.fit_table(frame, "buys", ignore="spent", seed=1)
    assert found.scores["accuracy"] > 0.9 > 0.7 > found.scores["baseline_accuracy"]
    parts = [found.prepared.train, found.prepared.validation, found.prepared.test]
    assert [len(part) for part in parts] == [390, 90, 120]
    assert sorted(np.concatenate(parts)) == list(range(600))
    cells = found.confusion
    assert cells is not None
    assert cells.sum() == 120
    assert np.trace(cells) / 120 == found.scores["accuracy"]
    held = frame.iloc[found.prepared.test]
    assert (found.model.predict(held) == held.buys).mean() == found.scores["accuracy"]
    assert found.best_epoch == found.history.best("val_loss")["epoch"]


def test_numbers_are_learned_in_their_own_units() -> None:
    frame = people(600)
    found = table.fit_table(frame, "spent", ignore=["buys"], epochs=100)
    assert found.scores["r2"] > 0.97
    held = frame.iloc[found.prepared.test]
    error = held.spent.to_numpy() - found.model.predict(held)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(found.scores["rmse"], rel=1e-5)
    assert np.abs(error).mean() == pytest.approx(found.scores["mae"], rel=1e-5)
    train = frame.spent.iloc[found.prepared.train].mean()
    baseline = np.sqrt(np.mean((held.spent - train) ** 2))
    assert found.scores["baseline_rmse"] == pytest.approx(baseline)
    assert found.confusion is None


def test_one_seed_gives_one_model(tmp_path: Any) -> None:
    files = []
    for i, seed in enumerate((3, 3, 4)):
        table.fit_table(people(), "buys", **QUICK, seed=seed).model.save(tmp_path / str(i))
        files.append((tmp_path / str(i)).read_bytes())
    assert files[0] == files[1] != files[2]


def test_scaling_and_categories_are_those_of_the_training_rows() -> None:
    frame = people()
    found = prepared(frame)
    age, income, town, member, _ = found.inputs
    rows = frame.iloc[found.train]
    assert age == Number("age", rows.age.mean(), rows.age.std(ddof=0))
    assert found.x[found.train, 0].mean() == pytest.approx(0, abs=1e-6)
    assert found.x[found.train, 1].std() == pytest.approx(1, abs=1e-6)
    assert town == Category("town", ("Bonn", "Köln", "Ulm"))
    assert (
        found.x[:, 2:5].argmax(axis=1) == frame.town.map({"Bonn": 0, "Köln": 1, "Ulm": 2})
    ).all()
    assert (found.x[:, 2:5].sum(axis=1) == 1).all()
    assert member.boolean
    assert income.width == 1


def test_classes_are_shared_out_in_proportion() -> None:
    frame = people(300)
    frame["buys"] = np.where(np.arange(300) < 30, "rare", frame.buys)
    found = prepared(frame)
    for part, size in ((found.test, 6), (found.validation, 4.5), (found.train, 19.5)):
        assert abs((found.y[part] == found.target.labels.index("rare")).sum() - size) <= 1.5


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 50, "classify"),
        ([True, False] * 50, "classify"),
        ([0, 1] * 50, "classify"),
        (list(range(1, 6)) * 20, "classify"),
        (list(range(50)) * 2, "regress"),
        ([0.5, 1.5] * 50, "regress"),
        (list(range(11)) * 9 + [1], "regress"),
    ],
)
def test_the_task_follows_from_the_target(values: list[Any], task: str) -> None:
    frame = people(100).assign(target=values)
    assert prepared(frame, "target").target.task == task


def test_whole_numbers_taken_for_classes_are_said() -> None:
    frame = people(100).assign(grade=[1, 2, 3, 4, 5] * 20)
    assert "5 different whole numbers, taken for classes: give task='regress'" in notes(
        frame, "grade"
    )
    assert prepared(frame, "grade", task="regress").target.task == "regress"


# ---- columns of every kind -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "number"),
        ([1.5, None, 3], "number"),
        (pd.array([1, None, 3], dtype="Int64"), "number"),
        ([True, False, True], "boolean"),
        (np.array([True, None, False], dtype=object), "boolean"),
        (pd.array([True, None, False], dtype="boolean"), "boolean"),
        (["a", "b", None], "text"),
        (pd.Categorical([1, 2, 2]), "text"),
        (["007", "008", "009"], "text"),
        (["2024-01-05", "2024-02-06", "2024-03-07 10:00"], "date"),
        (["5.1.2024", "6.2.2024", "7.3.2024"], "date"),
        (pd.to_datetime(["2024-01-05", "2024-02-06", None]), "date"),
        ([datetime.date(2024, 1, 5), None, datetime.date(2024, 1, 6)], "date"),
        ([None, None, None], "empty"),
        ([np.nan, np.nan, np.nan], "empty"),
    ],
)
def test_the_kind_of_a_column(values: Any, kind: str) -> None:
    assert cells.kind_of(pd.Series(values, name="c")) == kind


def test_text_among_numbers_is_found_with_its_row() -> None:
    frame = people().astype({"age": object})
    frame.loc[16, "age"] = "about 40"
    frame.loc[20, "age"] = "?"
    line = refused(frame)
    assert "'age' holds numbers, and text in row 17 ('about 40') and 1 more" in line
    assert "categories='age'" in line
    assert prepared(frame, categories="age").inputs[0].to_json()["kind"] == "text"


def test_text_among_the_targets_numbers_is_found_or_makes_classes() -> None:
    frame = people().assign(grade=["1", "2", "3", "3a"] * 50)
    line = refused(frame, "grade")
    assert "'grade' holds numbers, and text in row 4 ('3a') and 49 more" in line
    assert "task='classify'" in line
    found = prepared(frame, "grade", task="classify")
    assert found.target.labels == ("1", "2", "3", "3a")


def test_numbers_with_a_comma_are_found() -> None:
    line = refused(people().assign(price=["1,5", "2,25"] * 100))
    assert "'price' holds numbers with a comma, such as '1,5'" in line
    assert "decimal=','" in line


def test_dates_are_refused_with_the_fix() -> None:
    when = pd.date_range("2024-01-01", periods=200)
    for values in (when, when.strftime("%Y-%m-%d")):
        line = refused(people().assign(when=values))
        assert "'when' holds dates" in line
        assert "days since" in line
        assert "ignore='when'" in line


def test_cells_that_are_no_values_are_refused() -> None:
    assert "cells of type list" in refused(people().assign(l=[[1, 2]] * 200))
    assert "complex" in refused(people().assign(z=np.full(200, 1j)))


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, 1e200])
def test_numbers_without_bound_are_refused(wrong: float) -> None:
    frame = people()
    frame.loc[5, "income"] = wrong
    assert f"'income' takes numbers between -1e100 and 1e100, and row 6 holds {wrong}" in refused(
        frame
    )


def test_columns_that_say_nothing_are_left_out_and_noted() -> None:
    frame = people().assign(k=1, gone=None, name=[f"n{i}" for i in range(200)])
    found = prepared(frame)
    assert set(found.left_out) == {"k", "gone", "name"}
    said = notes(frame)
    assert "column 'k' is the same in all training rows and is left out" in said
    assert "column 'gone' has no value in any row and is left out" in said
    assert (
        "'name' has another text in almost every row and is left out: give categories='name'"
        in said
    )


def test_a_number_of_the_row_is_noted() -> None:
    frame = people().assign(id=np.random.default_rng(0).permutation(200) + 1000)
    assert "'id' looks like a number of the row: give ignore='id' to leave it out" in notes(frame)
    assert "'age'" not in notes(frame)


def test_of_many_categories_the_most_frequent_get_inputs() -> None:
    r = np.random.default_rng(0)
    frame = people(2000).assign(place=[f"p{int(i)}" for i in r.exponential(60, 2000)])
    (place,) = (c for c in prepared(frame).inputs if c.name == "place")
    assert place.width == 100
    assert "p0" in place.values
    assert "the 100 most frequent ones get an input each" in notes(frame)


# ---- what is refused -----------------------------------------------------------------------------


def test_tables_of_which_nothing_is_learned_are_refused() -> None:
    frame = people()
    assert "'buys' is 'yes' in every row" in refused(frame.assign(buys="yes"))
    assert "6 rows, too few to learn from: give 10 at least" in refused(frame.head(6))
    assert "no column beside the target" in refused(frame[["buys"]])
    assert "the same in all training rows" in refused(frame[["buys"]].assign(k=1))
    assert "no value in any row" in refused(frame.assign(buys=None), missing="drop")
    assert "no column is named 'Buys' (target); did you mean 'buys'?" in refused(frame, "Buys")
    assert "(ignore); there are 'age'" in refused(frame, ignore="qqqqq")
    assert "cannot be left out" in refused(frame, ignore="buys")
    assert "is no number: give task='classify'" in refused(frame, task="regress")
    assert "200 different values in 200 rows" in refused(frame, "income", task="classify")
    many = frame.head(20).assign(buys=[*"abcdefghij"] * 2)
    assert "20 rows are too few for 10 classes: give 30 at least" in refused(many)
    twice = pd.concat([frame, frame[["age"]]], axis=1)
    assert "two columns named 'age': rename one" in refused(twice)
    assert "hardly differs" in refused(frame.assign(spent=1 + 1e-15 * frame.age), "spent")


def test_settings_are_checked() -> None:
    for wrong in (
        {"task": "guess"},
        {"missing": "zero"},
        {"hidden": [0]},
        {"epochs": 0},
        {"test": 0.7},
        {"dropout": 1.0},
        {"lr": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            table.Settings(**wrong)
    with pytest.raises(TypeError, match="epoch"):
        table.fit_table(people(), "buys", epoch=3)
    with pytest.raises(TypeError, match="a path, a dict of columns, or a DataFrame"):
        table.fit_table(np.ones((3, 3)), "buys")


def test_without_pandas_the_error_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'ldl\[table\]'"):
        table.read_table("some.csv")


# ---- missing values ------------------------------------------------------------------------------


def with_gaps() -> pd.DataFrame:
    frame = people()
    frame.loc[::10, "income"] = np.nan
    frame.loc[3:9, "town"] = None
    frame["member"] = frame.member.astype("boolean")
    frame.loc[100:101, "member"] = None
    return frame


def test_missing_values_are_counted_by_column() -> None:
    line = refused(with_gaps())
    assert "of 200 rows these columns lack values: 'income' (20), 'town' (7), 'member' (2)" in line
    assert "give missing='mean' or missing='drop'" in line


def test_rows_with_missing_values_are_dropped() -> None:
    found = prepared(with_gaps(), missing="drop")
    assert found.dropped == 28
    assert len(found.x) == len(found.y) == 172
    assert "28 of 200 rows dropped" in notes(with_gaps(), missing="drop")


def test_missing_values_become_the_mean_or_no_category() -> None:
    frame = with_gaps()
    found = prepared(frame, missing="mean")
    assert found.dropped == 0
    assert (found.x[::10, 1] == 0).all()
    assert (found.x[3:10, 2:5] == 0).all()
    assert (found.x[100:102, 5] == 0).all()
    assert np.isfinite(found.x).all()
    income = next(c for c in found.inputs if c.name == "income")
    assert income.mean == pytest.approx(frame.income.iloc[found.train].mean())
    assert "filled in: 'income' (20), 'town' (7), 'member' (2)" in notes(frame, missing="mean")


def test_a_target_without_a_value_is_no_row_to_learn_from() -> None:
    frame = people()
    frame.loc[:9, "buys"] = None
    assert "the target 'buys' lacks a value in 10 of 200 rows" in refused(frame)
    for missing in ("drop", "mean"):
        assert prepared(frame, missing=missing).dropped == 10


# ---- predictions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> TableModel:
    return table.fit_table(people(), "buys", **QUICK, ignore="spent").model


def test_columns_are_found_by_name_in_any_order(model: TableModel) -> None:
    frame = people(50, 1)
    expected = model.predictions(frame).probabilities
    turned = frame[["member", "town", "income", "age"]].assign(more=1)
    found = model.predictions(turned)
    np.testing.assert_array_equal(found.probabilities, expected)
    assert found.encoded.extra == ["more"]
    assert found.scores is None
    assert set(found.values) <= {"yes", "no"}


def test_predictions_are_measured_where_the_target_is_there(model: TableModel) -> None:
    frame = people(50, 1)
    frame.loc[:9, "buys"] = None
    frame.loc[10:14, "buys"] = "perhaps"
    found = model.predictions(frame)
    assert found.scored == 35
    assert found.scores is not None
    assert found.scores["accuracy"] == (found.values[15:] == frame.buys[15:]).mean()


def test_categories_unseen_are_counted_and_count_as_none(model: TableModel) -> None:
    frame = people(50, 1)
    frame.loc[:6, "town"] = "Trier"
    found = model.predictions(frame)
    assert found.encoded.unseen == {"town": 7}
    assert (found.encoded.x[:7, 2:5] == 0).all()


def test_a_table_that_does_not_fit_is_refused(model: TableModel) -> None:
    frame = people(50, 1)

    def fault(data: Any, missing: str | None = None) -> str:
        with pytest.raises(TableError) as error:
            model.predict(data, missing)
        return one_line(error)

    assert "the table lacks 'age', which the model was trained with" in fault(
        frame[["town", "income", "member"]]
    )
    assert "'age' holds numbers, and text in row 1 ('x')" in fault(frame.assign(age="x"))
    assert "'member' takes true or false, and row 1 holds 2" in fault(frame.assign(member=2))
    frame.loc[3, "income"] = np.nan
    assert "'income' (1)" in fault(frame)


def test_numbers_far_from_all_that_was_learned_have_predictions(model: TableModel) -> None:
    frame = people(50, 1)
    frame["income"] = 1e100
    assert np.isfinite(model.predictions(frame).probabilities).all()
    number = Number("a", 0.0, 1e-200)
    read = Cells(np.array([1e100, -1e100, 1e-200]), np.zeros(3, bool))
    np.testing.assert_array_equal(number.encode(read), [[1e9], [-1e9], [1]])


def test_rows_that_lack_a_value_get_no_prediction_or_the_means(model: TableModel) -> None:
    frame = people(50, 1)
    frame.loc[3, "income"] = np.nan
    found = model.predictions(frame, "drop")
    assert [i for i, value in enumerate(found.values) if value is None] == [3]
    assert np.isnan(found.probabilities[3]).all()
    filled = model.predict(frame, "mean")
    assert filled[3] in ("yes", "no")
    assert (np.delete(filled, 3) == np.delete(found.values, 3)).all()
    frame["income"] = np.nan
    assert list(model.predict(frame, "drop")) == [None] * 50


def test_numbers_and_texts_of_categories_are_the_same() -> None:
    frame = people().assign(zip=np.arange(200) % 3 + 53111)
    model = table.fit_table(frame, "buys", **QUICK, categories="zip", ignore="spent").model
    expected = model.predictions(frame).probabilities
    for values in (frame.zip.astype(str), frame.zip.astype(float), frame.zip.astype("category")):
        found = model.predictions(frame.assign(zip=values))
        np.testing.assert_array_equal(found.probabilities, expected)
        assert not found.encoded.unseen


def test_labels_keep_their_type() -> None:
    for values in ([1, 2] * 100, [True, False] * 100, ["x", "y"] * 100, [0.5, 1.0] * 100):
        frame = people().assign(buys=values)
        found = table.fit_table(frame, "buys", **QUICK, task="classify").model
        assert found.target.labels == tuple(sorted(set(values)))
        assert set(found.predict(frame)) <= set(values)


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_holds_all_that_predictions_need(tmp_path: Any, model: TableModel) -> None:
    path = tmp_path / "m.safetensors"
    model.save(path)
    again = TableModel.load(path)
    frame = people(50, 1)
    np.testing.assert_array_equal(
        again.predictions(frame).probabilities, model.predictions(frame).probabilities
    )
    assert (again.inputs, again.target, again.missing, again.left_out) == (
        model.inputs,
        model.target,
        model.missing,
        ("spent",),
    )
    assert isinstance(ldl.load(path), nn.Sequential)


def test_numbers_come_back_from_a_file(tmp_path: Any) -> None:
    model = table.fit_table(people(), "spent", **QUICK, missing="mean").model
    model.save(tmp_path / "m")
    again = TableModel.load(tmp_path / "m")
    assert again.missing == "mean"
    assert isinstance(again.target, Scale)
    frame = people(50, 1)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


def test_files_of_other_models_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "m"
    ldl.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match="not trained on a table's columns") as error:
        TableModel.load(path)
    one_line(error)


GOOD: dict[str, Any] = {
    "version": 1,
    "columns": [
        {"kind": "number", "name": "a", "mean": 0.0, "deviation": 1.0},
        {"kind": "text", "name": "b", "values": ["x", "y"]},
    ],
    "target": {"task": "classify", "name": "t", "labels": ["u", "v"], "shares": [0.5, 0.5]},
    "missing": "error",
    "left_out": [],
}
SCALE = {"task": "regress", "name": "t", "mean": 0.0, "deviation": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"columns": []},
        {"columns": GOOD["columns"][:1]},
        {"columns": [*GOOD["columns"], {"kind": "date", "name": "c"}]},
        {"columns": [GOOD["columns"][0] | {"deviation": 0.0}, GOOD["columns"][1]]},
        {"columns": [GOOD["columns"][0] | {"deviation": "1"}, GOOD["columns"][1]]},
        {"columns": [GOOD["columns"][0], GOOD["columns"][1] | {"values": ["x", "x"]}]},
        {"columns": [GOOD["columns"][0], GOOD["columns"][1] | {"values": ["x", 1]}]},
        {"columns": [GOOD["columns"][0], GOOD["columns"][1] | {"name": "a"}]},
        {"target": SCALE},
        {"target": SCALE | {"deviation": -1.0}},
        {"target": GOOD["target"] | {"name": "a"}},
        {"target": GOOD["target"] | {"labels": ["u", "u"]}},
        {"target": GOOD["target"] | {"labels": ["u", None]}},
        {"target": GOOD["target"] | {"shares": [1.0]}},
        {"target": GOOD["target"] | {"shares": [0.5, 10**400]}},
        {"columns": [GOOD["columns"][0] | {"mean": 10**400}, GOOD["columns"][1]]},
        {"columns": [GOOD["columns"][0] | {"mean": True}, GOOD["columns"][1]]},
        {"columns": [[GOOD["columns"][0]], GOOD["columns"][1]]},
        {"columns": {"a": 1}},
        {"target": None},
        {"missing": ["error"]},
        {"missing": "zero"},
        {"left_out": [1]},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:60],
)
def test_descriptions_that_are_not_sound_are_refused(tmp_path: Any, change: Any) -> None:
    path, net = tmp_path / "m", nn.Linear(3, 2)
    ldl.save(net, path, notes={"table": GOOD})
    assert TableModel.load(path).predict({"a": [1], "b": ["x"]})[0] in ("u", "v")
    ldl.save(net, path, notes={"table": GOOD | change})
    with pytest.raises(CheckpointError, match="holds no table's model") as error:
        TableModel.load(path)
    one_line(error)


def test_a_net_of_other_inputs_is_refused(tmp_path: Any) -> None:
    nets = (nn.Linear(4, 2), nn.Linear(3, 1), nn.Embedding(5, 2), nn.Conv1d(3, 2, 1), nn.ReLU())
    for net in nets:
        ldl.save(net, tmp_path / "m", notes={"table": GOOD})
        with pytest.raises(CheckpointError, match=r"its net does not (take 3 inputs|give 2 out)"):
            TableModel.load(tmp_path / "m")


# ---- figures -------------------------------------------------------------------------------------


def test_figures_of_classes() -> None:
    truth = np.array([0, 0, 1, 2])
    said = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0, 0, 1.0]])
    found = scores.classification(truth, said, np.array([0.2, 0.3, 0.5]))
    assert found["accuracy"] == 0.75
    assert found["baseline_accuracy"] == 0.25
    assert found["log_loss"] == pytest.approx(-(np.log(0.5) * 2 + np.log(0.25)) / 4)
    places = said.argmax(axis=1)
    np.testing.assert_array_equal(
        scores.confusion(truth, places, 3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    )


def test_figures_of_numbers() -> None:
    truth, said = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 2.0, 4.0, 4.0])
    found = scores.regression(truth, said, 2.0)
    assert found["r2"] == pytest.approx(1 - 5 / 14)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 4))
    assert found["mae"] == 0.75
    assert found["baseline_rmse"] == pytest.approx(np.sqrt(18 / 4))
    assert scores.regression(np.ones(3), np.ones(3), 1.0)["r2"] is None


def test_a_column_says_what_it_encodes() -> None:
    column = Category("c", ("a", "b"))
    read = Cells(np.array(["b", "z", None], dtype=object), np.array([False, False, True]))
    np.testing.assert_array_equal(column.encode(read), [[0, 1], [0, 0], [0, 0]])
    assert Classes("t", ("a", "b"), (0.5, 0.5)).read(pd.Series(["b", None, "z"])).tolist() == [
        1,
        -1,
        -2,
    ]


def test_tables_of_polars_and_of_arrow_are_those_of_pandas() -> None:
    frame = people().drop(columns="spent")
    columns = {name: frame[name].tolist() for name in frame}
    columns["age"][3] = None
    how = {"epochs": 1, "hidden": (4,), "missing": "mean"}
    own = table.fit_table(pd.DataFrame(columns), "buys", **how)
    given = pa.table(columns)
    batch = given.to_batches()[0]
    for other in (pl.DataFrame(columns), given, batch):
        found = table.fit_table(other, "buys", **how)
        assert found.scores == own.scores
        assert [*found.model.predict(other)] == [*own.model.predict(pd.DataFrame(columns))]
    with pytest.raises(TypeError, match="collect"):
        table.fit_table(pl.DataFrame(columns).lazy(), "buys", **how)


def test_columns_without_names_are_named_by_their_numbers() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)))
    found = table.fit_table(frame, 2, epochs=1, hidden=(4,), ignore=[0])
    assert [column.name for column in found.prepared.inputs] == ["1", "3"]
    assert len(found.model.predict(frame[:5])) == 5
