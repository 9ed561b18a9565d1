"""A sweep and its trials in the tracking store: what is recorded of them, and how all of them end."""

import json
import multiprocessing
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeps import recorded
from sweeps.claims import close_own
from sweeps.tracking import SweepRecord
from tests.trials import PATIENCE_S, config, failure, finish, start_trial
from trainer.config import TrialConfig
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier


def test_a_trial_is_a_child_of_its_sweep_with_its_cell_and_its_data(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset
) -> None:
    run = store.get_run(finish(start_trial(sweep, config(), splice_dataset, "0123456789abcdef")))
    assert run.info.experiment_id == sweep.experiment_id and run.info.run_id != sweep.run_id
    expected = {
        recorded.PARENT: sweep.run_id,
        recorded.KIND: "trial",
        recorded.CELL: "0123456789abcdef",
        recorded.DRIVER: sweep.run_id,
        recorded.MEMBER + sweep.run_id: "true",
        recorded.METRIC: "accuracy",
        recorded.DATA_DIGEST: splice_dataset.digest,
        recorded.DATA_NOTE: "6 % subset",
        recorded.SPLIT: "90/5/5 at random by seed 0",
    }
    assert {name: run.data.tags[name] for name in expected} == expected
    assert digests(run) == {name: getattr(splice_dataset, name).digest for name in ("train", "valid", "test")}


def digests(run: Run) -> dict[str, str]:
    """The digest of each split that a run says it used."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {entry.tags[0].value: entry.dataset.digest for entry in inputs}


def test_an_open_sweep_has_its_grid_its_options_and_its_data(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset, tmp_path: Path
) -> None:
    run = store.get_run(sweep.run_id)
    assert run.data.tags[recorded.KIND] == "sweep" and run.info.status == "RUNNING"
    content = json.loads(Path(store.download_artifacts(sweep.run_id, recorded.CELLS, str(tmp_path))).read_text())
    assert content["shared"]["task"] == "splice" and content["shared"]["learning_rate"] == "1e-05"
    cells = [(cell["seed"], cell["init"]) for cell in content["cells"]]
    assert cells == [(str(seed), init) for seed in range(6) for init in ("pretrained", "scratch")]
    assert run.data.tags[recorded.SELECT_BY] == "valid/score"
    assert run.data.params["num_epochs"] == "20" and run.data.params["grid"] == "compare"
    assert digests(run) == {name: getattr(splice_dataset, name).digest for name in ("train", "valid", "test")}


def test_trials_of_two_processes_may_start_at_the_same_time(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset
) -> None:
    """Two that insert the same data at once collide in the store; so the sweep has inserted it before them."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2, timeout=4 * PATIENCE_S)
    processes = [
        spawn.Process(target=start_and_finish, args=(sweep, config(init), splice_dataset, barrier))
        for init in ("pretrained", "scratch")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.close()
    runs = store.search_runs([sweep.experiment_id], f"tags.`{recorded.PARENT}` = '{sweep.run_id}'")
    assert codes == [0, 0], [run.data.tags for run in runs]
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    expected = {name: getattr(splice_dataset, name).digest for name in ("train", "valid", "test")}
    assert [digests(run) for run in runs] == [expected] * 2


def start_and_finish(sweep: SweepRecord, config: TrialConfig, dataset: Dataset, barrier: "Barrier") -> None:
    """A trial's process; one that would insert a dataset waits until the other has not found it there either."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "before_cursor_execute")
    def meet(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.upper().startswith("INSERT INTO DATASETS"):
            barrier.wait()

    barrier.wait()
    finish(start_trial(sweep, config, dataset))


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_trials_whose_process_died_are_ended_with_the_reason_and_others_left_alone(
    store: MlflowClient, sweep: SweepRecord, splice_dataset: Dataset, status: Any
) -> None:
    failed, died = (start_trial(sweep, config(), splice_dataset) for _ in range(2))
    failed.fail(failure("its own reason"))
    assert failed.wait(PATIENCE_S) and failed.run_id and died.run_id
    died.abandon(PATIENCE_S)
    finished = finish(start_trial(sweep, config(), splice_dataset))
    stranger = store.create_run(
        sweep.experiment_id, tags={recorded.KIND: "trial", recorded.DRIVER: "another sweep"}
    ).info.run_id
    ended = [store.get_run(run_id) for run_id in (finished, failed.run_id)]

    assert close_own(store, sweep.experiment_id, sweep.run_id, status, "the power failed") == 1

    run = store.get_run(died.run_id)
    assert run.info.status == status and run.info.end_time is not None
    assert run.data.tags[recorded.OUTCOME] == "failed"
    assert run.data.tags[recorded.FAILURE] == "the power failed"
    for before in ended:
        after = store.get_run(before.info.run_id)
        assert dict(after.info) == dict(before.info) and after.data.tags == before.data.tags
    assert store.get_run(stranger).info.status == "RUNNING"
    assert store.get_run(sweep.run_id).info.status == "RUNNING", "the sweep itself goes on"
    assert close_own(store, sweep.experiment_id, sweep.run_id, status, "again") == 0


@pytest.mark.parametrize(
    ("error", "status", "trial_status", "reason"),
    [
        (None, "FINISHED", "FAILED", "the trial's process ended without a word"),
        (RuntimeError("no room\nleft"), "FAILED", "FAILED", "the sweep ended: RuntimeError: no room"),
        (KeyboardInterrupt(), "KILLED", "KILLED", "the sweep was interrupted"),
    ],
    ids=["done", "error", "interrupt"],
)
def test_leaving_a_sweep_ends_its_run_and_what_is_open_under_it(
    store: MlflowClient, sweep: SweepRecord, error: BaseException | None, status: str, trial_status: str, reason: str
) -> None:
    died = store.create_run(
        sweep.experiment_id, tags={recorded.KIND: "trial", recorded.DRIVER: sweep.run_id}
    ).info.run_id
    caught = None
    try:
        with sweep.closing():
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt) as raised:
        caught = raised
    assert caught is error, "what ended the sweep goes on to the caller"
    run, trial = store.get_run(sweep.run_id), store.get_run(died)
    assert run.info.status == status and run.info.end_time is not None
    assert trial.info.status == trial_status
    assert trial.data.tags[recorded.FAILURE] == reason


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_store_that_is_away_when_a_sweep_ends_is_waited_for_unless_somebody_waits_for_us(
    store: MlflowClient,
    sweep: SweepRecord,
    interrupted: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = []

    def away_at_first(store: MlflowClient, experiment_id: str, driver: str, status: str, reason: str) -> int:
        calls.append(status)
        if len(calls) == 1:
            raise ConnectionRefusedError("nobody is there")
        return close_own(store, experiment_id, driver, status, reason)

    monkeypatch.setattr("sweeps.tracking.close_own", away_at_first)
    with suppress(KeyboardInterrupt), sweep.closing():
        if interrupted:
            raise KeyboardInterrupt
    said = capsys.readouterr().out
    status = store.get_run(sweep.run_id).info.status
    if interrupted:
        assert calls == ["KILLED"] and status == "RUNNING" and "runs stay open until the same command" in said
    else:
        assert calls == ["FAILED", "FAILED"] and status == "FINISHED" and "answers again" in said
