"""Trials on the other machines of a real Ray cluster, where no path of the driver's machine exists."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps import recorded
from tests.clusters import RayCluster, free_ports, needs_jobs
from tests.conftest import ROOT
from trainer.config import TrialConfig
from trainer.digests import folder_digest
from trainer.logger import SilentLogger
from trainer.trial import Trial

pytestmark = pytest.mark.slow

CONFIG = {"task": "splice", "init": "pretrained", "learning_rate": 1e-3, "num_epochs": 1, "max_train_examples": 64}

# A driver in a checkout of its own, which is gone, with its data and its model, when the trial begins.
DRIVER = """
import json, os, shutil
from pathlib import Path
from sweeps.cluster import ray_session
from sweeps.spec import SweepOptions
from sweeps.supplies import Supplies
from trainer.commandline import run
from trainer.data import load_dataset

def train(supplies, config):
    import ray, trainer
    from trainer.config import TrialConfig
    from trainer.logger import SilentLogger
    from trainer.trial import Trial

    config = TrialConfig(**config)
    received = supplies.receive(config, "")
    place = {"data_dir": received.data_dir, "model_folder": received.model_folder}
    (*_, last) = Trial(config, SilentLogger(), **place, num_threads=1)
    found = {"losses": last.result.losses, "score": last.result.metrics["test/score"]}
    where = {"model": str(received.model_folder), "code": trainer.__file__, "folder": os.getcwd()}
    return {**found, **where, "address": ray.util.get_node_ip_address()}

def main(arguments):
    home, address, config = Path.cwd(), arguments[0], json.loads(arguments[1])
    subject = {name: config[name] for name in ("task", "num_epochs", "max_train_examples")}
    options = SweepOptions(
        **subject, model="model", data_dir="data", inits=(config["init"],), grid="compare", ray_address=address
    )
    with ray_session(options) as resources:
        import ray  # only now: its settings are read when it is imported

        assert not resources.is_shared_machine
        dataset = load_dataset(options.definition, options.data_folder)
        supplies = Supplies.shipped(options, options.spec(), dataset)
        os.chdir("/")
        shutil.rmtree(home)
        print(json.dumps(ray.get(ray.remote(num_cpus=resources.cpus)(train).remote(supplies, config))))
    return 0

run(main)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two nodes; the head, on which drivers of jobs run, has no CPU for trials."""
    with RayCluster(tmp_path_factory.mktemp("ray"), 2, head_cpus=0) as started:
        yield started


def copy_code(folder: Path) -> Path:
    """A clean copy of the project."""
    folder.mkdir()
    for name in ("MLproject", "conda.yaml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for package in ("trainer", "sweeps", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(**more: str) -> dict[str, str]:
    """This process's, without what tests before this one may have set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    beside = Path(sys.executable).parent  # where `mlflow` and `ray` are
    return {**kept, "PATH": f"{beside}:{os.environ['PATH']}", **more}


def drive(folder: Path, cluster: RayCluster, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the driver."""
    return subprocess.run(
        [sys.executable, "-c", DRIVER, cluster.address, json.dumps({**CONFIG, "model": "model"})],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path, dna_files: Path, tiny_model: Path) -> Path:
    """What a user has on the driver's machine: the code, data and a model."""
    folder = copy_code(tmp_path / "checkout")
    shutil.copytree(dna_files, folder / "data")
    shutil.copytree(tiny_model, folder / "model")
    return folder


def test_a_trial_on_another_node_needs_nothing_of_the_drivers_machine(
    cluster: RayCluster, checkout: Path, dna_files: Path, tiny_model: Path
) -> None:
    done = drive(checkout, cluster, **cluster.environment)
    assert done.returncode == 0, done.stderr
    assert not checkout.exists()
    told = json.loads(done.stdout)
    home = cluster.home(1)
    assert told["address"] == "127.0.0.3"
    assert told["model"] == f"{home}/data/models/{folder_digest(tiny_model)}"
    assert told["code"].startswith(f"{home}/t/") and told["folder"] == f"{home}/work"

    config = TrialConfig(**{**CONFIG, "model": str(tiny_model)})  # type: ignore[arg-type]
    (*_, last) = Trial(config, SilentLogger(), data_dir=dna_files, num_threads=1)
    assert last.result is not None
    assert told["losses"] == last.result.losses, "the same trial, here and there"
    assert told["score"] == last.result.metrics["test/score"]


@pytest.mark.parametrize("token", ["0123456789abcdef0123456789abcdef", ""])
def test_a_wrong_token_or_none_is_one_clear_line(
    cluster: RayCluster, checkout: Path, tmp_path: Path, token: str
) -> None:
    given = {"RAY_AUTH_TOKEN": token} if token else {}
    done = drive(checkout, cluster, HOME=str(tmp_path), **given)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: ray_address: the Ray cluster at '{cluster.address}' does not let us in (")
    assert "RAY_AUTH_TOKEN" in line and "~/.ray/auth_token" in line and "0123456789abcdef" not in line


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[str]:
    """The address of an ``mlflow server`` with a database and an artifact folder of its own."""
    folder = tmp_path / "server"
    folder.mkdir()
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@needs_jobs
def test_a_sweep_submitted_as_a_job_runs_on_the_cluster_and_records_every_trial(
    cluster: RayCluster, tracking_server: str, tmp_path: Path, dna_files: Path, tiny_model: Path
) -> None:
    project = copy_code(tmp_path / "project")
    variables = {"MLFLOW_TRACKING_URI": tracking_server, "MLFLOW_EXPERIMENT_NAME": "jobs"}
    settings = {
        **{"task": "splice", "model": tiny_model, "data_dir": dna_files, "grid": "quick", "seeds": 1},
        **{"inits": "pretrained,scratch", "num_epochs": 1, "max_train_examples": 64},
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.jobs_address]
    command += ["--working-dir", str(project), "--runtime-env-json", json.dumps({"env_vars": variables}), "--"]
    command += ["mlflow", "run", ".", "-e", "sweep", "--env-manager", "local"]
    command += [word for name, value in settings.items() for word in ("-P", f"{name}={value}")]
    told = environment(**cluster.environment)
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Job 'raysubmit_\w+' succeeded", done.stdout + done.stderr)

    store = MlflowClient(tracking_server)
    experiment = store.get_experiment_by_name("jobs")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = [run for run in runs if run.data.tags[recorded.KIND] == "trial"]
    points = {(run.data.params["init"], run.data.params["learning_rate"]) for run in trials}
    assert len(points) == len(trials) == 4
    assert all("test/score" in run.data.metrics for run in trials)
