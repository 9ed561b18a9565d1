"""The same command again, or a changed one: only what is missing is run."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeps import grids, recorded
from sweeps.__main__ import main
from sweeps.spec import SweepOptions

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("ray_here"),
]

Sweep = Callable[..., int]


@pytest.fixture
def sweep(dna_files: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Runs a small sweep; more options may be given."""
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    model = shutil.copytree(tiny_model, tmp_path / "model")
    options = ["--task", "splice", "--data-dir", str(dna_files), "--model", str(model), "--num-epochs", "1"]
    options += ["--max-train-examples", "32", "--grid", "compare"]
    return lambda *more: main([*options, *more])


def trials(store: MlflowClient, experiment: str) -> list[Run]:
    return list(store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'trial'"))


def members(store: MlflowClient, experiment: str) -> list[int]:
    """How many trials each sweep counts as its own, oldest sweep first."""
    sweeps = store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'sweep'", order_by=["attributes.start_time"])
    counted = Counter(name for run in trials(store, experiment) for name in run.data.tags)
    return [counted[recorded.MEMBER + one.info.run_id] for one in sweeps]


@contextmanager
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside the block no Ray may be started or joined."""

    @contextmanager
    def refuse(options: Any, num_cells: int) -> Iterator[None]:
        raise AssertionError("Ray is not needed")
        yield

    with monkeypatch.context() as patched:
        patched.setattr("sweeps.session.ray_session", refuse)
        yield


def test_a_finished_sweep_run_again_gives_its_table_at_once(
    sweep: Sweep,
    store: MlflowClient,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert sweep("--inits", "scratch,pretrained", "--seeds", "1") == 0
    first = capfd.readouterr().out
    with no_ray(monkeypatch):
        assert sweep("--inits", "scratch,pretrained", "--seeds", "1") == 0
    again = capfd.readouterr().out
    assert "2 of 2 cells are done already" in again
    assert first[first.index("accuracy ↑") :].splitlines()[:5] == again[again.index("accuracy ↑") :].splitlines()[:5]
    assert len(trials(store, experiment)) == 2 and members(store, experiment) == [2, 2]


def test_a_changed_grid_runs_only_the_cells_that_it_adds(
    sweep: Sweep, store: MlflowClient, experiment: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--inits", "scratch", "--seeds", "2") == 0
    assert sweep("--inits", "scratch,pretrained", "--seeds", "3") == 0
    printed = capfd.readouterr().out
    assert "2 of 6 cells are done already" in printed and "[6/6]" in printed
    cells = [(run.data.params["init"], run.data.params["seed"]) for run in trials(store, experiment)]
    assert sorted(cells) == [(init, str(seed)) for init in ("pretrained", "scratch") for seed in range(3)]
    assert members(store, experiment) == [2, 6]


def test_a_cell_that_failed_is_run_again_and_those_that_did_not_are_not(
    sweep: Sweep, store: MlflowClient, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model/model.safetensors"
    sound = weights.read_bytes()
    config = (tmp_path / "model/config.json").read_text()
    # Sound to a first look, and of another shape than config.json says.
    (tmp_path / "model/config.json").write_text(config.replace('"hidden_size": 32', '"hidden_size": 64'))
    assert sweep("--inits", "scratch,pretrained", "--seeds", "1") == 1
    assert "1 failed" in capfd.readouterr().out
    (tmp_path / "model/config.json").write_text(config)
    assert weights.read_bytes() == sound
    assert sweep("--inits", "scratch,pretrained", "--seeds", "1") == 0
    assert "0 of 2" not in capfd.readouterr().out, "the mended model is another: nothing of the old one is used"
    states = Counter((run.data.params.get("init"), run.info.status) for run in trials(store, experiment))
    assert states == {("scratch", "FINISHED"): 2, ("pretrained", "FAILED"): 1, ("pretrained", "FINISHED"): 1}


def test_a_diverged_cell_is_run_again_only_when_asked_for(
    sweep: Sweep, store: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wild(options: SweepOptions) -> grids.Axes:
        return {"seed": (0,), "optimizer": ("adam",), "learning_rate": (1e30, 1e-3), "init": options.inits or ()}

    monkeypatch.setitem(grids.GRIDS, "compare", wild)
    assert sweep("--inits", "scratch") == 0
    with no_ray(monkeypatch):
        assert sweep("--inits", "scratch") == 0
    assert len(trials(store, experiment)) == 2
    assert sweep("--inits", "scratch", "--rerun-diverged", "true") == 0
    outcomes = Counter(run.data.tags[recorded.OUTCOME] for run in trials(store, experiment))
    assert outcomes == {"diverged": 2, "finished": 1}


def test_other_data_another_experiment_and_more_to_record_are_other_cells(
    sweep: Sweep, store: MlflowClient, experiment: str, dna_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep("--inits", "scratch", "--seeds", "1") == 0
    shutil.copytree(dna_files / "dna", tmp_path / "other/dna")
    lines = (tmp_path / "other/dna/splice.txt").read_text().splitlines()
    (tmp_path / "other/dna/splice.txt").write_text("\n".join(lines[:-1]) + "\n")
    assert sweep("--inits", "scratch", "--seeds", "1", "--data-dir", str(tmp_path / "other")) == 0
    assert len(trials(store, experiment)) == 2
    assert sweep("--inits", "scratch", "--seeds", "1", "--select-by", "train/score") == 0
    assert len(trials(store, experiment)) == 3
    another = store.create_experiment(str(tmp_path), artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", another)
    assert sweep("--inits", "scratch", "--seeds", "1") == 0
    assert len(trials(store, another)) == 1 and len(trials(store, experiment)) == 3
