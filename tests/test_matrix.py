"""One small sweep of each kind of the paper's experiments, through real Ray and MLflow."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from sweeps import recorded
from sweeps.__main__ import main
from tests.test_sweep import runs_of

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("ray_here"),
]


def swept(experiment: str, data_dir: Path, task: str, model: Path | str, *more: str) -> tuple[Run, list[Run], Any]:
    """A sweep that must succeed: its run, its trials' and the store's client."""
    assert main(["--task", task, "--data-dir", str(data_dir), "--model", str(model), *more]) == 0
    run, trials, client = runs_of(experiment)
    assert {trial.data.tags[recorded.OUTCOME] for trial in trials} == {"finished"}
    return run, trials, client


def files_of(client: Any, trial: Run) -> set[str]:
    names = {file.path for file in client.list_artifacts(trial.info.run_id)}
    return names | {file.path for file in client.list_artifacts(trial.info.run_id, "predictions")}


def test_kmer_counts_log_like_any_trial(experiment: str, dna_files: Path) -> None:
    _, (trial,), client = swept(experiment, dna_files, "splice", "kmer")
    settings = {name for name in trial.data.params if not name.startswith(recorded.PREFIX)}
    assert settings == {"task", "model", "init", "seed", "max_train_examples"}
    assert trial.data.params["model"] == "kmer" and trial.data.params["init"] == "scratch"
    assert {"valid/score", "test/score", "test/accuracy", "examples_per_second"} <= trial.data.metrics.keys()
    assert files_of(client, trial) == {"config.json", "predictions", "predictions/test.csv"}


def test_hilbert_cnn_is_trained_and_logged_like_any_model(
    experiment: str, dna_files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ("--grid", "compare", "--seeds", "2", "--num-epochs", "1", "--max-train-examples", "32")
    _, trials, client = swept(experiment, dna_files, "splice", "hilbert-cnn", *more)
    assert {trial.data.params["seed"] for trial in trials} == {"0", "1"}
    for trial in trials:
        assert "mapping" not in trial.data.params and trial.data.params["optimizer"]
        assert files_of(client, trial) >= {"config.json", "loss.png", "predictions/test.csv"}
        assert len(client.get_metric_history(trial.info.run_id, "train/loss")) == 1
    assert "splice, hilbert-cnn: accuracy" in capfd.readouterr().out


def test_a_fraction_of_the_data_differs_from_seed_to_seed_and_is_recorded(
    experiment: str, task_files: Path, tiny_model: Path
) -> None:
    more = ("--grid", "fraction", "--train-fraction", "0.5", "--num-epochs", "2", "--seeds", "2", "--inits", "scratch")
    run, trials, _ = swept(experiment, task_files, "mrpc", tiny_model, *more)
    assert run.data.params["train_fraction"] == "0.5" and run.data.params["stop_at_loss"] == "0.05"
    digests = set()
    for trial in trials:
        assert (trial.data.params["train_fraction"], trial.data.params["num_epochs"]) == ("0.5", "2")
        assert trial.data.tags["polymath.stopped_by"] == "num_epochs"
        assert trial.inputs is not None
        digests |= {entry.dataset.digest for entry in trial.inputs.dataset_inputs if entry.tags[0].value == "train"}
    assert len(digests) == 2 and len({trial.data.tags[recorded.DATA_DIGEST] for trial in trials}) == 1


def test_every_mapping_of_a_text_is_swept_and_named(experiment: str, task_files: Path, tiny_model: Path) -> None:
    more = ("--grid", "mapping", "--seeds", "1", "--inits", "scratch", "--num-epochs", "1")
    _, trials, _ = swept(experiment, task_files, "mrpc", tiny_model, *more)
    names = {trial.info.run_name: trial.data.params.get("shift_by") for trial in trials}
    mappings = {"identity": None, "shift": "1000", "permutation": None}
    assert names == {f"scratch adam 1e-05 seed 0 mapping {name}": shift for name, shift in mappings.items()}


def test_a_selection_by_train_score_has_one_in_every_trial(experiment: str, task_files: Path, tiny_model: Path) -> None:
    more = ("--grid", "quick", "--select-by", "train/score", "--inits", "scratch", "--num-epochs", "1")
    run, trials, _ = swept(experiment, task_files, "mrpc", tiny_model, *more)
    assert run.data.tags[recorded.SELECT_BY] == "train/score"
    for trial in trials:
        assert trial.data.metrics["train/score"] == trial.data.metrics["train/f1"]
