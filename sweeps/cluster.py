"""Where trials run: this machine or a Ray cluster, and what each trial takes of it.

Importing this module is cheap; Ray comes in when a session starts.
"""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.spec import SweepOptions
from trainer.errors import UserError, first_line

# Ray reads its settings from the environment when it is imported, so they are set before.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # one machine: Ray's servers listen on 127.0.0.1 alone
RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the display is ours
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are recorded in MLflow, not in files beside it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep instead of asking for a second one
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the record of what ran is the tracking store, not Tune's
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each trial takes: CPU threads, a GPU or a share of one, and how many trials fit side by side."""

    cpus: int
    gpus: float
    num_side_by_side: int


def local_gpus() -> int:
    """How many NVIDIA GPUs this process may use, without importing torch or Ray."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1", "NoDevFiles")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def fit_resources(options: SweepOptions, cpus: float, gpus: float, where: str) -> Resources:
    """What a trial asks for, checked against what there is.

    Raises:
        UserError: when one trial asks for more than there is, or for more than one GPU.
    """
    asked = (1.0 if gpus >= 1 else 0.0) if options.gpus_per_trial is None else options.gpus_per_trial
    if asked > gpus:
        remedy = "ask for at most that" if gpus else "give 0 to train on the CPU"
        raise UserError(f"gpus_per_trial: {asked:g} asked for, but {where} has {gpus:g} GPUs; {remedy}")
    if asked > 1:
        raise UserError(f"gpus_per_trial: {asked:g} is not allowed, a trial trains on one GPU; give 1 or a fraction")
    if options.cpus_per_trial > cpus:
        raise UserError(
            f"cpus_per_trial: {options.cpus_per_trial} asked for, but {where} has {cpus:g} CPUs; ask for at most that"
        )
    per_gpu = int(1 / asked + 1e-9) if asked else 0  # a trial is on one GPU; 1 / 0.2 is a hair below 5
    fitting = min(cpus // options.cpus_per_trial, int(gpus) * per_gpu if asked else cpus)
    return Resources(cpus=options.cpus_per_trial, gpus=asked, num_side_by_side=int(fitting))


def cluster_token() -> dict[str, str]:
    """The setting with which a driver shows a cluster the token that this machine has, as ``ray start`` does by itself.

    See docs.ray.io/en/latest/ray-security/token-auth.html.
    """
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return {"RAY_AUTH_MODE": "token"} if has_token or (Path.home() / ".ray/auth_token").exists() else {}


@contextmanager
def ray_session(options: SweepOptions) -> Iterator[Resources]:
    """Connects to the cluster asked for, or starts Ray on this machine's loopback interface; yields a trial's share.

    Raises:
        UserError: when there is no cluster at ray_address, or it is too small for one trial.
    """
    if options.ray_address is None:
        fit_resources(options, os.cpu_count() or 1, local_gpus(), "this machine")
    settings = RAY_SETTINGS | (LOOPBACK if options.ray_address is None else cluster_token())
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        _connect(options.ray_address)
    try:
        there = ray.cluster_resources()
        where = "this machine" if options.ray_address is None else f"the cluster at {options.ray_address}"
        yield fit_resources(options, there.get("CPU", 0), there.get("GPU", 0), where)
    finally:
        if started_here:
            ray.shutdown()


def _named(address: str) -> str:
    """HOST:PORT behind the address ``auto``, where Ray's environment variable or its file of this machine has it.

    Raises:
        OSError: when there is neither.
    """
    if address != "auto":
        return address
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray/ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or current.read_text().strip()


def _connect(address: str | None) -> None:
    """Starts Ray on this machine (None), or joins the cluster at an address.

    Raises:
        UserError: when nothing answers there.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        host, _, port = _named(address).removeprefix("ray://").rpartition(":")
        if not port.isdigit():
            raise ValueError("give auto, HOST:PORT or ray://HOST:PORT")
        # Ray itself would go on trying for minutes.
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"ray_address: no Ray cluster answers at {address!r} ({first_line(error)}); "
            "start one with `ray start --head`, give its token in RAY_AUTH_TOKEN if it asks for one, "
            "or leave ray_address out to use this machine"
        ) from None
