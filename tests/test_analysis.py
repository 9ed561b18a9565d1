"""From recorded runs to a table: the right trials together, an honest choice, nothing missing unsaid.

Every test writes a small sweep of its own, as ``sweeps`` would record it, into a real SQLite tracking store.
"""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from rich.console import Console

from analysis.__main__ import main
from analysis.render import latex, markdown, print_comparison, table_csv
from analysis.select import Selection, Setting, best, eligible, select
from analysis.store import expected_cells, read_sweeps, read_trials
from analysis.tables import Comparison, compare
from sweeps import recorded
from sweeps.connection import answering
from tests.conftest import ROOT, run_module
from trainer.errors import UserError

BASE: dict[str, Any] = {
    "task": "h4",
    "model": "/models/all-MiniLM-L6-v2",
    "mapping": "random",
    "batch_size": 32,
    "num_epochs": 20,
    "patience": 3,
    "max_train_examples": None,
}
START = count(1_700_000_000_000, 1000)  # ms; runs start a second apart, in the order in which tests write them

Scores = tuple[float, float]  # valid, test


class Recorder:
    """Writes a sweep and its trials into an experiment."""

    def __init__(
        self,
        experiment: str,
        *,
        base: Mapping[str, Any] = BASE,
        inits: tuple[str, ...] = ("pretrained",),
        optimizers: tuple[str, ...] = ("adam",),
        learning_rates: tuple[float, ...] = (1e-5,),
        seeds: int = 1,
        note: str = "",
        digest: str = "0123456789abcdef",
    ) -> None:
        self.client, self.experiment, self.base = MlflowClient(), experiment, base
        self.axes: dict[str, tuple[Any, ...]] = {
            "seed": tuple(range(seeds)),
            "optimizer": optimizers,
            "learning_rate": learning_rates,
            "init": inits,
        }
        self.facts = {recorded.METRIC: "accuracy", recorded.DATA_NOTE: note, recorded.DATA_DIGEST: digest}
        grid = {recorded.AXES: json.dumps(self.axes), recorded.BASE: json.dumps(dict(base))}
        tags = {**self.facts, **grid, recorded.KIND: "sweep"}
        self.run_id = self.client.create_run(experiment, start_time=next(START), tags=tags).info.run_id

    def trial(self, outcome: str, scores: Scores | None = None, **point: Any) -> str:
        """One trial at a point of the grid (the first one, but for what is given); returns its run id."""
        config = {**self.base, **{name: values[0] for name, values in self.axes.items()}, **point}
        tags = {**self.facts, recorded.KIND: "trial", recorded.PARENT: self.run_id, recorded.CELL: repr(config)}
        run_id = self.client.create_run(self.experiment, start_time=next(START), tags=tags).info.run_id
        texts = {
            name: "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in config.items()
        }
        names = ("valid/score", "test/score")
        metrics = [Metric(name, value, 0, 100) for name, value in zip(names, scores or (), strict=False)]
        self.client.log_batch(run_id, metrics, [Param(*param) for param in texts.items()])
        if outcome != "running":
            self.client.set_tag(run_id, recorded.OUTCOME, outcome)
            self.client.set_terminated(run_id, "FAILED" if outcome == "failed" else "FINISHED")
        return run_id

    def all_trials(self, scores: Scores) -> None:
        """Every cell of the grid, finished; each seed above 0 scores one point more on test."""
        for values in product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            self.trial("finished", (scores[0], scores[1] + 0.01 * point["seed"]), **point)


def selections(experiment: str, sweep: str | None = None) -> list[Selection]:
    client = MlflowClient()
    expected = expected_cells(read_sweeps(client, [experiment], sweep))
    return select(read_trials(client, [experiment], sweep), expected)


def selection(experiment: str) -> Selection:
    (only,) = selections(experiment)
    return only


def comparison(experiment: str) -> Comparison:
    return compare(selections(experiment))


def printed(table: Comparison, *, terminal: bool, width: int) -> str:
    file = io.StringIO()
    print_comparison(table, Console(file=file, force_terminal=terminal, width=width, color_system=None, markup=False))
    return file.getvalue()


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


def test_more_runs_than_fit_a_page_are_all_read(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.store.PAGE", 2)
    sweep = Recorder(experiment, seeds=5)
    sweep.all_trials((0.9, 0.8))
    assert sorted(read_trials(MlflowClient(), [experiment])["seed"]) == [0, 1, 2, 3, 4]


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
    assert chosen.chosen == Setting(optimizer="adam", learning_rate=1e-3, expected=1, finished=1, valid=0.9)
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
    assert "2/3" in markdown(table)
    assert any("no setting finished all of its seeds" in note and "2 of 3" in note for note in table.notes)


def setting(optimizer: str, learning_rate: float, **given: Any) -> Setting:
    whole: dict[str, Any] = {"expected": 2, "finished": 2, "valid": 0.9}
    return Setting(optimizer=optimizer, learning_rate=learning_rate, **{**whole, **given})


def test_ties_go_to_the_smaller_learning_rate_then_to_the_optimizers_name() -> None:
    tied = [setting("radam", 1e-5), setting("adam", 1e-3), setting("adam", 1e-5)]
    assert best(tied) == best(tied[::-1]) == setting("adam", 1e-5)


def test_of_whole_settings_those_with_the_most_seeds_are_considered() -> None:
    once, thrice = setting("adam", 1e-3, expected=1, finished=1), setting("adam", 1e-5, expected=3, finished=3)
    partly = setting("adam", 1e-4, expected=9, finished=8)
    assert eligible([once, thrice, partly]) == [thrice]


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
    text = markdown(table)
    assert "| 1/5 |" in text
    for state, seed in (("diverged", 1), ("failed", 2), ("running", 3), ("missing", 4)):
        assert f"h4 pretrained, {state}: adam 1e-05 seed {seed}." in text


def test_an_init_of_which_nothing_finished_is_still_a_row(experiment: str) -> None:
    sweep = Recorder(experiment, inits=("pretrained", "scratch"))
    sweep.trial("finished", (0.9, 0.9))
    sweep.trial("diverged", init="scratch")
    table = comparison(experiment)
    assert [(line.selection.init, line.test_mean, line.trouble) for line in table.lines] == [
        ("pretrained", 0.9, ""),
        ("scratch", None, "1 diverged"),
    ]
    assert not table.incomplete, "a trial that diverged has been run to its end"


def test_a_trial_that_ended_before_it_recorded_its_settings_leaves_its_cell_missing(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    tags = {**sweep.facts, recorded.KIND: "trial", recorded.PARENT: sweep.run_id, recorded.OUTCOME: "failed"}
    lost = sweep.client.create_run(experiment, tags=tags).info.run_id
    sweep.client.set_terminated(lost, "FAILED")
    assert selection(experiment).counts == {"finished": 1, "diverged": 0, "failed": 0, "running": 0, "missing": 1}


def test_a_finished_trial_without_its_test_score_is_not_averaged_away(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial("finished", (0.9, float("nan")), seed=1)
    table = comparison(experiment)
    assert table.lines[0].test_mean is None
    assert any("lacks its test score" in note for note in table.notes)


def test_a_trial_that_claims_to_have_finished_without_a_valid_score_has_failed(experiment: str) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4))
    sweep.trial("finished", learning_rate=1e-3)
    sweep.trial("finished", (0.9, 0.9), learning_rate=1e-4)
    chosen = selection(experiment)
    assert chosen.counts["failed"] == 1
    assert chosen.chosen == Setting(optimizer="adam", learning_rate=1e-4, expected=1, finished=1, valid=0.9)


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
    rows = [line for line in markdown(comparison(experiment)).splitlines() if line.startswith("| h4")]
    assert len({row.split("| pretrained |")[0] for row in rows}) == 2, "and can be told apart"


def test_trials_on_different_data_are_never_mixed(experiment: str) -> None:
    Recorder(experiment, digest="aaaaaaaa1").trial("finished", (0.9, 0.9))
    Recorder(experiment, digest="bbbbbbbb1", note="28 % subset").trial("finished", (0.1, 0.1))
    assert [chosen.test_scores for chosen in selections(experiment)] == [(0.9,), (0.1,)]
    text = markdown(comparison(experiment))
    assert "| aaaaaaaa |" in text
    assert "h4 (data bbbbbbbb): 28 % subset of the data" in text


def test_one_sweep_can_be_read_by_itself(experiment: str) -> None:
    Recorder(experiment, seeds=2).trial("finished", (0.9, 0.9))
    second = Recorder(experiment)
    second.trial("finished", (0.8, 0.8))
    (only,) = selections(experiment, second.run_id)
    assert only.test_scores == (0.8,)
    assert only.counts["missing"] == 0


# Tables


@pytest.fixture
def h4(experiment: str) -> Comparison:
    """Three inits with two seeds each, all finished, on a subset of h4."""
    inits = ("scratch", "reinit-embeddings", "pretrained")
    Recorder(experiment, inits=inits, seeds=2, note="28 % subset").all_trials((0.9, 0.86))
    return comparison(experiment)


def test_rows_are_in_the_order_of_the_papers_inits_and_others_follow(experiment: str) -> None:
    inits = ("scratch", "reinit-embeddings", "checkpoint", "pretrained")
    Recorder(experiment, inits=inits).all_trials((0.9, 0.9))
    shown = [line.selection.init for line in comparison(experiment).lines]
    assert shown == ["pretrained", "reinit-embeddings", "scratch", "checkpoint"]


def test_markdown_shows_mean_and_sample_standard_deviation_and_the_paper(h4: Comparison) -> None:
    """0.86 and 0.87: the mean is 0.865, the sample standard deviation 0.00707; the paper has 85.9 +- 0.9."""
    text = markdown(h4)
    assert "| task | model | init | test accuracy ↑ | n | valid | optimizer | learning rate | paper |" in text
    row = "| h4 | all-MiniLM-L6-v2 | pretrained | 86.5 ± 0.7 | 2/2 | 90.0 | adam | 1e-05 | 85.9 ± 0.9 | +0.6 |  |"
    assert row in text.splitlines()


def test_footnotes_say_what_the_numbers_cannot(h4: Comparison) -> None:
    notes = "\n".join(h4.notes)
    assert "h4: 28 % subset of the data: not comparable with the paper's figures." in notes
    assert "The paper has no all-MiniLM-L6-v2" in notes
    assert "bert-base-uncased's figures stand beside it" in notes
    assert "v2, table 5" in notes
    assert h4.common == ("h4: mapping random, batch size 32, 20 epochs, patience 3, all train examples.",)
    assert "demo" not in notes


def test_the_demos_numbers_come_with_a_warning(experiment: str) -> None:
    Recorder(experiment, base={**BASE, "task": "demo"}).trial("finished", (0.9, 0.9))
    table = comparison(experiment)
    assert any("toy" in note and "nothing about real models" in note for note in table.notes)
    assert table.lines[0].paper is None


def test_fewer_train_examples_than_the_paper_are_named(experiment: str) -> None:
    Recorder(experiment, base={**BASE, "max_train_examples": 500}).trial("finished", (0.9, 0.9))
    assert any("trained on 500 examples only" in note for note in comparison(experiment).notes)


def test_one_seed_has_a_mean_and_no_standard_deviation(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    assert "| pretrained | 90.0 | 1/1 |" in markdown(comparison(experiment))


def test_csv_holds_every_number_by_itself_as_a_fraction(h4: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(h4))))
    first = rows[0]
    assert len(rows) == 3
    assert float(first["test_mean"]) == pytest.approx(0.865)
    assert float(first["test_std"]) == pytest.approx(0.0070710678)
    assert float(first["difference"]) == pytest.approx(0.006)
    texts = {"n": "2", "n_expected": "2", "learning_rate": "1e-05", "paper_mean": "0.859", "max_train_examples": "all"}
    assert {name: first[name] for name in texts} == texts
    assert first["model"] == "/models/all-MiniLM-L6-v2"
    assert first["cells_finished"] == "2"


def test_latex_and_markdown_escape_what_would_break_their_tables(experiment: str) -> None:
    Recorder(experiment, base={**BASE, "task": "own_task&co", "model": "a|b_50%"}).trial("finished", (0.9, 0.9))
    table = comparison(experiment)
    assert r"a|b\_50\% & pretrained" in latex(table)
    assert r"own\_task\&co" in latex(table)
    assert r"| own_task&co | a\|b_50% | pretrained |" in markdown(table)


def test_latex_holds_the_rows_and_the_footnotes(h4: Comparison) -> None:
    text = latex(h4)
    assert r"h4 & all-MiniLM-L6-v2 & scratch & 86.5 $\pm$ 0.7 & 2/2 & 90.0 & adam & 1e-05 &" in text
    assert r"28 \% subset of the data" in text
    assert text.count(r"\begin") == text.count(r"\end{")


def test_a_difference_below_zero_has_a_minus_in_latex(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.8, 0.8))
    assert r"& $-$5.9 &" in latex(comparison(experiment))


def test_in_a_pipe_nothing_is_wrapped_or_cut(h4: Comparison) -> None:
    lines = printed(h4, terminal=False, width=40).splitlines()
    assert lines[0] == "h4, all-MiniLM-L6-v2: accuracy ↑"
    assert lines[2].split() == ["init", "test", "n", "valid", "setting", "paper", "diff"]
    assert lines[4].split() == ["pretrained", "86.5", "±", "0.7", "2/2", "90.0", "adam", "1e-05", "85.9", "+0.6"]
    assert [line[2:] for line in lines if line.startswith("* ")] == list(h4.notes)


def test_a_narrow_terminal_breaks_lines_and_loses_nothing(experiment: str) -> None:
    sweep = Recorder(experiment, seeds=4, inits=("reinit-embeddings",))
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial("diverged", seed=1)
    text = printed(comparison(experiment), terminal=True, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "2 missing,\n" in text.replace(" \n", "\n")
    assert "1 diverged" in text.split("* Scores")[0]


# The command


def test_the_command_prints_the_table_writes_three_files_and_logs_them(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    assert main(["--output", str(tmp_path / "tables")]) == 0
    assert "pretrained  90.0" in capsys.readouterr().out
    written = {path.name: path.read_text() for path in (tmp_path / "tables").iterdir()}
    assert set(written) == {"compare.md", "compare.csv", "compare.tex"}
    client = MlflowClient()
    (made,) = client.search_runs([experiment], f"tags.`{recorded.KIND}` = 'compare'")
    assert (made.info.run_name, made.info.status) == ("compare", "FINISHED")
    assert {item.path for item in client.list_artifacts(made.info.run_id, "tables")} == {
        f"tables/{name}" for name in written
    }


def test_a_sweeps_table_is_logged_to_the_sweeps_run_even_inside_mlflow_run(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Recorder(experiment)
    sweep.trial("finished", (0.9, 0.9))
    other = sweep.client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    assert main(["--sweep", sweep.run_id, "--output", "none"]) == 0
    assert len(sweep.client.list_artifacts(sweep.run_id, "tables")) == 3
    assert not sweep.client.list_artifacts(other, "tables")


def test_inside_mlflow_run_the_table_is_logged_to_that_run(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Recorder(experiment)
    sweep.trial("finished", (0.9, 0.9))
    run_id = sweep.client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert main(["--output", "none"]) == 0
    assert len(sweep.client.list_artifacts(run_id, "tables")) == 3
    assert not sweep.client.search_runs([experiment], f"tags.`{recorded.KIND}` = 'compare'")


@pytest.mark.parametrize("outcome, status", [("finished", 0), ("diverged", 0), ("failed", 1), ("running", 1)])
def test_the_exit_status_says_whether_every_cell_was_run(experiment: str, outcome: str, status: int) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    sweep.trial(outcome, (0.9, 0.9) if outcome == "finished" else None, seed=1)
    assert main(["--output", "none"]) == status


def test_a_missing_cell_makes_the_exit_status_1(experiment: str) -> None:
    Recorder(experiment, seeds=2).trial("finished", (0.9, 0.9))
    assert main(["--output", "none"]) == 1


def test_tasks_and_experiment_narrow_down_what_is_compared(
    experiment: str, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    Recorder(experiment, base={**BASE, "task": "splice"}, seeds=2).trial("finished", (0.8, 0.8))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    name = MlflowClient().get_experiment(experiment).name
    assert main(["--experiment", name, "--tasks", "h4", "--output", "none"]) == 0
    out = capsys.readouterr().out
    assert "h4," in out
    assert "splice" not in out


def said(*arguments: str) -> str:
    """What the command says of a mistake."""
    with pytest.raises(UserError) as caught:
        main([*arguments, "--output", "none"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_task_names_those_recorded_and_the_nearest(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    Recorder(experiment, base={**BASE, "task": "splice"}).trial("finished", (0.9, 0.9))
    assert said("--tasks", "h4,splise") == (
        "tasks: unknown value 'splise'; allowed: h4, splice; did you mean 'splice'?"
    )


def test_an_experiment_without_trials_says_how_to_get_some(experiment: str) -> None:
    assert f"no trials in experiment {experiment}" in said()
    assert "mlflow run . -e sweep" in said()


def test_unknown_runs_and_experiments_are_named(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Recorder(experiment)
    trial = sweep.trial("finished", (0.9, 0.9))
    assert "sweep: the tracking store has no run 'nonsense'" in said("--sweep", "nonsense")
    assert f"it is a trial of sweep {sweep.run_id}" in said("--sweep", trial)
    assert "experiment: unknown value 'Defaul'" in said("--experiment", "Defaul")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert "MLFLOW_RUN_ID: the tracking store has no run" in said()
    monkeypatch.delenv("MLFLOW_RUN_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987654321")
    assert "MLFLOW_EXPERIMENT_ID: unknown value '987654321'" in said()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "typo.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}?password=secret")
    message = said()
    assert f"there is no tracking store sqlite:///{path};" in message
    assert "set MLFLOW_TRACKING_URI" in message
    assert "secret" not in message
    assert not path.exists()


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(os.urandom(2000))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    assert "file is not a database" in said()


def test_a_server_that_does_not_answer_is_one_line_without_the_password() -> None:
    """Port 9 of the loopback, where nobody listens; MLflow by itself would knock there for minutes."""
    started = time.monotonic()
    done = run_module("analysis", MLFLOW_TRACKING_URI="http://me:s%40cret@127.0.0.1:9", NO_PROXY="*")
    assert done.returncode == 2
    assert time.monotonic() - started < 60
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: MLFLOW_TRACKING_URI: no answer from http://127.0.0.1:9 (ConnectionRefusedError")
    assert "cret" not in line


def test_what_a_store_says_of_itself_is_repeated_without_the_password() -> None:
    uri = "http://me:s%40cret@host:5000"
    with pytest.raises(UserError) as caught, answering(uri):
        raise MlflowException(f"API request to {uri}/api failed for me:s%40cret")
    assert "API request to http://host:5000/api failed" in str(caught.value)
    assert "cret" not in str(caught.value)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output: .* is not a folder"):
        main(["--output", str(tmp_path / "file")])


def modules_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_help_and_mistakes_on_the_command_line_wait_for_no_heavy_import() -> None:
    mistake = "try: main(['--tsks', 'h4'])\nexcept ValueError as error: assert 'unknown option' in str(error)"
    loaded = modules_after(f"from analysis.__main__ import main\n{mistake}")
    assert not loaded & {"mlflow", "pandas", "rich", "torch", "ray"}


def test_analysis_needs_neither_torch_nor_ray_nor_optuna() -> None:
    modules = "paper, render, select, store, tables"
    loaded = modules_after(f"from analysis import {modules}\nfrom analysis.__main__ import main")
    assert not loaded & {"torch", "ray", "optuna", "transformers"}
