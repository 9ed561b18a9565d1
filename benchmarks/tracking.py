"""What tracking costs 16 trials at once, each with a metric at every step, and whether the store has it all.

    python -m benchmarks.tracking

Each trial is a process that trains a BERT (2 layers, 128 hidden) on generated DNA of 60 nt. They begin together, and
write to SQLite, to an MLflow server on SQLite, and to one on PostgreSQL, where that is installed: by Polymath, by
``mlflow.log_metric`` at each step as MLflow's tutorials do, and, to compare, not at all, in turn. The same trial gives
the same losses in all ways; of Polymath's trials the store must have each of them once and in order.

- *training waits*: the time that the training thread spends in calls of its logger, at the opening of its run and at
  the end until all is recorded, of the trial's time. The target is about this.
- *CPU time*: what the recording takes of the process's CPU time, in whichever thread. A server's own is not in it.
- *longer than untracked*: how much longer all trials took than without tracking. Where there are fewer cores than
  trials, whatever takes CPU time is in this, the server too.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Report
from benchmarks.scene import write_splice
from benchmarks.tracked_trial import WAYS, Job, Measured, run_trial, set_up
from sweeps.connection import client
from sweeps.spec import SweepOptions
from sweeps.tracking import SweepRecord, open_sweep
from tests.conftest import write_tiny_bert
from tests.servers import QUIET, MlflowServer, Postgres
from trainer.commandline import parse, run, setting
from trainer.config import TrialConfig
from trainer.data import load_dataset

EXPERIMENT = "tracking"
PRELOADED = [
    *("benchmarks.tracked_trial", "benchmarks.report", "benchmarks.scene", "tests.servers", "trainer.trial"),
    *("mlflow", "transformers.models.bert.modeling_bert", "matplotlib.figure"),
]
QUICK_EPOCHS = 5
WARM_UP = {"num_epochs": 1, "max_train_examples": 8}
LOSS = "train/loss"
MOST_PERCENT = 3.0  # of trial time


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure with."""

    num_trials: int = setting(16, help="how many trials run at once", unit="trials")
    num_epochs: int = setting(10, help="how long each trains", unit="epochs of 360 examples")
    batch_size: int = setting(32, help="the paper's; smaller ones give shorter steps, with as many metrics each")
    num_rounds: int = setting(3, help="how often each way is measured", unit="rounds")
    quick: bool = setting(False, help="one round of five epochs, SQLite alone")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


@dataclass(frozen=True, kw_only=True)
class Round:
    """All trials, once each, at the same time, recorded in one way.

    Attributes:
        num_lost: how many of their losses the store does not have.
    """

    seconds: float
    trials: tuple[Measured, ...]
    num_lost: int

    def percent(self, part: str, whole: str) -> float:
        """What one attribute of the trials is of another, both summed."""
        parts, wholes = ([getattr(trial, name) for trial in self.trials] for name in (part, whole))
        return 100 * sum(parts) / sum(wholes)


class Trials:
    """Processes that run trials together, again and again, and the data and the model of these."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.num_trials, self.batch_size = folder, settings.num_trials, settings.batch_size
        self.num_epochs = QUICK_EPOCHS if settings.quick else settings.num_epochs
        self.losses: dict[TrialConfig, tuple[float, ...]] = {}
        (folder / "dna").mkdir()
        write_splice(folder / "dna/splice.txt")
        write_bert(folder / "model")
        context = get_context("forkserver")  # what takes long to import is imported once
        context.set_forkserver_preload(PRELOADED)
        barrier = context.Barrier(self.num_trials)
        self.pool = ProcessPoolExecutor(self.num_trials, context, initializer=set_up, initargs=(barrier,))

    def run(self, way: str, store: SweepRecord, **changes: Any) -> Round:
        """Runs them all and checks that the store has what they logged.

        Raises:
            AssertionError: when it has not, or a trial gave other losses than it did in another way.
        """
        configs = [replace(self.config(seed), **changes) for seed in range(self.num_trials)]
        jobs = [Job(way=way, config=config, data_dir=self.folder, record=store) for config in configs]
        started = time.perf_counter()
        measured = tuple(self.pool.map(run_trial, jobs))
        seconds = time.perf_counter() - started
        for config, trial in zip(configs, measured, strict=True):
            if self.losses.setdefault(config, trial.losses) != trial.losses:
                raise AssertionError(f"{way}: seed {config.seed} gave other losses than before")
        num_lost = sum(count_lost(store, trial) for trial in measured if trial.run_id)
        if way == "polymath" and num_lost:
            raise AssertionError(f"{num_lost} losses are not in the store")
        return Round(seconds=seconds, trials=measured, num_lost=num_lost)

    def config(self, seed: int) -> TrialConfig:
        """A trial from scratch, of so many steps whatever its scores are."""
        return TrialConfig(
            task="splice",
            model=str(self.folder / "model"),
            init="scratch",
            batch_size=self.batch_size,
            num_epochs=self.num_epochs,
            patience=self.num_epochs,
            seed=seed,
        )


def write_bert(folder: Path) -> None:
    """A BERT of 2 layers and 128 hidden units with 1,100 tokens: a tiny one's vocabulary, and another size."""
    from transformers import BertConfig

    write_tiny_bert(folder, num_tokens=1100)
    config = BertConfig.from_pretrained(folder)
    config.update({"hidden_size": 128, "intermediate_size": 512})
    config.save_pretrained(folder)  # the weights beside it stay tiny; from scratch they are not read


def count_lost(store: SweepRecord, trial: Measured) -> int:
    """How many of a trial's losses its run does not have.

    Raises:
        AssertionError: when it has one twice, another one, or not in order.
    """
    points = client(store.tracking_uri).get_metric_history(trial.run_id, LOSS)
    steps = [point.step for point in points]
    if steps != sorted({*steps}) or any(point.value != trial.losses[point.step - 1] for point in points):
        raise AssertionError(f"run {trial.run_id}: points recorded twice, in another order, or with other values")
    return len(trial.losses) - len(points)


# Stores


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """What each MLflow server is called -> its URI."""
    with ExitStack() as stack:
        found = dict[str, str]()
        backends: dict[str, tuple[str | None, Mapping[str, str]]] = {"server on SQLite": (None, {})}
        if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            postgres = stack.enter_context(Postgres())
            backends["server on PostgreSQL"] = postgres.uri, postgres.environment
        for name, (uri, environment) in backends.items():
            place = folder / name
            place.mkdir()
            found[name] = stack.enter_context(MlflowServer(place, uri, environment)).uri
        yield found


def open_store(uri: str, folder: Path, trials: Trials) -> SweepRecord:
    """A sweep in a new experiment, to which the trials belong."""
    artifacts = (folder / "artifacts").as_uri() if uri.startswith("sqlite") else None
    client(uri).create_experiment(EXPERIMENT, artifact_location=artifacts)
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
    options = SweepOptions(task="splice", model=str(trials.folder / "model"), grid="compare", inits=("scratch",))
    return open_sweep(options, options.spec(), load_dataset(options.definition, trials.folder), None)


# Measuring


def measure(trials: Trials, store: SweepRecord, num_rounds: int) -> dict[str, list[Round]]:
    """Way -> its rounds; the ways alternate. What comes first in a process, and so takes longer, is not measured."""
    for way in WAYS:
        trials.run(way, store, **WARM_UP)
    rounds: dict[str, list[Round]] = {way: [] for way in WAYS}
    for _ in range(num_rounds):
        for way in WAYS:
            rounds[way].append(trials.run(way, store))
            print(f"{way}: {rounds[way][-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return rounds


def add_rows(report: Report, name: str, rounds: Mapping[str, Sequence[Round]]) -> None:
    """What the rounds at one store say."""
    ours, silent = rounds["polymath"], rounds["silent"]
    waits, shares = (
        [one.percent(*parts) for one in ours] for parts in (("lost_s", "seconds"), ("tracking_cpu_s", "cpu_s"))
    )
    report.values(f"{name}: training waits", unit="%", values=waits, at_most=MOST_PERCENT)
    report.values(f"{name}: CPU time", unit="%", values=shares)
    longer = [100 * (one.seconds / other.seconds - 1) for one, other in zip(ours, silent, strict=True)]
    report.values(f"{name}: longer than untracked", unit="%", values=longer)
    seconds, plain_s = ([one.seconds for one in rounds[way]] for way in ("polymath", "plain"))
    report.pairs(f"{name}: all trials", unit="s", ours=seconds, peer=plain_s, more_is_better=False)
    parts = ("opening_s", "closing_s", "lost_s", "seconds")
    opening, closing, all_of_it, whole = (mean(getattr(t, part) for one in ours for t in one.trials) for part in parts)
    between = all_of_it - opening - closing
    waits_s = f"{opening:.2f} s for its run, {between:.2f} s while it trains, {closing:.2f} s at its end"
    report.note(f"{name}: a trial of {whole:.1f} s waits {waits_s}")
    if num_lost := sum(one.num_lost for one in rounds["plain"]):
        num_points = sum(len(trial.losses) for one in rounds["plain"] for trial in one.trials)
        report.note(f"{name}: of {num_points:,} losses, log_metric lost {num_lost:,}")


def main(arguments: Sequence[str]) -> int:
    """Prints the rows of every store."""
    settings = parse(Settings, arguments, program="python -m benchmarks.tracking", description=__doc__ or "")
    report = Report(program="benchmarks.tracking", settings=settings)
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        os.environ |= {**QUIET, "POLYMATH_DATA": str(folder / "cache")}
        os.environ.pop("MLFLOW_RUN_ID", None)
        trials = Trials(folder, settings)
        stack.enter_context(trials.pool)
        uris = {"SQLite": f"sqlite:///{folder}/mlflow.db"}
        if not settings.quick:
            uris |= stack.enter_context(servers(folder))
        for name, uri in uris.items():
            store = open_store(uri, folder, trials)
            rounds = measure(trials, store, 1 if settings.quick else settings.num_rounds)
            add_rows(report, name, rounds)
    num_steps = len(trials.losses[trials.config(0)])
    report.note(f"{settings.num_trials} trials of {num_steps} steps at once, with the same losses in all ways")
    report.note("Polymath: the stores have every loss of every trial, once and in order")
    return report.finish()


if __name__ == "__main__":
    run(main)
