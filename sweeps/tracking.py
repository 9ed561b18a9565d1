"""What a sweep tells MLflow: a parent run for the sweep, a child run for each trial.

Trials log from their own process, in batches, off the training thread. Run ids are always passed on explicitly:
``mlflow run`` leaves ``MLFLOW_RUN_ID`` in the environment, which would fold all trials into one run.
"""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweeps import recorded
from sweeps.claims import close_own
from sweeps.connection import LAST_TRY, answering, client, current_uri, impatient, is_outage, shown
from sweeps.heartbeat import heartbeat_of_now
from sweeps.patience import patiently
from sweeps.provenance import provenance_files, provenance_tags, without_secrets
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.trial_logger import text_of
from sweeps.views import save_view
from trainer.config import TrialConfig
from trainer.data import training_part
from trainer.errors import first_line
from trainer.tasks.task import Dataset, Split, Task

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

Status = Literal["FINISHED", "FAILED", "KILLED"]


def describe_trial(
    store: "MlflowClient", run_id: str, config: TrialConfig, dataset: Dataset, more_tags: Mapping[str, str]
) -> None:
    """Makes a run a trial's: what its data is as tags and as dataset inputs; may be done again."""
    from mlflow.entities import RunTag

    tags = {recorded.KIND: "trial", **data_tags(config.definition, dataset), **more_tags}
    store.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    log_inputs(store, run_id, config, dataset)


def log_inputs(store: "MlflowClient", run_id: str, config: TrialConfig, dataset: Dataset) -> None:
    """Records what a trial reads as the dataset inputs of its run; may be done again."""
    store.log_inputs(run_id, datasets=dataset_inputs(config.task, training_part(dataset, config)))


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """Where a sweep is recorded: all that a trial's process needs to open its own run under it.

    Attributes:
        run_id: of the sweep's own run; it also names the sweep's driver to others.
        tags: of every run of the sweep.
        more_axes: fields that belong to a trial's name, since trials differ on them.
        stale: ids of diverged runs whose cells are to be done again.
    """

    tracking_uri: str = field(repr=False)
    experiment_id: str
    run_id: str
    tags: dict[str, str]
    more_axes: tuple[str, ...] = ()
    stale: frozenset[str] = frozenset()

    @property
    def store_id(self) -> str:
        """16 hex digits that name the experiment among all of all stores."""
        return hashlib.sha256(f"{shown(self.tracking_uri)} {self.experiment_id}".encode()).hexdigest()[:16]

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Ends the sweep's own run, and any trial's run that it leaves open, when the block is left."""
        status: Status = "FINISHED"
        reason = "the trial's process ended without a word"
        try:
            yield
        except KeyboardInterrupt:
            status, reason = "KILLED", "the sweep was interrupted"
            raise
        except BaseException as error:
            status, reason = "FAILED", f"the sweep ended: {without_secrets(first_line(error))}"
            raise
        finally:
            self._close(status, reason)

    def _close(self, status: Status, reason: str) -> None:
        """Ends the sweep; waits for a tracking store that is away, unless the sweep was interrupted."""

        def close() -> None:
            store = client(self.tracking_uri)
            close_own(store, self.experiment_id, self.run_id, "KILLED" if status == "KILLED" else "FAILED", reason)
            try:
                store.set_terminated(self.run_id, status)
            except MlflowException as error:
                if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                    raise
                print(f"the sweep's run {self.run_id} cannot be ended: it was deleted")

        from mlflow.exceptions import MlflowException

        if status != "KILLED":
            patiently(close, print)
            return
        try:
            with _undisturbed(), impatient(LAST_TRY):
                close()
        except Exception as error:
            if not is_outage(error):
                raise
            print("the tracking store does not answer: runs stay open until the same command goes on with them")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Inside the block, of some seconds, a second Ctrl-C does nothing; `mlflow run` sends one on as SIGTERM too."""
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


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
        if run_id:
            run = store.get_run(run_id)
            store.update_run(run_id, status="RUNNING")  # a run that has ended may be given again
        else:
            run = store.create_run(find_experiment(store, None), run_name=title, tags=dict(tags))
        own = {name: value for name, value in tags.items() if name not in run.data.tags}  # what MLflow set, stays
        for name, value in {**own, "mlflow.runName": title}.items():
            store.set_tag(run.info.run_id, name, value)
    with answering(uri):
        for name, text in provenance_files(run if run_id else None).items():
            store.log_text(run.info.run_id, text, name)
    return uri, run


def open_sweep(
    options: SweepOptions,
    spec: SweepSpec,
    dataset: Dataset,
    made_by_mlflow: str | None,
    stale: frozenset[str] = frozenset(),
) -> SweepRecord:
    """Opens the sweep's run, with its options as params and its cells as an artifact.

    Args:
        made_by_mlflow: id of the run that ``mlflow run`` made; None to make one.
        stale: ids of diverged runs whose cells are to be done again.

    Raises:
        UserError: when the tracking store does not answer.
    """
    from mlflow.entities import Param

    tags = provenance_tags()
    own = {recorded.KIND: "sweep", recorded.SELECT_BY: options.select_by, recorded.HEARTBEAT: heartbeat_of_now()}
    own |= data_tags(options.definition, dataset)
    uri, run = open_run(options.title(), made_by_mlflow, {**tags, **own})
    new = {name: value for name, value in asdict(options).items() if name not in run.data.params}
    store, run_id = client(uri), run.info.run_id
    with answering(uri):
        store.log_batch(run_id, params=[Param(name, text_of(value, "auto")) for name, value in new.items()])
        # Also so that the data stands in the store before trials name it: two that insert it at once would collide.
        for inputs in _distinct_inputs(options.task, dataset, spec):
            store.log_inputs(run_id, datasets=inputs)
        store.log_dict(run_id, cells_record(spec), recorded.CELLS)
        save_view(store, run.info.experiment_id, run_id, spec.more_axes)
    return SweepRecord(
        tracking_uri=uri,
        experiment_id=run.info.experiment_id,
        run_id=run_id,
        tags=tags,
        more_axes=spec.more_axes,
        stale=stale,
    )


def cells_record(spec: SweepSpec) -> dict[str, Any]:
    """What the sweep is to run, for ``recorded.CELLS``."""
    cells = [{name: text_of(value) for name, value in config.settings().items()} for config in spec.cells.values()]
    shared = dict(set.intersection(*(set(cell.items()) for cell in cells)))
    return {"shared": shared, "cells": [{n: v for n, v in cell.items() if n not in shared} for cell in cells]}


def _distinct_inputs(task: str, dataset: Dataset, spec: SweepSpec) -> "Iterator[list[DatasetInput]]":
    """The dataset inputs of the sweep's trials, each set of training examples once."""
    by_part = {(c.max_train_examples, c.train_fraction, c.train_fraction and c.seed): c for c in spec.cells.values()}
    return (dataset_inputs(task, training_part(dataset, config)) for config in by_part.values())


def find_experiment(store: "MlflowClient", run_id: str | None) -> str:
    """The id of the experiment that a run is in, or without one of that which MLflow's environment variables name.

    That is made if need be; without a name it is MLflow's default one.
    """
    from mlflow.exceptions import MlflowException

    if run_id:
        return str(store.get_run(run_id).info.experiment_id)
    experiment_id, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if experiment_id or not name:
        return experiment_id or "0"
    if experiment := store.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    try:
        return str(store.create_experiment(name))
    except MlflowException as error:
        experiment = store.get_experiment_by_name(name)  # another driver may have made it meanwhile
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return str(experiment.experiment_id)


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


def dataset_inputs(task: str, used: Dataset) -> "list[DatasetInput]":
    """The splits as MLflow dataset inputs, with digest, source and sizes; one for both where valid is test.

    Args:
        used: the data with the training examples that are used.
    """
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

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
                source=json.dumps({"uri": used.source}),
                profile=json.dumps(profile),
            ),
            tags=[InputTag(key="mlflow.data.context", value=context)],
        )

    return [described(context, split) for context, split in splits.items()]
