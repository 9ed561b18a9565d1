"""What pre-training runs have left in a tracking store, to start from: models, and the weights of their steps."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from sweeps.connection import QUIET, current_uri, impatient, shown
from sweeps.provenance import without_secrets
from trainer import checkpoints
from trainer.checkpoints import (
    INDEX_FILE,
    SINGLE_FILE,
    STEP_FOLDER,
    URI,
    check_widths,
    choose_step,
    find_checkpoint,
)
from trainer.config import TrialConfig
from trainer.errors import UserError, first_line
from trainer.models import TOKENIZER_FILES, find_model, provide_model, read_vocabulary

WEIGHTS = {SINGLE_FILE, INDEX_FILE}
CONFIG_FILE = "config.json"
ABOUT_FILE = "polymath.json"  # in which pre-training says how a checkpoint was made
MAX_CORPUS = 100  # characters of a corpus's name
REMEDY = "give runs:/RUN_ID/PATH of a folder with weights, or a local folder"


def fetch_model(model: str) -> None:
    """Brings a model that lies in the tracking store to this machine, where this process's trials then find it.

    Nothing is done for a local folder, a name on the hub or a rival.

    Raises:
        UserError: when it is not there.
    """
    if not URI.match(model):
        return
    _check_uri("model", model)
    tracking_uri = current_uri()
    with impatient():
        names = _listed("model", model, tracking_uri)
    if CONFIG_FILE not in names and (steps := _steps(names)):
        last = f"{model.rstrip('/')}/{steps[max(steps)]}"
        raise UserError(f"model: {model!r} has a folder for each step; give one of them, e.g. {last}")
    provide_model(model, _fetch_model(model, tracking_uri).folder)


def check_checkpoint(config: TrialConfig, tracking_uri: str) -> None:
    """Looks whether the checkpoint of a trial is there and can fit its model, without fetching its weights.

    Those on the Hugging Face hub are fetched.

    Raises:
        UserError: when it is not.
    """
    if config.init != "checkpoint" or not config.checkpoint:
        return
    if URI.match(config.checkpoint):
        _check_uri("checkpoint", config.checkpoint)
        found = resolve(config.checkpoint, config.checkpoint_step, tracking_uri)
        settings = _config_at(found, tracking_uri)
    else:
        folder = find_checkpoint(config.checkpoint, config.checkpoint_step)
        found, settings = str(folder), _read_object(folder / CONFIG_FILE)
    model = find_model(config.model, needs_weights=False)
    check_widths(settings, found, model)
    if config.definition.is_text:
        _check_vocabulary(checkpoint_folder(config, tracking_uri), found, model)


def _check_vocabulary(checkpoint: Path | None, found: str, model: Path) -> None:
    """Refuses, for a text, weights that were trained with other tokens than the model's."""
    names = {path.name for path in checkpoint.iterdir()} if checkpoint else set()
    if checkpoint is None or CONFIG_FILE not in names or not names.intersection(TOKENIZER_FILES):
        return
    theirs, ours = read_vocabulary(checkpoint).tokens, read_vocabulary(model).tokens
    if theirs != ours:
        odd = sum(one != other for one, other in zip(theirs, ours, strict=False)) + abs(len(theirs) - len(ours))
        raise UserError(
            f"checkpoint: {found} was trained with another vocabulary than the model's ({odd:,} tokens differ), and "
            "the task is text; give that very folder as model"
        )


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
        found = resolve(config.checkpoint, config.checkpoint_step, tracking_uri)
        return _fetch_checkpoint(found, tracking_uri).folder
    folder = (home or Path()) / Path(config.checkpoint).expanduser()
    return find_checkpoint(str(folder) if folder.is_dir() else config.checkpoint, config.checkpoint_step)


def list_steps(checkpoint: str) -> list[int]:
    """The steps of a pre-training run, rising: of folders step-N, here or in a store, or of names on the hub.

    Raises:
        UserError: when they cannot be listed.
    """
    if not URI.match(checkpoint):
        return checkpoints.list_steps(checkpoint)
    _check_uri("checkpoint", checkpoint)
    return list(_steps(_listed("checkpoint", checkpoint, current_uri())))


def steps_of_each(names: str, step: int | None) -> dict[str, int | None]:
    """Several checkpoints, given with commas: each one's name -> the step asked for, or its last; None without steps.

    Raises:
        UserError: for one that is given twice, is not there, or does not have the step.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    if not given:
        raise UserError(f"checkpoint: {names!r} names none; give at least one, comma-separated")
    if len(set(given)) < len(given):
        raise UserError(f"checkpoint: {names!r} names one of them twice; give each once")
    kept = {name: list_steps(name) for name in given}
    return {
        name: choose_step(steps[-1] if step is None else step, steps, name) if steps else None
        for name, steps in kept.items()
    }


def corpus_of(folder: Path | None) -> str:
    """What a checkpoint was pre-trained on, by its display name; empty where it does not say.

    Args:
        folder: of the checkpoint; None for a trial that starts from none.
    """
    corpus = _read_object(folder / ABOUT_FILE).get("corpus") if folder else None
    if not isinstance(corpus, str):
        return ""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in corpus).split())[:MAX_CORPUS]


def resolve(uri: str, step: int | None, tracking_uri: str) -> str:
    """The URI of the folder with the weights, its step said.

    Raises:
        UserError: when they are not there.
    """
    names = _listed("checkpoint", uri, tracking_uri)
    steps = _steps(names)
    if step is None and (not steps or WEIGHTS & names):
        return uri
    if not steps:
        raise UserError(f"checkpoint_step: {step} is not in {uri!r}, which has no folders step-N; leave it out")
    return f"{uri.rstrip('/')}/{steps[choose_step(step, steps, uri)]}"


def _steps(names: frozenset[str]) -> dict[int, str]:
    """Step -> the name of its folder, by rising step."""
    return dict(sorted((int(match[1]), name) for name in names if (match := STEP_FOLDER.fullmatch(name))))


def _check_uri(parameter: str, uri: str) -> None:
    if uri != shown(uri):
        raise UserError(f"{parameter}: a URI is recorded as it is; leave out its user name, password and query")


@lru_cache(maxsize=256)
def _listed(parameter: str, uri: str, tracking_uri: str) -> frozenset[str]:
    """The names in a folder of a store; asked for once a process, since what a run has logged stays.

    Raises:
        UserError: when there is none.
    """
    from mlflow.artifacts import list_artifacts

    with _reading(parameter, uri):
        entries = list_artifacts(artifact_uri=uri, tracking_uri=tracking_uri)
    if not entries:
        raise UserError(f"{parameter}: there is nothing at {uri!r}; {REMEDY}")
    return frozenset(PurePosixPath(entry.path).name for entry in entries)


@contextmanager
def _reading(parameter: str, uri: str) -> Iterator[None]:
    """Turns a store's refusal inside the block into one line.

    Raises:
        UserError: for whatever MLflow or its artifact store raised.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ImportError, OSError) as error:
        reason = without_secrets(first_line(error).replace(uri, shown(uri)))
        raise UserError(f"{parameter}: {shown(uri)!r} cannot be read ({reason}); {REMEDY}") from None


def _config_at(uri: str, tracking_uri: str) -> dict[str, Any]:
    """What the config.json in a folder of a store says; nothing where there is none."""
    if CONFIG_FILE not in _listed("checkpoint", uri, tracking_uri):
        return {}
    with tempfile.TemporaryDirectory(prefix="polymath-config-") as folder:
        return _read_object(_download("checkpoint", f"{uri}/{CONFIG_FILE}", tracking_uri, folder))


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Fetched:
    """A folder of a store on this machine, and the place around it, which goes when nobody holds this any longer."""

    folder: Path
    place: "tempfile.TemporaryDirectory[str]"


@cache  # for as long as the process, which knows the folder by its path
def _fetch_model(uri: str, tracking_uri: str) -> Fetched:
    return _fetch("model", uri, tracking_uri)


@lru_cache(maxsize=4)
def _fetch_checkpoint(uri: str, tracking_uri: str) -> Fetched:
    fetched = _fetch("checkpoint", uri, tracking_uri)
    find_checkpoint(str(fetched.folder), None)
    return fetched


def _fetch(parameter: str, uri: str, tracking_uri: str) -> Fetched:
    place = tempfile.TemporaryDirectory(prefix=f"polymath-{parameter}-")
    return Fetched(_download(parameter, uri, tracking_uri, place.name), place)


def _download(parameter: str, uri: str, tracking_uri: str, folder: str) -> Path:
    from mlflow.artifacts import download_artifacts

    os.environ.update(QUIET)
    with _reading(parameter, uri):
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=tracking_uri))
