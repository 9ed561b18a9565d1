"""What a sweep tells MLflow: a parent run for the sweep, a child run for each trial.

Trials log from their own process, in batches, off the training thread. Run ids are always passed on explicitly:
``mlflow run`` leaves ``MLFLOW_RUN_ID`` in the environment, which would fold all trials into one run.
"""

import json
import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweeps import recorded
from sweeps.connection import answering, client, current_uri, impatient
from sweeps.provenance import provenance_tags
from sweeps.spec import SweepOptions, SweepSpec, cell_key
from sweeps.views import save_view
from trainer.config import TrialConfig, TrialResult
from trainer.errors import first_line
from trainer.tasks.task import Dataset, Split, Task

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

BATCH = 1000  # metrics in one request; the most that a tracking server takes
PAUSE = 0.5  # seconds that metrics wait for others before they are sent

Status = Literal["FINISHED", "FAILED", "KILLED"]


def text_of(value: object, none: str = "all") -> str:
    """A param as MLflow shows it: ``None`` by the word that stands for it, floats in short form."""
    return none if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def start_trial(store: "MlflowClient", run_id: str, config: TrialConfig, dataset: Dataset) -> "TrialLogger":
    """Makes a run a trial's: its cell as tags, its data as dataset inputs; what follows is the logger's."""
    from mlflow.entities import RunTag

    tags = {recorded.KIND: "trial", recorded.CELL: cell_key(config), **data_tags(config.definition, dataset)}
    store.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    store.log_inputs(run_id, datasets=dataset_inputs(config.task, dataset, config.max_train_examples))
    return TrialLogger(store, run_id)


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """Where a sweep is recorded: all that a trial's process needs to open its own run under it."""

    tracking_uri: str = field(repr=False)
    experiment_id: str
    run_id: str
    tags: dict[str, str]

    def start_trial(self, config: TrialConfig, dataset: Dataset) -> "TrialLogger":
        """Opens the child run of a trial."""
        title = f"{config.init} {config.optimizer} {config.learning_rate:g} seed {config.seed}"
        store = client(self.tracking_uri)
        run = store.create_run(self.experiment_id, tags={**self.tags, recorded.PARENT: self.run_id}, run_name=title)
        return start_trial(store, run.info.run_id, config, dataset)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Ends the sweep's own run, and any trial's run that its process could not end, when the block is left."""
        status: Status = "FINISHED"
        reason = "the trial's process ended without a word"
        try:
            yield
        except KeyboardInterrupt:
            status, reason = "KILLED", "the sweep was interrupted"
            raise
        except BaseException as error:
            status, reason = "FAILED", f"the sweep ended: {first_line(error)}"
            raise
        finally:
            self.close_unfinished("KILLED" if status == "KILLED" else "FAILED", reason)
            client(self.tracking_uri).set_terminated(self.run_id, status)

    def close_unfinished(self, status: Status, reason: str) -> int:
        """Ends child runs that are still open because their process died; returns how many."""
        store = client(self.tracking_uri)
        query = f"tags.`{recorded.PARENT}` = '{self.run_id}' and attributes.status = 'RUNNING'"
        unfinished = store.search_runs([self.experiment_id], query, max_results=1000)
        for run in unfinished:
            store.set_tag(run.info.run_id, recorded.OUTCOME, "failed")
            store.set_tag(run.info.run_id, recorded.FAILURE, reason)
            store.set_terminated(run.info.run_id, status)
        return len(unfinished)


def open_run(title: str, run_id: str | None, tags: Mapping[str, str]) -> tuple[str, "Run"]:
    """Finds the run that ``mlflow run`` made, or makes one in the experiment that MLflow's environment names.

    The store is opened here, before any worker does: two processes that set up a fresh SQLite store race.

    Returns:
        The tracking URI, absolute, and the run.

    Raises:
        UserError: when the tracking store does not answer.
    """
    uri = current_uri()
    with answering(uri), impatient():
        store = client(uri)
        run = store.get_run(run_id) if run_id else store.create_run(_experiment_id(store), run_name=title)
        own = {name: value for name, value in tags.items() if name not in run.data.tags}  # what MLflow set, stays
        for name, value in {**own, "mlflow.runName": title}.items():
            store.set_tag(run.info.run_id, name, value)
    return uri, run


def open_sweep(options: SweepOptions, spec: SweepSpec, dataset: Dataset, run_id: str | None) -> SweepRecord:
    """Opens the sweep's run, with its grid as tags and its options as params.

    Args:
        run_id: the run that ``mlflow run`` made; None to make one.

    Raises:
        UserError: when the tracking store does not answer.
    """
    from mlflow.entities import Param

    tags = provenance_tags()
    grid = {recorded.KIND: "sweep", recorded.AXES: json.dumps(spec.axes), recorded.BASE: json.dumps(spec.base)}
    uri, run = open_run(options.title(), run_id, {**tags, **grid, **data_tags(options.definition, dataset)})
    new = {name: value for name, value in asdict(options).items() if name not in run.data.params}
    store, run_id = client(uri), run.info.run_id
    store.log_batch(run_id, params=[Param(name, text_of(value, "auto")) for name, value in new.items()])
    # Also so that the data stands in the store before trials name it: two that insert it at once would collide.
    store.log_inputs(run_id, datasets=dataset_inputs(options.task, dataset, options.max_train_examples))
    save_view(store, run.info.experiment_id, run_id)
    return SweepRecord(tracking_uri=uri, experiment_id=run.info.experiment_id, run_id=run.info.run_id, tags=tags)


def _experiment_id(store: "MlflowClient") -> str:
    """The experiment that MLflow's environment variables name, made if need be; else MLflow's default one."""
    experiment_id, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if experiment_id or not name:
        return experiment_id or "0"
    experiment = store.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else store.create_experiment(name)


def data_tags(task: Task, dataset: Dataset) -> dict[str, str]:
    """What the data was and how it is scored, as tags of a sweep and of its trials."""
    tags = {
        recorded.METRIC: task.metrics_for(dataset)[0],
        recorded.DATA_DIGEST: dataset.digest,
        recorded.SPLIT: dataset.split,
        recorded.DATA_NOTE: dataset.note,
        **{recorded.PREFIX + name: value for name, value in dataset.facts.items()},
    }
    return {name: value for name, value in tags.items() if value}


def dataset_inputs(task: str, dataset: Dataset, max_train_examples: int | None) -> "list[DatasetInput]":
    """The splits as MLflow dataset inputs, with digest, source and sizes; one for both where valid is test."""
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    used = dataset.first_train_examples(max_train_examples)
    splits = {"train": used.train, "valid": used.valid, "test": used.test}
    if used.test is used.valid:
        splits = {"train": used.train, "valid and test": used.test}

    def described(context: str, split: Split) -> DatasetInput:
        profile = {"examples": len(split), "classes": used.classes, "split": used.split, "note": used.note or "whole"}
        if split.pieces is not None:
            profile["pieces"] = split.num_pieces
        return DatasetInput(
            dataset=MlflowDataset(
                name=Path(task).name,
                digest=split.digest,
                source_type="local",
                source=json.dumps({"uri": dataset.source}),
                profile=json.dumps(profile),
            ),
            tags=[InputTag(key="mlflow.data.context", value=context)],
        )

    return [described(context, split) for context, split in splits.items()]


class TrialLogger:
    """A trainer's Logger that writes to an MLflow run from a thread of its own.

    Raises:
        MlflowException: from :meth:`finish`, when the tracking server refused or lost what was sent.
    """

    def __init__(self, store: "MlflowClient", run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._files = tempfile.TemporaryDirectory(prefix="polymath-")
        self._pending: queue.SimpleQueue[list[Metric] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._send, name=f"log-{run_id}", daemon=True)
        self._thread.start()

    def params(self, values: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self.store.log_batch(self.run_id, params=[Param(name, text_of(value)) for name, value in values.items()])

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending.put([Metric(name, value, now, step) for value, step in zip(values, steps, strict=True)])

    def tag(self, name: str, value: str) -> None:
        self.store.set_tag(self.run_id, f"{recorded.PREFIX}{name}", value)

    def artifact(self, name: str, content: bytes) -> None:
        path = Path(self._files.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def finish(self, result: TrialResult) -> None:
        """Sends what is left and ends the run with its outcome."""
        self._stop_sending()
        if self._failure is not None:
            raise self._failure
        self._upload()
        self.store.set_tag(self.run_id, recorded.OUTCOME, result.outcome)
        self.store.set_terminated(self.run_id, "FINISHED")

    def fail(self, error: BaseException) -> None:
        """Ends the run as failed, with the error as a tag and its traceback as an artifact.

        Never raises: when the store itself is what failed, as much is recorded as it still takes.
        """
        self._stop_sending()
        text = "".join(traceback.format_exception(error))
        for record in (
            self._upload,
            lambda: self.store.log_text(self.run_id, text, "traceback.txt"),
            lambda: self.store.set_tag(self.run_id, recorded.FAILURE, first_line(error)),
            lambda: self.store.set_tag(self.run_id, recorded.OUTCOME, "failed"),
            lambda: self.store.set_terminated(self.run_id, "FAILED"),
        ):
            with suppress(Exception):
                record()

    def _stop_sending(self) -> None:
        self._pending.put(None)
        self._thread.join()

    def _upload(self) -> None:
        if Path(self._files.name).is_dir():
            try:
                self.store.log_artifacts(self.run_id, self._files.name)
            finally:
                self._files.cleanup()

    def _send(self) -> None:
        """Sends metrics in the order in which they came, until the closing None."""
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            try:
                for start in range(0, len(batch), BATCH):
                    self.store.log_batch(self.run_id, metrics=batch[start : start + BATCH])
            except Exception as error:  # kept for finish(): the training thread must hear of it
                self._failure = self._failure or error

    def _gather(self) -> "tuple[list[Metric], bool]":
        """Waits for metrics, and a moment for those that follow; False with the last ones."""
        batch: list[Metric] = []
        metrics = self._pending.get()
        due = time.monotonic() + PAUSE
        while metrics is not None:
            batch += metrics
            if len(batch) >= BATCH:
                return batch, True
            try:
                metrics = self._pending.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                return batch, True
        return batch, False
