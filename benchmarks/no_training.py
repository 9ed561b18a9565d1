"""A trial that trains nothing: all of a sweep but the training, for benchmarks.overhead."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from sweeps.worker import OPENING_S, Attempt, Place, WorkerTrial
from trainer.config import Report, TrialResult

METRICS = {"valid/score": 0.5, "test/score": 0.5, "best_epoch": 1.0, "examples_per_second": 1.0}


class NoTraining(WorkerTrial):
    """The trainable of a sweep, whose trials end at once."""

    def setup(self, config: dict[str, Any], place: Place) -> None:  # type: ignore[override]
        self.place = place
        self.incomplete = []
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        self.attempt = EmptyAttempt(self.place, self.point)
        return self.attempt.step()


class EmptyAttempt(Attempt):
    """Claims its cell and records it like any other."""

    def _build(self, journal: str = "") -> Iterator[Report]:
        self.logger = self.record.logger(journal, partial(self.storage.delete, self.state))
        self.logger.wait_open(OPENING_S)
        return self._reports()

    def _reports(self) -> Iterator[Report]:
        self.logger.params(self.config.settings())
        self.logger.metrics("train/loss", [0.7], [1])
        for name, value in METRICS.items():
            self.logger.metrics(name, [value], [1])
        result = TrialResult(config=self.config, outcome="finished", metrics=METRICS, losses=[0.7])
        yield Report(epoch=1, step=1, valid_score=0.5, result=result)
