"""What a run says of where it came from, and the view of a sweep in MLflow's UI."""

import json
import platform
import shutil
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
from tests.conftest import ROOT
from tests.trials import config, finish, start_trial
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


@pytest.fixture
def checkout(project_in: Path) -> Path:
    """The same with a commit of a few files."""
    files = {"provenance.py": "", "trainer/loop.py": "steps = 1\n", "deploy/token.txt": "none\n", ".env": "\n"}
    for name, text in files.items():
        (project_in / name).parent.mkdir(exist_ok=True)
        (project_in / name).write_text(text)
    git(project_in, "init", "--quiet")
    git(project_in, "add", "--all")
    git(project_in, "commit", "--quiet", "--message", "first")
    return project_in


def changes() -> str:
    return provenance.provenance_files()["provenance/changes.diff"]


def test_provenance_has_the_versions_of_what_computes(project_in: Path) -> None:
    tags = provenance.provenance_tags()
    assert {name: value for name, value in tags.items() if name.startswith("polymath.version.")} == {
        "polymath.version.python": platform.python_version(),
        **{f"polymath.version.{name}": version(name) for name in provenance.PACKAGES},
    }
    assert {"torch", "transformers", "ray", "optuna", "mlflow"} <= set(provenance.PACKAGES)
    assert sys.version.startswith(tags["polymath.version.python"])
    assert tags["mlflow.user"] and tags["mlflow.source.name"] == "polymath"


def test_every_installed_package_is_listed_with_its_version(project_in: Path) -> None:
    files = provenance.provenance_files()
    lines = files["provenance/requirements.txt"].splitlines()
    assert f"mlflow=={version('mlflow')}" in lines and f"torch=={version('torch')}" in lines
    assert len(lines) > 100 and all(line.count("==") == 1 for line in lines)
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(set(names))
    assert "provenance/changes.diff" not in files, "there is no checkout"


def test_the_hardware_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho NVIDIA H100 80GB HBM3\necho NVIDIA H100 80GB HBM3\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    words = provenance.provenance_tags()["polymath.hardware.driver"].split(", ")
    assert words[0] and words[1].endswith(" cores") and words[2].endswith(" GiB")
    assert words[3:] == ["2 x NVIDIA H100 80GB HBM3"]
    listing.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert len(provenance.hardware().split(", ")) == 3


def test_provenance_has_the_commit_and_says_whether_the_tree_was_changed(checkout: Path) -> None:
    tags = provenance.provenance_tags()
    assert tags["mlflow.source.git.commit"] == git(checkout, "rev-parse", "HEAD")
    assert tags["polymath.git_dirty"] == "false"
    assert "provenance/changes.diff" not in provenance.provenance_files()
    (checkout / "changed.py").write_text("")
    assert provenance.provenance_tags()["polymath.git_dirty"] == "true"


def test_a_repository_around_the_project_that_is_not_its_own_is_left_alone(project_in: Path) -> None:
    git(project_in, "init", "--quiet")
    git(project_in, "commit", "--quiet", "--allow-empty", "--message", "somebody's home folder")
    assert "mlflow.source.git.commit" not in provenance.provenance_tags()
    assert "provenance/changes.diff" not in provenance.provenance_files()


def test_the_changes_can_be_applied_to_the_commit_whatever_git_is_told_to_show(checkout: Path, tmp_path: Path) -> None:
    for setting in ("diff.noprefix=true", "diff.renames=copies", "color.ui=always", "diff.external=false"):
        git(checkout, "config", *setting.split("="))
    (checkout / "trainer/loop.py").rename(checkout / "trainer/léarn.py")
    (checkout / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    (checkout / "weights.bin").write_bytes(bytes(range(256)))
    git(checkout, "add", "--all")
    (checkout / "crlf.txt").write_bytes(b"one\r\nthree\x0c\n")  # what is staged is not what runs
    (tmp_path / "changes.diff").write_text(changes(), newline="")
    git(tmp_path, "clone", "--quiet", "--no-local", str(checkout), str(tmp_path / "clone"))
    git(tmp_path / "clone", "apply", str(tmp_path / "changes.diff"))
    for name in ("trainer/léarn.py", "crlf.txt", "weights.bin"):
        assert (tmp_path / "clone" / name).read_bytes() == (checkout / name).read_bytes()
    assert not (tmp_path / "clone/trainer/loop.py").exists()


def test_files_that_git_does_not_know_and_files_that_may_hold_secrets_are_only_named(checkout: Path) -> None:
    (checkout / "new.py").write_text("MARKER")
    for name in (".env", "deploy/token.txt"):
        (checkout / name).write_text("MARKER")
    (checkout / "trainer/tokenizer.py").write_text("vocabulary = 1\n")
    git(checkout, "add", "trainer")
    text = changes()
    assert "# not in git, by name only: new.py\n" in text
    assert "# left out, since they may hold secrets: .env, deploy/token.txt\n" in text
    assert "+vocabulary = 1" in text and "MARKER" not in text


def test_long_changes_are_cut_at_whole_files_and_say_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MAX_DIFF", 1000)
    (checkout / "provenance.py").write_text("x = 1\n" * 1000)
    (checkout / "trainer/loop.py").write_text("steps = 2\n")
    text = changes()
    assert "# left out, beyond 1,000 characters: provenance.py\n" in text
    assert "+steps = 2" in text and len(text) < 1200


# Secrets


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("postgresql://me:MARKER@db/mlflow", "'postgresql://***@db/mlflow'"),
        ("postgresql://me:MARK/ER@x@db/mlflow", "'postgresql://***@db/mlflow'"),
        ("https://MARKER@github.com/me/repository", "'https://***@github.com/me/repository'"),
        ("postgresql://db/mlflow?user=me&password=MARKER&x=1", "'postgresql://db/mlflow?user=me&password=***&x=1'"),
        ("--api-key=MARKER", "'--api-key=***'"),
        ("hf_token=MARKER", "'hf_token=***'"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("git+https://github.com/me/repository@v1", "git+https://github.com/me/repository@v1"),
        ("--keep-special-tokens=false", "--keep-special-tokens=false"),
        ("my file", "'my file'"),
    ],
)
def test_secrets_in_a_command_are_hidden_and_nothing_else(word: str, shown: str) -> None:
    assert provenance.command_line(["run", word, "-P", "x=1"]) == f"run {shown} -P x=1"


def test_the_word_after_an_option_that_is_called_like_a_secret_is_hidden() -> None:
    words = ["run", "--token", "MARKER", "--keep-special-tokens", "false"]
    assert provenance.command_line(words) == "run --token '***' --keep-special-tokens false"


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "MARKER-1")
    monkeypatch.setenv("STORE", "postgresql://me:MARKER%2D2@db/mlflow")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr(sys, "orig_argv", ["python", "--flag=MARKER-1", "--other", "xMARKER-2", "false"])
    lines = ["MARKER-1", "MARKER-2", "https://MARKER-3@host/", "false"]
    (checkout / "trainer/loop.py").write_text("\n".join(lines))
    texts = {**provenance.provenance_tags(), **provenance.provenance_files()}
    assert texts["polymath.command"] == "python '--flag=***' --other 'x***' false"
    assert "+***\n+***\n+https://***@host/\n+false\n" in texts["provenance/changes.diff"]
    assert "MARKER" not in "".join(texts.values())


# Repeating


@pytest.mark.slow
def test_a_run_is_repeated_from_its_commit_its_changes_and_its_command(
    dna_files: Path, tiny_model: Path, store: MlflowClient, experiment: str, project_in: Path
) -> None:
    """A changed checkout trains; a fresh clone of its commit, changed as recorded, has the very same losses."""
    first, second = project_in / "first", project_in / "second"
    for package in ("trainer", "sweeps"):
        shutil.copytree(ROOT / package, first / package, ignore=shutil.ignore_patterns("__pycache__"))
    git(first, "init", "--quiet")
    git(first, "add", "--all")
    git(first, "commit", "--quiet", "--message", "first")
    config = first / "trainer/config.py"
    config.write_text(config.read_text().replace("setting(32,", "setting(24,"))
    command = [sys.executable, "-m", "sweeps.train", "--task", "splice", "--data-dir", str(dna_files)]
    command += ["--model", str(tiny_model), "--learning-rate", "1e-3", "--num-epochs", "2"]
    subprocess.run(command, cwd=first, check=True)
    (run,) = store.search_runs([experiment])
    tags = run.data.tags
    assert run.data.params["batch_size"] == "24" and tags["polymath.git_dirty"] == "true"

    git(project_in, "clone", "--quiet", "--no-local", "--no-checkout", str(first), str(second))
    git(second, "checkout", "--quiet", tags["mlflow.source.git.commit"])
    git(second, "apply", store.download_artifacts(run.info.run_id, "provenance/changes.diff", str(project_in)))
    subprocess.run(tags["polymath.command"], shell=True, cwd=second, check=True)  # noqa: S602
    again, _ = store.search_runs([experiment])

    def losses(run_id: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in store.get_metric_history(run_id, "train/loss")]

    assert again.info.run_id != run.info.run_id
    assert losses(again.info.run_id) == losses(run.info.run_id) != []
    assert again.data.metrics["test/score"] == run.data.metrics["test/score"]
    assert again.data.params == run.data.params


def test_what_mlflow_run_was_given_is_in_the_command_too(store: MlflowClient, experiment: str) -> None:
    tags = {"mlflow.source.name": "/home/me/poly math", "mlflow.project.entryPoint": "sweep"}
    run = store.create_run(experiment, tags={**tags, "mlflow.source.git.commit": "0123abcd"})
    store.log_param(run.info.run_id, "task", "my file.csv")
    text = provenance.provenance_files(store.get_run(run.info.run_id))["provenance/command.txt"]
    assert text.startswith(f"cd {Path.cwd()}\n{sys.orig_argv[0]} ")
    assert text.endswith("\nmlflow run '/home/me/poly math' -e sweep -v 0123abcd -P 'task=my file.csv'\n")


def test_a_sweep_and_its_trials_carry_the_provenance(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset
) -> None:
    for run_id in (sweep.run_id, finish(start_trial(sweep, config(), splice_dataset))):
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
    assert view["searchFilter"] == f"tags.`{recorded.MEMBER}{record.run_id}` = 'true'"
    assert {"params.`init`", "params.`optimizer`", "params.`learning_rate`"} <= set(view["selectedColumns"])
    assert view["orderByKey"] == "metrics.`valid/score`", "test is not for choosing by"
    link = view_path(experiment, record.run_id)
    assert link.removeprefix("/") in store.get_run(record.run_id).data.tags[DESCRIPTION]
    assert f"viewStateShareKey={record.run_id}" in link
