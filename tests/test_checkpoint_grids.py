"""The grids over pre-training checkpoints: which cells they have, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps.__main__ import main
from sweeps.spec import SweepOptions, SweepSpec
from tests.conftest import refusal
from trainer.config import TrialConfig


def spec(grid: str, checkpoint: object = None, **options: Any) -> SweepSpec:
    given = None if checkpoint is None else str(checkpoint)
    return SweepOptions(task="splice", grid=grid, checkpoint=given, **options).spec()


def made(folder: Path, *steps: int) -> Path:
    """The folder of a pre-training run with some steps; grids look at their names alone."""
    for step in steps:
        (folder / f"step-{step}").mkdir(parents=True)
    return folder


def starts(chosen: SweepSpec) -> list[tuple[int, str, Any, Any]]:
    """Where each cell starts from, in their order."""

    def start(cell: TrialConfig) -> tuple[int, str, Any, Any]:
        settings = cell.settings()
        return cell.seed, cell.init, settings.get("checkpoint"), settings.get("checkpoint_step")

    return [start(cell) for cell in chosen.cells.values()]


def test_steps_has_every_step_and_scratch_once_for_each_of_three_seeds(tmp_path: Path) -> None:
    run = str(made(tmp_path / "run", 1000, 0, 200))
    chosen = spec("steps", run)
    expected = []
    for seed in range(3):
        at = [(seed, "checkpoint", run, step) for step in (0, 200, 1000)]
        expected += [(seed, "scratch", None, None), *at]
    assert starts(chosen) == expected
    assert {(cell.optimizer, cell.learning_rate) for cell in chosen.cells.values()} == {("adam", 1e-5)}
    assert chosen.sizes == "12 trials = 3 seeds x 3 values of checkpoint_step x 2 inits, without repeats"


def test_steps_takes_other_inits_and_learning_rates(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 0, 200)
    chosen = spec("steps", run, seeds=1, inits=("pretrained", "checkpoint"), learning_rates=("1e-3", "1e-4"))
    assert len(chosen) == 2 * (1 + 2)
    assert {cell.learning_rate for cell in chosen.cells.values()} == {1e-3, 1e-4}


def test_steps_of_a_run_in_the_tracking_store_are_those_that_it_logged(
    experiment: str, store: MlflowClient, tmp_path: Path
) -> None:
    run = store.create_run(experiment)
    for step in (0, 1000, 200):
        store.log_text(run.info.run_id, "{}", f"checkpoints/step-{step}/config.json")
    uri = f"runs:/{run.info.run_id}/checkpoints"
    assert spec("steps", uri, seeds=1).axes["checkpoint_step"] == (0, 200, 1000)
    message = refusal(lambda: spec("steps", f"{uri}/step-0"))
    assert message.startswith(f"checkpoint: '{uri}/step-0' has no steps for the grid 'steps'; give what has folders")
    assert refusal(lambda: spec("steps", f"{uri}/gone")).startswith("checkpoint: there is nothing at")


def test_corpora_has_each_checkpoint_at_its_last_step(tmp_path: Path) -> None:
    flat, nested, text = made(tmp_path / "flat", 0, 500), made(tmp_path / "nested", 0, 1000), tmp_path / "text"
    text.mkdir()
    chosen = spec("corpora", f"{flat}, {nested},{text}", seeds=2)
    expected = []
    for seed in range(2):
        at = [(str(flat), 500), (str(nested), 1000), (str(text), None)]
        expected += [(seed, "scratch", None, None), *((seed, "checkpoint", *one) for one in at)]
    assert sorted(starts(chosen), key=str) == sorted(expected, key=str)
    assert len(spec("corpora", f"{flat},{nested}")) == 3 * 3, "three seeds"


def test_corpora_has_each_checkpoint_at_the_step_asked_for(tmp_path: Path) -> None:
    flat, nested = made(tmp_path / "flat", 0, 500), made(tmp_path / "nested", 0, 500, 1000)
    chosen = spec("corpora", f"{flat},{nested}", seeds=1, checkpoint_step=500, inits=("checkpoint",))
    assert starts(chosen) == [(0, "checkpoint", str(flat), 500), (0, "checkpoint", str(nested), 500)]
    message = refusal(lambda: spec("corpora", f"{flat},{nested}", checkpoint_step=1000))
    assert message == f"checkpoint_step: 1000 is not in '{flat}'; there are 0, 500"


def test_points_are_what_their_cells_say(tmp_path: Path) -> None:
    """A worker gets a point, and makes the config of it anew."""
    flat, nested = made(tmp_path / "flat", 0, 500), made(tmp_path / "nested", 0, 1000)
    chosen = spec("corpora", f"{flat},{nested}", seeds=1)
    assert [chosen.config(point) for point in chosen.points()] == list(chosen.cells.values())


@pytest.mark.parametrize("grid", ["steps", "corpora"])
def test_without_a_checkpoint_the_grid_says_what_it_needs(grid: str) -> None:
    assert (
        refusal(lambda: spec(grid)) == f"grid: '{grid}' needs a checkpoint; give its folder, URI or name as checkpoint"
    )
    message = refusal(lambda: spec(grid, "somewhere", model="kmer"))
    assert message == f"grid: '{grid}' is not allowed, kmer has no weights from text"
    assert refusal(lambda: spec(grid, "/no/such/folder")).startswith("checkpoint: there is no folder '/no/such/folder'")


@pytest.mark.parametrize("grid", ["steps", "compare", "my.yaml"])
def test_several_checkpoints_are_for_the_grid_that_takes_them(grid: str, tmp_path: Path) -> None:
    message = refusal(lambda: spec(grid, "one,two"))
    assert message == "checkpoint: 'one,two' names several; give one, or give them to grid=corpora"
    if grid == "compare":
        (tmp_path / "one,two").mkdir()
        assert len(spec(grid, tmp_path / "one,two")) == 6 * 4, "a folder may be called so"


def test_a_checkpoint_or_step_cannot_be_given_twice(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 0, 200)
    message = refusal(lambda: spec("steps", run, checkpoint_step=200))
    assert message.startswith("checkpoint_step: the grid 'steps' lays it out itself; leave it out")
    assert "names one of them twice; give each once" in refusal(lambda: spec("corpora", f"{run},{run}"))


def test_learning_rates_beside_an_own_grid_are_for_what_it_leaves_open(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("batch_size: [16, 32]")
    cells = spec(str(grid), inits=("scratch",), learning_rates=("1e-3",)).cells.values()
    assert {(cell.batch_size, cell.learning_rate) for cell in cells} == {(16, 1e-3), (32, 1e-3)}
    grid.write_text("learning_rate: [1e-4, 1e-5]")
    message = refusal(lambda: spec(str(grid), learning_rates=("1e-3",)))
    assert message == f"learning_rates: the grid '{grid}' has its own; leave this out, or give another grid"


def test_a_dry_run_shows_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(tmp_path / "run", 0, 200)
    options = ["--task", "splice", "--grid", "steps", "--checkpoint", str(run), "--seeds", "1", "--dry-run", "true"]
    assert main([*options, "--learning-rates", "1e-3"]) == 0
    first, heading, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("splice steps bert-base-uncased: 3 trials")
    assert heading.split() == "cell seed optimizer learning rate checkpoint step init".split()
    assert [row.split()[1:] for row in rows] == [
        "0 adam 0.001 - scratch".split(),
        "0 adam 0.001 0 checkpoint".split(),
        "0 adam 0.001 200 checkpoint".split(),
    ]
