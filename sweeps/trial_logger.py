"""A trainer's Logger that writes to an MLflow run: in batches, off the training thread."""

import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import recorded
from trainer.config import TrialResult
from trainer.errors import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

BATCH = 1000  # metrics in one request; the most that a tracking server takes
PAUSE = 0.5  # seconds that metrics wait for others before they are sent


def text_of(value: object, none: str = "all") -> str:
    """A param as MLflow shows it: ``None`` by the word that stands for it, numbers to 12 digits: 0.1 + 0.2 is 0.3."""
    return none if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


class TrialLogger:
    """A trainer's Logger that writes to an MLflow run from a thread of its own.

    Raises:
        MlflowException: from :meth:`finish`, when the tracking server refused or lost what was sent.
    """

    def __init__(self, store: "MlflowClient", run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._files = tempfile.TemporaryDirectory(prefix="polymath-")
        self._pending: queue.SimpleQueue[list[Metric] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._send, name=f"log-{run_id}", daemon=True)
        self._thread.start()

    def params(self, values: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self.store.log_batch(self.run_id, params=[Param(name, text_of(value)) for name, value in values.items()])

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending.put([Metric(name, value, now, step) for value, step in zip(values, steps, strict=True)])

    def tag(self, name: str, value: str) -> None:
        self.store.set_tag(self.run_id, f"{recorded.PREFIX}{name}", value)

    def artifact(self, name: str, content: bytes) -> None:
        path = Path(self._files.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def finish(self, result: TrialResult) -> None:
        """Sends what is left and ends the run with its outcome."""
        self._stop_sending()
        if self._failure is not None:
            raise self._failure
        self._upload()
        self.store.set_tag(self.run_id, recorded.OUTCOME, result.outcome)
        self.store.set_terminated(self.run_id, "FINISHED")

    def fail(self, error: BaseException) -> None:
        """Ends the run as failed, with the error as a tag and its traceback as an artifact.

        Never raises: when the store itself is what failed, as much is recorded as it still takes.
        """
        self._stop_sending()
        text = "".join(traceback.format_exception(error))
        for record in (
            self._upload,
            lambda: self.store.log_text(self.run_id, text, "traceback.txt"),
            lambda: self.store.set_tag(self.run_id, recorded.FAILURE, first_line(error)),
            lambda: self.store.set_tag(self.run_id, recorded.OUTCOME, "failed"),
            lambda: self.store.set_terminated(self.run_id, "FAILED"),
        ):
            with suppress(Exception):
                record()

    def _stop_sending(self) -> None:
        self._pending.put(None)
        self._thread.join()

    def _upload(self) -> None:
        if Path(self._files.name).is_dir():
            try:
                self.store.log_artifacts(self.run_id, self._files.name)
            finally:
                self._files.cleanup()

    def _send(self) -> None:
        """Sends metrics in the order in which they came, until the closing None."""
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            try:
                for start in range(0, len(batch), BATCH):
                    self.store.log_batch(self.run_id, metrics=batch[start : start + BATCH])
            except Exception as error:  # kept for finish(): the training thread must hear of it
                self._failure = self._failure or error

    def _gather(self) -> "tuple[list[Metric], bool]":
        """Waits for metrics, and a moment for those that follow; False with the last ones."""
        batch: list[Metric] = []
        metrics = self._pending.get()
        due = time.monotonic() + PAUSE
        while metrics is not None:
            batch += metrics
            if len(batch) >= BATCH:
                return batch, True
            try:
                metrics = self._pending.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                return batch, True
        return batch, False
