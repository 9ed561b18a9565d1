"""A cell's run, opened when its trial begins: claimed, described, and ready to go on where an earlier attempt ended."""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import recorded
from sweeps.claims import check_claim, claim_cell
from sweeps.connection import client
from sweeps.heartbeat import is_over, process_start, this_machine, this_process
from sweeps.ledger import CellRun
from sweeps.run_writer import LOOK_S
from sweeps.spec import cell_name
from sweeps.tracking import SweepRecord, data_tags, describe_trial, log_inputs
from sweeps.trial_logger import Opened, TrialLogger
from trainer.config import TrialConfig
from trainer.errors import UserError, first_line
from trainer.sources import cache_folder
from trainer.tasks.task import Dataset
from trainer.version import NUMBERS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Before a run is taken over from a process that may live on: it looks every LOOK_S whose the run is, and a request may
# take 20 s; what it writes until then is to be counted as recorded. The trial itself does not wait.
HANDOVER_S = LOOK_S + 20.0
DIED = "its process ended without a word"


class CellRecord:
    """Opens the run of one cell, whenever the tracking store allows.

    Args:
        key: the cell's key in the ledger.
        gone: sweeps of which it is certain that their drivers have ended.
        corpus: what the checkpoint that the trial starts from was pre-trained on; empty where that is not known.
    """

    def __init__(
        self,
        record: SweepRecord,
        config: TrialConfig,
        dataset: Dataset,
        key: str,
        gone: Collection[str] = (),
        corpus: str = "",
    ) -> None:
        self.record, self.config, self.dataset, self.key, self.gone = record, config, dataset, key, gone
        self._tags = {recorded.CORPUS: corpus} if corpus else {}
        self.retries = 0
        self._before: CellRun | None = None
        self._retry_tags: dict[str, str] = {}
        self._due = 0.0  # when the run may be gone on with, by time.monotonic

    @property
    def store(self) -> "MlflowClient":
        """The store's client in this process."""
        return client(self.record.tracking_uri)

    def logger(self, journal: str = "", on_recorded: Callable[[], None] | None = None) -> TrialLogger:
        """The logger of the cell's trial.

        Args:
            journal: what an earlier attempt had logged when it saved its state.
            on_recorded: called when all of the trial is in the store.
        """
        folder = spool_folder(self.key)
        return TrialLogger(
            self.store, self.open, folder, journal=journal, on_recorded=on_recorded, check_owner=self.check_owner
        )

    def open(self) -> Opened:
        """Claims the cell and opens its run.

        Raises:
            Taken: when another driver has it, or it is done.
        """
        record, store = self.record, self.store
        before = claim_cell(
            store,
            record.experiment_id,
            self.key,
            driver=record.run_id,
            gone=self.gone,
            stale=record.stale,
            create=self._create,
        )
        if self._before is None or self._before.run_id != before.run_id:  # else the store went away in mid-opening
            self._retry_tags = self._tags_of_retry(before)
            may_live_on = before.claimant not in ("", this_process()) and not is_over(before.claimant)
            self._due = time.monotonic() + HANDOVER_S * may_live_on
        self._before = before
        tags = {recorded.DRIVER: record.run_id, recorded.MEMBER + record.run_id: "true"}
        tags |= self._tags | self._retry_tags
        if (left := self._due - time.monotonic()) > 0:
            time.sleep(left)
            self.check_owner(store.get_run(before.run_id))
        if not before.is_open:
            store.update_run(before.run_id, status="RUNNING")
        for name in {recorded.OUTCOME, recorded.FAILURE} & before.tags.keys():
            store.delete_tag(before.run_id, name)
        if not before.claims and before.tags.get(recorded.DRIVER) == record.run_id:  # made just now, with all its tags
            log_inputs(store, before.run_id, self.config, self.dataset)
            return Opened(run_id=before.run_id, num_recorded={})
        describe_trial(store, before.run_id, self.config, self.dataset, tags)
        metrics = store.get_run(before.run_id).data.metrics
        counts = {name: len(store.get_metric_history(before.run_id, name)) for name in metrics}
        return Opened(run_id=before.run_id, num_recorded=counts)

    def check_owner(self, run: "Run") -> None:
        """Raises Taken when another driver has taken the run over, since it took this one for dead."""
        if self._before is not None:
            check_claim(CellRun.read(run), self._before, self.record.run_id)

    def _create(self) -> str:
        record = self.record
        own = {recorded.KIND: "trial", recorded.CELL: self.key, recorded.DRIVER: record.run_id}
        own[recorded.NUMBERS] = str(NUMBERS)
        own |= self._tags | data_tags(self.config.definition, self.dataset)  # the ledger looks for the digest
        tags = {**record.tags, **own, recorded.PARENT: record.run_id, recorded.MEMBER + record.run_id: "true"}
        title = cell_name(self.config, record.more_axes)
        run = self.store.create_run(record.experiment_id, start_time=int(time.time() * 1000), tags=tags, run_name=title)
        return str(run.info.run_id)

    def _tags_of_retry(self, before: CellRun) -> dict[str, str]:
        """Says that, and why, the run was taken up again."""
        if not before.claims:
            return {}
        is_own = before.owner == self.record.run_id and before.is_open
        self.retries = before.retries + 1 if is_own else 0
        name = f"{recorded.RETRY}{len(before.claims)}"
        reason = DIED if before.is_open else before.tags.get(recorded.FAILURE, DIED)
        return {recorded.RETRIES: str(self.retries), name: before.tags.get(name, reason)}

    @property
    def retry_tag(self) -> str:
        """The tag, without our prefix, in which this attempt says why it failed when another is to follow."""
        attempt = 1 + len(self._before.claims) if self._before else 1
        return f"{recorded.RETRY.removeprefix(recorded.PREFIX)}{attempt}"


def spool_folder(key: str) -> Path:
    """A new folder for a trial's journal on this machine; those of processes that are no more are removed.

    Raises:
        UserError: when the cache folder cannot be written.
    """
    try:
        return _new_folder(key)
    except OSError as error:
        raise UserError(
            f"POLYMATH_DATA: {str(cache_folder())!r} cannot be written ({first_line(error)}); "
            "set it to a folder that can"
        ) from None


def _new_folder(key: str) -> Path:
    # The cache folder may lie on a disk that several machines share.
    root = cache_folder() / "journals" / hashlib.sha256(this_machine().encode()).hexdigest()[:12]
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in root.iterdir() if this_machine() else ():
        pid, _, rest = folder.name.partition("-")
        if not pid.isdigit() or process_start(int(pid)) != rest.partition("-")[0]:
            shutil.rmtree(folder, ignore_errors=True)
    folder = root / f"{os.getpid()}-{process_start(os.getpid())}-{key}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    return folder
