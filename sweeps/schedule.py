"""Runs cells as Ray Tune trials.

Optuna holds the cells as points enqueued through OptunaSearch: every cell runs exactly once, in our order, and asking
costs the same for the last cell as for the first. Its GridSampler searches the whole grid at each ask (over 200 ms at
3,000 cells), repeats cells beyond the grid's size, and can lay out full products only.

Tune's own record of what ran is not used: it is gone with its driver. What has been done stands in the tracking store.
"""

import logging
import math
import os
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
from ray.tune import registry
from ray.tune.execution import class_cache
from ray.tune.search.optuna import OptunaSearch

from sweeps.cluster import Resources
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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = OptunaSearch(
        {name: axis([*dict.fromkeys(point[name] for point in points)]) for name in points[0]},
        points_to_evaluate=[dict(point) for point in points],
        metric=SCORE,
        mode="max",
        sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every trial is an enqueued point
    )
    _prepare_workers(resources)
    callback = ProgressCallback(progress)
    with tempfile.TemporaryDirectory(prefix="polymath-ray-") as storage, _quiet_tune(), _asked_once():
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(search_alg=search, num_samples=len(points), reuse_actors=True),
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
    """Says how many workers Tune may start at once, and what of this process's environment it sends to them."""
    # Tune starts one worker at a time for a searcher; with short trials a second one would never come up.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(resources.num_side_by_side)
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
def _asked_once() -> Iterator[None]:
    """Inside the block Tune asks Ray once for a trainable's class, not five times a trial."""
    trainables: Any = registry._global_registry
    known: dict[tuple[str, str], Any] = {}
    get, contains = trainables.get, trainables.contains

    def get_once(category: str, name: str) -> Any:
        if (category, name) not in known:
            known[category, name] = get(category, name)
        return known[category, name]

    trainables.get = get_once
    trainables.contains = lambda category, name: (category, name) in known or contains(category, name)
    try:
        yield
    finally:
        trainables.get, trainables.contains = get, contains


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


class ProgressCallback(tune.Callback):
    """Tune's callback interface onto a SweepProgress; keeps what became of the cells."""

    def __init__(self, progress: SweepProgress) -> None:
        self.progress = progress
        self.ended: list[Ended] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; a display has nothing to save

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.trial_started(trial.config)

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
