"""How long ``compare`` takes over 100, 1,000 and 10,000 runs in SQLite and PostgreSQL, and how much memory.

    python -m benchmarks.compare_runs [--quick] [--output compare.json]

The stores hold the paper's grid search on nine tasks and three models, as sweeps record it: every param, 24 tags and 9
metrics a trial, their histories, and the predictions of the trials that are chosen. ``compare`` is timed as a user runs
it, a process of its own: it reads, selects, tests, prints, draws, and logs tables and figures. The peer is what people
read runs with today, ``mlflow.search_runs`` into pandas, which does the first of these alone.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import Report
from sweeps import recorded
from sweeps.connection import client
from sweeps.grids import SEARCH_LEARNING_RATES
from sweeps.trial_logger import text_of
from trainer.commandline import parse, run, setting
from trainer.config import TrialConfig
from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOT = Path(__file__).parents[1]
SIZES = (100, 1_000, 10_000)  # trials
LIMIT_S, LIMIT_MB = 5.0, 1000.0  # for 10,000 trials
POSTGRES = Path("/usr/lib/postgresql")  # Debian's
# Task -> its metric and the size of its test set.
TESTS = {
    "h4": ("accuracy", 730),
    "splice": ("accuracy", 160),
    "mrpc": ("f1", 408),
    "localization": ("accuracy", 2773),
    "h3": ("accuracy", 749),
    "cola": ("matthews", 1043),
    "h3k9ac": ("accuracy", 1389),
    "rte": ("accuracy", 277),
    "sst2": ("accuracy", 872),
}
MODELS = ("bert-base-uncased", "bert-base-chinese", "albert-base-v1")
INITS = {"pretrained": 0.04, "reinit-embeddings": 0.03, "scratch": 0.0}  # how much better each is made
NUM_SEEDS, NUM_STEPS, NUM_EPOCHS = 3, 20, 3
START_MS = 1_700_000_000_000
PEER = """
import sys
import mlflow
name, path = sys.argv[1:]
runs = mlflow.search_runs(
    experiment_names=[name], filter_string="tags.`polymath.kind` = 'trial'", max_results=100_000, output_format="pandas"
)
runs[["run_id", "metrics.test/score"]].to_csv(path, index=False)
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    quick: bool = setting(False, help="100 and 1,000 runs, once each")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")
    num_rounds: int = setting(5, help="how often each is timed", unit="rounds")


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where a store is; a password is in the environment."""

    name: str
    uri: str


@dataclass(kw_only=True)
class Measured:
    """Of every round: seconds, seconds of all cores together, peak megabytes."""

    seconds: list[float] = field(default_factory=list)
    core_seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def sweeps_of(num_trials: int) -> Iterator[list[TrialConfig]]:
    """The paper's grid search, 405 trials a task and model, until there are enough trials; the last one is smaller."""
    axes = (range(NUM_SEEDS), OPTIMIZERS, SEARCH_LEARNING_RATES, INITS)
    for model, task in product(MODELS, TESTS):
        cells = [
            TrialConfig(task=task, model=model, seed=seed, optimizer=optimizer, learning_rate=rate, init=init)
            for seed, optimizer, rate, init in islice(product(*axes), num_trials)
        ]
        num_trials -= len(cells)
        if cells:
            yield cells


def fill(uri: str, name: str, num_trials: int, folder: Path) -> None:
    """Writes an experiment of so many trials: rows straight into MLflow's tables, which takes seconds, not an hour."""
    from mlflow.store.tracking.dbmodels import models as tables
    from sqlalchemy import create_engine

    store = client(uri)
    experiment = store.create_experiment(name, artifact_location=folder.as_uri())
    kinds = (tables.SqlRun, tables.SqlParam, tables.SqlTag, tables.SqlMetric, tables.SqlLatestMetric)
    rng = np.random.default_rng(0)
    for cells in sweeps_of(num_trials):
        sweep = _sweep(uri, experiment, cells)
        trials = [_trial(config, sweep, experiment, folder, rng) for config in cells]
        engine = create_engine(uri)
        with engine.begin() as connection:
            for place, kind in enumerate(kinds):
                _insert(connection, kind, [row for trial in trials for row in trial[place]])
        engine.dispose()


def _insert(connection: "Connection", kind: Any, rows: list[dict[str, Any]]) -> None:
    connection.execute(kind.__table__.insert(), rows)


def _facts(config: TrialConfig) -> dict[str, str]:
    return {recorded.METRIC: TESTS[config.task][0], recorded.DATA_DIGEST: f"{config.task:0>16}"}


def _sweep(uri: str, experiment: str, cells: list[TrialConfig]) -> str:
    """A sweep's own run with its cells; returns its id."""
    tags = {**_facts(cells[0]), recorded.KIND: "sweep", recorded.SELECT_BY: recorded.BY_VALID}
    run_id = str(client(uri).create_run(experiment, tags=tags).info.run_id)
    settings = [{name: text_of(value) for name, value in config.settings().items()} for config in cells]
    client(uri).log_dict(run_id, {"shared": {}, "cells": settings}, recorded.CELLS)
    return run_id


def _trial(
    config: TrialConfig, sweep: str, experiment: str, folder: Path, rng: np.random.Generator
) -> list[list[dict[str, Any]]]:
    """The rows of a trial in the tables of runs, params, tags, metrics and latest metrics."""
    run_id = uuid.uuid4().hex
    is_chosen = config.optimizer == "adam" and config.learning_rate == 1e-5
    score = 0.8 + INITS[config.init] + (0.05 if is_chosen else 0) + rng.normal(0, 0.01)
    has_diverged = config.optimizer == "novograd" and config.learning_rate == 1e-4
    artifacts = folder / run_id / "artifacts"
    if is_chosen:
        _write_predictions(artifacts / "predictions/test.csv", TESTS[config.task][1], score, rng)
    start = START_MS + int(rng.integers(10**9))
    info = {"name": f"{config.task} {config.init}", "start_time": start, "end_time": start + 60_000, "user_id": "me"}
    info |= {"artifact_uri": artifacts.as_uri(), "experiment_id": int(experiment), "status": "FINISHED"}
    own = {"run_uuid": run_id}
    metric = TESTS[config.task][0]
    last = {f"valid/{metric}": score - 0.01, recorded.BY_VALID: score - 0.01}
    last |= {f"test/{metric}": score, "test/score": score, "best_epoch": 3, "examples_per_second": 123.0}
    steps = [("train/loss", step, 0.7 * 0.95**step) for step in range(1, NUM_STEPS + 1)]
    evaluations = [(name, epoch, last[name] - 0.01 * (NUM_EPOCHS - epoch)) for name in last for epoch in (1, 2, 3)]
    histories = steps if has_diverged else steps + evaluations
    points = [
        {**own, "key": name, "step": step, "value": value, "timestamp": start + step, "is_nan": False}
        for name, step, value in histories
    ]
    tags = _tags(config, sweep, "diverged" if has_diverged else "finished")
    return [
        [{**own, **info}],
        [{**own, "key": name, "value": text_of(value)} for name, value in config.settings().items()],
        [{**own, "key": name, "value": value} for name, value in tags.items()],
        points,
        list({point["key"]: point for point in points}.values()),
    ]


def _tags(config: TrialConfig, sweep: str, outcome: str) -> dict[str, str]:
    """As many as a trial has: those that tables need, and what is there for others to read."""
    packages = ("python", "torch", "transformers", "ray", "optuna", "mlflow", "numpy", "pytorch_optimizer")
    return {
        **_facts(config),
        recorded.KIND: "trial",
        recorded.PARENT: sweep,
        recorded.MEMBER + sweep: "true",
        recorded.CELL: uuid.uuid4().hex,
        recorded.OUTCOME: outcome,
        recorded.DRIVER: sweep,
        recorded.NUMBERS: "1",
        recorded.SPLIT: "90/5/5 at random, by seed 0",
        "mlflow.runName": f"{config.task} {config.init} {config.optimizer} {config.learning_rate:g} seed {config.seed}",
        "mlflow.user": "me",
        "mlflow.source.name": "polymath",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "0123456789abcdef0123456789abcdef01234567",
        **{f"{recorded.PREFIX}version.{name}": "1.2.3" for name in packages},
        f"{recorded.PREFIX}hardware": "a processor with some name, 16 cores, 126 GiB",
        f"{recorded.PREFIX}command": "python -m sweeps --task h4",
    }


def _write_predictions(path: Path, size: int, score: float, rng: np.random.Generator) -> None:
    labels_N = rng.integers(2, size=size)
    predicted_N = np.where(rng.random(size) < score, labels_N, 1 - labels_N)
    rows = [f"{row},{labels_N[row]},{predicted_N[row]},0.5,0.5\n" for row in range(size)]
    path.parent.mkdir(parents=True)
    path.write_text("example,label,prediction,probability_0,probability_1\n" + "".join(rows))


def databases(folder: Path, stack: ExitStack) -> Iterator[Database]:
    """SQLite, and PostgreSQL where it is installed; its password goes into the environment."""
    yield Database(name="SQLite", uri=f"sqlite:///{folder}/mlflow.db")
    if any(POSTGRES.glob("*/bin/initdb")):
        from tests.servers import Postgres

        server = stack.enter_context(Postgres())
        os.environ.update(server.environment)
        yield Database(name="PostgreSQL", uri=server.uri)


def measure(report: Report, database: Database, num_trials: int, num_rounds: int, folder: Path) -> None:
    """Times ``compare`` and the peer in turn over an experiment, which is written first, and adds rows."""
    name = f"{num_trials:,} runs, {database.name}"
    experiment, tables, peer_csv = f"of {num_trials}", folder / "tables", folder / "peer.csv"
    artifacts = folder / f"{database.name}-{num_trials}"
    fill(database.uri, experiment, num_trials, artifacts)
    environment = {"MLFLOW_TRACKING_URI": database.uri, "DO_NOT_TRACK": "true"}
    compare = ["-m", "analysis", "--experiment", experiment, "--output", str(tables), "--allow-missing", "true"]
    ours, peer = Measured(), Measured()
    for _ in range(num_rounds):
        timed(compare, environment, ours)
        timed(["-c", PEER, experiment, str(peer_csv)], environment, peer)
        check(tables, peer_csv, num_trials)
    shutil.rmtree(artifacts)
    is_largest = num_trials == SIZES[-1]
    report.pairs(name, unit="s", ours=ours.seconds, peer=peer.seconds, more_is_better=False)
    report.values("  as a whole", unit="s", values=ours.seconds, at_most=LIMIT_S if is_largest else None)
    report.values("  of all cores", unit="s", values=ours.core_seconds)
    report.values("  peak memory", unit="MB", values=ours.megabytes, at_most=LIMIT_MB if is_largest else None)
    report.values("  the peer's", unit="MB", values=peer.megabytes)


def timed(words: Sequence[str], environment: Mapping[str, str], into: Measured) -> None:
    """Runs a Python program of ours or the peer's to its end.

    Raises:
        RuntimeError: when it fails.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {words}")
    into.seconds.append(time.perf_counter() - started)
    into.core_seconds.append(usage.ru_utime + usage.ru_stime)
    into.megabytes.append(usage.ru_maxrss / 1024)


def check(tables: Path, read_by_peer: Path, num_trials: int) -> None:
    """Looks whether both saw all trials, with the same test scores behind the same means.

    Raises:
        AssertionError: when they did not.
    """
    import pandas as pd

    ours = pd.read_csv(tables / "compare.csv")
    peer = pd.read_csv(read_by_peer, index_col="run_id")["metrics.test/score"]
    num_ours = int(ours[["cells_finished", "cells_diverged"]].sum().sum())
    if not num_ours == len(peer) == num_trials:
        raise AssertionError(f"{num_trials} trials were written, {num_ours} compared, {len(peer)} read by the peer")
    for runs, mean in zip(ours["runs"], ours["test_mean"], strict=True):
        if abs(peer[runs.split()].mean() - mean) > 1e-6:
            raise AssertionError(f"test scores differ: {peer[runs.split()].mean()} and {mean} of {runs}")


def main(arguments: Sequence[str]) -> int:
    """Prints the table and writes the JSON; status 1 where a target is missed."""
    program = "benchmarks.compare_runs"
    settings = parse(Settings, arguments, program=f"python -m {program}", description=__doc__ or "")
    report = Report(program=program, settings=settings)
    sizes, num_rounds = (SIZES[:-1], 1) if settings.quick else (SIZES, settings.num_rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="polymath-")))
        found = list(databases(folder, stack))
        for database in found:
            for num_trials in sizes:
                measure(report, database, num_trials, num_rounds, folder)
    report.note("compare reads, selects, tests, prints, draws and logs; the peer, mlflow.search_runs, only reads")
    report.note("both saw the same runs, and the same test scores behind every mean")
    if len(found) == 1:
        report.note("PostgreSQL was left out: /usr/lib/postgresql/*/bin/initdb is missing")
    return report.finish()


if __name__ == "__main__":
    run(main)
