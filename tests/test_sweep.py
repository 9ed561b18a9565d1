"""The sweep: real Ray, real MLflow, every cell exactly once."""

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from rich.console import Console

from sweeps import recorded
from sweeps.__main__ import main
from sweeps.cluster import Resources
from sweeps.progress import SweepProgress
from sweeps.schedule import run_cells
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.worker import MAX_RETRIES

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("ray_here"),
]

RESOURCES = Resources(cpus=1, gpus=0, num_side_by_side=2)


class Noted(tune.Trainable):
    """A trial that only notes that it ran; one cell fails."""

    def setup(self, config: dict[str, Any], folder: Path) -> None:  # type: ignore[override]
        self.folder = folder
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.point = new_config
        return True

    def step(self) -> dict[str, Any]:
        import os

        with (self.folder / f"{os.getpid()}.jsonl").open("a") as notes:
            notes.write(json.dumps(self.point) + "\n")
        if self.point == {"seed": 7, "optimizer": "adam", "learning_rate": 1e-4, "init": "scratch"}:
            raise RuntimeError("this cell fails")
        diverged = self.point["learning_rate"] == 1.0
        score = float("-inf") if diverged else self.point["learning_rate"]
        outcome = "diverged" if diverged else "finished"
        return {"score": score, "test_score": 0.5, "epoch": 1, "outcome": outcome, "done": True}


def run_noted(folder: Path, seeds: tuple[int, ...]) -> tuple[SweepSpec, SweepProgress, list[dict[str, Any]], int]:
    axes = {
        "seed": seeds,
        "optimizer": ("adam", "radam"),
        "learning_rate": (1.0, 1e-4, 1e-5),
        "init": ("pretrained", "scratch"),
    }
    spec = SweepSpec(base={"task": "splice"}, axes=axes)
    progress = SweepProgress(len(spec), spec.name, Console(quiet=True))
    run_cells(spec.points(), tune.with_parameters(Noted, folder=folder), RESOURCES, progress)
    files = list(folder.glob("*.jsonl"))
    ran = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return spec, progress, ran, len(files)


def key(point: dict[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def test_the_cells_that_ran_are_the_grids_product_each_once_in_warm_workers(tmp_path: Path) -> None:
    spec, progress, ran, num_processes = run_noted(tmp_path, (0, 1))
    assert Counter(map(key, ran)) == Counter(map(key, spec.points()))
    assert (progress.done, progress.failed, progress.diverged, progress.running) == (24, 0, 8, 0)
    assert progress.best == 1e-4
    assert num_processes <= 2, "trials reuse their workers"


def test_the_others_still_run_when_a_cell_keeps_failing(tmp_path: Path) -> None:
    spec, progress, ran, _ = run_noted(tmp_path, (7, 0))
    assert Counter({key(point): 1 for point in ran}) == Counter(map(key, spec.points()))
    assert len(ran) == 24 + MAX_RETRIES, "the one that fails is tried again"
    assert (progress.done, progress.running) == (23, 0)


def runs_of(experiment: str) -> tuple[Any, list[Any], Any]:
    """The sweep's run, its trials' runs, and the client of their store."""
    import mlflow

    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    runs = client.search_runs([experiment])
    (sweep,) = [run for run in runs if run.data.tags.get(recorded.KIND) == "sweep"]
    trials = [run for run in runs if run.data.tags.get(recorded.KIND) == "trial"]
    assert all(run.data.tags[recorded.PARENT] == sweep.info.run_id for run in trials)
    return sweep, trials, client


def sweep(data_dir: Path, model: Path, *more: str) -> int:
    options = ["--task", "splice", "--data-dir", str(data_dir), "--model", str(model), "--num-epochs", "2"]
    return main([*options, *more])


def test_a_sweep_on_real_splice_data_ends_in_a_table(
    real_data: Path, tiny_model: Path, experiment: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status = sweep(
        real_data, tiny_model, *("--inits", "pretrained,scratch", "--grid", "quick", "--max-train-examples", "64")
    )
    printed = capfd.readouterr().out
    assert status == 0, printed
    run, trials, client = runs_of(experiment)
    assert run.info.status == "FINISHED" and len(trials) == 4
    for trial in trials:
        assert trial.info.status == "FINISHED" and trial.data.tags[recorded.OUTCOME] == "finished"
        losses = client.get_metric_history(trial.info.run_id, "train/loss")
        assert [loss.step for loss in losses] == [1, 2, 3, 4]
        assert {"valid/score", "test/score", "examples_per_second"} <= trial.data.metrics.keys()
        assert trial.data.params["max_train_examples"] == "64" and trial.data.params["task"] == "splice"
        splits = {entry.tags[0].value: json.loads(entry.dataset.profile) for entry in trial.inputs.dataset_inputs}
        assert {name: split["examples"] for name, split in splits.items()} == {"train": 64, "valid": 160, "test": 160}
        files = {file.path for file in client.list_artifacts(trial.info.run_id)}
        assert files == {"config.json", "loss.png", "predictions"}
    assert "4/4" in printed and "mlflow ui --backend-store-uri sqlite:///" in printed
    table = client.download_artifacts(run.info.run_id, "tables/compare.csv", str(tmp_path))
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    assert [row["init"] for row in rows] == ["pretrained", "scratch"]


def test_diverged_trials_are_recorded_as_such_and_the_sweep_goes_on(
    dna_files: Path,
    tiny_model: Path,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from sweeps import grids

    def wild(options: SweepOptions) -> grids.Axes:
        return {"seed": (0,), "optimizer": ("adam",), "learning_rate": (1e30, 1e-3), "init": options.inits or ()}

    monkeypatch.setitem(grids.GRIDS, "quick", wild)
    assert sweep(dna_files, tiny_model, "--inits", "scratch", "--grid", "quick") == 0
    _, trials, _ = runs_of(experiment)
    outcomes = {trial.data.params["learning_rate"]: trial.data.tags[recorded.OUTCOME] for trial in trials}
    assert outcomes == {"1e+30": "diverged", "0.001": "finished"}
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    assert "1 diverged" in capfd.readouterr().out


def test_a_trial_that_fails_is_recorded_with_its_traceback_and_the_sweep_says_so(
    dna_files: Path,
    tiny_model: Path,
    experiment: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights turn out to be broken only when a worker reads them; scratch needs none."""
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").write_bytes(b"not weights")
    assert sweep(dna_files, model, "--inits", "pretrained,scratch", "--grid", "compare", "--seeds", "1") == 1
    _, trials, client = runs_of(experiment)
    by_init = {trial.data.params.get("init"): trial for trial in trials}
    failed = next(trial for trial in trials if trial.info.status == "FAILED")
    assert by_init["scratch"].info.status == "FINISHED" and len(trials) == 2
    assert failed.data.tags[recorded.OUTCOME] == "failed" and "cannot be read" in failed.data.tags[recorded.FAILURE]
    assert "traceback.txt" in {file.path for file in client.list_artifacts(failed.info.run_id)}
    printed = capfd.readouterr().out
    assert "FAILED: UserError: model: the weights in" in printed and "1 failed" in printed


def test_the_run_that_mlflow_made_becomes_the_sweeps_run_and_trials_get_their_own(
    dna_files: Path, tiny_model: Path, experiment: str, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    made = MlflowClient(tracking_uri).create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert sweep(dna_files, tiny_model, "--inits", "scratch", "--grid", "compare", "--seeds", "2") == 0
    run, trials, _ = runs_of(experiment)
    assert run.info.run_id == made
    assert len({trial.info.run_id for trial in trials} - {made}) == 2


def test_a_users_own_file_is_swept_and_what_was_understood_comes_first(
    tiny_model: Path, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a path relative to where the sweep is started, which workers in other folders must find too."""
    rows = [f"{'xyz'[number % 3] * 9}-{number},{['low', 'mid', 'high'][number % 3]}\n" for number in range(60)]
    (tmp_path / "mine.csv").write_text("sequence,label\n" + "".join(rows))
    path = os.path.relpath(tmp_path / "mine.csv")
    options = ["--task", path, "--model", str(tiny_model), "--grid", "compare", "--num-epochs", "1", "--seeds", "1"]
    assert main([*options, "--inits", "scratch"]) == 0
    printed = capfd.readouterr().out
    understood = printed[: printed.index("recorded in run")]
    assert "60: train 54, valid 3, test 3" in understood and "symbols   14: - 0 1" in understood
    assert "\nmine.csv, tiny-bert: accuracy" in printed, "the table names it"
    _, (trial,), _ = runs_of(experiment)
    assert trial.data.params["task"] == path and trial.data.tags[recorded.METRIC] == "accuracy"


def test_a_text_task_is_swept_with_one_dataset_for_valid_and_test(
    tiny_model: Path, task_files: Path, experiment: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--task", "mrpc", "--data-dir", str(task_files), "--model", str(tiny_model), "--mapping", "shift"]
    assert (
        main([*options, "--grid", "compare", "--inits", "scratch,pretrained", "--shift-by", "7", "--seeds", "1"]) == 0
    )
    assert "24 train, 12 dev (valid and test) examples" in capfd.readouterr().out
    _, trials, _ = runs_of(experiment)
    for trial in trials:
        assert trial.data.params["shift_by"] == "7" and trial.data.params["keep_special_tokens"] == "False"
        assert trial.data.metrics["valid/score"] == trial.data.metrics["test/f1"]
        contexts = [entry.tags[0].value for entry in trial.inputs.dataset_inputs]
        assert sorted(contexts) == ["train", "valid and test"]


def test_skipped_files_are_counted_in_the_runs_tags(
    tiny_model_for_music: Path, task_files: Path, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(task_files / "music", tmp_path / "music")
    (tmp_path / "music/maestro-v1.0.0/2004/train_1.midi").write_bytes(b"MThd, and no more")
    options = ["--task", "composer", "--data-dir", str(tmp_path), "--model", str(tiny_model_for_music)]
    assert main([*options, "--grid", "compare", "--inits", "scratch", "--num-epochs", "1", "--seeds", "1"]) == 0
    sweep_run, (trial,), _ = runs_of(experiment)
    assert trial.data.tags["polymath.skipped_files"] == sweep_run.data.tags["polymath.skipped_files"] == "1"
    said = capfd.readouterr()
    assert "train_1.midi" in said.err and "1 skipped files" in said.out


def test_cells_that_differ_in_the_last_digit_are_told_apart_and_auto_is_filled_in(
    tiny_model: Path, dna_files: Path, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("learning_rate: [1.2345678e-5, 1.23456789e-5]\nmapping: [auto, frequent]\n")
    model = ["--task", "splice", "--data-dir", str(dna_files), "--model", "kmer", "--max-train-examples", "60"]
    assert main([*model, "--grid", str(grid)]) == 0, "of a rival, for which neither axis plays a part"
    options = ["--model", str(tiny_model), "--num-epochs", "1", "--max-train-examples", "32", "--inits", "scratch"]
    grid.write_text("learning_rate: [1.2345678e-5, 1.23456789e-5]\nmapping: [auto]\n")
    assert main([*model[:4], *options, "--grid", str(grid)]) == 0
    assert capfd.readouterr().out.count("1/1") >= 2
    import mlflow

    trials = f"params.mapping = 'random' and tags.`{recorded.KIND}` = 'trial'"
    runs = mlflow.MlflowClient(mlflow.get_tracking_uri()).search_runs([experiment], trials)
    assert {run.data.params["learning_rate"] for run in runs} == {"1.2345678e-05", "1.23456789e-05"}
