"""What a run says of where it came from, and the view of a sweep in MLflow's UI."""

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps import provenance, recorded
from sweeps.spec import SweepOptions
from sweeps.tracking import SweepRecord, open_sweep
from sweeps.views import DESCRIPTION, VIEW, view_path
from tests.trials import DONE, config
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset

# Provenance


@pytest.fixture
def project_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that takes the place of the project's."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where the tests run from a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_provenance_has_the_versions_of_what_computes(project_in: Path) -> None:
    tags = provenance.provenance_tags()
    assert {name: value for name, value in tags.items() if name.startswith(recorded.PREFIX)} == {
        "polymath.version.python": platform.python_version(),
        **{f"polymath.version.{name}": version(name) for name in provenance.PACKAGES},
    }
    assert {"torch", "transformers", "ray", "optuna", "mlflow"} <= set(provenance.PACKAGES)
    assert sys.version.startswith(tags["polymath.version.python"])
    assert tags["mlflow.user"] and tags["mlflow.source.name"] == "polymath"


def test_provenance_has_the_commit_and_says_whether_the_tree_was_changed(project_in: Path) -> None:
    git(project_in, "init", "--quiet")
    git(project_in, "commit", "--quiet", "--allow-empty", "--message", "first")
    tags = provenance.provenance_tags()
    assert tags["mlflow.source.git.commit"] == git(project_in, "rev-parse", "HEAD")
    assert tags["polymath.git_dirty"] == "false"
    (project_in / "changed.py").write_text("")
    assert provenance.provenance_tags()["polymath.git_dirty"] == "true"


def test_a_sweep_and_its_trials_carry_the_provenance(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset
) -> None:
    logger = sweep.start_trial(config(), splice_dataset)
    logger.finish(DONE)
    for run_id in (sweep.run_id, logger.run_id):
        tags = store.get_run(run_id).data.tags
        assert tags["polymath.version.mlflow"] == version("mlflow")
        assert sweep.tags.items() <= tags.items()


# What the UI shows


def test_a_sweeps_view_shows_its_trials_with_the_columns_that_matter(
    store: MlflowClient, experiment: str, dna_files: Path
) -> None:
    options = SweepOptions(task="splice", grid="compare")
    spec = options.spec()
    record = open_sweep(options, spec, TASKS["splice"].load(dna_files), None)
    view = json.loads(store.get_experiment(experiment).tags[VIEW + record.run_id])
    assert view["searchFilter"] == f"tags.`{recorded.PARENT}` = '{record.run_id}'"
    assert {"params.`init`", "params.`optimizer`", "params.`learning_rate`"} <= set(view["selectedColumns"])
    assert view["orderByKey"] == "metrics.`valid/score`", "test is not for choosing by"
    link = view_path(experiment, record.run_id)
    assert link.removeprefix("/") in store.get_run(record.run_id).data.tags[DESCRIPTION]
    assert f"viewStateShareKey={record.run_id}" in link
