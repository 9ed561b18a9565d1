"""How the cost of training grows: with the length of sequences, the size of the model, and the trials side by side.

    python -m benchmarks.scaling

Generated DNA and models without weights, on one thread a trial; a few steps of a real trial each, several times. How it
grows with the number of cells is in benchmarks.overhead.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks import material
from benchmarks.report import Report
from benchmarks.throughput import BATCH_SIZE, Case, operations, peak
from trainer.commandline import parse, run, setting
from trainer.logger import SilentLogger

LENGTHS = (30, 60, 120, 250, 500)
SIZES = ((2, 128), (4, 256), (6, 384), (12, 768))  # layers, hidden units
LENGTH = 60  # while the size grows
NUM_STEPS = 4
NUM_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    quick: bool = setting(False, help="two lengths and two sizes")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


def case(folder: Path, length: int, num_layers: int, hidden: int) -> Case:
    """Data of a length and a model of a size, both written."""
    place = folder / f"{length}-{num_layers}-{hidden}"
    material.write(place, BATCH_SIZE * NUM_STEPS, length)
    shape = {"num_hidden_layers": num_layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    heads = {"num_attention_heads": hidden // 64}
    (place / "model/config.json").write_text(json.dumps(material.MODEL | shape | heads))
    name = f"{length} nt, {num_layers} layers of {hidden}"
    return Case(name=name, task=f"{place}/data.csv", model=place / "model", num_steps=NUM_STEPS, target=0)


def examples_per_second(one: Case) -> list[float]:
    """Of each try, on one thread."""
    from trainer.trial import Trial

    trial = Trial(one.config(), SilentLogger(), num_threads=1)
    return [trial.rehearse() for _ in range(NUM_TRIES)]


def side_by_side(one: Case, num_trials: int) -> float:
    """Examples a second of several trials together, each a process."""
    with ProcessPoolExecutor(num_trials, mp_context=get_context("spawn")) as processes:
        for _ in range(2):  # once to warm up
            rates = list(processes.map(examples_per_second, [one] * num_trials))
    return sum(map(max, rates))


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    settings = parse(Settings, arguments, program="python -m benchmarks.scaling", description=__doc__ or "")
    report = Report(program="benchmarks.scaling", settings=settings)
    most = peak(1)
    report.note(f"the peak of float32 matrix products here: {most / 1e9:.0f} GFLOP/s on one thread")
    with tempfile.TemporaryDirectory(prefix="polymath-bench-") as temporary:
        folder = Path(temporary)
        grown = [case(folder, length, *SIZES[0]) for length in LENGTHS]
        grown += [case(folder, LENGTH, *size) for size in SIZES[1:]]
        for one in grown[::5] if settings.quick else grown:
            rates = examples_per_second(one)
            report.values(one.name, unit="examples/s", values=rates)
            share = max(rates) * operations(one, None) / most
            tokens = max(rates) * (int(one.name.split()[0]) + 2)
            report.note(f"{one.name}: {tokens:,.0f} tokens/s; the products alone would take {share:.0%} of the time")
        for num_trials in range(1, (os.cpu_count() or 1) + 1):
            rate = side_by_side(grown[LENGTHS.index(LENGTH)], num_trials)
            report.values(f"{num_trials} trials side by side", unit="examples/s", values=[rate])
    return report.finish()


if __name__ == "__main__":
    run(main)
