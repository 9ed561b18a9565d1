"""The weights of a pre-training run for ``init=checkpoint``: a local folder, or fetched from a tracking store."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath

from sweeps.connection import shown
from sweeps.provenance import without_secrets
from trainer.checkpoints import INDEX_FILE, SINGLE_FILE, STEP_FOLDER, URI, choose_step, find_checkpoint
from trainer.config import TrialConfig
from trainer.errors import UserError, first_line

WEIGHTS = {SINGLE_FILE, INDEX_FILE}
REMEDY = "give runs:/RUN_ID/PATH of a folder with weights, or a local folder"


def check_checkpoint(config: TrialConfig, tracking_uri: str) -> None:
    """Looks whether the checkpoint of a trial is there, without fetching its weights.

    Raises:
        UserError: when it is not.
    """
    if config.init != "checkpoint" or not config.checkpoint:
        return
    if URI.match(config.checkpoint):
        if config.checkpoint != shown(config.checkpoint):
            raise UserError("checkpoint: a URI is recorded as it is; leave out its user name, password and query")
        resolve(config.checkpoint, config.checkpoint_step, tracking_uri)
    else:
        find_checkpoint(config.checkpoint, config.checkpoint_step)


def checkpoint_folder(config: TrialConfig, tracking_uri: str, home: Path | None = None) -> Path | None:
    """The folder on this machine with the weights that a trial starts from; None for a trial of another init.

    Args:
        home: where the sweep was started: a relative path is relative to it, also in workers, which run elsewhere.

    Raises:
        UserError: when they are not there.
    """
    if config.init != "checkpoint" or not config.checkpoint:
        return None
    if URI.match(config.checkpoint):
        return Path(_fetch(config.checkpoint, config.checkpoint_step, tracking_uri).name, "model")
    return find_checkpoint(str((home or Path()) / Path(config.checkpoint).expanduser()), config.checkpoint_step)


def resolve(uri: str, step: int | None, tracking_uri: str) -> str:
    """The URI of the folder with the weights, its step said.

    Raises:
        UserError: when they are not there.
    """
    from mlflow.artifacts import list_artifacts

    with _reading(uri):
        entries = list_artifacts(artifact_uri=uri, tracking_uri=tracking_uri)
    names = {PurePosixPath(entry.path).name for entry in entries}
    if not names:
        raise UserError(f"checkpoint: there is nothing at {uri!r}; {REMEDY}")
    steps = {int(match[1]): name for name in names if (match := STEP_FOLDER.fullmatch(name))}
    if step is None and (not steps or WEIGHTS & names):
        return uri
    if not steps:
        raise UserError(f"checkpoint_step: {step} is not in {uri!r}, which has no folders step-N; leave it out")
    return f"{uri.rstrip('/')}/{steps[choose_step(step, sorted(steps), uri)]}"


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Turns a store's refusal inside the block into one line.

    Raises:
        UserError: for whatever MLflow or its artifact store raised.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ImportError, OSError) as error:
        reason = without_secrets(first_line(error).replace(uri, shown(uri)))
        raise UserError(f"checkpoint: {shown(uri)!r} cannot be read ({reason}); {REMEDY}") from None


@lru_cache(maxsize=4)
def _fetch(uri: str, step: int | None, tracking_uri: str) -> "tempfile.TemporaryDirectory[str]":
    """The weights in a folder ``model`` of a folder that goes when it is no longer cached."""
    from mlflow.artifacts import download_artifacts

    found = resolve(uri, step, tracking_uri)
    folder = tempfile.TemporaryDirectory(prefix="polymath-checkpoint-")
    with _reading(found):
        fetched = Path(download_artifacts(artifact_uri=found, dst_path=folder.name, tracking_uri=tracking_uri))
    fetched.rename(Path(folder.name, "model"))
    find_checkpoint(str(Path(folder.name, "model")), None)
    return folder
