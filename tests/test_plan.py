"""What a sweep says before it starts: how many cells, and about how long they will take."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.cluster import Resources
from sweeps.plan import earlier_speeds, is_short, num_examples, print_estimate
from sweeps.spec import SweepOptions
from sweeps.storage import Storage
from sweeps.supplies import Supplies
from sweeps.tracking import SweepRecord
from tests.trials import config, finish, start_trial
from trainer.config import TrialConfig, TrialResult
from trainer.tasks.task import Dataset

TWO_CORES = Resources(cpus=1, gpus=0, num_side_by_side=2)


def finish_trial(sweep: SweepRecord, dataset: Dataset, speed: float) -> None:
    """A finished trial of the sweep's task and model that trained so many examples a second."""
    logger = start_trial(sweep, config(), dataset)
    logger.params(config().settings())
    logger.metrics("examples_per_second", [speed], [1])
    metrics = {"test/score": 0.5, "examples_per_second": speed}
    finish(logger, TrialResult(config=config(), outcome="finished", metrics=metrics, losses=[]))


def estimate(sweep: SweepRecord, dataset: Dataset, resources: Resources = TWO_CORES, **options: Any) -> str:
    """What is printed for a sweep; a rehearsal is not allowed."""
    spec = SweepOptions(task="splice", grid="compare", **options).spec()

    def rehearse() -> float:
        raise AssertionError("no rehearsal where earlier trials are known, or for few cells")

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        print_estimate([*spec.cells.values()], dataset, sweep, resources, rehearse)
    return said.getvalue()


def test_a_trial_costs_its_epochs_and_its_evaluations(splice_dataset: Dataset) -> None:
    """180 train, 10 valid and 10 test examples; evaluating one costs a third of training on it."""
    trial = TrialConfig(task="splice", num_epochs=6)
    assert num_examples(trial, splice_dataset) == pytest.approx(6 * 180 + (6 * 10 + 10) / 3)
    tenth = TrialConfig(task="splice", num_epochs=6, train_fraction=0.1)
    assert num_examples(tenth, splice_dataset) == pytest.approx(6 * 18 + (6 * 10 + 10) / 3)


def test_earlier_trials_of_the_task_and_model_give_the_estimate(sweep: SweepRecord, splice_dataset: Dataset) -> None:
    for speed in (90.0, 100.0, 5000.0):
        finish_trial(sweep, splice_dataset, speed)
    said = estimate(sweep, splice_dataset)
    seconds = 18 * (20 * 180 + (20 * 10 + 10) / 3) / 100
    assert f"about {seconds / 2 / 60:.0f} min of training with 2 trials side by side" in said
    assert f"{seconds / 3600:.2g} CPU-hours, less where trials stop early (100 examples/s in 3 earlier trials)" in said
    on_gpus = Resources(cpus=1, gpus=0.5, num_side_by_side=4)
    assert f"{seconds / 3600 / 2:.2g} GPU-hours" in estimate(sweep, splice_dataset, on_gpus)


def test_trials_of_another_length_or_model_say_nothing(sweep: SweepRecord, splice_dataset: Dataset) -> None:
    finish_trial(sweep, splice_dataset, 100.0)
    assert earlier_speeds(TrialConfig(task="splice"), sweep) == [100.0]
    assert earlier_speeds(TrialConfig(task="splice", max_length=20), sweep) == []
    assert earlier_speeds(TrialConfig(task="splice", model="it's/elsewhere"), sweep) in ([], [100.0])
    assert "none yet" in estimate(sweep, splice_dataset, max_length=20, seeds=1)


def test_a_sweep_of_a_few_minutes_is_not_rehearsed(
    sweep: SweepRecord, splice_dataset: Dataset, tiny_model: Path, real_models: Path
) -> None:
    assert "none yet" in estimate(sweep, splice_dataset, model=str(tiny_model), seeds=6)
    cells = [TrialConfig(task="splice", model=str(real_models / "bert-base-uncased"), seed=seed) for seed in range(6)]
    assert not is_short(cells, splice_dataset, TWO_CORES), "BERT takes hours for the same"
    assert is_short(cells, splice_dataset, Resources(cpus=1, gpus=1.0, num_side_by_side=1)), "but not on a GPU"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_large_sweep_without_earlier_trials_is_rehearsed_in_a_worker(
    sweep: SweepRecord,
    splice_dataset: Dataset,
    dna_files: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sweeps.worker import Place, rehearse

    monkeypatch.setattr("sweeps.plan.is_short", lambda *sweep: False)
    options = SweepOptions(task="splice", model=str(tiny_model), grid="compare", num_epochs=1, data_dir=str(dna_files))
    spec = options.spec()
    place = Place(
        base=dict(spec.base),
        record=sweep,
        keys={},
        data_digest=splice_dataset.digest,
        supplies=Supplies.local(options),
        storage=Storage(str(tmp_path)),
        num_threads=1,
    )
    print_estimate(
        [*spec.cells.values()], splice_dataset, sweep, TWO_CORES, lambda: rehearse(place, spec.points()[0], TWO_CORES)
    )
    said = capsys.readouterr().out
    assert re.match(
        r"estimate: about \d+ s of training with 2 trials .* \([\d.e+]+ examples/s in a rehearsal of one cell\)", said
    )
    assert earlier_speeds(next(iter(spec.cells.values())), sweep) == [], "a rehearsal records nothing"


def test_a_rehearsal_that_fails_is_told_in_a_line_and_the_sweep_goes_on(
    sweep: SweepRecord, splice_dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    def rehearse() -> float:
        raise RuntimeError("out of memory\nand much more")

    spec = SweepOptions(task="splice", grid="compare", seeds=6).spec()
    print_estimate([*spec.cells.values()], splice_dataset, sweep, TWO_CORES, rehearse)
    assert capsys.readouterr().out == "estimate: none, the rehearsal failed (RuntimeError: out of memory)\n"
