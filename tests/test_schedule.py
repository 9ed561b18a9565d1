"""Which worker takes which cell, and how many workers Ray is asked for: a real Tune on a real Ray of two CPUs."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.util import placement_group_table
from rich.console import Console

from sweeps.cluster import Resources
from sweeps.progress import SweepProgress
from sweeps.schedule import run_cells

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("ray_here"),
]

NUM_CELLS = 24


class Noting(tune.Trainable):
    """A trial that notes its seed and its process, in the order in which trials run."""

    def setup(self, config: dict[str, Any], folder: Path) -> None:  # type: ignore[override]
        self.folder = folder
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.seed = new_config["seed"]
        return True

    def step(self) -> dict[str, Any]:
        with FileLock(self.folder / "lock"), (self.folder / "notes").open("a") as notes:
            notes.write(f"{self.seed} {os.getpid()}\n")
        return {"score": 0.5, "test_score": 0.5, "outcome": "finished", "epoch": 1, "done": True}


class Dying(Noting):
    """The first time that the first cell runs, its process dies; no other trial ends before that is noticed."""

    def step(self) -> dict[str, Any]:
        died = self.folder / "died"
        if self.seed == 0 and not died.exists():
            died.touch()
            os._exit(1)
        result = super().step()
        wait_until((self.folder / "noticed").exists)
        return result


class Meeting(Noting):
    """No trial ends before two processes have begun one."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        wait_until(lambda: len(set(processes(self.folder))) == 2)
        return result


class Noticing(SweepProgress):
    """Tells the trials when one is taken up again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(NUM_CELLS, str, Console(quiet=True))
        self.folder = folder

    def trial_recovers(self, point: dict[str, Any], reason: str) -> None:
        super().trial_recovers(point, reason)
        (self.folder / "noticed").touch()


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.05)
    raise RuntimeError("not so in a minute")


def notes(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "notes").read_text().splitlines()]


def seeds(folder: Path) -> list[int]:
    return [int(seed) for seed, _ in notes(folder)]


def processes(folder: Path) -> list[str]:
    return [process for _, process in notes(folder)]


def run(trainable: type[Noting], folder: Path, resources: Resources) -> SweepProgress:
    progress = Noticing(folder)
    points = [{"seed": seed} for seed in range(NUM_CELLS)]
    run_cells(points, tune.with_parameters(trainable, folder=folder), resources, progress)
    return progress


def test_ray_is_asked_for_no_more_room_than_trials_take_side_by_side(tmp_path: Path) -> None:
    before = set(placement_group_table())
    progress = run(Noting, tmp_path, Resources(cpus=1, gpus=0, num_side_by_side=2))
    assert sorted(seeds(tmp_path)) == [*range(NUM_CELLS)] and progress.done == NUM_CELLS
    assert len(set(placement_group_table()) - before) <= 2


def test_both_workers_are_used_however_short_the_trials(tmp_path: Path) -> None:
    run(Meeting, tmp_path, Resources(cpus=1, gpus=0, num_side_by_side=2))
    assert len(set(processes(tmp_path))) == 2
    assert sorted(seeds(tmp_path)) == [*range(NUM_CELLS)]


def test_trials_run_where_a_cluster_has_room_that_it_did_not_have_at_first(tmp_path: Path) -> None:
    one = Resources(cpus=1, gpus=0, num_side_by_side=1, is_shared_machine=False)
    run(Meeting, tmp_path, one)
    assert len(set(processes(tmp_path))) == 2, "there are two CPUs, whatever was counted"
    assert sorted(seeds(tmp_path)) == [*range(NUM_CELLS)]


def test_a_trial_whose_worker_died_goes_on_before_others_begin(tmp_path: Path) -> None:
    """On a cluster too, where others wait for room."""
    two = Resources(cpus=1, gpus=0, num_side_by_side=2, is_shared_machine=False)
    progress = run(Dying, tmp_path, two)
    order = seeds(tmp_path)
    assert sorted(order) == [*range(NUM_CELLS)] and progress.done == NUM_CELLS
    assert order.index(0) < 6, "one worker is left for at most a few trials"


def test_tune_is_as_it_was_after_a_sweep(tmp_path: Path) -> None:
    before = TuneController.checkpoint, Trial.set_ray_actor
    run(Noting, tmp_path, Resources(cpus=1, gpus=0, num_side_by_side=2))
    assert (TuneController.checkpoint, Trial.set_ray_actor) == before
