"""What a trial sends reaches the tracking store: everything, once and in order, and how the run ends."""

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate, cycle, takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from sweeps import recorded
from sweeps.claims import Taken
from sweeps.journal import BATCH
from sweeps.trial_logger import Opened, TrialLogger
from tests.trials import DIVERGED, DONE, PATIENCE_S, failure
from trainer.config import TrialResult


class FakeStore:
    """A tracking store that takes metrics only once it is released, or refuses them; it keeps what it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked, self.released = threading.Event(), threading.Event()
        self.arrived: list[tuple[str, float, int]] = []
        self.tags: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.status = "RUNNING"

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()
    ) -> None:
        if metrics:
            self.asked.set()
            if self.error is not None:
                raise self.error
            if not self.released.wait(PATIENCE_S):
                self.released.set()  # the caller is kept waiting; give in once, so that the test fails soon
        self.arrived += [(metric.key, metric.value, metric.step) for metric in metrics]
        self.tags |= {tag.key: tag.value for tag in tags}

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self.texts[artifact_file] = text

    def get_run(self, run_id: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(status=self.status))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.status = status


def opened() -> Opened:
    return Opened(run_id="run", num_recorded={})


def logger_on(store: FakeStore, folder: Path, open_run: Callable[[], Opened] = opened) -> TrialLogger:
    return TrialLogger(cast(MlflowClient, store), open_run, folder / "spool")


@pytest.fixture
def run_id(store: MlflowClient, experiment: str) -> str:
    return store.create_run(experiment).info.run_id


@pytest.fixture
def logger(store: MlflowClient, run_id: str, tmp_path: Path) -> TrialLogger:
    return TrialLogger(store, lambda: Opened(run_id=run_id, num_recorded={}), tmp_path / "spool")


def finish(logger: TrialLogger, result: TrialResult = DONE) -> None:
    logger.finish(result)
    assert logger.wait(PATIENCE_S)


def text_files(store: MlflowClient, run_id: str, folder: Path) -> dict[str, str]:
    """A run's artifacts, sub-folders and all."""
    (folder / "downloaded").mkdir()
    root = Path(store.download_artifacts(run_id, "", str(folder / "downloaded")))
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


# Metrics


def test_points_of_many_small_calls_all_arrive_once_and_in_order(
    store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    starts = list(takewhile(lambda start: start < 2500, accumulate(cycle((1, 2, 3, 7)), initial=0)))
    for first, end in zip(starts, [*starts[1:], 2500], strict=True):
        steps = range(first + 1, end + 1)
        logger.metrics("train/loss", [1 / step for step in steps], steps)
        logger.metrics("train/score", [-1.0 * step for step in steps], steps)
    finish(logger)
    expected = list(range(1, 2501))
    losses = store.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in losses] == [(step, 1 / step) for step in expected]
    scores = store.get_metric_history(run_id, "train/score")
    assert [(point.step, point.value) for point in scores] == [(step, -1.0 * step) for step in expected]


def test_a_call_with_more_points_than_a_request_holds_arrives_whole(
    store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    steps = range(1, 2 * BATCH + 2)
    logger.metrics("train/loss", [0.5] * len(steps), steps)
    finish(logger)
    assert [point.step for point in store.get_metric_history(run_id, "train/loss")] == list(steps)


def test_the_chosen_epochs_score_repeated_at_the_last_step_is_the_one_that_mlflow_shows(
    store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    """The last evaluation is worse than the best one, which is logged after it at the same step."""
    for step, score in ((10, 0.5), (20, 0.9), (30, 0.6), (30, 0.9)):
        logger.metrics("valid/score", [score], [step])
    finish(logger)
    assert store.get_run(run_id).data.metrics == {"valid/score": 0.9}
    history = store.get_metric_history(run_id, "valid/score")
    assert [(point.step, point.value) for point in history] == [(10, 0.5), (20, 0.9), (30, 0.6), (30, 0.9)]


def test_a_point_without_its_step_is_refused_at_the_call(logger: TrialLogger) -> None:
    with pytest.raises(ValueError, match="shorter"):
        logger.metrics("train/loss", [0.1, 0.2], [1])
    finish(logger)


def test_a_store_that_does_not_answer_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    store = FakeStore()
    logger = logger_on(store, tmp_path)
    logger.metrics("train/loss", [0.5], [1])
    assert store.asked.wait(PATIENCE_S)
    for step in range(2, 2 * BATCH):
        logger.metrics("train/loss", [0.5], [step])
    logger.finish(DONE)
    assert not logger.wait(0)
    assert store.arrived == [] and store.status == "RUNNING"
    store.released.set()
    assert logger.wait(PATIENCE_S)
    assert store.arrived == [("train/loss", 0.5, step) for step in range(1, 2 * BATCH)]
    assert store.status == "FINISHED"


@pytest.mark.parametrize("failing_first", [False, True], ids=["finish, then fail", "fail while it is sent"])
def test_what_the_store_refuses_is_raised_and_a_failure_is_recorded_all_the_same(
    failing_first: bool, tmp_path: Path
) -> None:
    store = FakeStore(MlflowException("no room left"))
    opening = threading.Event()

    def open_run() -> Opened:
        assert opening.wait(PATIENCE_S)
        return opened()

    logger = logger_on(store, tmp_path, open_run)
    logger.metrics("train/loss", [0.5] * 2 * BATCH, range(2 * BATCH))
    logger.tag("stopped_by", "nobody")
    if failing_first:
        logger.fail(failure("out of memory"))
        opening.set()
    else:
        logger.finish(DONE)
        opening.set()
        with pytest.raises(MlflowException, match="no room left"):
            logger.wait(PATIENCE_S)
        with pytest.raises(MlflowException, match="no room left"):
            logger.check()
        assert store.status == "RUNNING" and recorded.OUTCOME not in store.tags
        logger.fail(failure("out of memory"))
    assert logger.wait(PATIENCE_S)
    assert store.status == "FAILED" and store.tags[recorded.OUTCOME] == "failed"
    assert store.tags[recorded.FAILURE] == "RuntimeError: out of memory"
    assert store.tags["polymath.stopped_by"] == "nobody"
    assert "RuntimeError: out of memory" in store.texts["traceback.txt"]
    assert not logger.folder.exists()


def test_a_trial_that_has_finished_does_not_fail_while_it_is_sent(tmp_path: Path) -> None:
    store = FakeStore()
    logger = logger_on(store, tmp_path)
    logger.metrics("train/loss", [0.5], [1])
    logger.finish(DONE)
    assert store.asked.wait(PATIENCE_S)
    logger.fail(KeyboardInterrupt())
    store.released.set()
    assert logger.wait(PATIENCE_S)
    assert store.status == "FINISHED" and store.tags[recorded.OUTCOME] == DONE.outcome


def test_a_failed_trials_run_is_ended_even_if_its_artifacts_are_refused(
    store: MlflowClient, run_id: str, logger: TrialLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError("the artifact folder belongs to another")

    monkeypatch.setattr(store, "log_artifacts", refuse)
    logger.artifact("config.json", b"{}")
    logger.fail(failure("out of memory"))
    assert logger.wait(PATIENCE_S)
    run = store.get_run(run_id)
    assert run.info.status == "FAILED" and run.data.tags[recorded.FAILURE] == "RuntimeError: out of memory"


# Params, tags, artifacts and the end of a run


def test_params_are_short_and_none_means_all(store: MlflowClient, run_id: str, logger: TrialLogger) -> None:
    logger.params({"max_train_examples": None, "learning_rate": 1e-5, "share": 0.1 + 0.2, "seed": 0, "init": "scratch"})
    finish(logger)
    assert store.get_run(run_id).data.params == {
        "max_train_examples": "all",
        "learning_rate": "1e-05",
        "share": "0.3",
        "seed": "0",
        "init": "scratch",
    }


def test_tags_of_a_trial_are_under_our_prefix(store: MlflowClient, run_id: str, logger: TrialLogger) -> None:
    logger.tag("hardware", "abacus")
    finish(logger)
    assert store.get_run(run_id).data.tags["polymath.hardware"] == "abacus"


def test_artifacts_arrive_with_their_sub_folders(
    store: MlflowClient, run_id: str, logger: TrialLogger, tmp_path: Path
) -> None:
    logger.artifact("config.json", b"{}")
    logger.artifact("predictions/test.csv", b"label\n0\n")
    logger.artifact("model/vocabulary/words.txt", b"word\n")
    finish(logger)
    assert text_files(store, run_id, tmp_path) == {
        "config.json": "{}",
        "predictions/test.csv": "label\n0\n",
        "model/vocabulary/words.txt": "word\n",
    }


@pytest.mark.parametrize("result", [DONE, DIVERGED], ids=["finished", "diverged"])
def test_finish_ends_the_run_with_its_outcome(
    store: MlflowClient, run_id: str, logger: TrialLogger, result: TrialResult
) -> None:
    finish(logger, result)
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.end_time is not None
    assert run.data.tags[recorded.OUTCOME] == result.outcome
    assert recorded.FAILURE not in run.data.tags


def test_fail_ends_the_run_with_the_error_its_traceback_and_all_that_came_before(
    store: MlflowClient, run_id: str, logger: TrialLogger, tmp_path: Path
) -> None:
    logger.metrics("train/loss", [0.5], [1])
    logger.artifact("config.json", b"{}")
    logger.fail(failure("out of memory\nmore of it"))
    assert logger.wait(PATIENCE_S)
    run = store.get_run(run_id)
    assert run.info.status == "FAILED" and run.info.end_time is not None
    assert run.data.tags[recorded.OUTCOME] == "failed"
    assert run.data.tags[recorded.FAILURE] == "RuntimeError: out of memory"
    assert run.data.metrics == {"train/loss": 0.5}
    files = text_files(store, run_id, tmp_path)
    assert set(files) == {"config.json", "traceback.txt"}
    assert files["traceback.txt"].startswith("Traceback (most recent call last):")
    assert files["traceback.txt"].endswith("RuntimeError: out of memory\nmore of it\n")


# What the owner of a logger is told


def test_a_finished_trials_owner_is_told_when_all_is_recorded(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def on_recorded() -> None:
        told.append((store.get_run(run_id).info.status, len(store.get_metric_history(run_id, "train/loss"))))

    opening = Opened(run_id=run_id, num_recorded={})
    logger = TrialLogger(store, lambda: opening, tmp_path / "spool", on_recorded=on_recorded)
    logger.metrics("train/loss", [0.5, 0.4], [1, 2])
    finish(logger)
    assert told == [("FINISHED", 2)]
    assert not logger.folder.exists()


def test_a_failed_trials_state_is_kept(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    told: list[str] = []
    opening = Opened(run_id=run_id, num_recorded={})
    logger = TrialLogger(store, lambda: opening, tmp_path / "spool", on_recorded=lambda: told.append("recorded"))
    logger.fail(failure("out of memory"))
    assert logger.wait(PATIENCE_S) and told == []


@pytest.mark.parametrize("status", ["KILLED", "FAILED", "FINISHED"])
def test_a_run_that_another_has_ended_stays_as_it_is(
    status: str, store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    assert logger.wait_open(PATIENCE_S) and logger.run_id == run_id
    store.set_terminated(run_id, status)
    before = store.get_run(run_id).info
    logger.finish(DONE)
    with pytest.raises(Taken, match=f"is {status}"):
        logger.wait(PATIENCE_S)
    logger.fail(failure("something else"))
    with pytest.raises(Taken):
        logger.wait(PATIENCE_S)
    after = store.get_run(run_id)
    assert (after.info.status, after.info.end_time) == (status, before.end_time)
    assert recorded.FAILURE not in after.data.tags


def test_a_run_that_belongs_to_another_by_now_is_not_ended(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    def taken(_: Run) -> None:
        raise Taken("by another")

    opening = Opened(run_id=run_id, num_recorded={})
    logger = TrialLogger(store, lambda: opening, tmp_path / "spool", check_owner=taken)
    logger.finish(DONE)
    with pytest.raises(Taken, match="by another"):
        logger.wait(PATIENCE_S)
    assert store.get_run(run_id).info.status == "RUNNING"


def test_after_an_outage_it_is_asked_whose_the_run_is_before_anything_is_sent(tmp_path: Path) -> None:
    class Away(FakeStore):
        def log_batch(self, *args: Any, **kwargs: Any) -> None:
            if not self.asked.is_set():
                self.asked.set()
                raise ConnectionResetError
            super().log_batch(*args, **kwargs)

    def taken(_: Run) -> None:
        raise Taken("by another")

    store = Away()
    store.released.set()
    logger = TrialLogger(cast(MlflowClient, store), opened, tmp_path / "spool", check_owner=taken)
    logger.metrics("train/loss", [0.5], [1])
    with pytest.raises(Taken, match="by another"):
        logger.wait(PATIENCE_S)
    assert store.asked.is_set() and store.arrived == []


def test_a_cell_that_is_taken_is_said_to_be_so(tmp_path: Path) -> None:
    def open_run() -> Opened:
        raise Taken("cell 1 belongs to another driver")

    store = FakeStore()
    logger = logger_on(store, tmp_path, open_run)
    with pytest.raises(Taken, match="cell 1"):
        logger.wait_open(PATIENCE_S)
    logger.metrics("train/loss", [0.5], [1])
    logger.abandon(PATIENCE_S)
    assert store.arrived == [] and not logger.folder.exists()


def test_an_abandoned_run_has_what_was_logged_and_stays_open(
    store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    logger.metrics("train/loss", [0.5, 0.4], [1, 2])
    logger.tag("retry.1", "out of memory")
    logger.abandon(PATIENCE_S)
    run = store.get_run(run_id)
    assert run.info.status == "RUNNING" and run.data.tags["polymath.retry.1"] == "out of memory"
    assert [point.step for point in store.get_metric_history(run_id, "train/loss")] == [1, 2]


def test_nothing_more_is_sent_after_a_logger_was_abandoned(tmp_path: Path) -> None:
    store = FakeStore()
    logger = logger_on(store, tmp_path)
    logger.metrics("train/loss", [0.5], [1])
    assert store.asked.wait(PATIENCE_S)  # a request is under way; what follows must not be sent
    logger.metrics("train/loss", [0.4] * 3 * BATCH, range(2, 3 * BATCH + 2))
    logger.abandon(0)
    store.released.set()
    assert not logger.wait(PATIENCE_S)
    assert store.arrived == [("train/loss", 0.5, 1)] and store.status == "RUNNING"
