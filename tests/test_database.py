"""A tracking database that is read directly gives what MLflow's client gives, writes nothing, and knows its limits."""

import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine, event

from analysis.client import Client
from analysis.database import Database, open_database
from analysis.source import Source, open_source
from analysis.store import expected_cells, read_history, read_sweeps, read_trials
from sweeps import recorded
from tests.conftest import ROOT, files_in, run_module
from tests.recorder import Recorder
from tests.servers import MlflowServer, Postgres

HOSTILE = "\x1b[31m; DROP TABLE runs; --' \" \\ % _ 的 \u202e\ud7ff \U0001f9ec"
ODD_PARAMS = {
    "seed": "1.5",
    "batch_size": "all",
    "learning_rate": "1e-400",
    "max_train_examples": "9" * 30,
    "train_fraction": "a tenth",
    "polymath.own": "left out",
    "zulu": HOSTILE,
    "alpha": "",
}


def database(uri: str) -> Database:
    found = open_database(uri)
    assert found is not None
    return found


def record(experiment: str) -> Recorder:
    """A sweep with all that a store may hold: trials that finished, failed, diverged, run, are deleted, or are odd."""
    sweep = Recorder(experiment, inits=("pretrained", "scratch"), learning_rates=(1e-4, 1e-5), seeds=2, note=HOSTILE)
    sweep.all_trials((0.8, 0.7))
    client, nan = sweep.client, float("nan")
    for outcome in ("diverged", "failed", "running"):
        sweep.trial(outcome, (nan, float("inf"), 0.5), seed=7)
    client.delete_run(sweep.trial("finished", (1.0, 1.0), seed=8))
    odd = sweep.trial("finished", (0.1, 0.2), init=HOSTILE, learning_rate=HOSTILE)
    lone = client.create_run(experiment, start_time=1, tags={recorded.KIND: "trial", "other": HOSTILE}).info.run_id
    client.log_batch(lone, params=[Param(*param) for param in reversed(ODD_PARAMS.items())])
    points = [(0.5, 3, 1), (nan, 1, 2), (0.25, 1, 1), (-(2.0**70), 2, 9), (0.75, 3, 9), (0.125, 3, 1)]
    client.log_batch(odd, [Metric("train/loss", value, time, step) for value, step, time in points])
    client.create_run(experiment, tags={recorded.KIND: "compare"})
    return sweep


def frames(source: Source, experiment: str, sweep: str | None) -> list[pd.DataFrame]:
    """All that is read of an experiment."""
    trials = read_trials(source, [experiment], sweep)
    histories = [read_history(source, run_id, "train/loss") for run_id in trials["run_id"]]
    return [trials, expected_cells(read_sweeps(source, [experiment], sweep)), *histories]


def assert_same(one: Source, other: Source, experiment: str, sweep: str) -> None:
    for of_sweep in (None, sweep):
        ours, theirs = (frames(source, experiment, of_sweep) for source in (one, other))
        assert len(ours[0]) == (13 if of_sweep is None else 12)
        for frame, same in zip(ours, theirs, strict=True):
            assert_frame_equal(frame, same)
    assert one.experiments() == other.experiments() and experiment in one.experiments().values()
    for run_id in (sweep, "0" * 32, "no/id"):
        runs = [source.run(run_id) for source in (one, other)]
        assert len({run and run.tags[recorded.KIND] for run in runs}) == 1
    for path in (recorded.CELLS, "none.json", f"{recorded.CELLS}/below"):
        assert one.artifact(sweep, path) == other.artifact(sweep, path)


def test_the_database_and_mlflow_give_the_same(experiment: str, tracking_uri: str) -> None:
    sweep = record(experiment)
    deleted = sweep.client.create_experiment(f"deleted, of {experiment}")
    Recorder(deleted).all_trials((0.8, 0.7))
    sweep.client.delete_experiment(deleted)
    assert deleted not in database(tracking_uri).experiments().values()
    assert_same(database(tracking_uri), Client(tracking_uri), experiment, sweep.run_id)


@pytest.mark.slow
def test_the_database_and_its_server_give_the_same(
    experiment: str, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = record(experiment)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with MlflowServer(tmp_path, tracking_uri) as server:
        assert open_database(server.uri) is None
        assert_same(database(tracking_uri), Client(server.uri), experiment, sweep.run_id)


@pytest.mark.slow
def test_postgresql_and_mlflow_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Postgres() as server:
        for name, value in {**server.environment, "MLFLOW_TRACKING_URI": server.uri}.items():
            monkeypatch.setenv(name, value)
        experiment = MlflowClient().create_experiment("of PostgreSQL", artifact_location=tmp_path.as_uri())
        sweep = record(experiment)
        direct = database(server.uri)
        assert_same(direct, Client(server.uri), experiment, sweep.run_id)
        direct.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that is sent inside the block."""
    sent: list[str] = []

    def keep(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def test_more_runs_take_no_more_queries_and_none_writes(experiment: str, tracking_uri: str) -> None:
    sweep, source = Recorder(experiment, seeds=6), database(tracking_uri)
    counts = []
    for seed in range(6):
        sweep.trial("finished", (0.8, 0.7), seed=seed)
        with statements() as sent:
            assert len(read_trials(source, [experiment])) == seed + 1
        assert all(statement.startswith(("SELECT ", "WITH chosen AS")) for statement in sent)
        counts.append(len(sent))
    assert len({*counts}) == 1


def test_the_table_of_a_sweep_needs_no_mlflow_and_is_logged_where_mlflow_finds_it(
    experiment: str, tracking_uri: str
) -> None:
    sweep = Recorder(experiment, inits=("pretrained", "scratch"), seeds=2)
    sweep.all_trials((0.8, 0.7))
    program = "import sys; from analysis.__main__ import main; status = main(sys.argv[1:]); print(status, *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, "--sweep", sweep.run_id, "--output", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = done.stdout.splitlines()[-1].split()
    assert status == "0" and "pandas" in modules
    assert not {"mlflow", "scipy.stats", "matplotlib.pyplot"} & {*modules}
    logged = {entry.path for entry in sweep.client.list_artifacts(sweep.run_id, "tables")}
    assert logged == {f"tables/compare.{ending}" for ending in ("md", "csv", "tex", "html")}
    assert sweep.client.list_artifacts(sweep.run_id, "figures")


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own with a sweep of two trials."""
    uri = f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    experiment = MlflowClient(uri).create_experiment("own", artifact_location=(tmp_path / "artifacts").as_uri())
    Recorder(experiment, seeds=2).all_trials((0.8, 0.7))
    return uri


def altered(uri: str, statement: str) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        connection.execute(statement)
    connection.close()


def test_the_installed_mlflow_makes_stores_that_are_read_directly(own_store: str) -> None:
    source = open_source(own_store)
    assert isinstance(source, Database), "analysis.database.SCHEMA is not the one of this MLflow"
    source.close()


def test_another_schema_is_left_to_mlflow_which_says_what_to_do(own_store: str) -> None:
    altered(own_store, "UPDATE alembic_version SET version_num = 'of the past'")
    assert open_database(own_store) is None
    done = run_module("analysis", MLFLOW_TRACKING_URI=own_store)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "out-of-date database schema (found version of the past" in done.stderr and "mlflow db upgrade" in done.stderr
    )


def test_experiments_of_several_workspaces_are_left_to_mlflow(own_store: str) -> None:
    altered(own_store, "UPDATE experiments SET workspace = 'others' WHERE name = 'own'")
    assert open_database(own_store) is None


NO_DATABASES = ("sqlite://", "sqlite:///:memory:", "sqlite:///{}/none.db", "http://127.0.0.1:9", "mlruns")


@pytest.mark.parametrize("uri", NO_DATABASES)
def test_what_is_no_database_is_not_made_one(uri: str, tmp_path: Path) -> None:
    assert open_database(uri.format(tmp_path)) is None
    assert files_in(tmp_path) == set()


def test_artifacts_elsewhere_go_through_mlflow(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    altered(own_store, "UPDATE runs SET artifact_uri = 's3://bucket/' || run_uuid")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(Client, "artifact", lambda client, run_id, path: asked.append((client.tracking_uri, path)))
    source = database(own_store)
    (run_id,) = [run.run_id for run in source.runs([source.experiments()["own"]], "sweep")]
    assert source.artifact(run_id, recorded.CELLS) is None
    assert asked == [(own_store, recorded.CELLS)]
    source.close()


def test_a_run_is_made_by_a_process_of_its_own(own_store: str) -> None:
    source = database(own_store)
    experiment = source.experiments()["own"]
    with source.expecting_new_run():
        (process,) = multiprocessing.active_children()
        run_id = source.new_run(experiment, "compare", {recorded.KIND: "compare"})
    assert not process.is_alive()
    run = MlflowClient(own_store).get_run(run_id)
    assert (run.info.status, run.info.run_name, run.data.tags[recorded.KIND]) == ("FINISHED", "compare", "compare")
    source.close()


def test_what_that_process_cannot_do_is_raised_here(own_store: str) -> None:
    source = database(own_store)
    with source.expecting_new_run(), pytest.raises(MlflowException, match="No Experiment with id=12345"):
        source.new_run("12345", "compare", {})
    source.close()


def test_a_run_is_made_although_that_process_was_ended_from_outside(own_store: str) -> None:
    source = database(own_store)
    with source.expecting_new_run():
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        run_id = source.new_run(source.experiments()["own"], "compare", {})
    assert MlflowClient(own_store).get_run(run_id).info.status == "FINISHED"
    source.close()
