"""What a driver makes of cells that came to nothing: tried again, given a larger share, or recorded as failed."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from sweeps import driver as drivers
from sweeps import recorded
from sweeps.cell_record import CellRecord
from sweeps.cluster import Resources
from sweeps.driver import Driver
from sweeps.heartbeat import Heartbeat, Watch
from sweeps.ledger import read_ledger
from sweeps.progress import SweepProgress
from sweeps.schedule import DIED, Ended
from sweeps.tracking import SweepRecord
from sweeps.worker import ELSEWHERE, FAILED, MAX_RETRIES, OUT_OF_MEMORY, Place
from tests.trials import small_place
from trainer.tasks.task import Dataset

NUM_CELLS = 18


@pytest.fixture
def driver(
    sweep: SweepRecord,
    store: MlflowClient,
    splice_dataset: Dataset,
    dna_files: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> Driver:
    """Of NUM_CELLS cells, four side by side on quarters of a GPU; none of them runs unless a test lets it."""
    spec, place = small_place(sweep, splice_dataset, dna_files, tiny_model, tmp_path / "storage", num_epochs=1)
    console = Console(file=io.StringIO(), soft_wrap=True)
    resources = Resources(cpus=1, gpus=0.25, num_side_by_side=4)
    watch = Watch(store, Heartbeat(store, sweep.run_id))
    return Driver(spec, splice_dataset, place, resources, SweepProgress(len(spec), spec.name, console), watch, {})


@pytest.fixture
def rounds(driver: Driver, store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is run, round by round: points, each trial's share of a GPU, how many side by side.

    A round takes the next of the outcomes given, a cell each, and finishes the others.
    """
    seen: list[Any] = []
    monkeypatch.setattr("sweeps.driver.tune.with_parameters", lambda trainable, place: place)
    monkeypatch.setattr(drivers, "PAUSE_S", 0)

    def run_cells(points: Any, place: Place, resources: Resources, progress: SweepProgress) -> list[Ended]:
        outcomes = driver.outcomes.pop(0) if driver.outcomes else []  # type: ignore[attr-defined]
        seen.append((list(points), resources.gpus, resources.num_side_by_side))
        ended = []
        for number, point in enumerate(points):
            one = outcomes[number] if number < len(outcomes) else Ended(point={}, outcome="finished")
            if one.outcome == "finished":
                finish(driver, store, point)
            ended.append(replace(one, point=point))
        return ended

    monkeypatch.setattr(drivers, "run_cells", run_cells)
    return seen


def finish(driver: Driver, store: MlflowClient, point: dict[str, Any]) -> None:
    """The cell at a point is done, as a worker would record it."""
    record = driver.place.record
    tags = {recorded.KIND: "trial", recorded.CELL: driver._key(point), recorded.OUTCOME: "finished"}
    tags |= {recorded.DATA_DIGEST: driver.place.data_digest, recorded.DRIVER: record.run_id}
    run_id = store.create_run(record.experiment_id, tags=tags).info.run_id
    store.set_terminated(run_id, "FINISHED")


def run(driver: Driver, *outcomes: list[Ended]) -> None:
    driver.outcomes = list(outcomes)  # type: ignore[attr-defined]
    driver.run()


def test_every_cell_is_run_once_when_all_goes_well(driver: Driver, rounds: list[Any]) -> None:
    run(driver)
    ((points, gpus, side_by_side),) = rounds
    assert points == list(driver.points.values()) and (gpus, side_by_side) == (0.25, 4)
    assert len(driver.done) == NUM_CELLS and not driver.given_up


def test_cells_that_run_out_of_memory_get_twice_the_share_up_to_a_whole_gpu(driver: Driver, rounds: list[Any]) -> None:
    short = [Ended(point={}, outcome=OUT_OF_MEMORY)]
    run(driver, short, short)
    assert [(len(points), gpus, side_by_side) for points, gpus, side_by_side in rounds] == [
        (NUM_CELLS, 0.25, 4),
        (1, 0.5, 2),
        (1, 1.0, 1),
    ]
    assert len(driver.done) == NUM_CELLS


def test_the_ledger_is_not_read_again_for_cells_whose_record_was_seen(
    driver: Driver, rounds: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def read(store: MlflowClient, experiment: str, digest: str, keys: list[str]) -> Any:
        asked.append(keys)
        return read_ledger(store, experiment, digest, keys)

    monkeypatch.setattr(drivers, "read_ledger", read)
    last = [*driver.points][-1]
    run(driver, [Ended(point={}, outcome="diverged", is_recorded=True)] * (NUM_CELLS - 1))
    assert len(rounds) == 1 and len(driver.done) == NUM_CELLS
    assert asked == [[last]], "only of the last cell is it not known whether its record arrived"


def test_a_cell_that_another_driver_did_after_our_record_failed_is_told(
    driver: Driver, rounds: list[Any], store: MlflowClient
) -> None:
    """It is to be counted as the sweep's own, which our worker can no longer do."""
    first, *_ = driver.points
    driver.outcomes = [[Ended(point={}, outcome="finished")]]  # type: ignore[attr-defined]
    others = [Ended(point={}, outcome="diverged", is_recorded=True)] * (NUM_CELLS - 1)
    driver.outcomes[0] += others  # type: ignore[attr-defined]
    assert driver.run() == {first}


def test_cells_that_others_have_are_asked_for_again(driver: Driver, rounds: list[Any]) -> None:
    run(driver, [Ended(point={}, outcome=ELSEWHERE)] * NUM_CELLS)
    assert [len(points) for points, *_ in rounds] == [NUM_CELLS, NUM_CELLS]


def test_a_cell_whose_record_does_not_arrive_is_run_again_and_not_for_ever(
    driver: Driver, rounds: list[Any], store: MlflowClient
) -> None:
    run(driver, *[[Ended(point={}, outcome="diverged")] for _ in range(MAX_RETRIES + 1)])
    assert [len(points) for points, *_ in rounds] == [NUM_CELLS, *[1] * MAX_RETRIES]
    assert len(driver.given_up) == 1 and driver.progress.failed == 1


def test_a_cell_that_failed_for_good_is_not_run_again(driver: Driver, rounds: list[Any]) -> None:
    run(driver, [Ended(point={}, outcome=FAILED)])
    assert len(rounds) == 1 and len(driver.given_up) == 1 and len(driver.done) == NUM_CELLS - 1


def test_a_cell_whose_workers_keep_dying_is_recorded_as_failed_with_rays_account(
    driver: Driver, rounds: list[Any], store: MlflowClient, tmp_path: Path
) -> None:
    text = "The actor died.\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    died = Ended(point={}, outcome=DIED, num_failures=2, error=text)
    run(driver, [died], [died])
    assert len(driver.given_up) == 1 and len(driver.done) == NUM_CELLS - 1
    (failed,) = store.search_runs([driver.place.record.experiment_id], "attributes.status = 'FAILED'")
    assert failed.data.tags[recorded.FAILURE] == "its worker process died"
    assert failed.data.tags[recorded.CELL] in driver.given_up
    assert Path(store.download_artifacts(failed.info.run_id, "traceback.txt", str(tmp_path))).read_text() == text


def test_a_failure_that_cannot_be_recorded_does_not_end_the_sweep(
    driver: Driver, rounds: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(cell: Any) -> None:
        raise PermissionError("the artifact folder is read-only")

    monkeypatch.setattr(CellRecord, "open", refuse)
    run(driver, [Ended(point={}, outcome=DIED, num_failures=MAX_RETRIES + 1, error="RuntimeError: no luck")])
    assert len(driver.given_up) == 1 and len(driver.done) == NUM_CELLS - 1
    assert "a failure cannot be recorded (PermissionError" in driver.progress.console.file.getvalue()  # type: ignore[attr-defined]
