"""Where trials run: this machine or a Ray cluster, and what each trial takes of it.

Importing this module is cheap; Ray comes in when a session starts.
"""

import json
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeps.connection import current_uri, shown
from sweeps.environment import JOINING, LOOPBACK, RAY_SETTINGS, environment, only_needed_processes, preload
from sweeps.spec import SweepOptions
from trainer.errors import UserError, first_line

CONNECT_TIMEOUT_S = 5
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what `ray job submit` tells its driver; the cluster's address is in RAY_ADDRESS
PACKAGES = ("trainer", "sweeps")  # what workers run
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each trial takes: CPU threads, a GPU or a share of one, and how many trials fit side by side.

    Attributes:
        is_shared_machine: whether all workers are on this machine and may read its files by their paths.
        is_own_session: whether Ray was started or joined for this sweep, and is left with it.
    """

    cpus: int
    gpus: float
    num_side_by_side: int
    is_shared_machine: bool = True
    is_own_session: bool = False


def local_gpus() -> int:
    """How many NVIDIA GPUs this process may use, without importing torch or Ray."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1", "NoDevFiles")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def fit_resources(options: SweepOptions, machines: Sequence[tuple[float, float]], where: str) -> Resources:
    """What a trial asks for, checked against what there is: a trial runs on one machine, on one GPU at most.

    Args:
        machines: CPUs and GPUs of each.
        where: what to call them.

    Raises:
        UserError: when one trial asks for more than any machine has, or for more than one GPU.
    """
    most_cpus, most_gpus = (max(counts, default=0) for counts in zip((0.0, 0.0), *machines, strict=True))
    asked = (1.0 if most_gpus >= 1 else 0.0) if options.gpus_per_trial is None else options.gpus_per_trial
    if asked > most_gpus:
        remedy = "ask for at most that" if most_gpus else "give 0 to train on the CPU"
        raise UserError(f"gpus_per_trial: {asked:g} asked for, but {where} has {most_gpus:g} GPUs; {remedy}")
    if asked > 1:
        raise UserError(f"gpus_per_trial: {asked:g} is not allowed, a trial trains on one GPU; give 1 or a fraction")
    if options.cpus_per_trial > most_cpus:
        raise UserError(
            f"cpus_per_trial: {options.cpus_per_trial} asked for, but {where} has {most_cpus:g} CPUs; "
            "ask for at most that"
        )
    fitting = sum(_num_fitting(options.cpus_per_trial, asked, cpus, gpus) for cpus, gpus in machines)
    if not fitting:
        raise UserError(
            f"gpus_per_trial: no machine of {where} has both {options.cpus_per_trial} CPUs and {asked:g} GPUs; "
            "ask for fewer CPUs"
        )
    return Resources(cpus=options.cpus_per_trial, gpus=asked, num_side_by_side=fitting)


def _num_fitting(cpus_asked: int, gpus_asked: float, cpus: float, gpus: float) -> int:
    """How many trials fit on a machine."""
    by_cpus = int(cpus // cpus_asked)
    if not gpus_asked:
        return by_cpus
    per_gpu = int(1 / gpus_asked + 1e-9)  # a trial is on one GPU; 1 / 0.2 is a hair below 5
    return min(by_cpus, int(gpus) * per_gpu)


def credentials() -> dict[str, str]:
    """With what this process opens the tracking server: for the environment of workers, never for eyes.

    Not for Ray's ``runtime_env``: its dashboard shows that to everyone.
    """
    return {name: value for name in CREDENTIALS if (value := os.environ.get(name))}


def cluster_token() -> dict[str, str]:
    """The setting with which a driver shows a cluster the token that this machine has, as ``ray start`` does by itself.

    See docs.ray.io/en/latest/ray-security/token-auth.html.
    """
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return {"RAY_AUTH_MODE": "token"} if has_token or (Path.home() / ".ray/auth_token").exists() else {}


def own_address(asked: str | None) -> str | None:
    """The cluster to run on, of a driver that ``ray job submit`` started the job's own; None for this machine."""
    return asked or ("auto" if JOB in os.environ else None)


def check_resources(options: SweepOptions) -> None:
    """Looks, before anything is started, whether a trial fits on this machine, or whether there is a cluster.

    Raises:
        UserError: when not.
    """
    if address := own_address(options.ray_address):
        knock(address)
    else:
        fit_resources(options, [(os.cpu_count() or 1, local_gpus())], "this machine")


def is_local(options: SweepOptions) -> bool:
    """Whether a sweep starts Ray on this machine, and joins no cluster."""
    return own_address(options.ray_address) is None


def _preload(options: SweepOptions, num_cells: int) -> dict[str, str]:
    """The settings with which workers begin to import while the sweep is still being opened.

    Ray starts as many ahead as there are CPUs. Only where each of them is to train is none of it in vain.
    """
    has_gpus = bool(options.gpus_per_trial or local_gpus())
    if has_gpus or options.is_rival or options.cpus_per_trial > 1 or num_cells < (os.cpu_count() or 1):
        return {}
    return preload("sweeps.preload")


@contextmanager
def ray_nodes(
    address: str | None, more: Mapping[str, str] = {}, *, is_whole: bool = False
) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Connects to a cluster, or starts Ray on this machine's loopback interface (None).

    Args:
        more: of the environment in which Ray is started here.
        is_whole: whether it has the processes that a sweep can do without, and shows what workers print.

    Yields:
        The machines as Ray describes them, and whether Ray is left with the block.

    Raises:
        UserError: when there is no cluster at the address.
    """
    settings = RAY_SETTINGS | (LOOPBACK if address is None else cluster_token() | JOINING)
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        with environment(more if address is None else {}):
            _connect(address, is_whole=is_whole)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        yield nodes, started_here
    finally:
        if started_here:
            ray.shutdown()


@contextmanager
def ray_session(options: SweepOptions, num_cells: int = 1) -> Iterator[Resources]:
    """Connects to a cluster, or starts Ray on this machine; yields a trial's share.

    Args:
        num_cells: how many trials are to run at most.

    Raises:
        UserError: as :func:`ray_nodes` and :func:`check_reach`, and when it is too small for one trial.
    """
    address = own_address(options.ray_address)
    with ray_nodes(address, _preload(options, num_cells)) as (nodes, started_here):
        check_reach(address, nodes)
        machines = [(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in nodes]
        where = f"the largest machine of the cluster at {address}" if address else "this machine"
        fitting = fit_resources(options, machines, where)
        yield replace(fitting, is_shared_machine=address is None, is_own_session=started_here)


@contextmanager
def no_worker_left(resources: Resources) -> Iterator[None]:
    """When the block ends by an error or an interrupt, workers end with it: what is closed then stays closed."""
    try:
        yield
    except BaseException:
        if resources.is_own_session:
            import ray

            ray.shutdown()
        raise


def check_reach(address: str | None, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a tracking store in a file of this machine, where workers that record are on others too.

    Raises:
        UserError: naming one of them.
    """
    tracking_uri = current_uri() if address else ""
    is_file = tracking_uri.startswith(("sqlite", "file:", "/", "."))
    others = sorted({node["NodeManagerHostname"] for node in nodes} - {socket.gethostname()})
    if is_file and others:
        raise UserError(
            f"MLFLOW_TRACKING_URI: {shown(tracking_uri)} is on this machine, and trials on {others[0]} cannot write to "
            "it; start `mlflow server` where all machines reach it, and give its address, e.g. http://HOST:5000"
        )


def _named(address: str) -> str:
    """HOST:PORT behind the address ``auto``, where Ray's environment variable or its file of this machine has it.

    Raises:
        OSError: when there is neither.
    """
    if address != "auto":
        return address
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray/ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or current.read_text().strip()


def _connect(address: str | None, *, is_whole: bool = False) -> None:
    """Starts Ray on this machine (None), or joins the cluster at an address.

    Raises:
        UserError: when nothing answers there, or it does not let us in.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": is_whole, "logging_level": logging.ERROR}
    if address is None:
        with nullcontext() if is_whole else only_needed_processes():
            ray.init(address="local", include_dashboard=False, **quiet)
        return
    knock(address)
    try:
        with _silent_stderr():
            ray.init(address=address, runtime_env=our_code(), **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"ray_address: the Ray cluster at {address!r} does not let us in ({first_line(error)}); "
            f"give its token in RAY_AUTH_TOKEN or ~/.ray/auth_token, and see that it runs Ray {ray.__version__} too"
        ) from None


def knock(address: str) -> None:
    """Looks whether anything listens at a cluster's address; Ray itself would go on trying for minutes.

    Raises:
        UserError: when nothing does.
    """
    try:
        host, _, port = _named(address).removeprefix("ray://").rpartition(":")
        if not port.isdigit():
            raise ValueError("give auto, HOST:PORT or ray://HOST:PORT")
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"ray_address: no Ray cluster answers at {address!r} ({first_line(error)}); "
            "start one with `ray start --head`, or leave ray_address out to use this machine"
        ) from None


def our_code() -> dict[str, Any]:
    """The ``runtime_env`` that brings this very code to machines without a checkout; empty where a job brings its own.

    See docs.ray.io/en/latest/ray-core/handling-dependencies.html.
    """
    job = json.loads(os.environ.get(JOB, "{}")).get("runtime_env") or {}
    root = Path(__file__).parents[1]
    return {} if "py_modules" in job else {"py_modules": [str(root / package) for package in PACKAGES]}


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Inside the block nothing reaches the terminal's stderr: Ray's core writes its tries there, a line a second."""
    before = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
