"""Whether a sweep's driver still lives: it shows a heartbeat in the tracking store, and others watch it.

On the driver's own machine its process tells at once. Elsewhere a driver is gone when its heartbeat has stood still for
LEASE_S. That is measured by the watcher's clock alone, so clocks need not agree; and only time counts in which the
watcher's own heart could beat, since nobody's can while the store is away.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sweeps import recorded
from sweeps.connection import impatient
from sweeps.ledger import open_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

BEAT_S = 10.0
LEASE_S = 60.0


def this_machine() -> str:
    """Names this boot of this machine, and its space of process ids (a container has its own); empty if unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def process_start(pid: int) -> str:
    """When a process of this machine started, in clock ticks since boot; empty when there is none."""
    with suppress(OSError, IndexError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    return ""


def this_process() -> str:
    """Names this process among all of all machines, for :func:`is_over`; without blanks."""
    return f"{this_machine().replace(' ', '/')}|{os.getpid()}|{process_start(os.getpid())}"


def is_over(process: str) -> bool:
    """Whether a process was one of this machine and is no more; False where that cannot be seen from here."""
    machine, _, rest = process.partition("|")
    pid, _, started = rest.partition("|")
    if not machine or machine != this_machine().replace(" ", "/") or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's, of which the system may show nothing
    return process_start(int(pid)) not in ("", started)


def heartbeat_of_now(beats: int = 0) -> str:
    """The tag's value: this process, and a number that grows."""
    return json.dumps({"process": this_process(), "beats": beats})


class Heartbeat:
    """Sets the heartbeat tag on a sweep's run, at once and then every BEAT_S, while the block lasts."""

    def __init__(self, store: "MlflowClient", run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._beats = 0
        self.up_since = math.inf  # since when the store has taken every beat, by time.monotonic

    def __enter__(self) -> Self:
        self._try_to_beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _beat(self) -> None:
        self._beats += 1
        self.store.set_tag(self.run_id, recorded.HEARTBEAT, heartbeat_of_now(self._beats))

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_S):
            self._try_to_beat()

    def _try_to_beat(self) -> None:
        try:
            with impatient():
                self._beat()
        except Exception:
            self.up_since = math.inf  # the store is away; others cannot beat either
        else:
            self.up_since = min(self.up_since, time.monotonic())


@dataclass(frozen=True)
class _Seen:
    value: str
    since: float


class Watch:
    """Tells which of some drivers are gone, from one look to the next.

    Args:
        heartbeat: the watching driver's own.
    """

    def __init__(self, store: "MlflowClient", heartbeat: Heartbeat) -> None:
        self.store, self.own, self.heartbeat = store, heartbeat.run_id, heartbeat
        self._seen: dict[str, _Seen] = {}

    def look(self, experiment_id: str) -> None:
        """Begins to watch every driver that says it is running."""
        self.gone(run.info.run_id for run in open_runs(self.store, experiment_id, "sweep"))

    def gone(self, drivers: Iterable[str]) -> frozenset[str]:
        """Those of some drivers, given by their sweeps' run ids, of which it is certain that they have ended."""
        return frozenset(driver for driver in set(drivers) - {self.own} if self._is_gone(driver))

    def _is_gone(self, driver: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = self.store.get_run(driver)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return True  # deleted for good, or never a run
            raise
        if run.info.status not in ("RUNNING", "SCHEDULED") or run.info.lifecycle_stage == "deleted":
            return True
        value = run.data.tags.get(recorded.HEARTBEAT, "")
        return self._has_no_process(value) or self._stood_still(driver, value)

    @staticmethod
    def _has_no_process(value: str) -> bool:
        """Whether the driver was a process of this machine that is no more."""
        try:
            return is_over(str(json.loads(value)["process"]))
        except (ValueError, KeyError, TypeError):
            return False

    def _stood_still(self, driver: str, value: str) -> bool:
        now = time.monotonic()
        seen = self._seen.get(driver)
        if seen is None or seen.value != value:
            self._seen[driver] = _Seen(value, now)
            return False
        return now - max(seen.since, self.heartbeat.up_since) >= LEASE_S
