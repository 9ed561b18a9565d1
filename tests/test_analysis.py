"""From recorded runs to a choice: the right trials together, an honest choice, nothing missing unsaid.

Every test writes a small sweep of its own, as ``sweeps`` would record it, into a real SQLite tracking store.
"""

from itertools import product
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.client import Client
from analysis.listing import comparison_sheet
from analysis.render import markdown
from analysis.select import Setting, best, eligible
from analysis.store import expected_cells, read_history, read_sweeps, read_trials
from sweeps import recorded
from tests.recorder import BASE, Recorder, comparison, selection, selections

# Reading


def test_params_come_back_with_the_types_they_had(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.8))
    Recorder(experiment, base={**BASE, "max_train_examples": 500}).trial("finished", (0.9, 0.8))
    trials = read_trials(MlflowClient(), [experiment])
    kinds = {"task": "str", "learning_rate": "float64", "seed": "Int64", "max_train_examples": "Int64"}
    assert {name: str(trials[name].dtype) for name in kinds} == kinds
    assert trials["max_train_examples"].tolist()[0] == 500, "newest first"
    assert trials["max_train_examples"].isna().tolist() == [False, True], "'all' is no number"
    assert trials["learning_rate"].tolist() == [1e-5, 1e-5]
    assert trials["valid/score"].tolist() == [0.9, 0.9]


def test_an_experiment_without_runs_gives_a_frame_with_all_columns(experiment: str) -> None:
    trials = read_trials(MlflowClient(), [experiment])
    assert trials.empty
    assert {"run_id", "sweep", "task", "seed", "valid/score", "test/score", "start_time"} <= set(trials.columns)


def test_more_runs_than_fit_a_page_are_all_read(
    experiment: str, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.client.PAGE", 2)
    sweep = Recorder(experiment, seeds=5)
    sweep.all_trials((0.9, 0.8))
    assert sorted(read_trials(Client(tracking_uri), [experiment])["seed"]) == [0, 1, 2, 3, 4]


def test_the_product_of_a_sweeps_axes_is_what_it_was_expected_to_run(experiment: str) -> None:
    Recorder(experiment, inits=("pretrained", "scratch"), learning_rates=(1e-3, 1e-4), seeds=3)
    cells = expected_cells(read_sweeps(MlflowClient(), [experiment]))
    places = set(zip(cells["init"], cells["learning_rate"], cells["seed"], strict=True))
    assert places == set(product(("pretrained", "scratch"), (1e-3, 1e-4), (0, 1, 2)))


def test_a_learning_rate_that_mlflow_shows_rounded_is_still_the_cell_that_was_expected(experiment: str) -> None:
    """Params are text of six digits; the sweep's axes are not."""
    Recorder(experiment, learning_rates=(1 / 3000,)).all_trials((0.9, 0.9))
    assert selection(experiment).counts["missing"] == 0
    assert selection(experiment).settings == 1


# Choosing


def test_the_choice_reads_valid_and_never_test(experiment: str) -> None:
    """A trap: the setting that is best on test is the worst on valid."""
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4))
    sweep.trial("finished", (0.90, 0.50), learning_rate=1e-3)
    sweep.trial("finished", (0.80, 0.99), learning_rate=1e-4)
    chosen = selection(experiment)
    assert chosen.chosen == Setting(optimizer="adam", learning_rate=1e-3, expected=1, finished=1, valid=0.9, score=0.9)
    assert chosen.test_scores == (0.50,)


def test_the_choice_is_by_the_mean_over_seeds_not_by_the_luckiest_seed(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4), seeds=2)
    for learning_rate, valids in ((1e-3, (0.95, 0.60)), (1e-4, (0.80, 0.82))):
        for seed, valid in enumerate(valids):
            sweep.trial("finished", (valid, 0.7), learning_rate=learning_rate, seed=seed)
    chosen = selection(experiment).chosen
    assert chosen is not None
    assert chosen.learning_rate == 1e-4
    assert chosen.valid == pytest.approx(0.81)


def test_a_setting_that_lost_a_seed_cannot_win_against_a_whole_one(experiment: str) -> None:
    """Otherwise the mean would be taken over the survivors, and a setting that diverges now and then looks good."""
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4), seeds=2)
    sweep.trial("finished", (0.99, 0.99), learning_rate=1e-3, seed=0)
    sweep.trial("diverged", learning_rate=1e-3, seed=1)
    for seed in (0, 1):
        sweep.trial("finished", (0.80, 0.80), learning_rate=1e-4, seed=seed)
    chosen = selection(experiment)
    assert chosen.chosen is not None
    assert chosen.chosen.learning_rate == 1e-4
    assert (chosen.considered, chosen.settings) == (1, 2)
    assert any("chosen among 1 of 2 settings" in note for note in comparison(experiment).notes)


def test_where_no_setting_is_whole_the_most_seeds_decide_and_the_table_says_so(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4), seeds=3)
    sweep.trial("finished", (0.99, 0.99), learning_rate=1e-3, seed=0)
    for seed in (0, 1):
        sweep.trial("finished", (0.80, 0.80), learning_rate=1e-4, seed=seed)
    chosen = selection(experiment).chosen
    assert chosen is not None
    assert (chosen.learning_rate, chosen.finished, chosen.expected) == (1e-4, 2, 3)
    table = comparison(experiment)
    assert "2/3" in markdown([comparison_sheet(table)])
    assert any("no setting finished all of its seeds" in note and "2 of 3" in note for note in table.notes)


def setting(optimizer: str, learning_rate: float, **given: Any) -> Setting:
    whole: dict[str, Any] = {"expected": 2, "finished": 2, "valid": 0.9, "score": 0.9}
    return Setting(optimizer=optimizer, learning_rate=learning_rate, **{**whole, **given})


def test_ties_go_to_the_smaller_learning_rate_then_to_the_optimizers_name() -> None:
    tied = [setting("radam", 1e-5), setting("adam", 1e-3), setting("adam", 1e-5)]
    assert best(tied) == best(tied[::-1]) == setting("adam", 1e-5)


def test_the_settings_with_the_most_seeds_are_considered_and_of_these_whole_ones() -> None:
    once, thrice = setting("adam", 1e-3, expected=1, finished=1), setting("adam", 1e-5, expected=3, finished=3)
    twice, survivors = (setting("adam", 1e-4, expected=expected, finished=expected - 1) for expected in (3, 4))
    assert eligible([once, thrice, survivors]) == [thrice]
    assert eligible([once, twice]) == [twice], "a stray trial is no match for a setting that lacks a seed"
    assert eligible([]) == []


# Counting


def test_diverged_failed_running_and_missing_cells_are_counted_and_named(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=5)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial("diverged", seed=1)
    sweep.trial("failed", seed=2)
    sweep.trial("running", seed=3)
    chosen = selection(experiment)
    assert chosen.counts == {"finished": 1, "diverged": 1, "failed": 1, "running": 1, "missing": 1}
    table = comparison(experiment)
    assert table.lines[0].trouble == "1 missing, 1 running, 1 failed, 1 diverged"
    text = markdown([comparison_sheet(table)])
    assert "| 1/5 |" in text
    for state, seed in (("diverged", 1), ("failed", 2), ("running", 3), ("missing", 4)):
        assert f"h4 pretrained, {state}: adam 1e-05 seed {seed}." in text


def test_an_init_of_which_nothing_finished_is_still_a_row(experiment: str) -> None:
    sweep = Recorder(experiment, inits=("pretrained", "scratch"))
    sweep.trial("finished", (0.9, 0.9))
    sweep.trial("diverged", init="scratch")
    table = comparison(experiment)
    assert [(line.selection.init, line.mean, line.trouble) for line in table.lines] == [
        ("pretrained", 0.9, ""),
        ("scratch", None, "1 diverged"),
    ]
    assert table.incomplete, "a number over the seeds that survived is no whole one"


def test_a_trial_that_ended_before_it_recorded_its_settings_leaves_its_cell_missing(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    tags = {**sweep.facts, recorded.KIND: "trial", recorded.MEMBER + sweep.run_id: "true", recorded.OUTCOME: "failed"}
    lost = sweep.client.create_run(experiment, tags=tags).info.run_id
    sweep.client.set_terminated(lost, "FAILED")
    assert selection(experiment).counts == {"finished": 1, "diverged": 0, "failed": 0, "running": 0, "missing": 1}


def test_a_finished_trial_without_its_test_score_is_not_averaged_away(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial("finished", (0.9, float("nan")), seed=1)
    table = comparison(experiment)
    assert table.lines[0].mean is None
    assert any("lacks its test score" in note for note in table.notes)


def test_a_trial_that_claims_to_have_finished_without_a_valid_score_has_failed(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4))
    sweep.trial("finished", learning_rate=1e-3)
    sweep.trial("finished", (0.9, 0.9), learning_rate=1e-4)
    chosen = selection(experiment)
    assert chosen.counts["failed"] == 1
    assert chosen.chosen == Setting(optimizer="adam", learning_rate=1e-4, expected=1, finished=1, valid=0.9, score=0.9)


def test_a_cell_that_was_run_twice_counts_once_and_the_newest_result_counts(experiment: str) -> None:
    for scores in ((0.5, 0.5), (0.9, 0.9)):
        Recorder(experiment).trial("finished", scores)
    again = Recorder(experiment)
    again.trial("failed")
    again.trial("running")
    chosen = selection(experiment)
    assert chosen.test_scores == (0.9,), "a later failure does not undo a result"
    assert chosen.counts == {"finished": 1, "diverged": 0, "failed": 0, "running": 0, "missing": 0}


def test_a_cell_that_failed_and_now_runs_again_is_running(experiment: str) -> None:
    sweep = Recorder(experiment)
    sweep.trial("failed")
    sweep.trial("running")
    assert selection(experiment).counts["running"] == 1
    assert selection(experiment).counts["failed"] == 0


def test_trials_without_a_sweep_are_compared_too(experiment: str) -> None:
    """``python -m sweeps.train`` records a trial by itself."""
    sweep = Recorder(experiment)
    sweep.trial("finished", (0.9, 0.9))
    sweep.client.delete_run(sweep.run_id)
    assert selection(experiment).counts == {"finished": 1, "diverged": 0, "failed": 0, "running": 0, "missing": 0}


# Grouping


@pytest.mark.parametrize(
    "other",
    [
        {"num_epochs": 5},
        {"batch_size": 16},
        {"patience": 1},
        {"mapping": "frequent"},
        {"max_train_examples": 500},
        {"model": "/elsewhere/all-MiniLM-L6-v2"},
        {"keep_special_tokens": True},  # a setting that TrialConfig does not have today
    ],
    ids=lambda other: next(iter(other)),
)
def test_trials_with_different_settings_are_never_mixed(experiment: str, other: dict[str, Any]) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    Recorder(experiment, base={**BASE, **other}).trial("finished", (0.1, 0.1))
    assert sorted(chosen.test_scores for chosen in selections(experiment)) == [(0.1,), (0.9,)]
    rows = [
        line for line in markdown([comparison_sheet(comparison(experiment))]).splitlines() if line.startswith("| h4")
    ]
    assert len({row.split("| pretrained |")[0] for row in rows}) == 2, "and can be told apart"


def test_trials_on_different_data_are_never_mixed(experiment: str) -> None:
    Recorder(experiment, digest="aaaaaaaa1").trial("finished", (0.9, 0.9))
    Recorder(experiment, digest="bbbbbbbb1", note="28 % subset").trial("finished", (0.1, 0.1))
    assert [chosen.test_scores for chosen in selections(experiment)] == [(0.9,), (0.1,)]
    text = markdown([comparison_sheet(comparison(experiment))])
    assert "| aaaaaaaa |" in text
    assert "h4 (data bbbbbbbb): 28 % subset of the data" in text


def test_one_sweep_can_be_read_by_itself(experiment: str) -> None:
    Recorder(experiment, seeds=2).trial("finished", (0.9, 0.9))
    second = Recorder(experiment)
    second.trial("finished", (0.8, 0.8))
    (only,) = selections(experiment, second.run_id)
    assert only.test_scores == (0.8,)
    assert only.counts["missing"] == 0


def test_mapped_text_stands_beside_the_papers_figure_for_that_very_mapping(experiment: str) -> None:
    """Shifted by 1000 with special tokens mapped too; settings that play no part in a trial are not spoken of."""
    glue = {**BASE, "task": "mrpc", "num_epochs": 3}
    whole = {"keep_special_tokens": False}
    for mapping in (
        {"mapping": "identity"},
        {"mapping": "shift", "shift_by": 1000, **whole},
        {"mapping": "shift", "shift_by": 7, **whole},
        {"mapping": "shift", "shift_by": 1000, "keep_special_tokens": True},
        {"mapping": "permutation", **whole},
    ):
        Recorder(experiment, base=glue | mapping, metric="f1").trial("finished", (0.8, 0.8))
    found = {
        tuple(line.selection.config[name] for name in ("mapping", "params.shift_by", "params.keep_special_tokens")): (
            line.paper and line.paper.value
        )
        for line in comparison(experiment).lines
    }
    assert found == {
        ("identity", None, None): 85.5,
        ("shift", "1000", "False"): 82.9,
        ("shift", "7", "False"): None,
        ("shift", "1000", "True"): None,
        ("permutation", None, "False"): 83.4,
    }
    identity = next(line for line in comparison(experiment).lines if line.selection.config["mapping"] == "identity")
    assert "params.shift_by" not in identity.fields


def test_an_own_task_goes_by_its_files_name_and_its_separator_can_be_seen(experiment: str) -> None:
    own = {**BASE, "task": "/data/mine.csv", "separator": " ", "labels": "auto"}
    Recorder(experiment, base=own).trial("finished", (0.8, 0.8))
    table = comparison(experiment)
    assert table.lines[0].task == "mine.csv"
    assert "separator ' ', labels auto" in table.common[0]


def test_a_history_is_in_the_order_of_steps_and_the_first_value_of_a_step_counts(experiment: str) -> None:
    """With its last step a trial logs once more the valid score of the checkpoint that it tests."""
    run_id = Recorder(experiment).trial("running")
    client = MlflowClient()
    logged = [(0.5, 1_000, 20), (0.4, 900, 10), (0.9, 2_000, 20)]
    client.log_batch(run_id, [Metric("valid/f1", value, time, step) for value, time, step in logged])
    history = read_history(client, run_id, "valid/f1")
    assert list(history.itertuples(index=False, name=None)) == [(10, 0.4), (20, 0.5)]
    assert read_history(client, run_id, "valid/none").empty


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shared": {}}', '{"shared": {}, "cells": [{"seed": "x"}, 3]}'])
def test_a_sweep_whose_cells_cannot_be_read_is_told_and_does_not_keep_the_others_from_being_read(
    experiment: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Recorder(experiment)
    damaged = Recorder(experiment, base={**BASE, "task": "h3"})
    damaged.client.log_text(damaged.run_id, text, recorded.CELLS)
    assert [sweep.run_id for sweep in read_sweeps(MlflowClient(), [experiment])] == [whole.run_id]
    assert f"beware: sweep {damaged.run_id} has a damaged cells.json" in capsys.readouterr().err
