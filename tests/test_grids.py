"""Which cells a sweep has."""

from pathlib import Path

import numpy as np
import pytest

from sweeps.grids import GRIDS, OVER_CHECKPOINTS, SEARCH_LEARNING_RATES
from sweeps.spec import SweepOptions, SweepSpec, cell_key
from trainer.config import INITS
from trainer.errors import UserError
from trainer.mapping import TEXT_MAPPINGS
from trainer.optimizers import OPTIMIZERS
from trainer.rivals import RIVALS


def spec(**options: object) -> SweepSpec:
    chosen = SweepOptions(**options)  # type: ignore[arg-type]
    return chosen.spec()


def test_a_sweep_asked_for_nothing_is_the_papers_grid() -> None:
    cells = list(spec().cells.values())
    assert len(cells) == 5 * 9 * 3 * 3
    assert {cell.task for cell in cells} == {"h4"} and {cell.model for cell in cells} == {"bert-base-uncased"}
    assert {cell.init for cell in cells} == {"pretrained", "reinit-embeddings", "scratch"}
    assert {cell.optimizer for cell in cells} == set(OPTIMIZERS)
    assert {cell.seed for cell in cells} == {0, 1, 2} and {cell.num_epochs for cell in cells} == {20}
    assert spec().sizes == "405 trials = 3 seeds x 5 optimizers x 9 learning rates x 3 inits"


def test_the_nine_learning_rates_are_two_log_spaced_fives_that_share_a_point() -> None:
    expected = {*np.logspace(-4, -7, 5).round(12), *np.logspace(-5, -6, 5).round(12)}
    assert len(expected) == 9
    assert sorted(SEARCH_LEARNING_RATES) == pytest.approx(sorted(expected), rel=1e-5)


@pytest.mark.parametrize(("grid", "settings"), [("quick", 2), ("compare", 1), ("search", 45)])
def test_inits_and_seeds_set_their_axes_in_every_grid(grid: str, settings: int) -> None:
    chosen = spec(grid=grid, inits=("scratch", "pretrained"), seeds=3)
    points = chosen.points()
    assert len(points) == settings * 2 * 3
    assert {point["seed"] for point in points} == {0, 1, 2}
    assert {point["init"] for point in points} == {"scratch", "pretrained"}
    assert len({cell_key(chosen.config(point)) for point in points}) == len(points)


def test_compare_is_the_papers_adam_at_1e_5_over_six_mappings_of_symbols_and_three_seeds_of_text() -> None:
    for task, seeds in (("h4", 6), ("stability", 6), ("mrpc", 3)):
        points = spec(grid="compare", task=task).points()
        assert {(point["optimizer"], point["learning_rate"]) for point in points} == {("adam", 1e-5)}
        assert {point["seed"] for point in points} == set(range(seeds)) and len(points) == 3 * seeds


def test_fraction_is_one_percent_until_the_loss_is_low_unless_told_otherwise() -> None:
    cells = spec(grid="fraction", task="mrpc").cells.values()
    assert {(cell.train_fraction, cell.stop_at_loss, cell.num_epochs) for cell in cells} == {(0.01, 0.05, 1000)}
    assert {cell.seed for cell in cells} == {0, 1, 2}
    told = spec(grid="fraction", task="mrpc", train_fraction=0.1, stop_at_loss=0.2, num_epochs=7).cells.values()
    assert {(cell.train_fraction, cell.stop_at_loss, cell.num_epochs) for cell in told} == {(0.1, 0.2, 7)}


def test_mapping_lays_out_every_mapping_that_the_task_allows() -> None:
    assert {point["mapping"] for point in spec(grid="mapping", task="mrpc").points()} == set(TEXT_MAPPINGS)
    assert {point["mapping"] for point in spec(grid="mapping").points()} == {"random", "frequent", "unused"}


def test_what_a_grid_lays_out_cannot_be_given_beside_it() -> None:
    with pytest.raises(UserError, match="mapping: the grid 'mapping' lays it out itself; leave it out"):
        spec(grid="mapping", mapping="random")


def test_points_that_are_the_same_trial_run_once() -> None:
    """The distance of a shift plays no part under other mappings, nor a checkpoint's step in a trial from scratch."""
    axes = {"mapping": ("identity", "shift"), "shift_by": (1, 2), "seed": (0, 1)}
    chosen = SweepSpec(base={"task": "mrpc"}, axes=axes)
    assert len(chosen) == len(chosen.points()) == 2 * (1 + 2)
    assert chosen.sizes.endswith("without repeats")


def test_a_rival_has_one_init_its_own_setting_and_no_axis_that_does_nothing_to_it() -> None:
    assert len(spec(model="kmer")) == len(spec(model="kmer", grid="compare", seeds=3)) == 1
    assert len(spec(model="kmer", grid="fraction", task="splice", seeds=3)) == 3, "other examples for each seed"
    cells = spec(model="hilbert-cnn", grid="compare", task="splice").cells.values()
    assert {cell.init for cell in cells} == {"scratch"} and len(cells) == 6
    (rate,) = {cell.learning_rate for cell in cells}
    assert rate == RIVALS["hilbert-cnn"].learning_rate
    with pytest.raises(UserError, match="inits: 'pretrained' is not allowed, kmer has no weights from text; give scr"):
        spec(model="kmer", inits=("pretrained",))


@pytest.mark.parametrize("grid", ["quick", "compare", "search", "fraction", "mapping"])
def test_learning_rates_take_the_place_of_the_grids_own_and_change_nothing_else(grid: str) -> None:
    own, asked = spec(grid=grid, seeds=2), spec(grid=grid, seeds=2, learning_rates=("1e-3", "3e-4"))
    assert asked.axes == {**own.axes, "learning_rate": (1e-3, 3e-4)} and list(asked.axes) == list(own.axes)
    assert {cell.learning_rate for cell in asked.cells.values()} == {1e-3, 3e-4}


def test_a_rivals_learning_rate_can_be_given_where_it_has_one() -> None:
    cells = spec(model="hilbert-cnn", grid="compare", task="splice", seeds=1, learning_rates=(0.01,)).cells.values()
    assert [cell.learning_rate for cell in cells] == [0.01]
    with pytest.raises(UserError, match="learning_rates: not allowed, kmer is not trained in steps; leave them out"):
        spec(model="kmer", learning_rates=(0.01,))


def test_a_checkpoint_is_one_more_init_and_is_needed_for_it() -> None:
    assert SweepOptions(checkpoint="runs:/abc/checkpoints").inits == INITS
    with pytest.raises(UserError, match="inits: 'checkpoint' needs to be told of which; give a folder or URI"):
        SweepOptions(inits=("checkpoint",))


def test_a_cells_key_names_its_whole_config_and_nothing_else() -> None:
    one, more_epochs = spec(grid="compare"), spec(grid="compare", num_epochs=5)
    elsewhere = spec(grid="compare", data_dir="elsewhere", cpus_per_trial=2, name="other", save_model=True)
    point = one.points()[0]
    assert cell_key(one.config(point)) == cell_key(elsewhere.config(point))
    assert cell_key(one.config(point)) != cell_key(more_epochs.config(point))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("task", "splise", "task: unknown value 'splise'.*did you mean 'splice'"),
        (
            "grid",
            "serch",
            "grid: unknown value 'serch'; allowed: quick, search, .*did you mean 'search'",
        ),
        ("inits", ("scrach",), "inits: unknown value 'scrach'.*did you mean 'scratch'"),
        ("inits", (), "inits: none given; allowed: pretrained, reinit-embeddings, scratch, checkpoint"),
        ("inits", ("scratch", "scratch"), "inits: .* twice"),
        ("seeds", 0, "seeds: 0 is not allowed; give a number above 0"),
        ("learning_rates", ("fast",), "learning_rates: 'fast' is not allowed; give numbers above 0, comma-separated"),
        ("learning_rates", (), "learning_rates: '' is not allowed; give numbers above 0"),
        ("learning_rates", ("1e-3", "-1"), "learning_rates: -1.0 is not allowed; give a number above 0"),
        ("learning_rates", ("nan",), "learning_rates: nan is not allowed"),
        ("learning_rates", ("1e-3", "0.001"), "learning_rates: 1e-3,0.001 names one of them twice; give each once"),
        ("select_by", "test/score", "select_by: unknown value 'test/score'; allowed: valid/score, train/score"),
        ("train_fraction", 1.5, "train_fraction: 1.5 is not allowed; give at most 1"),
        ("stop_at_loss", -1.0, "stop_at_loss: -1.0 is not allowed"),
        ("checkpoint_step", -1, "checkpoint_step: -1 is not allowed"),
        ("num_epochs", 0, "num_epochs: 0 is not allowed"),
        ("cpus_per_trial", 0, "cpus_per_trial: 0 is not allowed"),
        ("gpus_per_trial", -0.5, "gpus_per_trial: -0.5 is not allowed"),
        ("mapping", "frequnt", "mapping: .*did you mean 'frequent'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_value_and_remedy(option: str, value: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SweepOptions(**{option: value}).spec()  # type: ignore[arg-type]


def test_folders_reach_workers_as_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    for model in ("bert", "~/bert", str(tmp_path / "bert")):
        assert SweepOptions(model=model).model_folder == tmp_path / "bert"
    for data_dir in ("dna", "~/dna"):
        assert SweepOptions(data_dir=data_dir).data_folder == tmp_path / "dna"
    assert SweepOptions().model_folder is None and SweepOptions().data_folder is None


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_has_the_axes_that_a_comparison_has(grid: str, tmp_path: Path) -> None:
    (tmp_path / "step-5").mkdir()
    chosen = spec(grid=grid, seeds=2, checkpoint=str(tmp_path) if grid in OVER_CHECKPOINTS else None)
    assert {"init", "optimizer", "learning_rate", "seed"} <= set(chosen.axes)
    assert list(chosen.axes)[-1] == "init", "so that a sweep that still runs holds whole comparisons"


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    with pytest.raises(UserError, match="grid: 1,350,000 cells are too many; give fewer values or seeds, at most"):
        spec(seeds=10_000)
    with pytest.raises(UserError, match="seeds: 2000000000 is not allowed; give at most 10000"):
        spec(seeds=2_000_000_000)
