"""What a process of a pre-training does: it trains, and the first of the group records and keeps the models."""

import re
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sweeps.cell_record import spool_folder
from sweeps.checkpoints import fetch_model
from sweeps.connection import client
from sweeps.patience import patiently
from sweeps.trial_logger import Opened, TrialLogger
from trainer.errors import UserError
from trainer.logger import SilentLogger
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo

    from trainer.pretraining.corpus import Corpus
    from trainer.pretraining.group import Group
    from trainer.pretraining.pretraining import Pretraining

CHECKPOINTS = "checkpoints"  # artifact folder of the models, each in step-N
RESUME = "resume"  # artifact folder of the state from which an interrupted run goes on
STATE_NAME = re.compile(r"step-(\d+)\.safetensors")
JOURNAL = "journal"  # name of the logger's journal in a state
LEAVING_S = 5.0  # that an interrupted run's record may take


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and where it is recorded."""

    config: PretrainConfig
    tracking_uri: str
    run_id: str
    num_threads: int


def train(job: Job, group: "Group | None" = None, device: str | None = None) -> None:
    """Trains from the last state that was kept to the end.

    Args:
        group: the processes that share the work; None for this one alone.
        device: as torch names it; None for a GPU where there is one.

    Raises:
        UserError: when the corpus is not here, or the loss is no longer a number.
    """
    from trainer.pretraining.pretraining import ALONE, DivergedError, Pretraining

    store, config = client(job.tracking_uri), job.config
    group = group or ALONE
    fetch_model(config.model)
    corpus, folder = _opened_corpus(config, group)
    pretraining = Pretraining(
        config, corpus, folder, SilentLogger(), device=device, num_threads=job.num_threads, group=group
    )
    journal = _restore(store, job, pretraining)
    if pretraining.step and not group.rank:
        print(f"after step {pretraining.step:,}", flush=True)
    try:
        if group.rank:
            deque(pretraining, maxlen=0)
            return
        with tempfile.TemporaryDirectory(prefix="polymath-pretrain-") as temporary:
            _train_and_record(store, job, pretraining, journal, Path(temporary))
    except DivergedError as error:
        raise UserError(f"learning_rate: {config.learning_rate} is not allowed here: {error}") from None


def _opened_corpus(config: PretrainConfig, group: "Group") -> "tuple[Corpus, Path]":
    """The corpus and its tokenizer's folder; where one process of the group cannot open it, all say why."""
    refusal = ""
    with group.one_first():
        try:
            opened = open_corpus(config)
        except UserError as error:
            refusal = str(error)
    for said in group.gathered(refusal):
        if said:
            raise UserError(said)
    return opened


def _train_and_record(
    store: "MlflowClient", job: Job, pretraining: "Pretraining", journal: str, temporary: Path
) -> None:
    from trainer.pretrain import line_of

    logger = TrialLogger(store, lambda: _opened(store, job.run_id), spool_folder("pretrain"), journal=journal)
    pretraining.logger = logger
    with _recorded(logger, is_alone=pretraining.group.size == 1):
        for stop in pretraining:
            logger.check()
            print(line_of(pretraining, stop), flush=True)
            if stop.is_kept:
                _keep(store, job.run_id, pretraining, logger.journal(), temporary)
        logger.end("finished")
        logger.wait(None)
    clear_states(store, job.run_id)


@contextmanager
def _recorded(logger: TrialLogger, *, is_alone: bool) -> Iterator[None]:
    """Sends what is logged when the block is interrupted, and ends the run as FAILED by an error.

    Args:
        is_alone: whether no other processes train with this one; else one of them may have died, and all begin again.
    """
    from trainer.pretraining.pretraining import DivergedError

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        logger.abandon(LEAVING_S)
        raise
    except DivergedError:
        logger.end("diverged")
        logger.wait(None)
        raise
    except BaseException as error:
        if is_alone:
            logger.fail(error)
            logger.wait(LEAVING_S)
        else:
            logger.abandon(LEAVING_S)
        raise


def clear_states(store: "MlflowClient", run_id: str) -> None:
    """Removes what a finished run no longer needs."""
    for path in patiently(lambda: _states(store, run_id), print).values():
        _delete(store, run_id, path)


def _keep(store: "MlflowClient", run_id: str, pretraining: "Pretraining", journal: str, temporary: Path) -> None:
    """Logs the model, and the state in the place of the one before."""
    from trainer.pretraining.keep import save_model, step_folder

    name = step_folder(pretraining.step)
    save_model(pretraining, temporary / name)
    patiently(lambda: store.log_artifacts(run_id, str(temporary / name), f"{CHECKPOINTS}/{name}"), print)
    state = temporary / f"{name}.safetensors"
    pretraining.save(state, {JOURNAL: journal})
    older = patiently(lambda: _states(store, run_id), print)
    patiently(lambda: store.log_artifact(run_id, str(state), RESUME), print)
    for step, path in older.items():
        if step < pretraining.step:
            _delete(store, run_id, path)
    state.unlink()


def _states(store: "MlflowClient", run_id: str) -> dict[int, str]:
    """Step -> the artifact with its state, the newest first."""
    names = {entry.path: STATE_NAME.fullmatch(PurePosixPath(entry.path).name) for entry in _entries(store, run_id)}
    return dict(sorted(((int(match[1]), path) for path, match in names.items() if match), reverse=True))


def _entries(store: "MlflowClient", run_id: str) -> "list[FileInfo]":
    return list(store.list_artifacts(run_id, RESUME))


def _delete(store: "MlflowClient", run_id: str, path: str) -> None:
    """Removes a state that is no longer needed; where the artifact store does not allow it, it stays."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with suppress(Exception):
        repository = get_artifact_repository(store.get_run(run_id).info.artifact_uri, tracking_uri=store.tracking_uri)
        repository.delete_artifacts(path)


def _restore(store: "MlflowClient", job: Job, pretraining: "Pretraining") -> str:
    """Goes on from the newest state that can be read; returns what the logger had logged by then."""
    from trainer.state_file import StateError, read_notes

    for path in patiently(lambda: _states(store, job.run_id), print).values():
        with tempfile.TemporaryDirectory(prefix="polymath-resume-") as temporary:
            try:
                fetched = Path(patiently(partial(store.download_artifacts, job.run_id, path, temporary), print))
                journal = read_notes(fetched).get(JOURNAL, "")
                pretraining.restore(fetched)
            except StateError as error:
                print(f"beware: a state is not used ({error})", flush=True)
            else:
                return journal
    return ""


def _opened(store: "MlflowClient", run_id: str) -> Opened:
    """What the run has already: points that a resumed training repeats are not recorded twice."""
    metrics = store.get_run(run_id).data.metrics
    return Opened(run_id=run_id, num_recorded={name: len(store.get_metric_history(run_id, name)) for name in metrics})
