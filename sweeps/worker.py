"""A trial inside a Ray worker: the bridge from Ray Tune to the trainer.

Workers are reused: torch and transformers are imported once a process, and data and weights stay loaded between
trials (the caches in ``trainer.data`` and ``trainer.models``).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from sweeps.checkpoints import checkpoint_folder
from sweeps.cluster import Resources
from sweeps.tracking import SweepRecord
from sweeps.trial_logger import TrialLogger
from trainer.config import Report, TrialConfig

SCORE = "score"  # what Tune and Optuna are told; never NaN, which Optuna refuses
WORST = -math.inf  # the score of a diverged trial


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where trials run and read, and what they leave behind; nothing in here changes their numbers.

    Attributes:
        home: the folder in which the sweep was started.
    """

    base: dict[str, Any]
    record: SweepRecord
    data_dir: Path | None
    model_folder: Path | None
    num_threads: int
    home: Path | None = None
    save_model: bool = False
    scores_train: bool = False


class WorkerTrial(tune.Trainable):
    """One trial after another in one process; a Tune step is an epoch with its evaluation."""

    def setup(self, config: dict[str, Any], place: Place) -> None:  # type: ignore[override]
        from trainer import trial  # noqa: F401  (torch and transformers come in here, once a process)

        self.place = place
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # The trial itself begins with its first step: Tune may give a cell for which this worker was started to another
        # one that came free meanwhile, and then this one must have recorded nothing.
        self.point = new_config
        self.trial: Iterator[Report] | None = None
        return True

    def _config(self) -> TrialConfig:
        return TrialConfig(**{**self.place.base, **self.point})

    def _open_run(self) -> TrialLogger:
        from trainer.data import load_dataset

        config = self._config()
        return self.place.record.start_trial(config, load_dataset(config.definition, self.place.data_dir))

    def _begin(self) -> Iterator[Report]:
        from trainer.trial import begin_trial

        place, config = self.place, self._config()
        return begin_trial(
            config,
            self.logger,
            data_dir=place.data_dir,
            model_folder=place.model_folder,
            checkpoint_folder=checkpoint_folder(config, place.record.tracking_uri, place.home),
            num_threads=place.num_threads,
            save_model=place.save_model,
            scores_train=place.scores_train,
        )

    def step(self) -> dict[str, Any]:
        if self.trial is None:
            self.logger = self._open_run()
        try:
            self.trial = self.trial or self._begin()
            report = next(self.trial)
            if report.result is not None:
                self.logger.finish(report.result)
        except Exception as error:
            self.logger.fail(error)
            raise
        told = {SCORE: WORST if math.isnan(report.valid_score) else report.valid_score, "epoch": report.epoch}
        if report.result is None:
            return {**told, "done": False}
        metrics = report.result.metrics
        return {
            **told,
            SCORE: metrics.get("valid/score", WORST),
            "test_score": metrics.get("test/score"),
            "outcome": report.result.outcome,
            "done": True,
        }


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

    config = TrialConfig(**{**place.base, **point})
    folder = checkpoint_folder(config, place.record.tracking_uri, place.home)
    trial = Trial(
        config,
        SilentLogger(),
        data_dir=place.data_dir,
        model_folder=place.model_folder,
        checkpoint_folder=folder,
        num_threads=place.num_threads,
    )
    return trial.rehearse()
