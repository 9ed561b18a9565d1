"""The project's face: MLproject, the pins, the Makefile, and `mlflow run` itself."""

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.__main__ import CompareOptions
from sweeps.pretrain import Settings as PretrainSettings
from sweeps.probe import Settings as ProbeSettings
from sweeps.spec import SweepOptions
from tests.conftest import ROOT
from trainer.commandline import parse
from trainer.describe import Settings as DescribeSettings
from trainer.fetch import Settings as FetchSettings
from trainer.settings import TrialSettings

PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS = {
    "sweep": SweepOptions,
    "train": TrialSettings,
    "pretrain": PretrainSettings,
    "probe": ProbeSettings,
    "describe": DescribeSettings,
    "compare": CompareOptions,
    "fetch": FetchSettings,
}
REQUIRED = {"probe": {"kind": "pwcca", "models": "bert,scratch"}}  # what an entry point cannot do without
PINS = [line for line in yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][-1]["pip"] if line[0] != "-"]


def test_the_face_has_its_entry_points() -> None:
    assert set(PROJECT["entry_points"]) == {"main", *ENTRY_POINTS}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_points_defaults_are_its_command_lines(name: str) -> None:
    """What MLproject fills in is read as the very settings that no options at all give."""
    declared: dict[str, Any] = PROJECT["entry_points"][name]["parameters"]
    settings: Any = ENTRY_POINTS[name]
    options = [field for field in fields(settings) if field.metadata]
    assert list(declared) == [field.name for field in options]
    required = {field.name for field in options if field.default is MISSING}
    assert required == {key for key, value in declared.items() if "default" not in value} == set(REQUIRED.get(name, {}))
    given = [word for key, value in REQUIRED.get(name, {}).items() for word in (f"--{key}", value)]
    filled = [word for key in declared.keys() - required for word in (f"--{key}", declared[key]["default"])]
    bare = parse(settings, given, program="", description="")
    assert parse(settings, [*given, *filled], program="", description="") == bare
    command = PROJECT["entry_points"][name]["command"]
    assert re.findall(r"--(\S+) \{(\w+)\}", command) == [(key.replace("_", "-"), key) for key in declared]


def test_a_sweep_has_the_parameters_that_users_are_promised() -> None:
    promised = """task model inits grid seeds num_epochs max_train_examples data_dir cpus_per_trial gpus_per_trial
        ray_address name""".split()
    assert set(promised) <= set(PROJECT["entry_points"]["sweep"]["parameters"])


def test_every_package_is_pinned_exactly() -> None:
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", pin) for pin in PINS)
    assert "torch==2.13.0" in PINS
    named = [line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in named)


def test_the_makefile_installs_the_pins_of_conda_yaml() -> None:
    (command,) = re.findall(r"(sed -n .*) conda.yaml >", (ROOT / "Makefile").read_text())
    command = command.replace("$$", "$") + " conda.yaml"
    listed = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S602
    assert listed.stdout.split() == PINS


@pytest.mark.parametrize(
    "module",
    [
        "sweeps",
        "sweeps.train",
        "trainer",
        "trainer.fetch",
        "trainer.describe",
        "trainer.pretrain",
        "trainer.demo",
        "sweeps.pretrain",
        "analysis",
    ],
)
def test_help_tells_every_option_and_loads_nothing_heavy(module: str) -> None:
    script = f"""
import runpy, sys
sys.argv = ["{module}", "--help"]
try:
    runpy.run_module("{module}", run_name="__main__")
except SystemExit as end:
    heavy = {{"torch", "transformers", "ray", "mlflow", "optuna", "pandas"}} & set(sys.modules)
    sys.exit(f"loaded {{heavy}}" if heavy else end.code)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(default: " in done.stdout


def mlflow_run(folder: Path, entry_point: str, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Runs an entry point with a SQLite store in the folder."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "POLYMATH_DATA": f"{folder}/cache"}
    given = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *given]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_mlflow_run_pretrains_and_sweeps_over_the_steps(dna_files: Path, tiny_model: Path, tmp_path: Path) -> None:
    steps = {"num_steps": 2, "checkpoint_steps": "0,1", "batch_size": 4, "max_length": 16}
    done = mlflow_run(tmp_path, "pretrain", corpus="nested", model=tiny_model, **steps)
    assert done.returncode == 0, done.stderr
    (checkpoints,) = set(re.findall(r"runs:/\w+/checkpoints", done.stdout))
    asked = {"task": "splice", "data_dir": dna_files, "num_epochs": 1, "seeds": 1, "learning_rates": "1e-3"}
    done = mlflow_run(tmp_path, "sweep", grid="steps", model=f"{checkpoints}/step-2", checkpoint=checkpoints, **asked)
    assert done.returncode == 0, done.stderr
    assert "4 trials" in done.stdout and len(re.findall(r"^ *nested +\d", done.stdout, re.MULTILINE)) == 3, done.stdout


def test_mlflow_run_trains_a_sweep_and_a_trial_and_compares(dna_files: Path, tiny_model: Path, tmp_path: Path) -> None:
    """From a raw file to a table in a fresh SQLite store, through the project's face."""
    asked: dict[str, object] = {"task": "splice", "data_dir": dna_files, "model": tiny_model, "num_epochs": 1}
    done = mlflow_run(tmp_path, "sweep", **asked, grid="compare", inits="scratch", seeds=1)
    assert done.returncode == 0, done.stderr
    assert "splice compare tiny-bert: 1 trial" in done.stdout and "accuracy ↑" in done.stdout
    done = mlflow_run(tmp_path, "train", **asked, init="scratch", learning_rate="1e-4")
    assert done.returncode == 0, done.stderr
    assert "finished, test/score " in done.stdout
    done = mlflow_run(
        tmp_path, "compare", tasks="splice", layout="init,learning_rate x task", output=tmp_path / "tables"
    )
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (tmp_path / "tables").iterdir() if path.is_file()}
    assert {Path(name).suffix for name in files} == {".md", ".csv", ".tex", ".html"}
    assert "1e-05" in done.stdout and "0.0001" in done.stdout, "a name with blanks reaches the command whole"
    done = mlflow_run(tmp_path, "sweep", task="spilce")
    assert done.returncode != 0
    assert "error: task: unknown value 'spilce'" in done.stderr and "did you mean 'splice'?" in done.stderr
