"""A trial inside a Ray worker, driven as Tune drives it: it may die after any evaluation, and nothing is lost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeps import recorded
from sweeps.cell_record import DIED
from sweeps.spec import SweepOptions
from sweeps.storage import Storage
from sweeps.tracking import SweepRecord, open_sweep
from sweeps.worker import ELSEWHERE, FAILED, MAX_RETRIES, OUT_OF_MEMORY, SCORE, Attempt, Place, WorkerTrial
from tests.trials import small_place
from trainer.tasks.task import Dataset
from trainer.trial import Trial

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that Ray closes at exit

EPOCHS = 4


@pytest.fixture
def place(sweep: SweepRecord, splice_dataset: Dataset, dna_files: Path, tiny_model: Path, tmp_path: Path) -> Place:
    _, made = small_place(sweep, splice_dataset, dna_files, tiny_model, tmp_path / "storage", num_epochs=EPOCHS)
    return made


def point(init: str = "pretrained") -> dict[str, Any]:
    return {"init": init, "optimizer": "adam", "learning_rate": 1e-5, "seed": 0}


def a_worker(place: Place, init: str = "pretrained") -> WorkerTrial:
    made = WorkerTrial.__new__(WorkerTrial)  # Tune's own __init__ makes folders and files that no test needs
    made.setup(point(init), place)
    return made


def to_the_end(worker: WorkerTrial) -> dict[str, Any]:
    """Steps until the trial is done; returns the last of what Tune is told."""
    while not (told := worker.step())["done"]:
        pass
    return told


def runs_of(place: Place, store: MlflowClient) -> list[Run]:
    """Every trial's run of the sweep, by init."""
    query = f"tags.`{recorded.MEMBER}{place.record.run_id}` = 'true'"
    runs = store.search_runs([place.record.experiment_id], query)
    return sorted(runs, key=lambda run: run.data.params["init"])


def history(store: MlflowClient, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Every metric's steps and values, but for the speed, which no two trials have alike."""
    names = run.data.metrics.keys() - {"examples_per_second"}
    return {n: [(m.step, m.value) for m in store.get_metric_history(run.info.run_id, n)] for n in names}


def die(worker: WorkerTrial) -> None:
    """The worker's process is killed: what it has queued never leaves it."""
    assert worker.attempt is not None
    worker.attempt.logger.abandon(0)


@pytest.fixture
def undisturbed(
    place: Place, store: MlflowClient, experiment: str, splice_dataset: Dataset, tmp_path: Path
) -> dict[str, list[tuple[int, float]]]:
    """The history of the same trial without any mishap, in a sweep of its own."""
    options = SweepOptions(task="splice", grid="compare", inits=("pretrained",), seeds=1)
    another = open_sweep(options, options.spec(), splice_dataset, None)
    calm = replace(place, record=another, storage=Storage(str(tmp_path / "calm")))
    assert to_the_end(a_worker(calm))["outcome"] == "finished"
    (run,) = runs_of(calm, store)
    found = history(store, run)
    assert [step for step, _ in found["train/loss"]] == list(range(1, 2 * EPOCHS + 1))
    store.delete_run(run.info.run_id)  # else the ledger has it
    return found


def test_a_worker_that_lost_its_cell_to_another_before_its_first_step_has_recorded_nothing(
    place: Place, store: MlflowClient
) -> None:
    worker = a_worker(place)
    worker.reset_config(point("scratch"))
    to_the_end(worker)
    assert [(run.data.params["init"], run.info.status) for run in runs_of(place, store)] == [("scratch", "FINISHED")]


def test_a_worker_runs_one_trial_after_another_each_in_a_run_of_its_own(place: Place, store: MlflowClient) -> None:
    worker = a_worker(place)
    told = [to_the_end(worker)]
    worker.reset_config(point("scratch"))
    told.append(to_the_end(worker))
    runs = [(run.data.params["init"], run.info.status) for run in runs_of(place, store)]
    assert runs == [("pretrained", "FINISHED"), ("scratch", "FINISHED")]
    assert all(0 <= one[SCORE] <= 1 and one["outcome"] == "finished" for one in told)


@pytest.mark.parametrize("evaluations", range(1, EPOCHS))
def test_a_trial_whose_worker_dies_goes_on_in_the_same_run_and_ends_as_if_nothing_had_been(
    place: Place,
    store: MlflowClient,
    undisturbed: dict[str, list[tuple[int, float]]],
    evaluations: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    first = a_worker(place)
    for _ in range(evaluations):
        first.step()
    die(first)
    second = a_worker(place)
    trained = 0
    train = Trial._train_epoch

    def counted(trial: Trial) -> bool:
        nonlocal trained
        trained += 1
        return train(trial)

    monkeypatch.setattr(Trial, "_train_epoch", counted)
    to_the_end(second)
    assert trained == EPOCHS - evaluations, "no epoch is trained again whose evaluation was over"
    (run,) = runs_of(place, store)
    assert run.info.status == "FINISHED" and history(store, run) == undisturbed
    assert run.data.tags[recorded.RETRIES] == "1" and run.data.tags[f"{recorded.RETRY}1"] == DIED
    assert not list((tmp_path / "storage").rglob("*.state")), "a finished trial's state is not kept"


def test_steps_that_were_recorded_after_the_last_evaluation_are_not_recorded_twice(
    place: Place, store: MlflowClient, undisturbed: dict[str, list[tuple[int, float]]]
) -> None:
    """The worker dies when the second epoch is in the store, and before the trial's state is saved."""
    first = a_worker(place)
    first.step()
    attempt = first.attempt
    assert attempt is not None and attempt.trial is not None
    next(attempt.trial)
    attempt.logger.abandon(30)
    (run,) = runs_of(place, store)
    assert len(history(store, run)["train/loss"]) == 4, "all of it is in the store"
    to_the_end(a_worker(place))
    (run,) = runs_of(place, store)
    assert history(store, run) == undisturbed


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no state"), Path.unlink], ids=["damaged", "gone"])
def test_without_a_usable_state_the_trial_begins_anew_in_the_same_run(
    place: Place,
    store: MlflowClient,
    undisturbed: dict[str, list[tuple[int, float]]],
    spoil: Callable[[Path], object],
    tmp_path: Path,
) -> None:
    first = a_worker(place)
    first.step()
    die(first)
    (state,) = (tmp_path / "storage").rglob("*.state")
    spoil(state)
    to_the_end(a_worker(place))
    (run,) = runs_of(place, store)
    assert run.info.status == "FINISHED" and history(store, run) == undisturbed


def test_a_storage_that_cannot_be_read_costs_the_state_and_not_the_cell(
    place: Place, store: MlflowClient, undisturbed: dict[str, list[tuple[int, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(storage: Storage, name: str) -> Any:
        raise OSError("the bucket cannot be reached")

    first = a_worker(place)
    first.step()
    die(first)
    monkeypatch.setattr(Storage, "fetched", fetched)
    assert to_the_end(a_worker(place))["outcome"] == "finished"
    (run,) = runs_of(place, store)
    assert history(store, run) == undisturbed
    assert run.data.tags["polymath.state_not_read"] == "OSError: the bucket cannot be reached"


def test_a_trial_that_fails_is_begun_again_three_times_and_then_recorded_with_its_traceback(
    place: Place, store: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(trial: Trial) -> Any:
        raise RuntimeError(f"the {trial.seconds} card fell off the bus")

    monkeypatch.setattr(Trial, "__next__", fails)
    for _ in range(MAX_RETRIES):
        with pytest.raises(RuntimeError, match="fell off the bus"):
            a_worker(place).step()
    told = a_worker(place).step()
    assert told["outcome"] == FAILED and "fell off the bus" in told["reason"]
    (run,) = runs_of(place, store)
    assert run.info.status == "FAILED" and run.data.tags[recorded.OUTCOME] == "failed"
    assert run.data.tags[recorded.RETRIES] == str(MAX_RETRIES)
    reasons = [run.data.tags[f"{recorded.RETRY}{number}"] for number in range(1, MAX_RETRIES + 1)]
    assert all("fell off the bus" in reason for reason in reasons)
    text = Path(store.download_artifacts(run.info.run_id, "traceback.txt", str(tmp_path))).read_text()
    assert "RuntimeError" in text and "in fails" in text


def test_a_users_mistake_is_not_tried_again(place: Place, store: MlflowClient, tmp_path: Path) -> None:
    supplies = replace(place.supplies, model_folder=tmp_path)
    told = a_worker(replace(place, supplies=supplies)).step()
    assert told["outcome"] == FAILED and "model: the architecture in" in told["reason"]
    (run,) = store.search_runs([place.record.experiment_id], f"tags.`{recorded.KIND}` = 'trial'")
    assert run.info.status == "FAILED" and recorded.RETRIES not in run.data.tags


@pytest.mark.parametrize(("gpus", "outcome"), [(0.25, OUT_OF_MEMORY), (1.0, None)], ids=["a share", "a whole GPU"])
def test_a_trial_that_runs_out_of_gpu_memory_asks_for_more_where_there_is_more(
    place: Place, store: MlflowClient, monkeypatch: pytest.MonkeyPatch, gpus: float, outcome: str | None
) -> None:
    import torch

    def fails(trial: Trial) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trial, "__next__", fails)
    worker = a_worker(replace(place, gpus=gpus))
    if outcome is None:
        with pytest.raises(RuntimeError, match="OutOfMemoryError"):
            worker.step()
    else:
        assert worker.step()["outcome"] == outcome
    (run,) = runs_of(place, store)
    assert run.info.status == "RUNNING" and "out of memory" in run.data.tags[f"{recorded.RETRY}1"]


def test_a_cell_that_is_done_or_another_drivers_is_not_trained(
    place: Place, store: MlflowClient, splice_dataset: Dataset
) -> None:
    options = SweepOptions(task="splice", grid="compare")
    other = open_sweep(options, options.spec(), splice_dataset, None)
    theirs = a_worker(replace(place, record=other))
    theirs.step()
    assert a_worker(place).step() | {SCORE: 0} == {SCORE: 0, "epoch": 0, "outcome": ELSEWHERE, "done": True}
    to_the_end(theirs)
    assert a_worker(place).step()["outcome"] == ELSEWHERE
    assert runs_of(place, store) == []


def test_a_worker_that_was_taken_for_dead_stops_and_records_no_more(
    place: Place, store: MlflowClient, splice_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a laptop that slept: another driver has its cell when it wakes."""
    monkeypatch.setattr("sweeps.run_writer.LOOK_S", -1.0)  # it slept for longer than this
    slept = a_worker(place)
    slept.step()
    options = SweepOptions(task="splice", grid="compare")
    other = open_sweep(options, options.spec(), splice_dataset, None)
    theirs = replace(place, record=other, gone=frozenset({place.record.run_id}))
    to_the_end(a_worker(theirs))
    (run,) = runs_of(theirs, store)
    before = history(store, run)
    assert to_the_end(slept)["outcome"] == ELSEWHERE
    (run,) = runs_of(theirs, store)
    assert history(store, run) == before and run.info.status == "FINISHED"


def test_other_data_under_the_same_name_is_refused(place: Place) -> None:
    told = Attempt(replace(place, data_digest="another"), point()).step()
    assert told["outcome"] == FAILED and "data_dir: the data on this machine differs" in told["reason"]
