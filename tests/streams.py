"""What a trial would log, at a real TrialLogger, and what the tracking store has of it afterwards."""

import math
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sweeps import recorded
from sweeps.trial_logger import Opened, TrialLogger
from tests.trials import DONE, PATIENCE_S

OUTAGE_S = 120  # for what happens once a server is back, on a busy machine


class WatchedClient(MlflowClient):
    """Tells when the server was away."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.missed = threading.Event()

    def log_batch(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().log_batch(*args, **kwargs)
        except Exception:
            self.missed.set()
            raise


def loss(step: int) -> float:
    """A trial's loss; the same in each attempt."""
    return math.inf if step % 50 == 7 else 1 / step


class Stream:
    """One attempt at a trial: a loss at every step, a score at every tenth, params, a tag and an artifact.

    Args:
        run_id: of the run in which to go on; None to make one in an experiment.
        journal: the earlier attempt's, when it had come to step ``start``.
    """

    def __init__(
        self,
        store: MlflowClient,
        experiment: str,
        folder: Path,
        *,
        run_id: str | None = None,
        journal: str = "",
        start: int = 0,
    ) -> None:
        self.store, self.experiment, self.folder, self.num_steps = store, experiment, folder, start
        self.given = run_id
        self.logger = TrialLogger(store, self._open, _new(folder), journal=journal)
        self.logger.params({"task": "splice", "learning_rate": 1e-5})
        self.logger.tag("hardware", "abacus")

    def _open(self) -> Opened:
        run_id = self.given or self.store.create_run(self.experiment).info.run_id
        metrics = self.store.get_run(run_id).data.metrics
        counts = {name: len(self.store.get_metric_history(run_id, name)) for name in metrics}
        return Opened(run_id=run_id, num_recorded=counts)

    def log(self, num_steps: int) -> None:
        """Logs some more steps, one by one."""
        for _ in range(num_steps):
            self.num_steps += 1
            self.logger.metrics("train/loss", [loss(self.num_steps)], [self.num_steps])
            if self.num_steps % 10 == 0:
                self.logger.metrics("valid/score", [self.num_steps / 10], [self.num_steps])

    def finish(self) -> None:
        self.logger.metrics("valid/score", [1.0], [self.num_steps])  # the best one's, again
        self.logger.artifact("predictions/test.csv", b"label\n0\n")
        self.logger.finish(DONE)

    def check_recorded(self, store: MlflowClient | None = None) -> None:
        """All that was logged is in the store: once, in order, and the run is finished."""
        store, run_id = store or self.store, str(self.logger.run_id)
        run = store.get_run(run_id)
        losses, scores = (store.get_metric_history(run_id, name) for name in ("train/loss", "valid/score"))
        steps = range(1, self.num_steps + 1)
        assert [point.step for point in losses] == list(steps)
        assert [min(point.value, 1e300) for point in losses] == [min(loss(step), 1e300) for step in steps]  # inf is cut
        tenths = [(step, step / 10) for step in steps if step % 10 == 0]
        assert [(point.step, point.value) for point in scores] == [*tenths, (self.num_steps, 1.0)]
        assert run.data.params == {"task": "splice", "learning_rate": "1e-05"}
        assert run.data.tags["polymath.hardware"] == "abacus"
        assert (run.info.status, run.data.tags[recorded.OUTCOME]) == ("FINISHED", DONE.outcome)
        there = Path(store.download_artifacts(run_id, "predictions/test.csv", str(_made(_new(self.folder)))))
        assert there.read_bytes() == b"label\n0\n"


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    pause = threading.Event()
    assert any(condition() or pause.wait(0.02) for _ in range(PATIENCE_S * 50))


_numbers = count()


def _new(folder: Path) -> Path:
    return folder / f"{next(_numbers)}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
