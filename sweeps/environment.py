"""Which processes Ray starts for a sweep on this machine, and the environment that they have."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads its settings from the environment when it is imported, so they are set before.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # one machine: Ray's servers listen on 127.0.0.1 alone
RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the display is ours
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are recorded in MLflow, not in files beside it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep instead of asking for a second one
}
JOINING = {"RAY_NUM_REDIS_GET_RETRIES": "5"}  # seconds of knocking at a cluster that does not let us in
# Of no use to a sweep: dashboard, autoscaler, workers' output at the driver; a second of processor time each.
NEEDLESS = ("start_api_server", "start_monitor", "start_log_monitor")


def preload(module: str) -> dict[str, str]:
    """The settings with which workers import a module of this checkout as soon as they are there."""
    paths = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"RAY_preload_python_modules": module, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Inside the block the environment has these settings too, for the processes that are started in it."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def only_needed_processes() -> Iterator[None]:
    """Inside the block ``ray.init`` starts a node without the processes of ``NEEDLESS``, for which it has no option."""
    from ray._private.node import Node

    def nothing(*arguments: Any, **options: Any) -> None:
        pass

    with replaced(Node, {name: nothing for name in NEEDLESS if hasattr(Node, name)}):
        yield


@contextmanager
def replaced(owner: Any, methods: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block a class or an object has these methods instead of its own."""
    before = {name: getattr(owner, name) for name in methods}
    for name, method in methods.items():
        setattr(owner, name, method)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(owner, name, method)
