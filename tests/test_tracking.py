"""What a trial sends reaches the tracking store: everything, once and in order, and how the run ends."""

import threading
from collections.abc import Sequence
from itertools import accumulate, cycle, takewhile
from pathlib import Path
from typing import cast

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from sweeps import recorded
from sweeps.trial_logger import BATCH, TrialLogger
from tests.trials import DIVERGED, DONE, PATIENCE_S, failure
from trainer.config import TrialResult


class FakeStore:
    """A tracking store that takes metrics only once it is released, or refuses them; it keeps what it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked, self.released = threading.Event(), threading.Event()
        self.arrived: list[tuple[str, float, int]] = []
        self.tags: dict[str, str] = {}
        self.status = "RUNNING"

    def log_batch(self, run_id: str, metrics: Sequence[Metric]) -> None:
        self.asked.set()
        if self.error is not None:
            raise self.error
        if not self.released.wait(PATIENCE_S):
            self.released.set()  # the caller is kept waiting; give in once, so that the test fails soon
        self.arrived += [(metric.key, metric.value, metric.step) for metric in metrics]

    def log_artifacts(self, run_id: str, local_dir: str) -> None:
        pass

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.tags[name] = value

    def set_terminated(self, run_id: str, status: str) -> None:
        self.status = status


def logger_on(store: FakeStore) -> TrialLogger:
    return TrialLogger(cast(MlflowClient, store), "run")


@pytest.fixture
def run_id(store: MlflowClient, experiment: str) -> str:
    return store.create_run(experiment).info.run_id


@pytest.fixture
def logger(store: MlflowClient, run_id: str) -> TrialLogger:
    return TrialLogger(store, run_id)


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
    logger.finish(DONE)
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
    logger.finish(DONE)
    assert [point.step for point in store.get_metric_history(run_id, "train/loss")] == list(steps)


def test_the_chosen_epochs_score_repeated_at_the_last_step_is_the_one_that_mlflow_shows(
    store: MlflowClient, run_id: str, logger: TrialLogger
) -> None:
    """The last evaluation is worse than the best one, which is logged after it at the same step."""
    for step, score in ((10, 0.5), (20, 0.9), (30, 0.6), (30, 0.9)):
        logger.metrics("valid/score", [score], [step])
    logger.finish(DONE)
    assert store.get_run(run_id).data.metrics == {"valid/score": 0.9}
    history = store.get_metric_history(run_id, "valid/score")
    assert [(point.step, point.value) for point in history] == [(10, 0.5), (20, 0.9), (30, 0.6), (30, 0.9)]


def test_a_point_without_its_step_is_refused_at_the_call(logger: TrialLogger) -> None:
    with pytest.raises(ValueError, match="shorter"):
        logger.metrics("train/loss", [0.1, 0.2], [1])
    logger.finish(DONE)


def test_a_store_that_does_not_answer_keeps_nobody_waiting_and_loses_nothing() -> None:
    store = FakeStore()
    logger = logger_on(store)
    logger.metrics("train/loss", [0.5], [1])
    assert store.asked.wait(PATIENCE_S)
    for step in range(2, 2 * BATCH):
        logger.metrics("train/loss", [0.5], [step])
    assert store.arrived == [] and store.status == "RUNNING"
    store.released.set()
    logger.finish(DONE)
    assert store.arrived == [("train/loss", 0.5, step) for step in range(1, 2 * BATCH)]
    assert store.status == "FINISHED"


def test_an_error_in_the_sending_thread_comes_out_of_finish_and_fail_records_what_the_store_still_takes() -> None:
    store = FakeStore(MlflowException("no room left"))
    logger = logger_on(store)
    logger.metrics("train/loss", [0.5], [1])
    with pytest.raises(MlflowException, match="no room left") as raised:
        logger.finish(DONE)
    assert store.status != "FINISHED" and recorded.OUTCOME not in store.tags
    logger.fail(raised.value)
    assert store.status == "FAILED" and store.tags[recorded.OUTCOME] == "failed"
    assert not Path(logger._files.name).exists()


# Params, tags, artifacts and the end of a run


def test_params_are_short_and_none_means_all(store: MlflowClient, run_id: str, logger: TrialLogger) -> None:
    logger.params({"max_train_examples": None, "learning_rate": 1e-5, "share": 0.1 + 0.2, "seed": 0, "init": "scratch"})
    logger.finish(DONE)
    assert store.get_run(run_id).data.params == {
        "max_train_examples": "all",
        "learning_rate": "1e-05",
        "share": "0.3",
        "seed": "0",
        "init": "scratch",
    }


def test_tags_of_a_trial_are_under_our_prefix(store: MlflowClient, run_id: str, logger: TrialLogger) -> None:
    logger.tag("hardware", "abacus")
    logger.finish(DONE)
    assert store.get_run(run_id).data.tags["polymath.hardware"] == "abacus"


def test_artifacts_arrive_with_their_sub_folders(
    store: MlflowClient, run_id: str, logger: TrialLogger, tmp_path: Path
) -> None:
    logger.artifact("config.json", b"{}")
    logger.artifact("predictions/test.csv", b"label\n0\n")
    logger.artifact("model/vocabulary/words.txt", b"word\n")
    logger.finish(DONE)
    assert text_files(store, run_id, tmp_path) == {
        "config.json": "{}",
        "predictions/test.csv": "label\n0\n",
        "model/vocabulary/words.txt": "word\n",
    }


@pytest.mark.parametrize("result", [DONE, DIVERGED], ids=["finished", "diverged"])
def test_finish_ends_the_run_with_its_outcome(
    store: MlflowClient, run_id: str, logger: TrialLogger, result: TrialResult
) -> None:
    logger.finish(result)
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
    run = store.get_run(run_id)
    assert run.info.status == "FAILED" and run.info.end_time is not None
    assert run.data.tags[recorded.OUTCOME] == "failed"
    assert run.data.tags[recorded.FAILURE] == "RuntimeError: out of memory"
    assert run.data.metrics == {"train/loss": 0.5}
    files = text_files(store, run_id, tmp_path)
    assert set(files) == {"config.json", "traceback.txt"}
    assert files["traceback.txt"].startswith("Traceback (most recent call last):")
    assert files["traceback.txt"].endswith("RuntimeError: out of memory\nmore of it\n")
