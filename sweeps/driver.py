"""A sweep's driver: runs the cells that the ledger lacks, round after round, until each is done or given up."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ray import tune

from sweeps.cell_record import CellRecord
from sweeps.claims import Taken, close_run
from sweeps.cluster import Resources
from sweeps.connection import client, is_outage
from sweeps.heartbeat import Watch
from sweeps.ledger import CellRun, read_ledger
from sweeps.patience import patiently
from sweeps.progress import SweepProgress
from sweeps.provenance import without_secrets
from sweeps.schedule import DIED, Ended, error_line, run_cells
from sweeps.spec import SweepSpec, cell_key
from sweeps.worker import ELSEWHERE, FAILED, MAX_RETRIES, OUT_OF_MEMORY, Place, WorkerTrial
from trainer.errors import first_line
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE_S = 2.0  # between looks at cells that other drivers have

Result = TypeVar("Result")


class Driver:
    """Runs a sweep's cells on Ray.

    Args:
        place: where trials run; ``gone`` and ``gpus`` are filled in here.
        resources: what a trial takes at first.
        watch: tells which other drivers are gone.
        ledger: the cells' runs as they were a moment ago.
    """

    def __init__(
        self,
        spec: SweepSpec,
        dataset: Dataset,
        place: Place,
        resources: Resources,
        progress: SweepProgress,
        watch: Watch,
        ledger: Mapping[str, list[CellRun]],
    ) -> None:
        self.dataset, self.place, self.resources, self.progress = dataset, place, resources, progress
        self.points = {place.keys[key]: point for key, point in zip(spec.cells, spec.points(), strict=True)}
        self.watch = watch
        self.done: set[str] = set()
        self.given_up: set[str] = set()
        self._trained_here: set[str] = set()
        self._recorded_here: set[str] = set()
        self._waits = False
        self._runs = ledger
        self._find_done()
        self._failures, self._shares = Counter[str](), dict[str, float]()

    @property
    def store(self) -> "MlflowClient":
        """The tracking store's client."""
        return client(self.place.record.tracking_uri)

    def left(self) -> list[str]:
        """The cells that are neither done nor given up, in the order of the grid."""
        settled = self.done | self.given_up
        return [key for key in self.points if key not in settled]

    def run(self) -> set[str]:
        """Runs what is missing, until every cell is done or given up; returns the keys of those done by others."""
        while left := self.left():
            owners = {run.owner for key in left for run in self._runs.get(key, ())}
            gone = self._patiently(partial(self.watch.gone, owners))
            own = {*gone, self.place.record.run_id}
            free = [key for key in left if all(run.owner in own for run in self._runs.get(key, ()) if run.can_go_on)]
            was_run = bool(free) and self._run(free, gone)
            self._read()
            if not was_run and self.left() == left:
                self._wait_for_others(len(left))
                self._read()
        return self.done - self._recorded_here

    def _wait_for_others(self, num_left: int) -> None:
        if not self._waits:
            self.progress.say(f"waiting for other drivers, which have the {num_left} cells that are left")
        self._waits = True
        time.sleep(PAUSE_S)

    def _patiently(self, action: Callable[[], Result]) -> Result:
        return patiently(action, self.progress.say)

    def _read(self) -> None:
        """Looks into the ledger; it is not asked for cells whose end its workers saw recorded."""
        record, left = self.place.record, self.left()
        if not left:
            return
        self._runs = self._patiently(
            lambda: read_ledger(self.store, record.experiment_id, self.place.data_digest, keys=left)
        )
        self._find_done()

    def _find_done(self) -> None:
        for key in self.left():
            if any(run.is_done(self.place.record.stale) for run in self._runs.get(key, ())):
                self.done.add(key)
                if key not in self._trained_here:
                    self.progress.found_done()

    def _run(self, keys: list[str], gone: frozenset[str]) -> bool:
        """Runs those of some cells that ask for the smallest share of a GPU; False when all were taken."""
        share = min(self._shares.get(key, self.resources.gpus) for key in keys)
        batch = [self.points[key] for key in keys if self._shares.get(key, self.resources.gpus) == share]
        place = replace(self.place, gone=gone, gpus=share)
        trainable = tune.with_parameters(WorkerTrial, place=place)
        ended = run_cells(batch, trainable, _with_gpus(self.resources, share), self.progress)
        for one in ended:
            self._note(one, share)
        return any(one.outcome != ELSEWHERE for one in ended)

    def _note(self, ended: Ended, share: float) -> None:
        key = self._key(ended.point)
        if ended.outcome in ("finished", "diverged"):
            self._trained_here.add(key)
            if ended.is_recorded:
                self.done.add(key)
                self._recorded_here.add(key)
            else:
                self._failures[key] += 1  # of no account if the ledger turns out to have it
        elif ended.outcome == FAILED:
            self.given_up.add(key)
        elif ended.outcome == OUT_OF_MEMORY:
            self._shares[key] = min(1.0, 2 * share)
        elif ended.outcome == DIED:
            self._failures[key] += ended.num_failures
        if self._failures[key] > MAX_RETRIES:
            self._give_up(key, ended)

    def _give_up(self, key: str, ended: Ended) -> None:
        """Records that a cell failed whose workers could not do so themselves."""
        cell = CellRecord(self.place.record, self.place.config(ended.point), self.dataset, key)
        text = without_secrets(ended.error or "its record could not be completed")

        def write() -> None:
            run_id = cell.open().run_id
            try:
                self.store.log_text(run_id, text, "traceback.txt")
            except Exception as error:
                if is_outage(error):
                    raise
            close_run(self.store, run_id, "FAILED", error_line(text))

        try:
            self._patiently(write)
        except Taken:
            return  # another driver has it, or it is done after all: the ledger will tell
        except Exception as error:
            self.progress.say(f"a failure cannot be recorded ({without_secrets(first_line(error))})")
        self.given_up.add(key)
        self.progress.trial_failed(ended.point, error_line(text))

    def _key(self, point: Mapping[str, Any]) -> str:
        return self.place.keys[cell_key(self.place.config(point))]


def _with_gpus(resources: Resources, share: float) -> Resources:
    """The same machines with a larger share of a GPU for each trial, and so fewer trials side by side."""
    if share <= resources.gpus:
        return resources
    fewer = int(resources.num_side_by_side * resources.gpus / share)
    return replace(resources, gpus=share, num_side_by_side=max(1, fewer))
