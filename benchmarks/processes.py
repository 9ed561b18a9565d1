"""A command run in the background as a user would, and every process that it started, to be killed on purpose."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "FAULTS_COMMAND"  # environment variable that all processes of a command inherit, Ray's too
POLL_S = 0.05
# How Ray titles the processes of trials: ours, ours while it starts, a function.
TRIALS = ("ray::WorkerTrial", "ray::ResourceTrainable", "ray::ImplicitFunc")
OWN = ("RAY_", "MLFLOW_", "POLYMATH_", "TUNE_")  # settings that a command gets from us alone


class Command:
    """``python -m ...`` in the repository's root.

    Args:
        log: what it prints is appended here.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log, self.started = log, time.monotonic()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env={**kept, "PYTHONUNBUFFERED": "1", **environment, name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; negative for a signal, None while it runs."""
        return self.process.poll()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def below(self) -> list[int]:
        """The ids of all living processes that it started, directly or not, even where they have a new parent."""
        mark = self.mark.encode()
        return [pid for pid in living() if pid != self.process.pid and mark in _read(pid, "environ").split(b"\0")]

    def kill(self) -> None:
        """SIGKILL, for this one process."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Kills it and all that is left of it."""
        self.kill()
        while left := self.below():
            kill_all(left)
            time.sleep(POLL_S)


def living() -> list[int]:
    """The ids of all processes but zombies."""
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in numbers if _read(pid, "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"])]


def trial_workers(process_ids: Iterable[int]) -> list[int]:
    """Those processes in which Ray runs a trial; it says so in their titles."""
    return [pid for pid in process_ids if title_of(pid).startswith(TRIALS)]


def is_worker(pid: int) -> bool:
    """Whether a process is one of Ray's workers, busy or not, and lives."""
    title = title_of(pid)
    return title.startswith("ray::") and "Agent" not in title


def title_of(pid: int) -> str:
    """What a process calls itself, at most 60 characters; empty when there is none."""
    return _read(pid, "cmdline").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace").strip()[:60]


def kill_all(process_ids: Iterable[int]) -> None:
    """SIGKILL for each that is still there."""
    for pid in process_ids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
