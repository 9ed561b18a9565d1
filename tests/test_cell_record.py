"""A cell's run is opened, or taken over, so that nothing of it is lost or there twice."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps import cell_record, recorded
from sweeps.cell_record import HANDOVER_S, CellRecord, spool_folder
from sweeps.heartbeat import this_process
from sweeps.ledger import read_ledger
from sweeps.tracking import SweepRecord
from tests.trials import config
from trainer.tasks.task import Dataset

KEY = "0123456789abcdef"


@pytest.fixture
def cell(sweep: SweepRecord, splice_dataset: Dataset) -> CellRecord:
    return CellRecord(sweep, config(), splice_dataset, KEY)


def test_the_ledger_sees_a_run_whose_maker_died_as_soon_as_it_was_made(
    cell: CellRecord, store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset
) -> None:
    made = cell._create()
    found = read_ledger(store, sweep.experiment_id, splice_dataset.digest, [KEY])
    assert [(run.run_id, run.owner) for run in found[KEY]] == [(made, sweep.run_id)]


@pytest.mark.parametrize(
    ("process", "waits"),
    [("another-machine|1|1", True), (this_process().rpartition("|")[0] + "|1", False), (this_process(), False)],
    ids=["may live on", "is no more", "is this one"],
)
def test_a_run_is_taken_over_when_its_last_process_can_write_no_more(
    cell: CellRecord,
    store: MlflowClient,
    sweep: SweepRecord,
    process: str,
    waits: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A point that it sends while we wait is counted as recorded."""
    run_id = cell._create()
    store.log_param(run_id, f"{recorded.CLAIM}0", f"{sweep.run_id} {process} 0123")
    store.log_metric(run_id, "train/loss", 0.5, step=1)
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        store.log_metric(run_id, "train/loss", 0.25, step=2)

    monkeypatch.setattr("sweeps.cell_record.time.sleep", wait)
    opened = cell.open()
    assert opened.run_id == run_id and len(waited) == waits and sum(waited) <= HANDOVER_S
    assert opened.num_recorded == {"train/loss": 2 if waits else 1}


def test_journals_of_processes_that_are_no_more_are_removed_and_other_machines_left_alone(
    pitch_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache folder may be one for several machines."""
    mine = spool_folder(KEY)
    with monkeypatch.context() as patched:
        patched.setattr(cell_record, "this_machine", lambda: "another")
        theirs = spool_folder(KEY)
    gone = mine.with_name(mine.name.replace(mine.name.split("-")[1], "1", 1))
    gone.mkdir()
    dead_there = theirs.with_name(gone.name)
    dead_there.mkdir()
    assert spool_folder(KEY).parent == mine.parent != theirs.parent
    assert mine.is_dir() and theirs.is_dir() and dead_there.is_dir() and not gone.exists()
