"""Leaves out what Tune does for every trial and a sweep has no use for, which is a quarter of its driver's time.

Tune has no options for it. The Ray that this is written for is pinned; docs/performance.md says what it saves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import registry
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from sweeps.environment import replaced


@contextmanager
def lean_tune() -> Iterator[None]:
    """Inside the block Tune does less for each trial."""
    with (
        replaced(registry._global_registry, _asked_once(registry._global_registry)),
        replaced(TuneController, {"checkpoint": _checkpoint_once(TuneController.checkpoint)}),
        replaced(Trial, {"set_ray_actor": _set_ray_actor}),
    ):
        yield


def _asked_once(trainables: Any) -> dict[str, Any]:
    """A registry's methods: Ray is asked once for a trainable's class, not five times a trial."""
    known: dict[tuple[str, str], Any] = {}
    get, contains = trainables.get, trainables.contains

    def get_once(category: str, name: str) -> Any:
        if (category, name) not in known:
            known[category, name] = get(category, name)
        return known[category, name]

    return {"get": get_once, "contains": lambda category, name: (category, name) in known or contains(category, name)}


def _checkpoint_once(checkpoint: Any) -> Any:
    """A controller's method: its file must be there at the end, but what happened is in the tracking store."""

    def checkpoint_at_first_step(self: TuneController, force: bool = False, wait: bool = False) -> None:
        if self._iteration == 0:
            checkpoint(self, force=True, wait=True)

    return checkpoint_at_first_step


def _set_ray_actor(trial: Any, worker: Any) -> None:
    """A trial's method: its worker is not asked, twice a trial, for a result to show before it has one."""
    trial.temporary_state.ray_actor = worker
