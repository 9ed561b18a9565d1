"""A trial inside a Ray worker, driven as Tune drives it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps import recorded
from sweeps.spec import SweepOptions
from sweeps.tracking import SweepRecord
from sweeps.worker import SCORE, Place, WorkerTrial

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that Ray closes at exit


@pytest.fixture
def worker(sweep: SweepRecord, dna_files: Path, tiny_model: Path) -> WorkerTrial:
    spec = SweepOptions(task="splice", model=str(tiny_model), num_epochs=1, grid="compare").spec()
    place = Place(base=dict(spec.base), record=sweep, data_dir=dna_files, model_folder=tiny_model, num_threads=1)
    made = WorkerTrial.__new__(WorkerTrial)  # Tune's own __init__ makes folders and files that no test needs
    made.setup(point("pretrained"), place)
    return made


def point(init: str) -> dict[str, Any]:
    return {"init": init, "optimizer": "adam", "learning_rate": 1e-3, "seed": 0}


def recorded_inits(sweep: SweepRecord, store: MlflowClient) -> list[tuple[str, str]]:
    """The init and the status of every trial's run."""
    runs = store.search_runs([sweep.experiment_id], f"tags.`{recorded.PARENT}` = '{sweep.run_id}'")
    return sorted((run.data.params["init"], run.info.status) for run in runs)


def test_a_worker_that_lost_its_cell_to_another_before_its_first_step_has_recorded_nothing(
    worker: WorkerTrial, sweep: SweepRecord, store: MlflowClient
) -> None:
    worker.reset_config(point("scratch"))
    assert worker.step()["done"]
    assert recorded_inits(sweep, store) == [("scratch", "FINISHED")]


def test_a_worker_runs_one_trial_after_another_each_in_a_run_of_its_own(
    worker: WorkerTrial, sweep: SweepRecord, store: MlflowClient
) -> None:
    scores = [worker.step()[SCORE]]
    worker.reset_config(point("scratch"))
    scores.append(worker.step()[SCORE])
    assert recorded_inits(sweep, store) == [("pretrained", "FINISHED"), ("scratch", "FINISHED")]
    assert all(0 <= score <= 1 for score in scores)


def test_a_trial_that_cannot_begin_is_recorded_as_failed_and_the_worker_says_why(
    worker: WorkerTrial, sweep: SweepRecord, store: MlflowClient, tmp_path: Path
) -> None:
    worker.place = replace(worker.place, model_folder=tmp_path)
    with pytest.raises(ValueError, match="model: the architecture in"):
        worker.step()
    assert recorded_inits(sweep, store) == [("pretrained", "FAILED")]
