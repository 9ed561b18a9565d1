"""A sweep of short trials, from the command to its end: Polymath against the peer of ``benchmarks.peer``.

    python -m benchmarks.sweep

Both train the same small BERT from scratch on the same 320 sequences of 60 nt with the same learning rates, an epoch
each, record the loss of every step in a new SQLite store, and are timed as whole processes, in turn. Polymath does
more: it also makes its table, pictures and predictions, and can be interrupted.
"""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import material
from benchmarks.report import Report, require_peers
from trainer.commandline import parse, run, setting

MAX_START_S = 10.0
MIN_RATIO = 8.0
LOSSES_ALIKE = 0.05  # nats between the two sides' mean last losses: both are near ln 2, at rates too small to learn


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    num_trials: int = setting(24, help="how many trials each side runs", unit="trials")
    num_examples: int = setting(320, help="sequences trained on", unit="examples")
    length: int = setting(60, help="length of the sequences", unit="nt")
    num_rounds: int = setting(5, help="how many pairs are timed", unit="pairs")
    quick: bool = setting(False, help="one pair of 6 trials")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A finished sweep.

    Attributes:
        seconds: of the whole process.
        start_s: seconds from the command to the first trial's run.
        losses: of every trial, its finished steps' losses.
    """

    seconds: float
    start_s: float
    losses: list[list[float]]


def ours(folder: Path, work: Path, num_trials: int) -> Timed:
    """Runs ``python -m sweeps``."""
    grid = work / "grid.yaml"
    grid.write_text(f"learning_rate: {material.learning_rates(num_trials)}\n")
    options = {
        "task": folder / "data.csv",
        "model": folder / "model",
        "grid": grid,
        "num-epochs": 1,
        "inits": "scratch",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return _timed(["-m", "sweeps", *words], work, "train/loss", "tags.`polymath.kind` = 'trial'")


def peer(folder: Path, work: Path, num_trials: int) -> Timed:
    """Runs ``python -m benchmarks.peer``."""
    words = ["--num-trials", str(num_trials), "--material", str(folder), "--work", str(work)]
    return _timed(["-m", "benchmarks.peer", *words], work, "loss", "")


def _timed(command: Sequence[str], work: Path, metric: str, query: str) -> Timed:
    from mlflow import MlflowClient

    uri = f"sqlite:///{work}/mlflow.db"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "POLYMATH_DATA": str(work / "cache")}
    begun, started = time.time(), time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    store = MlflowClient(uri)
    found = store.search_runs([one.experiment_id for one in store.search_experiments()], query)
    runs = [run for run in found if run.info.status == "FINISHED"]
    losses = [[point.value for point in store.get_metric_history(run.info.run_id, metric)] for run in runs]
    return Timed(seconds=seconds, start_s=min(run.info.start_time for run in runs) / 1000 - begun, losses=losses)


def check_same_work(timings: Sequence[Timed], num_trials: int, num_steps: int) -> list[float]:
    """The mean last loss of each sweep.

    Raises:
        RuntimeError: when a sweep lacks trials or steps, or the losses are not alike.
    """
    for timed in timings:
        if [len(losses) for losses in timed.losses] != [num_steps] * num_trials:
            raise RuntimeError(f"not {num_trials} trials of {num_steps} steps: {[*map(len, timed.losses)]} steps")
    means = [statistics.mean(losses[-1] for losses in timed.losses) for timed in timings]
    if max(means) - min(means) > LOSSES_ALIKE:
        raise RuntimeError(f"the last losses are not alike: {means}")
    return means


def main(arguments: Sequence[str]) -> int:
    """Prints the table; status 1 when a target is missed."""
    settings = parse(Settings, arguments, program="python -m benchmarks.sweep", description=__doc__ or "")
    require_peers()
    num_trials, num_rounds = (6, 1) if settings.quick else (settings.num_trials, settings.num_rounds)
    report = Report(program="benchmarks.sweep", settings=settings)
    timings: dict[str, list[Timed]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory(prefix="polymath-bench-") as temporary:
        folder = Path(temporary, "material")
        material.write(folder, settings.num_examples, settings.length)
        for number in range(num_rounds):
            for name, side in (("ours", ours), ("peer", peer)):
                work = Path(temporary, f"{name}{number}")
                work.mkdir()
                timings[name].append(side(folder, work, num_trials))
                print(f"{name} {number + 1}/{num_rounds}: {timings[name][-1].seconds:.1f} s", file=sys.stderr)
    num_steps = math.ceil(settings.num_examples / material.BATCH_SIZE)
    means = check_same_work([*timings["ours"], *timings["peer"]], num_trials, num_steps)
    seconds = {name: [timed.seconds / num_trials for timed in side] for name, side in timings.items()}
    row = f"a trial of {num_trials}, whole process"
    report.pairs(row, unit="s", **seconds, more_is_better=False, at_least=None if settings.quick else MIN_RATIO)
    starts = [timed.start_s for timed in timings["ours"]]
    report.values("start-up to the first trial", unit="s", values=starts, at_most=MAX_START_S)
    alike = f"mean last losses from {min(means):.3f} to {max(means):.3f}"
    report.note(f"every sweep: {num_trials} trials of {num_steps} steps, all recorded; {alike}")
    return report.finish()


if __name__ == "__main__":
    run(main)
