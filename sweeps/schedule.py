"""Runs cells as Ray Tune trials.

Optuna holds the cells as enqueued points, one for each trial that Tune asks for: every cell runs exactly once, in our
order. Its GridSampler searches the whole grid at each ask (over 200 ms at 3,000 cells), repeats cells beyond the grid's
size, and can lay out full products only. Nothing here looks through all cells at each trial, so that the time that a
trial takes the driver does not grow with the grid.

Tune's own record of what ran is not used: it is gone with its driver. What has been done stands in the tracking store.
"""

import logging
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from sweeps.cluster import Resources
from sweeps.lean_tune import lean_tune
from sweeps.progress import SweepProgress
from sweeps.provenance import without_secrets
from sweeps.worker import FAILED, MAX_RETRIES, SCORE

DIED = "died"  # outcome of a cell whose workers died, or could not record why they failed


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a cell that was run.

    Attributes:
        outcome: what its worker said; DIED where the ledger does not have it from there.
        is_recorded: whether its worker saw that the tracking store has all of it.
        num_failures: how many of its workers died.
        error: the traceback that Tune has, where the outcome is DIED.
    """

    point: dict[str, Any]
    outcome: str
    is_recorded: bool = False
    num_failures: int = 0
    error: str = ""


def run_cells(
    points: Sequence[Mapping[str, Any]], trainable: type[tune.Trainable], resources: Resources, progress: SweepProgress
) -> list[Ended]:
    """Runs every cell once, in order, as many side by side as there is room for.

    Args:
        points: the cells' places on the axes.
        trainable: is given a cell's point as its config.
        resources: what each trial takes.
        progress: told as trials start, report, end and fail; a failed trial does not stop the others.
    """
    _prepare_workers(resources)
    num_waiting = 0 if resources.is_shared_machine else resources.num_side_by_side
    limiter = ConcurrencyLimiter(GridSearch(points), resources.num_side_by_side + num_waiting)
    callback = ProgressCallback(progress, limiter, num_waiting)
    with tempfile.TemporaryDirectory(prefix="polymath-ray-") as storage, _quiet_tune(), lean_tune():
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=limiter, scheduler=InOrder(), num_samples=len(points), reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return callback.ended


def _prepare_workers(resources: Resources) -> None:
    """Says what of this process's environment Tune sends to its workers."""
    # Tune would copy the cloud's keys into what Ray's dashboard and logs show; workers find their own.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    if resources.is_shared_machine:
        # Workers have this process's environment anyway. With one of its own for them, Ray would start new ones, and
        # leave those idle that it started ahead (see sweeps.preload).
        class_cache.ENV_VARS_TO_PROPAGATE.clear()
        class_cache.DEFAULT_ENV_VARS.clear()


def axis(values: Sequence[Any]) -> BaseDistribution:
    """An axis of the grid as Optuna knows it.

    Numbers become a range: with each cell Optuna compares the whole distribution, and one of 10,000 seeds by name
    would make the time that a cell takes grow with the grid.
    """
    if all(type(value) is int for value in values):
        return IntDistribution(min(values), max(values))
    if all(type(value) is float and math.isfinite(value) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(values)


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
    """The line of a printed traceback that names the exception, without the exception's module.

    Of a worker that died Ray writes a paragraph; then it is that fact.
    """
    if died := re.search(r"The actor (?:is dead|died) because its (worker process|node) has died", text):
        return f"its {died[1]} died"
    named = re.findall(r"^(?:\w+\.)*(\w+: .+)$", text, flags=re.MULTILINE)
    return str(named[-1]) if named else text.strip().splitlines()[-1]


class GridSearch(OptunaSearch):
    """The cells as an Optuna study, which is told of a cell as Tune asks for one: each ask looks through all that wait.

    Args:
        points: the cells' places on the axes.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.InMemoryStorage()
        super().__init__(
            {name: axis([*dict.fromkeys(point[name] for point in points)]) for name in points[0]},
            metric=SCORE,
            mode="max",
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every trial is an enqueued point
            study_name="cells",
            storage=storage,
        )
        self.study = optuna.load_study(study_name="cells", storage=storage)
        self.points = iter(points)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next point."""
        self.study.enqueue_trial(dict(next(self.points)))
        return super().suggest(trial_id)


class InOrder(FIFOScheduler):
    """Leaves it to Tune which trial starts, but for one whose worker died: that takes the next worker that is free.

    FIFOScheduler looks through all trials at every event. It also gives the free worker to a trial whose own is about
    to start, or waits for room, and calls that one off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted: list[Trial] = []

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Notes a trial, which is pending by the next event if it is to go on."""
        self.interrupted.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that is to start before all others."""
        self.interrupted = [trial for trial in self.interrupted if trial.status == Trial.PENDING]
        return self.interrupted[0] if self.interrupted else None


class ProgressCallback(tune.Callback):
    """Tune's callback interface onto a SweepProgress; keeps what became of the cells.

    Args:
        limiter: says how many trials there may be that have not ended.
        num_waiting: how many of them may wait for room, so that workers start where machines join a cluster.
    """

    def __init__(self, progress: SweepProgress, limiter: ConcurrencyLimiter, num_waiting: int) -> None:
        self.progress, self.limiter, self.num_waiting = progress, limiter, num_waiting
        self.ended: list[Ended] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; a display has nothing to save

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_started(trial.config)
        if self.num_waiting:
            room = self.progress.running + self.num_waiting
            self.limiter.set_max_concurrency(max(self.limiter.max_concurrent, room))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.progress.trial_reported(result[SCORE])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        outcome, reason, is_recorded = result["outcome"], result.get("reason", ""), result.get("recorded", False)
        if outcome == FAILED and not is_recorded:
            self.ended.append(Ended(point=trial.config, outcome=DIED, num_failures=MAX_RETRIES + 1, error=reason))
            self.progress.trial_interrupted(trial.config)
            return
        self.ended.append(Ended(point=trial.config, outcome=outcome, is_recorded=is_recorded))
        if outcome == FAILED:
            self.progress.trial_failed(trial.config, reason)
        else:
            self.progress.trial_finished(trial.config, result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_recovers(trial.config, error_line(_error_text(trial)))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        failures = max(1, trial.run_metadata.num_failures)
        self.ended.append(Ended(point=trial.config, outcome=DIED, num_failures=failures, error=_error_text(trial)))
        self.progress.trial_interrupted(trial.config)


def _error_text(trial: Any) -> str:
    """Ray's account of a trial's last failure."""
    if not trial.error_file:
        return "its worker could not start"
    return without_secrets(Path(trial.error_file).read_text(errors="replace"))
