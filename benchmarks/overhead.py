"""What a sweep costs beside its training: trials that train nothing, through Ray, Optuna and MLflow.

    python -m benchmarks.overhead

Sweeps of 10 to 10,000 cells run on this machine, each with a new SQLite store; a trial claims its cell, opens its run,
records a loss, its scores and artifacts, and ends. Overhead is how long a trial holds its worker. The driver's time is
the processor time of its whole process, from the opening of the sweep to its end. The peer does the same with Tune's
function trainable, Optuna's GridSampler and setup_mlflow, as benchmarks.peer does, where that is to be waited for. The
floor is our own schedule, of Tune and Optuna, with trials that do and record nothing at all. With pauses between events
the same work takes more processor time, so that what is above the floor is not all ours.
"""

import gc
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import material
from benchmarks.report import Report
from sweeps.__main__ import collect_rarely
from sweeps.cluster import Resources, ray_session
from sweeps.connection import client
from sweeps.keys import cell_keys
from sweeps.ledger import CellRun, read_ledger
from sweeps.progress import SweepProgress
from sweeps.spec import SweepOptions
from sweeps.storage import Storage
from sweeps.supplies import Supplies
from sweeps.tracking import open_sweep
from trainer.commandline import parse, run, setting
from trainer.data import load_dataset

MAX_OVERHEAD_S = 0.3
MAX_DRIVER_MS = 5.0
LARGE = 10_000  # cells, from which on a sweep's own start plays no part
MAX_PEER = 100  # trials that the peer is asked for: it starts a process for each


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    num_cells: tuple[str, ...] = setting(("10", "100", "1000", "10000"), help="sizes of the sweeps, with commas")
    quick: bool = setting(False, help="sweeps of 10 and 100 cells")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of one sweep for each of its cells.

    Attributes:
        wall: of the sweep as a whole, times the trials that run side by side.
        driver: processor time of the driver.
    """

    wall: float
    driver: float


def ours(folder: Path, work: Path, num_cells: int, resources: Resources) -> Cost:
    """A sweep of trials without training.

    Raises:
        RuntimeError: when not every cell is recorded as finished.
    """
    from benchmarks.no_training import NoTraining
    from sweeps import driver
    from sweeps.heartbeat import Heartbeat, Watch
    from sweeps.worker import Place

    vars(driver)["WorkerTrial"] = NoTraining
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    options = _options(folder, work, num_cells)
    wall, processor = time.perf_counter(), time.process_time()
    spec = options.spec()
    dataset = load_dataset(options.definition, options.data_folder)
    record = open_sweep(options, spec, dataset, None)
    keys = cell_keys(options, spec, dataset, record.tracking_uri)
    store = client(record.tracking_uri)
    progress = SweepProgress(len(spec), spec.name, Console(file=io.StringIO()))
    place = Place(
        base=dict(spec.base),
        record=record,
        keys=keys,
        data_digest=dataset.digest,
        supplies=Supplies.local(options),
        storage=Storage(str(work / "states")),
        num_threads=1,
    )
    with record.closing(), Heartbeat(store, record.run_id) as heartbeat, progress:
        watch = Watch(store, heartbeat)
        driver.Driver(spec, dataset, place, resources, progress, watch, {}).run()
    cost = _cost(wall, processor, num_cells, resources)
    _check(read_ledger(store, record.experiment_id, dataset.digest, keys.values()), keys.values())
    return cost


def floor(num_cells: int, resources: Resources) -> Cost:
    """The same number of cells through Tune and Optuna alone."""
    from ray import tune

    from sweeps.schedule import run_cells

    class Nothing(tune.Trainable):
        def reset_config(self, new_config: object) -> bool:
            return True

        def step(self) -> dict[str, object]:
            return {"score": 1.0, "test_score": 1.0, "outcome": "finished", "epoch": 1, "done": True}

    points = [{"learning_rate": 1e-5 * place} for place in range(1, num_cells + 1)]
    progress = SweepProgress(num_cells, str, Console(file=io.StringIO()))
    wall, processor = time.perf_counter(), time.process_time()
    run_cells(points, Nothing, resources, progress)
    return _cost(wall, processor, num_cells, resources)


def _options(folder: Path, work: Path, num_cells: int) -> SweepOptions:
    """A grid of up to 10 learning rates and as many seeds as it takes."""
    num_rates = min(10, num_cells)
    grid = work / "grid.yaml"
    rates = material.learning_rates(num_rates)
    grid.write_text(f"learning_rate: {rates}\ninit: [scratch]\nseed: {[*range(num_cells // num_rates)]}\n")
    return SweepOptions(task=str(folder / "data.csv"), model=str(folder / "model"), grid=str(grid), num_epochs=1)


def _cost(wall: float, processor: float, num_cells: int, resources: Resources) -> Cost:
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Cost(wall=wall * resources.num_side_by_side / num_cells, driver=processor / num_cells)


def _check(runs: Mapping[str, Sequence[CellRun]], keys: Collection[str]) -> None:
    """Looks whether the store has every cell once.

    Raises:
        RuntimeError: when not.
    """
    found = [[run.status for run in runs.get(key, ())] for key in keys]
    if found != [["FINISHED"]] * len(keys):
        raise RuntimeError(f"{found.count(['FINISHED'])} of {len(keys)} cells are recorded once and finished")


def peer(folder: Path, work: Path, num_trials: int) -> float:
    """Seconds that the peer holds a worker for a trial without training."""
    words = ["--num-trials", str(num_trials), "--material", str(folder), "--work", str(work), "--trains", "false"]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.peer", *words], check=True, capture_output=True)
    return (time.perf_counter() - started) * (os.cpu_count() or 1) / num_trials


def main(arguments: Sequence[str]) -> int:
    """Prints the table; status 1 when a target is missed."""
    settings = parse(Settings, arguments, program="python -m benchmarks.overhead", description=__doc__ or "")
    sizes = [10, 100] if settings.quick else [int(text) for text in settings.num_cells]
    report = Report(program="benchmarks.overhead", settings=settings)
    costs, floors = dict[int, Cost](), dict[int, Cost]()
    with tempfile.TemporaryDirectory(prefix="polymath-bench-") as temporary:
        folder = Path(temporary, "material")
        material.write(folder, num_train=20, length=20)
        os.environ["POLYMATH_DATA"] = str(Path(temporary, "cache"))
        with ray_session(SweepOptions(task=str(folder / "data.csv"), model=str(folder / "model"))) as resources:
            ours(folder, _new(temporary, "warm"), 10, resources)
            collect_rarely()
            for size in sizes:
                costs[size] = ours(folder, _new(temporary, f"ours{size}"), size, resources)
                floors[size] = floor(size, resources)
                print(f"{size:,} cells: {costs[size]}, floor {floors[size]}", file=sys.stderr, flush=True)
        theirs = {size: peer(folder, _new(temporary, f"peer{size}"), size) for size in sizes if size <= MAX_PEER}
    for size, cost in costs.items():
        row = f"{size:,} cells: a trial's overhead"
        if size in theirs:
            report.pairs(row, unit="s", ours=[cost.wall], peer=[theirs[size]], more_is_better=False)
        else:
            report.values(row, unit="s", values=[cost.wall], at_most=MAX_OVERHEAD_S)
        is_large = size >= LARGE
        row = f"{size:,} cells: the driver's time a cell"
        report.values(row, unit="ms", values=[cost.driver * 1000], at_most=MAX_DRIVER_MS if is_large else None)
        report.values("  Tune and Optuna alone", unit="ms", values=[floors[size].driver * 1000])
    return report.finish()


def _new(parent: str, name: str) -> Path:
    folder = Path(parent, name)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    gc.disable()  # as sweeps does
    run(main)
