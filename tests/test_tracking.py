"""What reaches the tracking store: everything, once and in order, and how each run ends."""

import json
import multiprocessing
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from itertools import accumulate, cycle, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from sweeps import provenance, recorded
from sweeps.connection import current_uri, shown
from sweeps.spec import SweepOptions, SweepSpec, cell_key
from sweeps.tracking import BATCH, SweepRecord, TrialLogger, open_sweep
from sweeps.views import DESCRIPTION, VIEW, view_path
from trainer.config import TrialConfig, TrialResult
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

DONE = TrialResult(config=TrialConfig(task="splice"), outcome="finished", metrics={"test/score": 0.5}, losses=[])
DIVERGED = TrialResult(config=TrialConfig(task="splice"), outcome="diverged", metrics={}, losses=[])
PATIENCE_S = 30  # for what happens at once unless the code is broken


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
def store(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


@pytest.fixture
def run_id(store: MlflowClient, experiment: str) -> str:
    return store.create_run(experiment).info.run_id


@pytest.fixture
def logger(store: MlflowClient, run_id: str) -> TrialLogger:
    return TrialLogger(store, run_id)


@pytest.fixture
def dataset(dna_files: Path) -> Dataset:
    return TASKS["splice"].load(dna_files)


@pytest.fixture
def sweep(experiment: str, dataset: Dataset) -> SweepRecord:
    """An open sweep in the real store."""
    return sweep_of(dataset)


def sweep_of(dataset: Dataset) -> SweepRecord:
    options = SweepOptions(task="splice", inits=("pretrained", "scratch"), grid="compare")
    return open_sweep(options, SweepSpec(base=options.base(), axes=options.axes()), dataset, None)


def config(init: str = "scratch") -> TrialConfig:
    return TrialConfig(task="splice", init=init)


def failure(message: str) -> RuntimeError:
    """An error with a traceback."""
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


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


# A sweep and its trials


def test_a_trial_is_a_child_of_its_sweep_with_its_cell_and_its_data(
    store: MlflowClient, sweep: SweepRecord, dataset: Dataset
) -> None:
    logger = sweep.start_trial(config(), dataset)
    logger.finish(DONE)
    run = store.get_run(logger.run_id)
    assert run.info.experiment_id == sweep.experiment_id and run.info.run_id != sweep.run_id
    expected = {
        recorded.PARENT: sweep.run_id,
        recorded.KIND: "trial",
        recorded.CELL: cell_key(config()),
        recorded.METRIC: "accuracy",
        recorded.DATA_DIGEST: dataset.digest,
        recorded.DATA_NOTE: "6 % subset",
        recorded.SPLIT: "90/5/5 at random by seed 0",
    }
    assert {name: run.data.tags[name] for name in expected} == expected
    assert digests(run) == {name: getattr(dataset, name).digest for name in ("train", "valid", "test")}


def digests(run: Run) -> dict[str, str]:
    """The digest of each split that a run says it used."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {entry.tags[0].value: entry.dataset.digest for entry in inputs}


def test_an_open_sweep_has_its_grid_its_options_and_its_data(
    store: MlflowClient, sweep: SweepRecord, dataset: Dataset
) -> None:
    run = store.get_run(sweep.run_id)
    assert run.data.tags[recorded.KIND] == "sweep" and run.info.status == "RUNNING"
    axes = {"seed": [0], "optimizer": ["adam"], "learning_rate": [1e-5], "init": ["pretrained", "scratch"]}
    assert json.loads(run.data.tags[recorded.AXES]) == axes
    assert json.loads(run.data.tags[recorded.BASE])["task"] == "splice"
    assert run.data.params["num_epochs"] == "auto" and run.data.params["grid"] == "compare"
    assert digests(run) == {name: getattr(dataset, name).digest for name in ("train", "valid", "test")}


def test_trials_of_two_processes_may_start_at_the_same_time(
    store: MlflowClient, sweep: SweepRecord, dataset: Dataset
) -> None:
    """Two that insert the same data at once collide in the store; so the sweep has inserted it before them."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2, timeout=4 * PATIENCE_S)
    processes = [
        spawn.Process(target=start_and_finish, args=(sweep, config(init), dataset, barrier))
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
    expected = {name: getattr(dataset, name).digest for name in ("train", "valid", "test")}
    assert [digests(run) for run in runs] == [expected] * 2


def start_and_finish(sweep: SweepRecord, config: TrialConfig, dataset: Dataset, barrier: "Barrier") -> None:
    """A trial's process; one that would insert a dataset waits until the other has not found it there either."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "before_cursor_execute")
    def meet(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.upper().startswith("INSERT INTO DATASETS"):
            barrier.wait()

    barrier.wait()
    sweep.start_trial(config, dataset).finish(DONE)


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_trials_whose_process_died_are_ended_with_the_reason_and_others_left_alone(
    store: MlflowClient, sweep: SweepRecord, dataset: Dataset, status: Any
) -> None:
    finished, failed = (sweep.start_trial(config(), dataset) for _ in range(2))
    finished.finish(DONE)
    failed.fail(failure("its own reason"))
    died = store.create_run(sweep.experiment_id, tags={recorded.PARENT: sweep.run_id}).info.run_id
    stranger = store.create_run(sweep.experiment_id, tags={recorded.PARENT: "another sweep"}).info.run_id
    ended = [store.get_run(logger.run_id) for logger in (finished, failed)]

    assert sweep.close_unfinished(status, "the power failed") == 1

    run = store.get_run(died)
    assert run.info.status == status and run.info.end_time is not None
    assert run.data.tags[recorded.OUTCOME] == "failed"
    assert run.data.tags[recorded.FAILURE] == "the power failed"
    for before in ended:
        after = store.get_run(before.info.run_id)
        assert dict(after.info) == dict(before.info) and after.data.tags == before.data.tags
    assert store.get_run(stranger).info.status == "RUNNING"
    assert store.get_run(sweep.run_id).info.status == "RUNNING", "the sweep itself goes on"
    assert sweep.close_unfinished(status, "again") == 0


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
    died = store.create_run(sweep.experiment_id, tags={recorded.PARENT: sweep.run_id}).info.run_id
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


# The address of the store


def test_a_password_is_not_shown() -> None:
    uri = "postgresql://me:secret@db:5432/mlflow"
    record = SweepRecord(tracking_uri=uri, experiment_id="0", run_id="run", tags={})
    assert "secret" not in repr(record)
    assert shown(uri) == "postgresql://db:5432/mlflow"
    assert shown("https://me:p%40ss@host:5000/path") == "https://host:5000/path"


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////home/me/mlflow.db", "mlruns"])
def test_an_address_without_a_password_is_shown_whole(uri: str) -> None:
    assert shown(uri) == uri


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite:///folder/mlflow.db", "sqlite:///{here}/folder/mlflow.db"),
        ("sqlite:////somewhere/mlflow.db", "sqlite:////somewhere/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_a_relative_sqlite_path_becomes_absolute(
    given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in other folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert current_uri() == expected.format(here=Path.cwd())


# Provenance


@pytest.fixture
def project_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that takes the place of the project's."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where the tests run from a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_provenance_has_the_versions_of_what_computes(project_in: Path) -> None:
    tags = provenance.provenance_tags()
    assert {name: value for name, value in tags.items() if name.startswith(recorded.PREFIX)} == {
        "polymath.version.python": platform.python_version(),
        **{f"polymath.version.{name}": version(name) for name in provenance.PACKAGES},
    }
    assert {"torch", "transformers", "ray", "optuna", "mlflow"} <= set(provenance.PACKAGES)
    assert sys.version.startswith(tags["polymath.version.python"])
    assert tags["mlflow.user"] and tags["mlflow.source.name"] == "polymath"


def test_provenance_has_the_commit_and_says_whether_the_tree_was_changed(project_in: Path) -> None:
    git(project_in, "init", "--quiet")
    git(project_in, "commit", "--quiet", "--allow-empty", "--message", "first")
    tags = provenance.provenance_tags()
    assert tags["mlflow.source.git.commit"] == git(project_in, "rev-parse", "HEAD")
    assert tags["polymath.git_dirty"] == "false"
    (project_in / "changed.py").write_text("")
    assert provenance.provenance_tags()["polymath.git_dirty"] == "true"


def test_a_sweep_and_its_trials_carry_the_provenance(store: MlflowClient, sweep: SweepRecord, dataset: Dataset) -> None:
    logger = sweep.start_trial(config(), dataset)
    logger.finish(DONE)
    for run_id in (sweep.run_id, logger.run_id):
        tags = store.get_run(run_id).data.tags
        assert tags["polymath.version.mlflow"] == version("mlflow")
        assert sweep.tags.items() <= tags.items()


# What the UI shows


def test_a_sweeps_view_shows_its_trials_with_the_columns_that_matter(
    store: MlflowClient, experiment: str, dna_files: Path
) -> None:
    options = SweepOptions(task="splice", grid="compare")
    spec = SweepSpec(base=options.base(), axes=options.axes())
    record = open_sweep(options, spec, TASKS["splice"].load(dna_files), None)
    view = json.loads(store.get_experiment(experiment).tags[VIEW + record.run_id])
    assert view["searchFilter"] == f"tags.`{recorded.PARENT}` = '{record.run_id}'"
    assert {"params.`init`", "params.`optimizer`", "params.`learning_rate`"} <= set(view["selectedColumns"])
    assert view["orderByKey"] == "metrics.`valid/score`", "test is not for choosing by"
    link = view_path(experiment, record.run_id)
    assert link.removeprefix("/") in store.get_run(record.run_id).data.tags[DESCRIPTION]
    assert f"viewStateShareKey={record.run_id}" in link


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://me:pa/ss@db:5432/x", "postgresql://db:5432/x"),
        ("postgresql://me:p?a#s@s@db/x?sslmode=on", "postgresql://db/x"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_odd_passwords_are_not_shown_and_paths_are(uri: str, said: str) -> None:
    assert shown(uri) == said
