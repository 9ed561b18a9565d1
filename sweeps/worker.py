"""A trial inside a Ray worker: the bridge from Ray Tune to the trainer.

Workers are reused: torch and transformers are imported once a process, and data and weights stay loaded between
trials (the caches in ``trainer.data`` and ``trainer.models``). A worker may die at any moment: after every evaluation
the trial's state is put into the storage, and whoever is given the cell next goes on from there.
"""

import ctypes
import gc
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ray import tune

from sweeps.cell_record import CellRecord
from sweeps.checkpoints import corpus_of
from sweeps.claims import Taken
from sweeps.cluster import Resources
from sweeps.connection import take_settings
from sweeps.provenance import without_secrets
from sweeps.spec import cell_key
from sweeps.storage import Storage
from sweeps.supplies import Supplies
from sweeps.tracking import SweepRecord
from sweeps.trial_logger import TrialLogger
from trainer.config import Report, TrialConfig
from trainer.errors import UserError, first_line
from trainer.sources import cache_folder

if TYPE_CHECKING:
    from trainer.trial import Trial

SCORE = "score"  # what Tune and Optuna are told; never NaN, which Optuna refuses
WORST = -math.inf  # the score of a trial without one
JOURNAL = "journal"  # name of the logger's journal in a saved state

MAX_RETRIES = 3  # of a trial that failed
OPENING_S = 10.0  # that a trial waits for its run; then it begins without, and the run is opened when the store is back
CLOSING_S = 20.0  # that a worker waits until a trial's record is complete, before it takes the next
LEAVING_S = 4.0  # that a worker waits for such records before it ends; Tune kills it after 5

# What became of a cell, beside the outcomes of a trial.
ELSEWHERE = "elsewhere"  # another driver has it, or it is done
FAILED = "failed"  # for good, and recorded as such
OUT_OF_MEMORY = "out of memory"  # to be tried again with a larger share of a GPU


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where trials run and read, and what they leave behind; nothing in here changes their numbers.

    Attributes:
        keys: a cell's config by its ``cell_key`` -> its key in the ledger.
        gone: sweeps of which it is certain that their drivers have ended.
        storage: where unfinished trials keep their state; None for a folder of each machine's own.
        gpus: the share of a GPU that each trial has.
        environment: what workers need to know to reach the tracking store; may be secret.
    """

    base: dict[str, Any]
    record: SweepRecord
    keys: Mapping[str, str]
    data_digest: str
    supplies: Supplies
    num_threads: int
    storage: Storage | None = None
    gone: frozenset[str] = frozenset()
    gpus: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    save_model: bool = False
    scores_train: bool = False

    def config(self, point: Mapping[str, Any]) -> TrialConfig:
        """The cell at a point of the grid."""
        return TrialConfig(**{**self.base, **point})


def own_storage() -> Storage:
    """The folder in which this machine keeps unfinished trials."""
    return Storage(str(cache_folder() / "unfinished"))


class WorkerTrial(tune.Trainable):
    """One trial after another in one process; a Tune step is an epoch with its evaluation."""

    def setup(self, config: dict[str, Any], place: Place) -> None:  # type: ignore[override]
        from sweeps import preload  # noqa: F401  (torch and transformers come in here, once a process)

        take_settings(place.environment, is_shared_machine=place.supplies.dataset is None)
        self.place = place
        self.incomplete: list[TrialLogger] = []
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # Nothing is recorded before the first step: until then Tune may give the cell to a worker that came free.
        self.point = new_config
        self.attempt: Attempt | None = None
        _free_memory()
        return True

    def step(self) -> dict[str, Any]:
        if self.attempt is None:
            self.attempt = Attempt(self.place, self.point)
        told = self.attempt.step()
        if told["done"] and not self.attempt.is_recorded:
            self.incomplete.append(self.attempt.logger)
        return told

    def cleanup(self) -> None:
        """Before the worker ends: waits for the records of trials that ended while the tracking server was away."""
        until = time.monotonic() + LEAVING_S
        for logger in self.incomplete:
            with suppress(Exception):
                logger.wait(max(0.0, until - time.monotonic()))


def _free_memory() -> None:
    """Gives back what the trial before has left: tensors in reference cycles, and memory that glibc keeps."""
    gc.collect()
    gc.freeze()  # what is left stays as a rule, and the next collection takes milliseconds without it
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Attempt:
    """One attempt at a cell: claims it, trains from the state that an earlier one left, and records it."""

    def __init__(self, place: Place, point: Mapping[str, Any]) -> None:
        self.place, self.config = place, place.config(point)
        self.storage = place.storage or own_storage()
        self.key = place.keys[cell_key(self.config)]
        self.state = f"{place.record.store_id}/{self.key}"
        self.trial: Iterator[Report] | None = None
        self.is_recorded = True  # unless the tracking server is away when the trial ends

    def step(self) -> dict[str, Any]:
        """Trains until the next evaluation; returns what Tune is told."""
        try:
            if self.trial is None:
                self._begin()
            report = next(self.trial)  # type: ignore[arg-type]
            self.logger.check()
            if report.result is None:
                self._save()
                return {SCORE: WORST if math.isnan(report.valid_score) else report.valid_score, **_progress(report)}
            self.logger.finish(report.result)
            self.is_recorded = self.logger.wait(CLOSING_S)  # if not, it is completed while the next trial runs
        except Taken:
            self.logger.abandon(0)
            self.trial = None
            return _ended(ELSEWHERE)
        except UserError as error:
            return self._fail(error)
        except Exception as error:
            return self._retry_or_fail(error)
        metrics = report.result.metrics
        told = {**_ended(report.result.outcome), **_progress(report), "recorded": self.is_recorded}
        return {**told, SCORE: metrics.get("valid/score", WORST), "test_score": metrics.get("test/score")}

    def _begin(self) -> None:
        from trainer.data import load_dataset

        place = self.place
        self.received = place.supplies.receive(self.config, place.record.tracking_uri)
        dataset = load_dataset(self.config.definition, self.received.data_dir)
        corpus = corpus_of(self.received.checkpoint_folder)
        self.record = CellRecord(place.record, self.config, dataset, self.key, place.gone, corpus)
        unread = ""
        try:
            with self.storage.fetched(self.state) as saved:
                if saved is not None:
                    self._go_on(saved)
        except OSError as error:
            unread = without_secrets(first_line(error))
        if self.trial is None:  # nothing to go on with: begin anew
            self.trial = self._build()
        if unread:
            self.logger.tag("state_not_read", unread)
        if dataset.digest != place.data_digest:
            raise UserError(f"data_dir: the data on this machine differs ({dataset.digest}, not {place.data_digest})")

    def _build(self, journal: str = "") -> "Iterator[Report]":
        """The trial, new; its run is opened meanwhile.

        Args:
            journal: what an earlier attempt had logged when it saved its state.
        """
        from trainer.trial import begin_trial

        self.logger = self.record.logger(journal, partial(self.storage.delete, self.state))
        try:
            return begin_trial(
                self.config,
                self.logger,
                data_dir=self.received.data_dir,
                model_folder=self.received.model_folder,
                checkpoint_folder=self.received.checkpoint_folder,
                num_threads=self.place.num_threads,
                save_model=self.place.save_model,
                scores_train=self.place.scores_train,
            )
        finally:
            self.logger.wait_open(OPENING_S)  # that the cell is taken comes before what may be wrong with it

    def _go_on(self, saved: Path) -> None:
        """Takes up the state of an earlier attempt, where it can be used; else nothing is open afterwards."""
        from trainer.state_file import StateError, read_notes

        try:
            journal = read_notes(saved)[JOURNAL]
        except (StateError, KeyError):
            return
        trial = cast("Trial", self._build(journal))
        try:
            trial.restore(saved)
        except StateError:
            self.logger.abandon(OPENING_S)  # what it is sending must not arrive while its successor counts
            return
        self.trial = trial

    def _save(self) -> None:
        """Puts the trial's state where the next attempt finds it; without it, that one begins anew."""
        trial = cast("Trial", self.trial)
        try:
            self.storage.save(self.state, lambda path: trial.save(path, {JOURNAL: self.logger.journal()}))
        except Exception as error:
            self.logger.tag("state_not_saved", without_secrets(first_line(error)))

    def _retry_or_fail(self, error: Exception) -> dict[str, Any]:
        """Leaves the cell to another attempt, saying why, or records that it failed for good.

        Raises:
            RuntimeError: which makes Tune start a new attempt in a new process.
        """
        if not hasattr(self, "logger"):
            raise _told(error) from None
        is_short = type(error).__name__ == "OutOfMemoryError" and 0 < self.place.gpus < 1
        if not is_short and self.record.retries >= MAX_RETRIES:
            return self._fail(error)
        self.logger.tag(self.record.retry_tag, without_secrets(first_line(error)))
        self.logger.abandon(OPENING_S)
        self.trial = None
        if is_short:
            return _ended(OUT_OF_MEMORY)
        raise _told(error) from None

    def _fail(self, error: Exception) -> dict[str, Any]:
        if not hasattr(self, "logger"):
            raise _told(error) from None
        self.logger.fail(error)
        self.is_recorded = self.logger.wait(CLOSING_S)
        return {**_ended(FAILED), "recorded": self.is_recorded, "reason": without_secrets(first_line(error))}


def _told(error: Exception) -> RuntimeError:
    """What Tune, which prints and logs it, may know of an error: MLflow's name the server with its password."""
    return RuntimeError(without_secrets(first_line(error)))


def _progress(report: Report) -> dict[str, Any]:
    return {"epoch": report.epoch, "done": report.result is not None}


def _ended(outcome: str) -> dict[str, Any]:
    return {SCORE: WORST, "epoch": 0, "outcome": outcome, "done": True}


def rehearse(place: Place, point: dict[str, Any], resources: Resources) -> float:
    """Trains a few steps of a cell where a trial would, recording nothing; returns examples per second."""
    import ray

    # One call a process: its memory, on the device too, is free again before the first trial.
    remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_calls=1)(_rehearse)
    speed: float = ray.get(remote.remote(place, point))
    return speed


def _rehearse(place: Place, point: dict[str, Any]) -> float:
    from trainer.logger import SilentLogger
    from trainer.trial import Trial

    os.environ.update(place.environment)
    config = place.config(point)
    received = place.supplies.receive(config, place.record.tracking_uri)
    trial = Trial(
        config,
        SilentLogger(),
        data_dir=received.data_dir,
        model_folder=received.model_folder,
        checkpoint_folder=received.checkpoint_folder,
        num_threads=place.num_threads,
    )
    return trial.rehearse()
