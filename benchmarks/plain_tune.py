"""What users wire together today: Ray Tune and MLflow, as Ray's documentation says, over the same 12 cells.

A function trainable trains the same trials as our sweep does, one report an epoch, each with a checkpoint of the
trial's whole state, from which it goes on after a failure. MLflow comes in by one of Ray's two ways
(docs.ray.io/en/latest/tune/examples/tune-mlflow.html):

- ``callback``: ``MLflowLoggerCallback`` in the driver logs what is reported.
- ``setup_mlflow``: ``setup_mlflow`` opens a run in the trainable, which logs by itself and ends it.

Workers are reused, as ours are, so that a trial does not wait for torch. Failed trials are tried again
(``FailureConfig(max_failures=3)``). The same command again after the driver has ended goes on by
``Tuner.restore(..., resume_errored=True)`` where ``Tuner.can_restore``
(docs.ray.io/en/latest/tune/tutorials/tune-fault-tolerance.html).
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback, setup_mlflow

from benchmarks.scene import NUM_CELLS, NUM_EPOCHS
from trainer.commandline import parse, run, setting

MODES = ("callback", "setup_mlflow")
NAME = "sweep"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run."""

    mode: str = setting("callback", help="how MLflow comes in: callback or setup_mlflow")
    data_dir: str = setting("data", help="folder with the task's files")
    model: str = setting("model", help="folder of the model")
    storage: str = setting("ray_results", help="folder for Tune's own record and the checkpoints")


class Train:
    """The function trainable."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.__name__ = "train"

    def __call__(self, config: dict[str, Any]) -> None:
        from trainer.config import TrialConfig
        from trainer.logger import SilentLogger
        from trainer.trial import Trial

        mlflow = self._open_run(config) if self.settings.mode == "setup_mlflow" else None
        subject: dict[str, Any] = {
            "task": "splice",
            "num_epochs": NUM_EPOCHS,
            "patience": NUM_EPOCHS,
            "model": self.settings.model,
        }
        trial = Trial(
            TrialConfig(**subject, **config), SilentLogger(), data_dir=Path(self.settings.data_dir), num_threads=1
        )
        if checkpoint := tune.get_checkpoint():
            with checkpoint.as_directory() as folder:
                trial.restore(Path(folder, "state"))
        for report in trial:
            steps_per_epoch = len(trial.losses) // report.epoch
            last = trial.losses[-steps_per_epoch:]
            values = {"epoch": report.epoch, "valid_score": report.valid_score, "train_loss": sum(last) / len(last)}
            if report.result:
                values["test_score"] = report.result.metrics["test/score"]
            if mlflow:
                mlflow.log_metrics(values, step=report.epoch)
            if report.result:
                tune.report(values)  # nothing is left to go on with
                continue
            with tempfile.TemporaryDirectory() as folder:
                trial.save(Path(folder, "state"))
                tune.report(values, checkpoint=tune.Checkpoint.from_directory(folder))
        if mlflow:
            mlflow.end_run()

    def _open_run(self, config: dict[str, Any]) -> Any:
        return setup_mlflow(
            config,
            tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
            experiment_name=os.environ["MLFLOW_EXPERIMENT_NAME"],
            create_experiment_if_not_exists=True,
        )


class Told(tune.Callback):
    """Says how many trials have ended."""

    num_ended = -1

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        before, self.num_ended = self.num_ended, sum(trial.status == "TERMINATED" for trial in trials)
        if self.num_ended != before:
            print(f"[{self.num_ended}/{NUM_CELLS}]", flush=True)


def make_tuner(settings: Settings) -> tune.Tuner:
    """A new Tuner, or the one that an earlier driver has left."""
    path = str(Path(settings.storage).absolute() / NAME)
    trainable = tune.with_resources(Train(settings), {"cpu": 1})
    if tune.Tuner.can_restore(path):
        return tune.Tuner.restore(path, trainable=trainable, resume_errored=True)
    callbacks: list[tune.Callback] = [Told()]
    if settings.mode == "callback":
        uri, experiment = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_EXPERIMENT_NAME"]
        callbacks.append(MLflowLoggerCallback(uri, experiment_name=experiment))
    axes: dict[str, list[Any]] = {
        "seed": [0, 1, 2],
        "learning_rate": [3e-4, 1e-4],
        "init": ["pretrained", "scratch"],
    }
    return tune.Tuner(
        trainable,
        param_space={name: tune.grid_search(values) for name, values in axes.items()},
        tune_config=tune.TuneConfig(metric="valid_score", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(Path(settings.storage).absolute()),
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=callbacks,
        ),
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the sweep, or what is left of it; status 1 when a trial failed for good."""
    settings = parse(Settings, arguments, program="python -m benchmarks.plain_tune", description=__doc__ or "")
    ray.init(address=os.environ.get("RAY_ADDRESS", "local"), include_dashboard=False, log_to_driver=False)
    return 1 if make_tuner(settings).fit().num_errors else 0


if __name__ == "__main__":
    run(main)
