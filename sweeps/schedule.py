"""Runs a sweep's cells as Ray Tune trials.

Optuna holds the grid as points enqueued through OptunaSearch, one for each cell: every cell runs exactly once, in our
order, and asking costs the same for the last cell as for the first. Its GridSampler searches the whole grid at each
ask (over 200 ms at 3,000 cells), repeats cells beyond the grid's size, and can lay out full products only.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from sweeps.cluster import Resources
from sweeps.progress import SweepProgress
from sweeps.spec import SweepSpec
from sweeps.worker import SCORE


def run_cells(spec: SweepSpec, trainable: type[tune.Trainable], resources: Resources, progress: SweepProgress) -> None:
    """Runs every cell of the grid once, in order, as many side by side as there is room for.

    Args:
        trainable: is given a cell's point as its config.
        resources: what each trial takes.
        progress: told as trials start, report, end and fail; a failed trial does not stop the sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    points = spec.points()
    search = OptunaSearch(
        {name: CategoricalDistribution([*dict.fromkeys(point[name] for point in points)]) for name in spec.axes},
        points_to_evaluate=points,
        metric=SCORE,
        mode="max",
        sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every trial is an enqueued point
    )
    # Tune starts one worker at a time for a searcher; with short trials a second one would never come up.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(resources.num_side_by_side)
    with tempfile.TemporaryDirectory(prefix="polymath-ray-") as storage, _quiet_tune():
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(search_alg=search, num_samples=len(points), reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                callbacks=[ProgressCallback(progress)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Keeps Tune's own account of failures off the terminal: progress tells them in a line each."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def error_line(text: str) -> str:
    """The line of a printed traceback that names the exception, without the exception's module."""
    named = re.findall(r"^(?:\w+\.)*(\w+: .+)$", text, flags=re.MULTILINE)
    return str(named[-1]) if named else text.strip().splitlines()[-1]


class ProgressCallback(tune.Callback):
    """Tune's callback interface onto a SweepProgress."""

    def __init__(self, progress: SweepProgress) -> None:
        self.progress = progress

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; a display has nothing to save

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_started(trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.progress.trial_reported(result[SCORE])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_finished(trial.config, trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_failed(trial.config, error_line(Path(trial.error_file).read_text(errors="replace")))
