"""Which cells a sweep has."""

from pathlib import Path

import numpy as np
import pytest

from sweeps.grids import GRIDS, SEARCH_LEARNING_RATES
from sweeps.spec import SweepOptions, SweepSpec, cell_key
from trainer.config import INITS
from trainer.errors import UserError
from trainer.optimizers import OPTIMIZERS


def spec(**options: object) -> SweepSpec:
    chosen = SweepOptions(**options)  # type: ignore[arg-type]
    return SweepSpec(base=chosen.base(), axes=chosen.axes())


def test_a_sweep_asked_for_nothing_is_the_papers_grid() -> None:
    cells = [spec().config(point) for point in spec().points()]
    assert len(cells) == 135
    assert {cell.task for cell in cells} == {"h4"} and {cell.model for cell in cells} == {"bert-base-uncased"}
    assert {cell.init for cell in cells} == set(INITS) and {cell.optimizer for cell in cells} == set(OPTIMIZERS)
    assert {cell.seed for cell in cells} == {0} and {cell.num_epochs for cell in cells} == {20}


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


def test_compare_is_the_papers_adam_at_1e_5() -> None:
    assert {(point["optimizer"], point["learning_rate"]) for point in spec(grid="compare").points()} == {("adam", 1e-5)}


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
        ("grid", "serch", "grid: unknown value 'serch'; allowed: quick, search, compare; did you mean 'search'"),
        ("inits", ("scrach",), "inits: unknown value 'scrach'.*did you mean 'scratch'"),
        ("inits", (), "inits: none given; allowed: pretrained, reinit-embeddings, scratch"),
        ("inits", ("scratch", "scratch"), "inits: .* twice"),
        ("seeds", 0, "seeds: 0 is not allowed; give a number above 0"),
        ("num_epochs", 0, "num_epochs: 0 is not allowed"),
        ("cpus_per_trial", 0, "cpus_per_trial: 0 is not allowed"),
        ("gpus_per_trial", -0.5, "gpus_per_trial: -0.5 is not allowed"),
        ("mapping", "frequnt", "mapping: .*did you mean 'frequent'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_value_and_remedy(option: str, value: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SweepOptions(**{option: value})  # type: ignore[arg-type]


def test_folders_reach_workers_as_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    for model in ("bert", "~/bert", str(tmp_path / "bert")):
        assert SweepOptions(model=model).model_folder == tmp_path / "bert"
    for data_dir in ("dna", "~/dna"):
        assert SweepOptions(data_dir=data_dir).data_folder == tmp_path / "dna"
    assert SweepOptions().model_folder is None and SweepOptions().data_folder is None


def test_every_grid_is_a_product_of_the_four_axes() -> None:
    for grid in GRIDS.values():
        assert set(grid(INITS, 1)) == {"init", "optimizer", "learning_rate", "seed"}
