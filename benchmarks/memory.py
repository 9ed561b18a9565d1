"""How much memory a warm worker takes, trial after trial: a real sweep that has one worker for all its trials.

    python -m benchmarks.memory

The trials differ in what could be kept by mistake: 3 inits, 5 optimizers and 4 seeds, each with a random mapping, data
order and weights of its own, of a BERT of 2 layers, 128 hidden units and 30,522 tokens. What counts is the worker's
resident memory when a trial has ended and the next one begins or runs.
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import material
from benchmarks.processes import POLL_S, Command, trial_workers
from benchmarks.report import Report
from tests.servers import QUIET
from trainer.commandline import parse, run, setting

INITS = ("pretrained", "reinit-embeddings", "scratch")
OPTIMIZERS = ("adam", "adagrad", "adamax", "radam", "novograd")
NUM_EXAMPLES = 64  # trained on in a trial
LENGTH = 60  # nt
FIRST = 10  # trials until everything has been used once that is used again
EVERY = 5  # trials between two figures
MOST_GROWTH = 5.0  # percent
MB = 1e6  # bytes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    num_seeds: int = setting(4, help="how many seeds; 15 trials each", unit="seeds")
    quick: bool = setting(False, help="two seeds")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


def start_sweep(folder: Path, num_seeds: int) -> Command:
    """Starts the sweep, its files beside each other in a folder."""
    from transformers import BertConfig, BertModel

    material.write(folder, NUM_EXAMPLES, LENGTH)
    BertModel(BertConfig.from_pretrained(folder / "model")).save_pretrained(folder / "model")  # weights, for two inits
    grid = folder / "grid.yaml"
    grid.write_text(f"optimizer: [{', '.join(OPTIMIZERS)}]\nseed: {[*range(num_seeds)]}\n")
    options = {
        "task": folder / "data.csv",
        "model": folder / "model",
        "grid": grid,
        "inits": ",".join(INITS),
        "num-epochs": 1,
        "cpus-per-trial": os.cpu_count(),  # so that there is one worker
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    environment = {
        **QUIET,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "POLYMATH_DATA": str(folder / "cache"),
    }
    return Command(["sweeps", *words], environment, folder / "sweep.log")


def watch(sweep: Command, num_trials: int) -> dict[int, list[float]]:
    """Number of trials that have ended -> MB that the worker took meanwhile, looked at again and again.

    Raises:
        RuntimeError: when the sweep fails, a trial of it does, or there is more than one worker.
    """
    worker, found = 0, dict[int, list[float]]()
    while sweep.is_running:
        time.sleep(POLL_S)
        num_ended = max(map(int, re.findall(rf"^\[(\d+)/{num_trials}\]", sweep.output, re.MULTILINE)), default=0)
        if not worker and num_ended:
            (worker,) = trial_workers(sweep.below())
        if worker and (size := resident(worker)):
            found.setdefault(num_ended, []).append(size)
    if sweep.status or f"[{num_trials}/{num_trials}]" not in sweep.output or " 0 failed" not in sweep.output:
        raise RuntimeError(f"the sweep did not end well:\n{sweep.output[-2000:]}")
    if missing := {*range(EVERY, num_trials, EVERY)} - found.keys():
        raise RuntimeError(f"the worker was not there after {sorted(missing)} trials")
    return found


def resident(process_id: int) -> float:
    """A process's resident memory in MB; 0 when it has ended."""
    try:
        pages = Path(f"/proc/{process_id}/statm").read_text().split()
    except OSError:
        return 0.0
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / MB if len(pages) > 1 else 0.0


def main(arguments: Sequence[str]) -> int:
    """Prints the curve and how much it grows."""
    settings = parse(Settings, arguments, program="python -m benchmarks.memory", description=__doc__ or "")
    num_seeds = 2 if settings.quick else settings.num_seeds
    num_trials = len(INITS) * len(OPTIMIZERS) * num_seeds
    report = Report(program="benchmarks.memory", settings=settings)
    with TemporaryDirectory() as folder:
        sweep = start_sweep(Path(folder), num_seeds)
        try:
            found = watch(sweep, num_trials)
        finally:
            sweep.end()
    numbers = range(EVERY, num_trials, EVERY)
    for number in numbers:
        report.values(f"after {number} trials", unit="MB", values=found[number])
    first, last = (median(found[number]) for number in (FIRST, numbers[-1]))
    growth = 100 * (last / first - 1)
    report.values(f"growth from {FIRST} to {numbers[-1]} trials", unit="%", values=[growth], at_most=MOST_GROWTH)
    report.note(f"one worker, {num_trials} trials, each recorded; the curve is of its resident memory")
    return report.finish()


if __name__ == "__main__":
    if not Path("/proc/self/statm").exists():
        sys.exit("error: this benchmark reads /proc, which is Linux's")
    run(main)
