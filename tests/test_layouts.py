"""The paper's tables with our runs in them, and any other rows x columns: the right number in the right place."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from mlflow import MlflowClient

from analysis import report as reports
from analysis.layouts import LAYOUTS, PAPER_LAYOUTS, Cross, parse_layout
from analysis.sheet import Sheet
from tests.conftest import refusal
from tests.recorder import BASE, Recorder, cell, report

BERT = "/models/bert-base-uncased"
TEXT = {**BASE, "model": BERT, "task": "mrpc", "num_epochs": 3}
SHIFT = {"mapping": "shift", "shift_by": 1000, "keep_special_tokens": False}
FRACTION = {**SHIFT, "train_fraction": 0.01, "stop_at_loss": 0.01}
GLUE = {
    **{"mnli": "accuracy", "qqp": "f1", "qnli": "accuracy", "sst2": "accuracy"},
    **{"cola": "matthews", "stsb": "spearman", "mrpc": "f1", "rte": "accuracy"},
}


def record(experiment: str, tests: Mapping[str, Sequence[float]], metric: str = "accuracy", **config: Any) -> Recorder:
    """A sweep whose trials have these test scores, init -> by seed."""
    sweep = Recorder(
        experiment,
        base={**BASE, "model": BERT, **config},
        inits=tuple(tests),
        seeds=max(map(len, tests.values())),
        metric=metric,
    )
    sweep.scored(tests)
    return sweep


@pytest.fixture(scope="module")
def matrix(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A piece of the paper's experiment matrix, the same for all tests that only read."""
    folder = tmp_path_factory.mktemp("matrix")
    made = MlflowClient(tracking_uri).create_experiment(str(folder), artifact_location=folder.as_uri())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        three = {"pretrained": (0.86, 0.88), "reinit-embeddings": (0.84, 0.85), "scratch": (0.66, 0.67)}
        record(made, three, task="h4")
        record(made, {"pretrained": (0.87,), "scratch": (0.65,)}, task="h4", mapping="frequent")
        record(made, {"pretrained": (0.66,)}, task="h4", mapping="unused")
        record(made, {"pretrained": (0.80, 0.81)}, task="h4", model="/models/all-MiniLM-L6-v2")
        record(made, {"scratch": (0.88,)}, task="h4", model="hilbert-cnn")
        kmer = {"task": "h4", "model": "kmer", "max_train_examples": None}
        sweep = Recorder(made, base=kmer, inits=("scratch",), optimizers=(), learning_rates=())
        sweep.scored({"scratch": (0.79,)})
        for task, first in (("localization", 0.6), ("stability", 0.7), ("fluorescence", 0.5)):
            metric = "accuracy" if task == "localization" else "spearman"
            record(made, {"pretrained": (first, first + 0.03)}, metric, task=task)
        record(
            made, {"pretrained": (0.75,)}, "spearman", task="stability", model="/models/plus-tfm", mapping="identity"
        )
        for mapping in (
            {"mapping": "identity"},
            SHIFT,
            {**SHIFT, "shift_by": 7},
            {**SHIFT, "keep_special_tokens": True},
        ):
            record(made, {"pretrained": (0.83, 0.84)}, "f1", **TEXT | mapping)
        record(made, {"pretrained": (0.82,)}, "f1", **TEXT | {"mapping": "permutation", "keep_special_tokens": False})
        record(made, {"pretrained": (0.81, 0.80), "scratch": (0.75, 0.76)}, "f1", **TEXT | FRACTION)
        yield made


@cache
def sheet_of(experiment: str, layout: str) -> Sheet:
    (sheet,) = report(experiment, layout).sheets
    return sheet


# The paper's tables


@pytest.mark.parametrize(
    "layout, setting, init, task, ours, paper, difference",
    [
        ("table1", "identity", "pretrained", "mrpc", "83.5 ± 0.7", "85.5", "-2.0"),
        ("table1", "shift 1000", "pretrained", "mrpc", "83.5 ± 0.7", "82.9", "+0.6"),
        ("table1", "permutation", "pretrained", "mrpc", "82.0", "83.4", "-1.4"),
        ("v2-table3", "shift 1000", "pretrained", "mrpc", "83.5 ± 0.7", "82.9", "+0.6"),
        ("appendix-glue", "permutation", "pretrained", "mrpc", "82.0", "83.4", "-1.4"),
        ("v1-appendix-table1", "shift 1000, 1% data", "scratch", "mrpc", "75.5 ± 0.7", "76.2", "-0.7"),
        ("fraction", "shift 1000, 1% data", "pretrained", "mrpc", "80.5 ± 0.7", "80.5", "+0.0"),
        ("table2", "random", "pretrained", "h4", "87.0 ± 1.4", "85.9 ± 0.9", "+1.1"),
        ("table2", "frequent", "scratch", "h4", "65.0", "66.5", "-1.5"),
        ("v1-table2", "frequent", "pretrained", "h4", "87.0", "86.2", "+0.8"),
        ("v2-table5", "random", "reinit-embeddings", "h4", "84.5 ± 0.7", "83.9 ± 0.8", "+0.6"),
        ("validation", "random", "pretrained", "h4", "86.0 ± 1.4", "87.0 ± 0.6", "-1.0"),
        ("validation", "frequent", "pretrained", "h4", "86.0", "87.8", "-1.8"),
        ("v1-appendix-table2", "frequent", "scratch", "h4", "64.0", "66.4", "-2.4"),
        ("v2-table7", "random", "scratch", "h4", "65.5 ± 0.7", "66.5 ± 0.8", "-1.0"),
        ("v2-table6", "random", "pretrained", "protein", "61.5 ± 2.1", "64.4 ± 1.2", "-2.9"),
        ("v2-table8", "random", "pretrained", "protein", "60.5 ± 2.1", "65.7 ± 1.6", "-5.2"),
    ],
)
def test_ours_stands_beside_the_papers_figure_of_the_same_setting_init_and_task(
    matrix: str, layout: str, setting: str, init: str, task: str, ours: str, paper: str, difference: str
) -> None:
    """The paper's figures are read off the paper by hand."""
    found = cell(sheet_of(matrix, layout), task, setting=setting, model="bert-base-uncased", init=init)
    assert (found["ours"], found["paper"], found["difference"]) == (ours, paper, difference)


def test_every_layout_of_the_paper_shows_all_of_its_tables_figures(experiment: str) -> None:
    """Counted by hand in the paper; MNLI's halves are one figure, means over tasks count too."""
    record(experiment, {"pretrained": (0.5,)}, task="demo")
    counts = {
        layout: sum(
            "paper" in row["what"].split("\n") and row[column.name].split("\n")[-1] != "-"
            for row in sheet.rows
            for column in sheet.columns
            if column.align == "right"
        )
        for layout in PAPER_LAYOUTS
        for sheet in report(experiment, layout).sheets
    }
    assert counts == {
        "table1": 99,
        "table2": 31 + 56 + 24,
        "appendix-glue": 56,
        "validation": 24 + 56 + 24,
        "fraction": 16,
        "v1-table2": 31,
        "v1-appendix-table1": 72,
        "v1-appendix-table2": 24,
        "v2-table3": 99,
        "v2-table5": 56,
        "v2-table6": 24,
        "v2-table7": 56,
        "v2-table8": 24,
    }


def test_what_we_never_ran_has_the_papers_figure_alone_and_is_not_missing(matrix: str) -> None:
    sheet = sheet_of(matrix, "v2-table5")
    assert cell(sheet, "splice", setting="random", model="roberta-base", init="pretrained") == {
        "ours": "-",
        "paper": "94.7 ± 0.3",
    }
    assert cell(sheet, "h3", setting="random", model="bert-base-uncased", init="scratch")["ours"] == "-"
    assert not sheet.incomplete


def test_our_rows_that_the_paper_lacks_are_shown_without_a_figure(matrix: str) -> None:
    found = cell(sheet_of(matrix, "table2"), "h4", setting="unused", init="pretrained")
    assert found == {"ours": "66.0", "n": "1/1"}


@pytest.mark.parametrize("setting", ["shift 7", "shift 1000, special tokens kept"])
def test_another_shift_or_special_tokens_that_are_kept_have_no_figure(matrix: str, setting: str) -> None:
    for layout in ("table1", "appendix-glue"):
        assert "paper" not in cell(sheet_of(matrix, layout), "mrpc", setting=setting, init="pretrained")


def test_the_first_versions_glue_table_has_no_pretrained_row_without_a_mapping(matrix: str) -> None:
    sheet = sheet_of(matrix, "appendix-glue")
    assert "paper" not in cell(sheet, "mrpc", setting="identity", init="pretrained")
    assert cell(sheet, "mrpc", setting="identity", init="reinit-embeddings")["paper"] == "78.6"


def test_rivals_stand_beside_the_papers_task_specific_models(matrix: str) -> None:
    sheet = sheet_of(matrix, "v1-table2")
    hilbert = cell(sheet, "h4", setting="task-specific", model="hilbert-cnn")
    assert (hilbert["ours"], hilbert["paper"], hilbert["difference"]) == ("88.0", "87.3", "+0.7")
    assert cell(sheet, "splice", setting="task-specific", model="hilbert-cnn")["paper"] == "94.1"
    plus = cell(sheet, "stability", setting="task-specific", model="plus-tfm", init="pretrained")
    assert (plus["ours"], plus["paper"]) == ("75.0", "76.0")
    assert cell(sheet, "h4", setting="task-specific", model="kmer") == {"ours": "79.0", "n": "1/1"}


def test_a_model_that_the_paper_lacks_stands_beside_bert_base_and_a_note_says_so(matrix: str) -> None:
    sheet = sheet_of(matrix, "v2-table5")
    ours = cell(sheet, "h4", model="all-MiniLM-L6-v2", init="pretrained")
    assert (ours["paper"], ours["difference"]) == ("85.9 ± 0.9", "-5.4")
    assert cell(sheet, "h3", model="all-MiniLM-L6-v2", init="pretrained")["paper"] == "-", "no figure without a trial"
    assert any("The paper has no all-MiniLM-L6-v2" in note for note in sheet.notes)


def test_groups_that_fall_into_one_place_are_rows_of_their_own(experiment: str) -> None:
    """Never averaged, never hidden, told apart by what differs; scratch says which of them it belongs to."""
    record(experiment, {"pretrained": (0.9,), "scratch": (0.7,)}, task="h4")
    record(experiment, {"pretrained": (0.5,)}, task="h4", num_epochs=5)
    sheet = sheet_of(experiment, "v2-table5")
    of_ours = [row for row in sheet.rows if row["h4"].split("\n")[0] != "-"]
    assert [(row["init"], row["with"], row["h4"].split("\n")[0]) for row in of_ours] == [
        ("pretrained", "5 epochs", "50.0"),
        ("pretrained", "20 epochs", "90.0"),
        ("scratch", "20 epochs", "70.0"),
    ]
    alone = cell(sheet, "h3", model="bert-base-uncased", init="pretrained", **{"with": "-"})
    assert alone["paper"] == "83.6 ± 1.3", "the paper's other figures belong to neither"


def test_two_folders_of_one_model_are_told_apart(experiment: str) -> None:
    for folder in ("/here", "/there"):
        record(experiment, {"pretrained": (0.9,)}, task="h4", model=f"{folder}/bert-base-uncased")
    rows = [row for row in sheet_of(experiment, "v2-table5").rows if row["h4"].startswith("90.0")]
    assert [row["with"] for row in rows] == ["/here/bert-base-uncased", "/there/bert-base-uncased"]


def test_the_mean_over_glue_is_taken_seed_by_seed_and_counts_both_halves_of_mnli(experiment: str) -> None:
    """(2 * 0.6 + 7 * 0.7) / 9 with seed 0; everything 0.09 better with seed 1."""
    for task, metric in GLUE.items():
        first = 0.6 if task == "mnli" else 0.7
        record(experiment, {"pretrained": (first, first + 0.09)}, metric, **TEXT | SHIFT | {"task": task})
    found = cell(
        sheet_of(experiment, "table1"), "average", setting="shift 1000", init="pretrained", model="bert-base-uncased"
    )
    assert (found["ours"], found["n"], found["paper"], found["difference"]) == ("72.3 ± 6.4", "2/2", "66.6", "+5.7")


def test_a_mean_over_tasks_that_are_not_all_there_is_none(matrix: str) -> None:
    found = cell(sheet_of(matrix, "v2-table6"), "dna", setting="random", model="bert-base-uncased", init="scratch")
    assert (found["ours"], found["n"], found["paper"]) == ("-", "1/4 tasks", "77.7 ± 0.7")


def test_tasks_without_a_column_are_named_under_the_table(matrix: str) -> None:
    assert any(
        note.endswith("no such column: fluorescence, h4, localization, stability.")
        for note in sheet_of(matrix, "table1").notes
    )


def test_the_fraction_layout_shows_trials_on_a_part_of_the_data_only(matrix: str, experiment: str) -> None:
    ours = [row for row in sheet_of(matrix, "fraction").rows if row["mrpc"].split("\n")[0] != "-"]
    assert {row["setting"] for row in ours} == {"shift 1000, 1% data"}
    record(experiment, {"pretrained": (0.8,)}, "f1", **{**TEXT, **SHIFT, "train_fraction": 0.01})
    assert any("not trained until the loss is near zero" in note for note in sheet_of(experiment, "fraction").notes)


def test_a_column_says_its_metric_and_which_way_is_better(matrix: str) -> None:
    units = {column.name: column.unit for column in sheet_of(matrix, "table1").columns}
    assert (units["mnli"], units["cola"], units["mrpc"], units["average"]) == (
        "accuracy ↑",
        "matthews ↑",
        "f1 ↑",
        "mean ↑",
    )


def test_scratch_is_what_others_are_tested_against_in_test_scores_only(matrix: str) -> None:
    """0.86 - 0.66 and 0.88 - 0.67: 20.5 points on the mean."""
    words = {"setting": "random", "model": "bert-base-uncased", "init": "pretrained"}
    assert cell(sheet_of(matrix, "table2"), "h4", **words)["vs scratch"] == "+20.5"
    assert "Holm p" in cell(sheet_of(matrix, "table2"), "h4", **words)
    assert "vs scratch" not in cell(sheet_of(matrix, "validation"), "h4", **words)


def test_cells_that_did_not_finish_stand_in_the_table_under_it_and_in_the_csv(experiment: str) -> None:
    sweep = Recorder(experiment, base={**BASE, "model": BERT}, seeds=4)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial("diverged", seed=1)
    sweep.trial("failed", seed=2)
    for layout in ("table2", "init x task"):
        sheet = sheet_of(experiment, layout)
        found = cell(
            sheet,
            "h4",
            init="pretrained",
            **({"model": "bert-base-uncased", "setting": "random"} if layout == "table2" else {}),
        )
        assert (found["n"], found["missing"], found["failed"], found["diverged"]) == ("1/4", "1", "1", "1")
        assert any("diverged: adam 1e-05 seed 1." in note for note in sheet.notes)
        assert sheet.incomplete
        (record,) = [record for record in sheet.records if "cells_failed" in record]
        assert (record["cells_failed"], record["missing_cells"]) == (1, "adam 1e-05 seed 3")


# Any rows x columns


def test_rows_and_columns_by_param_names(matrix: str) -> None:
    sheet = report(matrix, "init,mapping x task", tasks=["h4", "mrpc"]).sheets[0]
    assert [column.name for column in sheet.columns if column.align == "right"] == ["h4", "mrpc"]
    assert cell(sheet, "h4", init="pretrained", mapping="unused")["ours"] == "66.0"
    assert cell(sheet, "mrpc", init="pretrained", mapping="permutation")["ours"] == "82.0"
    shifted = [row for row in sheet.rows if (row["init"], row["mapping"]) == ("pretrained", "shift")]
    assert len(shifted) == 4, "what rows and columns do not name sets rows apart"
    assert len({row["with"] for row in shifted}) == 4


def test_settings_and_seeds_are_told_apart_where_they_are_rows_or_columns(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-4, 1e-5), seeds=2)
    scores = {(1e-4, 0): 0.9, (1e-4, 1): 0.8, (1e-5, 0): 0.7}
    for (learning_rate, seed), score in scores.items():
        sweep.trial("finished", (score, score), learning_rate=learning_rate, seed=seed)
    sheet = sheet_of(experiment, "learning_rate x seed")
    assert cell(sheet, "0", learning_rate="0.0001")["ours"] == "90.0"
    assert cell(sheet, "1", learning_rate="0.0001")["ours"] == "80.0"
    assert cell(sheet, "0", learning_rate="1e-05")["ours"] == "70.0"
    assert cell(sheet, "1", learning_rate="1e-05")["missing"] == "1"


def test_no_trial_is_hidden_by_what_rows_and_columns_leave_out_or_it_does_not_have(matrix: str) -> None:
    """Inits that no row names are told apart, and k-mer counts, which have no optimizer, have a row too."""
    (sheet,) = report(matrix, "optimizer x task", tasks=["h4"]).sheets
    rows = [(row["optimizer"], row["with"], row["h4"].split("\n")[0]) for row in sheet.rows]
    assert ("adam", "bert-base-uncased, scratch, mapping random", "66.5 ± 0.7") in rows
    assert ("adam", "bert-base-uncased, pretrained, mapping random", "87.0 ± 1.4") in rows
    assert ("-", "kmer, scratch", "79.0") in rows
    assert len(rows) == 9


def test_tasks_as_rows_name_their_metrics_there(matrix: str) -> None:
    sheet = report(matrix, "task x init", tasks=["h4", "mrpc"]).sheets[0]
    assert {(row["task"], row["metric"]) for row in sheet.rows} == {("h4", "accuracy ↑"), ("mrpc", "f1 ↑")}


# Names


def test_every_layout_has_a_name_and_any_other_is_rows_and_columns() -> None:
    assert all(parse_layout(name) == name for name in LAYOUTS)
    assert parse_layout("init, mapping x task") == Cross(rows=("init", "mapping"), columns=("task",))


@pytest.mark.parametrize(
    "layout, words",
    [
        ("tabel1", "layout: unknown value 'tabel1'; allowed: auto, table1"),
        ("tabel1", "did you mean 'table1'?"),
        ("init x", "layout: 'init x' has no columns"),
        ("x task", "layout: 'x task' has no rows"),
        ("init x task x model", "rows x columns"),
        ("init,task x task", "names task twice"),
    ],
)
def test_a_layout_that_is_none_is_refused_in_one_line(layout: str, words: str) -> None:
    assert words in refusal(lambda: parse_layout(layout))


def test_an_unknown_param_names_those_that_trials_have_and_the_nearest(matrix: str) -> None:
    said = refusal(lambda: report(matrix, "init,maping x task"))
    assert said.startswith("layout: unknown param 'maping'; allowed: task, model, ")
    assert said.endswith("did you mean 'mapping'?")
    assert "shift_by" in said


def test_a_task_of_the_paper_may_be_asked_for_though_it_was_not_run(matrix: str) -> None:
    sheet = report(matrix, "table1", tasks=["cola", "mrpc"]).sheets[0]
    assert [column.name for column in sheet.columns if column.align == "right"] == ["cola", "mrpc"]
    assert "did you mean 'cola'" in refusal(lambda: report(matrix, "table1", tasks=["colla"]))


# What is read


def test_predictions_are_read_of_the_runs_behind_tested_numbers_only(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two settings and three tasks, the chosen one's of the tasks that the table shows."""
    for task in ("h4", "splice", "mrpc"):
        sweep = Recorder(
            experiment,
            base={**BASE, "task": task},
            inits=("pretrained", "scratch"),
            learning_rates=(1e-4, 1e-5),
            seeds=2,
        )
        sweep.all_trials((0.9, 0.8))
    asked: list[str] = []
    monkeypatch.setattr(reports, "read_predictions", lambda client, run_id: asked.append(run_id))
    made = report(experiment, "v2-table5", tasks=["h4", "mrpc"])
    shown = {run.run_id for selection in made.selections for run in selection.runs}
    assert set(asked) == shown
    assert len(asked) == len(shown) == 4
