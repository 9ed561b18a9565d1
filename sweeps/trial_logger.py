"""A trainer's Logger that writes to an MLflow run and outlives its server: training never waits for it.

What a trial logs goes to a journal on local disk. A thread sends it on, in batches and in order; when the server is
away it waits and sends again. A run to which an earlier attempt has written is continued: a trial's stream is the same
each time, so of each metric as many points are skipped as the run has already.
"""

import shutil
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import recorded
from sweeps.claims import Taken
from sweeps.journal import BATCH, Journal
from sweeps.provenance import without_secrets
from sweeps.run_writer import End, Opened, RunWriter, Stopped
from trainer.config import Outcome, TrialResult
from trainer.errors import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["PAUSE", "Opened", "TrialLogger", "text_of"]

PAUSE = 0.5  # seconds that metrics wait for others before they are sent


def text_of(value: object, none: str = "all") -> str:
    """A param as MLflow shows it: ``None`` by the word that stands for it, numbers to 12 digits: 0.1 + 0.2 is 0.3."""
    return none if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


class TrialLogger:
    """A trainer's Logger that writes to an MLflow run from a thread of its own.

    Args:
        open_run: finds or makes the run; called in the thread, again and again while the server is away.
        folder: on local disk, this logger's own; made if need be, and removed when all is recorded.
        journal: what an earlier attempt had logged when it saved the state from which this one goes on.
        on_recorded: called in the thread when a finished trial's record is complete; what it raises is ignored.
        check_owner: as of :class:`RunWriter`.

    Raises:
        ValueError: when ``journal`` is damaged.
    """

    def __init__(
        self,
        store: "MlflowClient",
        open_run: Callable[[], Opened],
        folder: Path,
        *,
        journal: str = "",
        on_recorded: Callable[[], None] | None = None,
        check_owner: Callable[["Run"], None] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder / "journal.jsonl", journal)
        self._offset = self._num_sent = 0  # how far the thread has read: bytes, and as Journal.num_logged counts
        self._writer = RunWriter(store, open_run, check_owner)
        self._on_recorded = on_recorded
        self._end: End | None = None
        self._error: Exception | None = None
        self._is_closing = self._is_recorded = self._is_over = False
        self._changed = threading.Condition()
        self._start(self._send_all)

    @property
    def run_id(self) -> str | None:
        """The run's id; None until it is open."""
        return self._writer.run_id or None

    def params(self, values: Mapping[str, object]) -> None:
        with self._changed:
            self._journal.params({name: text_of(value) for name, value in values.items()})
            self._changed.notify_all()

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        with self._changed:
            self._journal.metrics(name, values, steps)
            self._changed.notify_all()

    def tag(self, name: str, value: str) -> None:
        with self._changed:
            self._journal.tags({f"{recorded.PREFIX}{name}": value})
            self._changed.notify_all()

    def artifact(self, name: str, content: bytes) -> None:
        path = self._artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def wait_open(self, timeout: float | None) -> bool:
        """Waits for the run; True once it is open.

        Args:
            timeout: in seconds; None for ever.

        Raises:
            Exception: what ``open_run`` raised, unless the server was away.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.run_id is not None or self._is_over, timeout)
        if self.run_id is None:
            self.check()
        return self.run_id is not None

    def check(self) -> None:
        """Raises what has gone wrong for good: Taken, or what the server refused."""
        if self._error is not None:
            raise self._error

    def journal(self) -> str:
        """All params, metrics and tags so far, for the ``journal`` of another attempt."""
        return self._journal.text()

    def finish(self, result: TrialResult) -> None:
        """The trial is over: once all is sent, its run ends with its outcome. Returns at once."""
        self.end(result.outcome)

    def end(self, outcome: Outcome) -> None:
        """What :meth:`finish` does."""
        self._close(End(status="FINISHED", tags={recorded.OUTCOME: outcome}))

    def fail(self, error: BaseException) -> None:
        """The trial failed: its run ends with the error as a tag and its traceback as an artifact.

        Returns at once and never raises. When the server refused something, as much is recorded as it still takes.
        """
        tags = {recorded.FAILURE: without_secrets(first_line(error)), recorded.OUTCOME: "failed"}
        end = End(status="FAILED", tags=tags, traceback=without_secrets("".join(traceback.format_exception(error))))
        with self._changed:
            if self._is_over and self._may_say_last_words(self._error):
                self._end, self._error = end, None
                self._start(self._say_last_words)
        self._close(end)

    def abandon(self, timeout: float) -> None:
        """Sends what is logged, for at most ``timeout`` seconds, and leaves the run open. Never raises."""
        self._close(None)
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, timeout)
        self._writer.stop()

    def wait(self, timeout: float | None) -> bool:
        """After :meth:`finish` or :meth:`fail`: True when the server has it all.

        Args:
            timeout: in seconds; None for ever.

        Raises:
            Exception: what has gone wrong for good.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, timeout)
        self.check()
        return self._is_recorded

    @property
    def _artifacts(self) -> Path:
        return self.folder / "artifacts"

    def _close(self, end: End | None) -> None:
        """Nothing follows in the journal; the first end counts."""
        with self._changed:
            if not self._is_closing:
                self._is_closing, self._end = True, end
                self._changed.notify_all()

    # The thread

    def _start(self, work: Callable[[], None]) -> None:
        self._is_over = False
        threading.Thread(target=self._run, args=(work,), name=f"log-{self.folder.name}", daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        error = None
        try:
            work()
        except Stopped:
            pass
        except Exception as raised:
            error = raised
        if error is None or isinstance(error, Taken):
            shutil.rmtree(self.folder, ignore_errors=True)
        with self._changed:
            has_failed = self._end is not None and self._end.status == "FAILED"
            goes_on = has_failed and work != self._say_last_words and self._may_say_last_words(error)
            if not goes_on:
                self._error, self._is_over = error, True
                self._changed.notify_all()
        if goes_on:
            self._run(self._say_last_words)

    def _may_say_last_words(self, error: Exception | None) -> bool:
        return error is not None and not isinstance(error, Taken) and self.run_id is not None

    def _send_all(self) -> None:
        self._writer.open()
        with self._changed:
            self._changed.notify_all()
        while self._await_more():
            self._send()
        self._end_run()

    def _say_last_words(self) -> None:
        """Something was refused: what followed it, and that the trial failed, is sent all the same."""
        while self._offset < self._journal.size:
            with suppress(Exception):
                self._send()
        self._end_run()

    def _await_more(self) -> bool:
        """Waits for something to send, and a moment for what follows; False when all is sent and closed."""
        journal = self._journal
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or journal.size > self._offset)
            self._changed.wait_for(lambda: self._is_closing or journal.num_logged - self._num_sent >= BATCH, PAUSE)
            return journal.size > self._offset

    def _send(self) -> None:
        entries, self._offset = self._journal.read(self._offset)
        self._num_sent += sum(map(len, entries))
        self._writer.write(entries)

    def _end_run(self) -> None:
        if self._end is None:
            return
        self._writer.end(self._end, self._artifacts)
        self._is_recorded = True
        if self._end.status == "FINISHED" and self._on_recorded is not None:
            with suppress(Exception):
                self._on_recorded()
