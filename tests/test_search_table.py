"""A grid search as optimizer x learning rate, and the score by which its setting is chosen."""

import pytest
from mlflow import MlflowClient

from analysis.select import select
from analysis.store import expected_cells, read_sweeps, read_trials
from sweeps.recorded import BY_TRAIN, BY_VALID
from tests.conftest import refusal
from tests.recorder import BASE, Recorder, report, selections

MRPC = {**BASE, "task": "mrpc", "model": "bert-base-uncased", "mapping": "identity", "num_epochs": 3}
SCORES = {  # (optimizer, learning rate) -> valid, test, train
    ("adam", 1e-4): (0.70, 0.60, 0.99),
    ("adam", 1e-5): (0.80, 0.50, 0.90),
    ("radam", 1e-4): (0.75, 0.90, 0.80),
    ("radam", 1e-5): (0.60, 0.99, 0.70),
}


def searching(
    experiment: str, select_by: str | None = None, tests: tuple[float, ...] = (0.6, 0.5, 0.9, 0.99)
) -> Recorder:
    """A search whose best settings by train, valid and test are three different ones."""
    sweep = Recorder(
        experiment,
        base=MRPC,
        inits=("scratch",),
        optimizers=("adam", "radam"),
        learning_rates=(1e-4, 1e-5),
        metric="f1",
        select_by=select_by,
    )
    for ((optimizer, learning_rate), (valid, _, train)), test in zip(SCORES.items(), tests, strict=True):
        sweep.trial("finished", (valid, test, train), optimizer=optimizer, learning_rate=learning_rate)
    return sweep


def chosen(experiment: str, by: str | None = None) -> tuple[str, float, tuple[float, ...]]:
    """The optimizer and learning rate that were chosen, and the test scores behind them."""
    client = MlflowClient()
    expected = expected_cells(read_sweeps(client, [experiment]))
    (selection,) = select(read_trials(client, [experiment]), expected, by)
    assert selection.chosen is not None
    return selection.chosen.optimizer, selection.chosen.learning_rate, selection.test_scores


# The choice


def test_the_choice_by_train_score_is_by_train_score(experiment: str) -> None:
    searching(experiment)
    assert chosen(experiment, BY_TRAIN) == ("adam", 1e-4, (0.60,))
    assert chosen(experiment, BY_VALID) == ("adam", 1e-5, (0.50,))


@pytest.mark.parametrize("by", [BY_TRAIN, BY_VALID])
def test_the_choice_never_reads_test(experiment: str, by: str) -> None:
    """The same sweep with its test scores in another order makes the same choice."""
    searching(experiment)
    before = chosen(experiment, by)
    searching(experiment, tests=(0.99, 0.9, 0.5, 0.6))  # the newest run of a cell counts
    after = chosen(experiment, by)
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_what_the_sweep_says_is_what_it_is_chosen_by_unless_another_is_given(experiment: str) -> None:
    searching(experiment, select_by=BY_TRAIN)
    assert chosen(experiment) == ("adam", 1e-4, (0.60,))
    assert chosen(experiment, BY_VALID) == ("adam", 1e-5, (0.50,))
    assert selections(experiment)[0].by == BY_TRAIN


def test_sweeps_that_do_not_agree_are_chosen_by_valid_score(experiment: str) -> None:
    searching(experiment, select_by=BY_TRAIN)
    Recorder(experiment, base=MRPC, inits=("scratch",), learning_rates=(1e-6, 1e-7), metric="f1").trial(
        "finished", (0.1, 0.1, 0.1)
    )
    assert chosen(experiment)[:2] == ("adam", 1e-5)


def test_a_comparison_after_a_search_leaves_its_choice_as_it_is(experiment: str) -> None:
    """It runs the chosen setting again, without train scores, and chooses among nothing."""
    searching(experiment, select_by=BY_TRAIN)
    comparison = Recorder(experiment, base=MRPC, inits=("scratch",), learning_rates=(1e-4,), metric="f1")
    comparison.trial("finished", (0.3, 0.6), learning_rate=1e-4)
    assert chosen(experiment) == ("adam", 1e-4, (0.60,))
    assert selections(experiment)[0].by == BY_TRAIN


def test_sweeps_of_other_groups_keep_their_own_criterion(experiment: str) -> None:
    searching(experiment, select_by=BY_TRAIN)
    Recorder(experiment).trial("finished", (0.9, 0.9))
    assert {selection.config["task"]: selection.by for selection in selections(experiment)} == {
        "mrpc": BY_TRAIN,
        "h4": BY_VALID,
    }
    (sheet,) = report(experiment, "auto").sheets
    assert any("mean valid score (of h4) and mean train score (of mrpc)" in note for note in sheet.notes)


def test_a_test_score_is_no_criterion(experiment: str) -> None:
    searching(experiment)
    assert "allowed: valid/score, train/score" in refusal(lambda: report(experiment, "auto", select_by="test/score"))


def test_trials_without_a_train_score_are_not_chosen_by_it_and_the_table_says_so(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    (sheet,) = report(experiment, "auto", select_by=BY_TRAIN).sheets
    assert any("no trial has a train score" in note and "select_by=valid/score" in note for note in sheet.notes)


# The table


def test_rows_are_optimizers_columns_learning_rates_and_the_chosen_cell_is_marked(experiment: str) -> None:
    searching(experiment, select_by=BY_TRAIN)
    (sheet,) = report(experiment, "search").sheets
    assert sheet.title == "mrpc, bert-base-uncased, scratch: mean train f1 ↑ by learning rate"
    assert [dict(row) for row in sheet.rows] == [
        {"optimizer": "adam", "0.0001": "99.0 *", "1e-05": "90.0"},
        {"optimizer": "radam", "0.0001": "80.0", "1e-05": "70.0"},
    ]
    assert any(
        note == "scratch: chosen (*) by mean train f1: adam at 0.0001, train 99.0, test 60.0 (1 of 1 seeds)."
        for note in sheet.notes
    )
    assert [record["chosen"] for record in sheet.records].count(True) == 1


def test_cells_say_how_many_seeds_finished_and_what_became_of_the_others(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4, 1e-5), seeds=3)
    for seed in range(3):
        sweep.trial("finished", (0.8, 0.8), learning_rate=1e-4, seed=seed)
    sweep.trial("finished", (0.9, 0.9), learning_rate=1e-3, seed=0)
    sweep.trial("diverged", learning_rate=1e-3, seed=1)
    sweep.trial("failed", learning_rate=1e-5, seed=2)
    (sheet,) = report(experiment, "search").sheets
    (row,) = sheet.rows
    assert row["0.001"].split("\n") == ["90.0", "1/3", "1 missing", "1 diverged"]
    assert row["0.0001"] == "80.0 *"
    assert row["1e-05"].split("\n") == ["-", "0/3", "2 missing", "1 failed"]
    assert sheet.incomplete


def test_each_init_has_its_own_sheet_which_names_the_choices_of_all(experiment: str) -> None:
    """The paper takes the one of the model from scratch for all."""
    inits = ("pretrained", "scratch")
    sweep = Recorder(experiment, inits=inits, learning_rates=(1e-3, 1e-4))
    for init, better in zip(inits, (1e-3, 1e-4), strict=True):
        for learning_rate in (1e-3, 1e-4):
            score = 0.9 if learning_rate == better else 0.8
            sweep.trial("finished", (score, score), init=init, learning_rate=learning_rate)
    sheets = report(experiment, "search").sheets
    assert [sheet.title.split(":")[0].split(", ")[-1] for sheet in sheets] == list(inits)
    for sheet in sheets:
        notes = "\n".join(sheet.notes)
        assert "adam at 0.001, valid 90.0" in notes
        assert "adam at 0.0001, valid 90.0" in notes
        assert "The paper takes one setting for all inits" in notes


def test_groups_with_other_settings_have_sheets_of_their_own(experiment: str) -> None:
    for num_epochs in (5, 20):
        Recorder(experiment, base={**BASE, "num_epochs": num_epochs}, learning_rates=(1e-3, 1e-4)).all_trials(
            (0.9, 0.9)
        )
    assert [sheet.title.split(",")[2] for sheet in report(experiment, "search").sheets] == [" 5 epochs", " 20 epochs"]


def test_one_setting_alone_is_no_search(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    assert "run a sweep with grid=search" in refusal(lambda: report(experiment, "search"))
