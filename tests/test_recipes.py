"""The recipes in cluster/: as far as they can be proved right without the cluster that they are for."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from sweeps.spec import SweepOptions
from tests.conftest import ROOT

CLUSTER = ROOT / "cluster"
LAUNCHED = ("aws.yaml", "on-premise.yaml")
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text())
PINS = dict(re.findall(r"- ([\w.-]+)(?:\[[\w,]+\])?={1,2}([\w.]+)", (ROOT / "conda.yaml").read_text()))


def read(name: str) -> str:
    return (CLUSTER / name).read_text()


# What all recipes have in common


def test_every_version_in_a_recipe_is_the_one_that_conda_yaml_pins() -> None:
    found = 0
    for path in CLUSTER.iterdir():
        text = path.read_text()
        named = re.findall(r"([\w-]+)(?:\[\w+\])?==([\d.]+)", text) + re.findall(r"\b(python) install ([\d.]+)", text)
        named += [("python", version) for version in re.findall(r"python find ([\d.]+)", text)]
        named += [("ray", version) for version in re.findall(r"(?:rayproject/ray:|rayVersion: )([\d.]+)", text)]
        assert [(name, version) for name, version in named if PINS[name] != version] == [], path.name
        found += len(named)
        for minor in re.findall(r"-py(\d+)-", text):
            assert PINS["python"].replace(".", "").startswith(minor), path.name
    assert found >= 6


def test_every_parameter_that_a_recipe_gives_is_one_of_the_sweeps() -> None:
    """``storage`` and the like: a recipe with a misspelt one would end in an error on somebody's cluster."""
    known = {field.name for field in fields(SweepOptions)}
    texts = [path.read_text() for path in (*CLUSTER.iterdir(), ROOT / "Makefile", ROOT / "docs/clusters.md")]
    given = {name for text in texts for name in re.findall(r"-P (\w+)=", text)}
    assert {"task", "ray_address", "storage"} <= given <= known


@pytest.mark.parametrize("name", ["aws.yaml", "on-premise.yaml", "kuberay-rayjob.yaml", "slurm.sh"])
def test_a_cluster_asks_for_a_token(name: str) -> None:
    text = read(name)
    if name.startswith("kuberay"):
        assert cluster_spec()["authOptions"]["mode"] == "token"
    else:
        assert "RAY_AUTH_MODE=token" in text and "auth_token" in text.lower()


@pytest.mark.parametrize("path", [*sorted(CLUSTER.iterdir()), ROOT / "docs/clusters.md"], ids=lambda path: path.name)
def test_a_recipe_starts_with_what_it_is_and_how_to_start_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    start = [line for line in lines[:30] if re.search(r"make |sbatch |kubectl apply|ray up|docker build", line)]
    assert start and all(len(line) <= 120 for line in lines if not line.startswith("|"))


# The Ray cluster launcher


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_launcher_accepts_the_cluster(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # the launcher keeps the state of a local provider's nodes there
    given = yaml.safe_load(read(name))
    prepared = prepare_config(yaml.safe_load(read(name)))
    validate_config(prepared)
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "max_wokers": 1})
    for step in ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[step][-len(given[step]) :] == given[step]
    if name == "aws.yaml":
        assert prepared["max_workers"] == 8 and prepared["available_node_types"]["worker"]["min_workers"] == 1


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_commands_of_a_cluster_are_valid_shell_and_install_from_the_project(name: str) -> None:
    config = yaml.safe_load(read(name))
    commands = [command for step, found in config.items() if step.endswith("_commands") for command in found]
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command
    assert any("make -C ~/polymath setup" in command for command in commands), "it installs the pins of conda.yaml"
    assert any(shlex.split(command)[-1] == "--port=6379" or "--head --port=6379" in command for command in commands)


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_node_is_told_token_store_and_path_once(name: str, tmp_path: Path) -> None:
    (command,) = yaml.safe_load(read(name))["initialization_commands"]
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, check=True)
    shown = subprocess.run(
        ["bash", "-c", '. ~/.profile; echo "$RAY_AUTH_MODE $MLFLOW_TRACKING_URI $PATH"'],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == f"token http://MLFLOW-SERVER:5000 {tmp_path}/polymath/.venv/bin:/usr/bin:/bin\n"


# KubeRay

QUANTITY = {"type": "string", "pattern": r"^\d+(Gi|Mi|m)?$"}
RESOURCES = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "image": {"type": "string"},
        "env": {"type": "array"},
        "envFrom": {"type": "array", "items": {"required": ["secretRef"]}},
        "resources": {"type": "object", "properties": {"requests": RESOURCES, "limits": RESOURCES}},
        "volumeMounts": {"type": "array", "items": {"required": ["name", "mountPath"]}},
    },
}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "required": ["containers"],
            "additionalProperties": False,
            "properties": {
                "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
                "volumes": {"type": "array", "items": {"required": ["name", "persistentVolumeClaim"]}},
            },
        }
    },
}
START = {"type": "object", "additionalProperties": {"type": "string"}}
# The fields of ray.io/v1 that the recipe may use: docs.ray.io/en/latest/cluster/kubernetes/references/api.html
RAY_JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"required": ["name"]},
        "spec": {
            "required": ["entrypoint", "rayClusterSpec"],
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string"},
                "backoffLimit": {"type": "integer"},
                "shutdownAfterJobFinishes": {"const": True},
                "ttlSecondsAfterFinished": {"type": "integer"},
                "rayClusterSpec": {
                    "required": ["rayVersion", "headGroupSpec", "workerGroupSpecs", "authOptions"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "authOptions": {
                            "additionalProperties": False,
                            "properties": {"mode": {"enum": ["token"]}, "secretName": {"type": "string"}},
                        },
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "headGroupSpec": {
                            "required": ["rayStartParams", "template"],
                            "additionalProperties": False,
                            "properties": {"rayStartParams": START, "template": POD},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "required": ["groupName", "replicas", "minReplicas", "maxReplicas", "template"],
                                "additionalProperties": False,
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": {"type": "integer"},
                                    "minReplicas": {"type": "integer", "minimum": 1},
                                    "maxReplicas": {"type": "integer"},
                                    "rayStartParams": START,
                                    "template": POD,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def manifests() -> dict[str, Any]:
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(read("kuberay-rayjob.yaml"))}


def cluster_spec() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["RayJob"]["spec"]["rayClusterSpec"]
    return spec


def test_the_ray_job_has_the_fields_that_kuberay_knows() -> None:
    jsonschema.validate(manifests()["RayJob"], RAY_JOB)


def test_all_pods_of_the_ray_job_share_the_state_and_reach_the_tracking_server() -> None:
    claim = manifests()["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    entrypoint = manifests()["RayJob"]["spec"]["entrypoint"]
    for group in (cluster_spec()["headGroupSpec"], *cluster_spec()["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"] and f"-P storage={mount['mountPath']}" in entrypoint
        assert container["envFrom"] == [{"secretRef": {"name": "polymath-tracking"}}]


def test_the_image_installs_every_pin() -> None:
    (command,) = re.findall(r"^RUN (sed .*?) >", read("Dockerfile"), re.MULTILINE)
    listed = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S602
    assert listed.stdout.split() == [pin for pin in CONDA["dependencies"][-1]["pip"] if pin[0] != "-"]


# Slurm


def test_the_slurm_script_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", CLUSTER / "slurm.sh"], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, "--severity=warning", CLUSTER / "slurm.sh"], check=True)


FAKES = {
    "scontrol": 'echo one; echo two; [ "$1 $2" = "show hostnames" ]',
    "hostname": "echo 127.0.0.1 ::1",
    # Runs the command on this machine, each node with a CPU, whatever Slurm would have started it on.
    "srun": """
while [ "${1#--}" != "$1" ]; do shift; done
case "$*" in
    "ray start"*) exec "$@" --num-cpus=1 --num-gpus=0 --object-store-memory=100000000 ;;
    *) exec "$@" ;;
esac""",
    # The sweep: what it was given, who is there, and where this cluster listens.
    "mlflow": """
echo "$@" > asked
exec python "$(dirname "$0")/job.py" "$@" """,
}
JOB = """
import os, stat, sys, ray
ray.init(sys.argv[sys.argv.index("-P") + 1].partition("=")[2], log_to_driver=False)
token = os.stat(os.environ["RAY_AUTH_TOKEN_PATH"])
print("nodes", sum(node["Alive"] for node in ray.nodes()), "mode", oct(stat.S_IMODE(token.st_mode)), flush=True)
if "hang" in sys.argv:
    import signal, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print("hanging", flush=True)
        time.sleep(600)
    finally:
        print("stopped cleanly", flush=True)
"""


def free_job_id() -> int:
    """A job's number that gives Ray's head a port which is free."""
    for job in range(os.getpid() % 10000, 20000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 20000 + job % 10000)):
                return job
    raise AssertionError("no port is free")


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on two nodes, both of them this machine."""
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    for name, text in FAKES.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tools / name).chmod(0o755)
    (tools / "job.py").write_text(JOB)
    for name in ("ray", "python"):
        (tools / name).write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent / name} "$@"\n')
        (tools / name).chmod(0o755)
    (tmp_path / "home").mkdir()
    given = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": str(free_job_id()), "SLURM_JOB_NODELIST": "one,two"}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **given}


@pytest.mark.slow
def test_a_slurm_job_runs_the_sweep_on_all_its_nodes_and_leaves_nothing(slurm: dict[str, str], tmp_path: Path) -> None:
    command = ["bash", str(CLUSTER / "slurm.sh"), "-P", "task=splice"]
    done = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 nodes have joined\n" in done.stdout and "nodes 2 mode 0o600\n" in done.stdout
    address = f"127.0.0.1:{20000 + int(slurm['SLURM_JOB_ID']) % 10000}"
    asked = (tmp_path / "asked").read_text()
    assert asked == f"run . -e sweep --env-manager local -P ray_address={address} -P task=splice\n"
    assert_nothing_is_left(slurm)


@pytest.mark.slow
def test_a_slurm_job_that_is_out_of_time_lets_the_sweep_stop_cleanly(slurm: dict[str, str]) -> None:
    command = ["bash", str(CLUSTER / "slurm.sh"), "hang"]
    with subprocess.Popen(command, env=slurm, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        seen = []
        for line in job.stdout:
            seen.append(line)
            if line == "hanging\n":
                job.terminate()
        assert job.wait(60) == 143
    assert seen[-1] == "stopped cleanly\n"
    assert_nothing_is_left(slurm)


def assert_nothing_is_left(slurm: dict[str, str]) -> None:
    """No process of the job's Ray, and no token."""
    session = f"/tmp/ray-{slurm['SLURM_JOB_ID']}/"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert session not in process.read_text(errors="replace"), process
        except OSError:  # it has ended
            continue
    assert list(Path(slurm["HOME"]).glob(".ray-token*")) == []
    shutil.rmtree(session)
