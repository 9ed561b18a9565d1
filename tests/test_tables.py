"""The table of a comparison: its rows, numbers and footnotes in every format, and the command that makes it."""

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from analysis.__main__ import main
from analysis.listing import comparison_sheet
from analysis.render import latex, markdown, table_csv
from analysis.tables import Comparison
from sweeps import recorded
from sweeps.connection import answering
from tests.conftest import ROOT, run_module
from tests.recorder import BASE, Recorder, comparison, printed
from trainer.errors import UserError


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
    text = markdown([comparison_sheet(h4)])
    assert "| task | model | init | test accuracy ↑ | n | valid | optimizer | learning rate | paper |" in text
    row = "| h4 | all-MiniLM-L6-v2 | pretrained | 86.5 ± 0.7 | 2/2 | 90.0 | adam | 1e-05 | 85.9 ± 0.9 | +0.6 |  |"
    assert row in text.splitlines()


def test_footnotes_say_what_the_numbers_cannot(h4: Comparison) -> None:
    notes = "\n".join(h4.notes)
    assert "h4: 28 % subset of the data: not comparable with the paper's figures." in notes
    assert "The paper has no all-MiniLM-L6-v2" in notes
    assert "bert-base-uncased's figures stand beside it" in notes
    assert "v2 table 5" in notes
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
    assert "| pretrained | 90.0 | 1/1 |" in markdown([comparison_sheet(comparison(experiment))])


def test_csv_holds_every_number_by_itself_as_a_fraction(h4: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv([comparison_sheet(h4)]))))
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
    assert r"a|b\_50\% & pretrained" in latex([comparison_sheet(table)])
    assert r"own\_task\&co" in latex([comparison_sheet(table)])
    assert r"| own_task&co | a\|b_50% | pretrained |" in markdown([comparison_sheet(table)])


def test_latex_holds_the_rows_and_the_footnotes(h4: Comparison) -> None:
    text = latex([comparison_sheet(h4)])
    assert r"h4 & all-MiniLM-L6-v2 & scratch & 86.5 $\pm$ 0.7 & 2/2 & 90.0 & adam & 1e-05 &" in text
    assert r"28 \% subset of the data" in text
    assert text.count(r"\begin") == text.count(r"\end{")


def test_a_difference_below_zero_has_a_minus_in_latex(experiment: str) -> None:
    Recorder(experiment).trial("finished", (0.8, 0.8))
    assert r"& $-$5.9 &" in latex([comparison_sheet(comparison(experiment))])


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


def test_the_command_prints_the_table_writes_it_in_four_formats_and_logs_them(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(experiment).trial("finished", (0.9, 0.9))
    assert main(["--output", str(tmp_path / "tables")]) == 0
    assert "pretrained  90.0" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "tables").iterdir() if path.is_file()}
    assert written == {"compare.md", "compare.csv", "compare.tex", "compare.html"}
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
    assert len(sweep.client.list_artifacts(sweep.run_id, "tables")) == 4
    assert not sweep.client.list_artifacts(other, "tables")


def test_inside_mlflow_run_the_table_is_logged_to_that_run(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Recorder(experiment)
    sweep.trial("finished", (0.9, 0.9))
    run_id = sweep.client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert main(["--output", "none"]) == 0
    assert len(sweep.client.list_artifacts(run_id, "tables")) == 4
    assert not sweep.client.search_runs([experiment], f"tags.`{recorded.KIND}` = 'compare'")


@pytest.mark.parametrize("outcome, status", [("finished", 0), ("diverged", 1), ("failed", 1), ("running", 1)])
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
    modules = "files, paper, render, report, select, store, tables, terminal"
    loaded = modules_after(f"from analysis import {modules}\nfrom analysis.__main__ import main")
    assert not loaded & {"torch", "ray", "optuna", "transformers"}
