"""A user's own grid: YAML files and Python functions, and one line for each mistake in them."""

import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.spec import SweepOptions, SweepSpec
from tests.conftest import refusal


def spec(grid: str, **options: Any) -> SweepSpec:
    return SweepOptions(task="splice", grid=grid, **options).spec()


def written(folder: Path, text: str, name: str = "grid.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_yaml_file_gives_the_axes_with_the_types_of_their_fields(tmp_path: Path) -> None:
    text = "learning_rate: [1e-4, 3.0e-5, 0.1]\nbatch_size: [16, 32]\nnum_epochs: 2\nmax_train_examples: [all, 100]\n"
    chosen = spec(written(tmp_path, text), inits=("scratch", "pretrained"), seeds=2)
    assert chosen.axes["learning_rate"] == (1e-4, 3e-5, 0.1), "YAML itself reads 1e-4 as a text"
    assert chosen.axes["batch_size"] == (16, 32) and chosen.axes["num_epochs"] == (2,)
    assert chosen.axes["max_train_examples"] == (None, 100)
    assert len(chosen) == 3 * 2 * 2 * 2 * 2
    assert {cell.optimizer for cell in chosen.cells.values()} == {"adam"}, "what it leaves out is as in the comparison"


def test_a_python_function_is_asked_with_the_sweeps_options(tmp_path: Path) -> None:
    text = "def warm(options): return {'learning_rate': [1e-5 * 2**k for k in range(options.seeds)], 'seed': range(2)}"
    chosen = spec(f"{written(tmp_path, text, 'grids.py')}:warm", seeds=3, inits=("scratch",))
    assert chosen.axes["learning_rate"] == (1e-5, 2e-5, 4e-5) and chosen.axes["seed"] == (0, 1)
    assert len(chosen) == 6


def test_cells_of_an_own_grid_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    chosen = spec(written(tmp_path, "mapping: [random, unused]\n"), inits=("scratch",))
    assert [chosen.name(point) for point in chosen.points()] == [
        "scratch adam 1e-05 seed 0 mapping random",
        "scratch adam 1e-05 seed 0 mapping unused",
    ]


def test_what_depends_on_an_axis_is_filled_in_cell_by_cell(tmp_path: Path) -> None:
    chosen = spec(written(tmp_path, "stop_at_loss: [none, 0.1]\n"), inits=("scratch",))
    assert [cell.num_epochs for cell in chosen.cells.values()] == [20, 1000]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: [1]", "grid: unknown axis 'learning_rat'; allowed: .*; did you mean 'learning_rate'"),
        ("task: [h3, h4]", "grid: 'task' cannot be an axis; start a sweep for each task"),
        ("model: [a, b]", "grid: 'model' cannot be an axis; start a sweep for each model"),
        ("learning_rate: []", "grid: learning_rate has no values"),
        ("learning_rate: [fast]", "learning_rate: 'fast' is not a number; give a number"),
        ("batch_size: [1.5]", "batch_size: '1.5' is not a whole number"),
        ("learning_rate: [-1]", "learning_rate: -1.0 is not allowed; give a number above 0"),
        ("mapping: [randm]", "mapping: unknown value 'randm'"),
        ("seed: [0, 0]", "grid: seed names a value twice: 0, 0; give each once"),
        ("init: [checkpoint]", "init: 'checkpoint' needs to be told of which"),
        ("", "gives no axes"),
        ("[1, 2]", "gives no axes"),
        ("a: [", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_mistake_in_a_yaml_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    assert re.search(said, refusal(lambda: spec(written(tmp_path, text))))


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        ("def warm(options): return {}", "warm", "gives no axes"),
        ("def warm(options): return 1 / 0", "warm", "warm in .* failed .ZeroDivisionError"),
        ("1 / 0", "warm", "failed when it was loaded .ZeroDivisionError"),
        ("import sys; sys.exit(3)", "warm", "failed when it was loaded .SystemExit"),
        ("def warm(options): return {'seed': [0]}", "wram", "grid: unknown value 'wram'.*did you mean 'warm'"),
        ("def warm(options:", "warm", "failed when it was loaded .SyntaxError"),
    ],
)
def test_a_mistake_in_a_python_file_is_one_line(tmp_path: Path, text: str, function: str, said: str) -> None:
    grid = f"{written(tmp_path, text, 'grids.py')}:{function}"
    assert re.search(said, refusal(lambda: spec(grid)))


@pytest.mark.parametrize("grid", ["nowhere.yaml", "nowhere.py:warm", "grids.py", "grid.json"])
def test_a_grid_that_is_not_there_is_one_line_that_says_what_to_give(grid: str) -> None:
    assert refusal(lambda: spec(grid)).startswith("grid: ")


def test_a_dry_run_prints_the_cells_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.__main__ import main

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    grid = written(tmp_path, "mapping: [random, frequent]\n")
    arguments = ["--task", "splice", "--model", "no/such/model", "--data-dir", str(tmp_path / "nowhere")]
    assert main([*arguments, "--grid", grid, "--seeds", "2", "--dry-run", "true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "splice grid.yaml model: 12 trials = 2 seeds x 2 mappings x 3 inits"
    assert len(lines) == 2 + 12 and lines[-1].split() == "12 1 adam 1e-05 frequent scratch".split()
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]


def test_auto_among_an_axiss_values_is_what_it_stands_for_in_every_point(tmp_path: Path) -> None:
    chosen = spec(written(tmp_path, "num_epochs: [auto, 5, 20]\ninit: [auto, scratch]\n"))
    assert [(point["num_epochs"], point["init"]) for point in chosen.points()] == [
        (epochs, init) for epochs in (20, 5) for init in ("pretrained", "scratch")
    ]


def test_seeds_or_inits_that_the_file_has_cannot_be_given_beside_it(tmp_path: Path) -> None:
    grid = written(tmp_path, "seed: [5]\ninit: [scratch]\n")
    assert [cell.seed for cell in spec(grid).cells.values()] == [5]
    assert refusal(lambda: spec(grid, seeds=3)).startswith("seeds: the grid")
    assert refusal(lambda: spec(grid, inits=("pretrained",))).startswith("inits: the grid")


def test_a_dry_run_shows_what_sets_each_cell_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.plan import print_cells

    options = SweepOptions(task="mrpc", grid=written(tmp_path, "mapping: [identity, shift]\nshift_by: [1, 1000]\n"))
    print_cells(options, options.spec())
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == 9 and len({tuple(line.split()[1:]) for line in lines}) == 9
