"""Writes to a run of the tracking store, through outages: each request is repeated until the server has taken it."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sweeps.claims import Taken
from sweeps.connection import ONE_TRY, UPLOAD, impatient, is_outage
from sweeps.journal import Entry
from sweeps.ledger import OPEN
from sweeps.patience import FIRST_WAIT_S, LONGEST_WAIT_S

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

LOOK_S = 10.0  # after which it is looked anew whether the run is still ours

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run that a trial may write to.

    Attributes:
        num_recorded: metric -> how many points its history has already.
    """

    run_id: str
    num_recorded: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run is to end."""

    status: Literal["FINISHED", "FAILED"]
    tags: Mapping[str, str]
    traceback: str = ""


class Stopped(BaseException):
    """The writer was told to stop."""


class RunWriter:
    """Writes to one run; each method returns when the server has everything.

    Args:
        open_run: finds or makes the run.
        check_owner: given the run as it is now, raises Taken when it belongs to another; asked now and then, and before
            the end.

    Attributes:
        run_id: None until it is open.

    Raises:
        Taken: from each method, when the run is another's, or was ended by another.
        Stopped: from each method, after :meth:`stop`.
        Exception: from each method, what the server refused.
    """

    def __init__(
        self, store: "MlflowClient", open_run: Callable[[], Opened], check_owner: Callable[["Run"], None] | None = None
    ) -> None:
        self.store, self.run_id = store, ""
        self._open_run, self._check_owner = open_run, check_owner
        self._to_skip: dict[str, int] = {}
        self._looked = math.inf  # when, by the clock of _now
        self._ended_as = ""  # the status that we have asked for
        self._stop = threading.Event()
        self._random = random.Random()  # the global one belongs to the training

    def open(self) -> None:
        opened = self._insist(self._open_run)
        self._to_skip, self._looked = dict(opened.num_recorded), _now()
        self.run_id = opened.run_id

    def write(self, entries: Iterable[Entry]) -> None:
        """Sends entries of the trial's stream; points that an earlier attempt has sent are skipped."""
        from mlflow.entities import Param, RunTag

        metrics, params, tags = list["Metric"](), dict[str, str](), dict[str, str]()
        for entry in entries:
            metrics += self._unrecorded(entry)
            params |= entry.params
            tags |= entry.tags
        batch: dict[str, Any] = {
            "metrics": metrics,
            "params": [Param(name, value) for name, value in params.items()],
            "tags": [RunTag(name, value) for name, value in tags.items()],
        }
        if any(batch.values()):
            self._insist(lambda: self.store.log_batch(self.run_id, **batch))

    def end(self, end: End, artifacts: Path) -> None:
        """Uploads a folder, if there is one, and ends the run; a failed trial's run even if not all of it is taken."""
        from mlflow.entities import RunTag

        store, run_id = self.store, self.run_id
        tags = [RunTag(name, value) for name, value in end.tags.items()]
        forgiving: AbstractContextManager[object] = suppress(Exception) if end.status == "FAILED" else nullcontext()
        with forgiving:
            if artifacts.is_dir():
                self._insist(lambda: store.log_artifacts(run_id, str(artifacts)), UPLOAD)
        with forgiving:
            if end.traceback:
                self._insist(lambda: store.log_text(run_id, end.traceback, "traceback.txt"), UPLOAD)
        with forgiving:
            self._insist(lambda: store.log_batch(run_id, tags=tags))
        self._insist(lambda: self._terminate(end.status))

    def stop(self) -> None:
        """Ends what another thread does here, at once unless a request is under way."""
        self._stop.set()

    def _unrecorded(self, entry: Entry) -> "list[Metric]":
        from mlflow.entities import Metric

        num_skipped = min(self._to_skip.get(entry.metric, 0), len(entry.points))
        if num_skipped:
            self._to_skip[entry.metric] -= num_skipped
        return [Metric(entry.metric, value, time_ms, step) for time_ms, step, value in entry.points[num_skipped:]]

    def _terminate(self, status: str) -> None:
        self._look()
        self._ended_as = status
        self.store.set_terminated(self.run_id, status)

    def _look(self) -> None:
        """Looks whether the run is open, and still ours."""
        run = self.store.get_run(self.run_id)
        status = run.info.status
        if status not in (*OPEN, self._ended_as):  # the answer to our own request may have been lost
            raise Taken(f"run {self.run_id} was ended by another: it is {status}")
        if self._check_owner is not None:
            self._check_owner(run)
        self._looked = _now()

    def _insist(self, action: Callable[[], Result], settings: Mapping[str, str] = ONE_TRY) -> Result:
        """Does something with the server, again and again while the server is away."""
        wait = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                with impatient(settings):
                    if _now() - self._looked > LOOK_S:
                        self._look()
                    return action()
            except Exception as error:
                if not is_outage(error):
                    raise
            if self.run_id:
                self._looked = -math.inf  # much may have happened meanwhile
            self._stop.wait(wait * self._random.uniform(0.5, 1))
            wait = min(LONGEST_WAIT_S, 2 * wait)
        raise Stopped


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps: meanwhile others may have taken it for dead."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
