"""How many trials fit on a machine or a cluster, and what joining a cluster takes."""

import json
import os
import socket
from collections.abc import Sequence
from unittest.mock import patch

import pytest

from sweeps import cluster
from sweeps.cluster import JOB, Resources, credentials, fit_resources, our_code, ray_session
from sweeps.spec import SweepOptions
from tests.conftest import ROOT, refusal


def fit(machines: Sequence[tuple[float, float]], **asked: float) -> Resources:
    return fit_resources(SweepOptions(task="splice", **asked), machines, "here")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "gpus", "fitting"), [(1.0, 4, 4), (0.25, 1, 4), (0.2, 1, 5), (0.1, 1, 10), (0.6, 2, 2), (0.5, 3, 6)]
)
def test_as_many_trials_run_side_by_side_as_fit_on_each_gpu(share: float, gpus: float, fitting: int) -> None:
    assert fit([(64, gpus)], gpus_per_trial=share).num_side_by_side == fitting


def test_without_gpus_the_cpus_decide() -> None:
    assert fit([(8, 0)], cpus_per_trial=3).num_side_by_side == 2


def test_a_trial_is_on_one_machine_so_what_is_left_on_several_does_not_add_up() -> None:
    assert fit([(3, 0), (3, 0), (1, 0)], cpus_per_trial=2).num_side_by_side == 2
    assert fit([(16, 0), (8, 2), (1, 2)]).num_side_by_side == 3, "the head without GPUs trains nothing"
    said = refusal(lambda: fit([(2, 0), (2, 0)], cpus_per_trial=3))
    assert said == "cpus_per_trial: 3 asked for, but here has 2 CPUs; ask for at most that"


def test_more_than_there_is_is_refused() -> None:
    assert "gpus_per_trial: 0.5 asked for, but here has 0 GPUs" in refusal(lambda: fit([(8, 0)], gpus_per_trial=0.5))
    assert "cpus_per_trial: 1 asked for, but here has 0 CPUs" in refusal(lambda: fit([(0, 0)]))
    assert "cpus_per_trial: 1 asked for, but here has 0 CPUs" in refusal(lambda: fit([]))
    said = refusal(lambda: fit([(16, 0), (1, 1)], cpus_per_trial=2))
    assert said.startswith("gpus_per_trial: no machine of here has both 2 CPUs and 1 GPUs")


@pytest.mark.usefixtures("ray_here")
def test_workers_of_a_session_of_our_own_share_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    with ray_session(SweepOptions(task="splice")) as resources:
        assert resources == Resources(cpus=1, gpus=0, num_side_by_side=2, is_shared_machine=True)


@pytest.mark.usefixtures("ray_here")
def test_a_job_runs_on_its_own_cluster_where_no_other_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "{}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with patch.dict(os.environ), ray_session(SweepOptions(task="splice")) as resources:
        assert not resources.is_shared_machine


@pytest.mark.parametrize(
    "uri", ["sqlite:////home/me/my.db", "sqlite+pysqlite:///my.db", "file:///home/me/mlruns", "/x"]
)
def test_a_store_in_a_file_is_refused_where_workers_are_on_other_machines(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "current_uri", lambda: uri)
    here = {"NodeManagerHostname": socket.gethostname()}
    there = {"NodeManagerHostname": "gpu-7"}
    cluster.check_reach("auto", [here, here])
    said = refusal(lambda: cluster.check_reach("auto", [here, there]))
    assert said.startswith(f"MLFLOW_TRACKING_URI: {uri} is on this machine, and trials on gpu-7 cannot write to it")


@pytest.mark.parametrize("uri", ["http://host:5000", "https://host", "postgresql://me:pass@host/db", "databricks"])
def test_a_server_is_reached_from_everywhere(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "current_uri", lambda: uri)
    cluster.check_reach("auto", [{"NodeManagerHostname": "gpu-7"}])


def test_a_cluster_that_does_not_answer_is_one_line(closed_port: int) -> None:
    said = refusal(lambda: cluster._connect(f"127.0.0.1:{closed_port}"))
    assert said.startswith(f"ray_address: no Ray cluster answers at '127.0.0.1:{closed_port}' (ConnectionRefusedError")
    assert "give auto, HOST:PORT or ray://HOST:PORT" in refusal(lambda: cluster._connect("head"))


def test_workers_get_the_code_that_the_driver_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    code = {"py_modules": [str(ROOT / "trainer"), str(ROOT / "sweeps")]}
    assert our_code() == code
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"working_dir": "gcs://a.zip"}, "metadata": {}}))
    assert our_code() == code
    # Ray refuses two of the same kind: what the job brings counts.
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"py_modules": ["gcs://b.zip"]}}))
    assert our_code() == {}


def test_the_credentials_of_the_tracking_server_are_what_is_set_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    assert credentials() == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "hush"}
