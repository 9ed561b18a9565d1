"""Sweeps that start from the checkpoints of a pre-training run, in a folder or in the tracking store."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from sweeps import recorded
from sweeps.__main__ import main
from sweeps.checkpoints import check_checkpoint, checkpoint_folder
from tests.conftest import refusal
from trainer.config import TrialConfig

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def checkpoints(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with the tiny model as it was after steps 0 and 20."""
    folder = tmp_path / "checkpoints"
    for step in (0, 20):
        shutil.copytree(tiny_model, folder / f"step-{step:04}")
        file = folder / f"step-{step:04}/model.safetensors"
        weights = {name: tensor + step for name, tensor in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def pretraining(checkpoints: Path, experiment: str, store: MlflowClient) -> str:
    """The URI of these checkpoints in the tracking store."""
    run = store.create_run(experiment, tags={recorded.KIND: "pretrain"})
    store.log_artifacts(run.info.run_id, str(checkpoints), "checkpoints")
    store.set_terminated(run.info.run_id)
    return f"runs:/{run.info.run_id}/checkpoints"


def config(checkpoint: str, step: int | None = None) -> TrialConfig:
    return TrialConfig(task="splice", init="checkpoint", checkpoint=checkpoint, checkpoint_step=step)


def test_a_step_is_fetched_from_the_store_and_no_other(pretraining: str, tracking_uri: str, checkpoints: Path) -> None:
    folder = checkpoint_folder(config(pretraining, 20), tracking_uri)
    assert folder is not None and [path.name for path in folder.parent.iterdir()] == [folder.name]
    expected = load_file(checkpoints / "step-0020/model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(folder / "model.safetensors").items())
    assert checkpoint_folder(config(pretraining, 20), tracking_uri) == folder, "once a process"


def test_a_relative_folder_is_found_from_where_the_sweep_was_started(
    checkpoints: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    folder = checkpoint_folder(config("checkpoints", 20), tracking_uri, checkpoints.parent)
    assert folder == checkpoints / "step-0020"


def test_the_folder_of_one_step_needs_no_step(pretraining: str, tracking_uri: str) -> None:
    assert checkpoint_folder(config(f"{pretraining}/step-0000"), tracking_uri) is not None


def test_trials_of_other_inits_need_no_checkpoint(tracking_uri: str) -> None:
    trial = TrialConfig(task="splice", init="scratch", checkpoint="runs:/gone/checkpoints")
    assert checkpoint_folder(trial, tracking_uri) is None
    check_checkpoint(trial, tracking_uri)


def test_a_mistake_in_a_uri_is_one_line_before_anything_is_fetched(pretraining: str, tracking_uri: str) -> None:
    def said(checkpoint: str, step: int | None = None) -> str:
        return refusal(lambda: check_checkpoint(config(checkpoint, step), tracking_uri))

    assert "checkpoint_step: 7 is not in" in said(pretraining, 7) and "there are 0, 20" in said(pretraining, 7)
    assert "has several steps; give one of 0, 20" in said(pretraining)
    assert "has no folders step-N; leave it out" in said(f"{pretraining}/step-0000", 5)
    assert said(f"{pretraining}/nothing").startswith("checkpoint: there is nothing at")
    assert said("runs:/0123456789abcdef0123456789abcdef/checkpoints").startswith("checkpoint: ")
    assert said("models-of-mine:/x").startswith("checkpoint: ")


@pytest.mark.usefixtures("ray_here")
def test_a_sweep_over_the_steps_of_a_pre_training_run(
    pretraining: str, tiny_model: Path, dna_files: Path, experiment: str, store: MlflowClient, tmp_path: Path
) -> None:
    grid = tmp_path / "steps.yaml"
    grid.write_text("checkpoint_step: [0, 20]\nlearning_rate: 1e-3\n")
    options = ["--task", "splice", "--data-dir", str(dna_files), "--model", str(tiny_model), "--num-epochs", "1"]
    options += ["--grid", str(grid), "--checkpoint", pretraining, "--inits", "scratch,checkpoint"]
    assert main(options) == 0
    trials = store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'trial'")
    params = [(run.data.params["init"], run.data.params.get("checkpoint_step")) for run in trials]
    assert sorted(params, key=str) == [("checkpoint", "0"), ("checkpoint", "20"), ("scratch", None)]
    assert {run.data.params.get("checkpoint") for run in trials} == {pretraining, None}
    first = {}
    for run in trials:
        history = store.get_metric_history(run.info.run_id, "train/loss")
        first[run.data.params["init"], run.data.params.get("checkpoint_step")] = history[0].value
    assert len(set(first.values())) == 3, "three different sets of weights"
    (sweep,) = store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'sweep'")
    table = store.download_artifacts(sweep.info.run_id, "tables/compare.csv", str(tmp_path))
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    assert [row["init"] for row in rows].count("checkpoint") == 2
    assert {row["checkpoint_step"] for row in rows} == {"0", "20", ""}
