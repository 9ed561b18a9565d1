"""The display of a running sweep: a live bar with a line a trial on a terminal, plain lines in a pipe."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class SweepProgress:
    """Counts trials as they start, finish and fail, and shows the best score and the time left.

    Use as a context manager: the live bar, where there is a terminal, is drawn inside it.

    Args:
        name: what the trial at a point is called.
    """

    def __init__(
        self, num_cells: int, name: Callable[[Mapping[str, Any]], str], console: Console | None = None
    ) -> None:
        self.num_cells, self._name = num_cells, name
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.found = self.done = self.failed = self.diverged = 0
        self._running: set[str] = set()
        self.best: float | None = None
        self.started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.completed}/{task.total} trials"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=num_cells)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def running(self) -> int:
        """How many trials have started and not ended."""
        return len(self._running)

    @property
    def settled(self) -> int:
        """How many cells need nothing more: done before or elsewhere, done here, or failed."""
        return self.found + self.done + self.failed

    def say(self, text: str) -> None:
        """A line about the sweep as a whole."""
        self.console.print(text, markup=False)

    def found_done(self) -> None:
        """A cell turned out to be done by an earlier sweep, or by another driver."""
        self.found += 1
        self._refresh()

    def trial_started(self, point: dict[str, Any]) -> None:
        """A trial began."""
        self._running.add(self._name(point))
        self._refresh()

    def trial_reported(self, score: float) -> None:
        """A trial was evaluated on valid."""
        self._consider(score)
        self._refresh()

    def trial_finished(self, point: dict[str, Any], result: dict[str, Any]) -> None:
        """A trial ended by itself, diverged or not; or it was not to be had here, which is nothing to tell."""
        name = self._ended(point)
        if result["outcome"] not in ("finished", "diverged"):
            return
        self.done += 1
        if result["outcome"] == "diverged":
            self.diverged += 1
            said = "diverged (the training loss became NaN or infinite)"
        else:
            self._consider(result["score"])
            said = f"valid {result['score']:.4f}, test {result['test_score']:.4f}"
        self._line(name, f"{said}, {result['epoch']} epochs, {duration(result['time_total_s'])}")

    def trial_failed(self, point: dict[str, Any], reason: str) -> None:
        """A trial ended with an error, for good."""
        name = self._ended(point)
        self.failed += 1
        self._line(name, f"FAILED: {reason}")

    def trial_recovers(self, point: dict[str, Any], reason: str) -> None:
        """A trial's process failed or died; the trial goes on in another."""
        self.say(f"{self._ended(point)}: taken up again ({reason})")

    def trial_interrupted(self, point: dict[str, Any]) -> None:
        """A trial no longer runs."""
        self._ended(point)

    def _ended(self, point: dict[str, Any]) -> str:
        """Takes a trial from those that run; returns its name."""
        name = self._name(point)
        self._running.discard(name)  # one that died while it was starting is not in there
        self._refresh()
        return name

    def _consider(self, score: float) -> None:
        if math.isfinite(score):  # a diverged trial reports -inf
            self.best = score if self.best is None else max(self.best, score)

    def _summary(self) -> str:
        ended = self.done + self.failed
        parts = [f"{self.running} running", f"{self.failed} failed", f"{self.diverged} diverged"]
        if self.best is not None:
            parts.append(f"best valid {self.best:.4f}")
        if ended and self.settled < self.num_cells:
            left = (time.monotonic() - self.started) / ended * (self.num_cells - self.settled)
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _refresh(self) -> None:
        self._bar.update(self._task, completed=self.settled, description=self._summary())

    def _line(self, name: str, said: str) -> None:
        self._refresh()
        line = f"[{self.settled}/{self.num_cells}] {name}: {said}"
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:  # without what rich does for a terminal, which takes a millisecond
            print(f"{line} ({self._summary()})", file=self.console.file, flush=True)
