"""Weights on disk: which files are read, and finding the folder of a pre-training checkpoint, here or on the hub.

Only safetensors are read; pickled weights can run any code when they are loaded
(https://docs.python.org/3/library/pickle.html).
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UserError, first_line, near

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"  # names the shards of a large model
WEIGHT_PATTERNS = ("model*.safetensors", INDEX_FILE)  # what is downloaded; never pickled weights
UNREAD_WEIGHTS = re.compile(r"\.(bin|pt|pth|ckpt|pkl|msgpack|h5)(\.|$)")  # of PyTorch, Flax and TensorFlow
URI = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
STEP_FOLDER = re.compile(r"step-(\d+)")
MAX_LISTED = 8
WIDTHS = ("vocab_size", "hidden_size", "intermediate_size")  # of config.json; weights of others cannot be taken over
FITTING = "model=the folder whose config they were trained with"


def has_weights(folder: Path) -> bool:
    """Whether the folder holds safetensors, in one file or in shards."""
    return (folder / SINGLE_FILE).is_file() or (folder / INDEX_FILE).is_file()


def check_weights(folder: Path, parameter: str, value: str, *, remedy: str) -> None:
    """Refuses a folder whose weights cannot be read, from the names of its files alone.

    Args:
        parameter: the user's parameter, and ``value`` what it was; for the message.
        remedy: what the user can do instead of converting weights.

    Raises:
        UserError: without weights, with weights that are not safetensors, or with a shard missing.
    """
    if (folder / SINGLE_FILE).is_file():
        return
    if (folder / INDEX_FILE).is_file():
        _check_shards(folder, parameter)
        return
    unread = sorted(path.name for path in folder.iterdir() if UNREAD_WEIGHTS.search(path.name))
    if unread:
        first = min(unread, key=lambda name: "model" not in name)  # rather than an optimizer's state
        raise UserError(
            f"{parameter}: {value!r} has its weights in {first}, and only safetensors are read, which cannot run code; "
            f"load it with transformers on a machine that you trust and call save_pretrained, or {remedy}"
        )
    raise UserError(f"{parameter}: {value!r} has no weights ({SINGLE_FILE}); {remedy}")


def _check_shards(folder: Path, parameter: str) -> None:
    path = folder / INDEX_FILE
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{parameter}: {path} cannot be read ({first_line(error)}); copy the folder again") from None
    if missing := sorted(name for name in shards if not (folder / name).is_file()):
        raise UserError(
            f"{parameter}: {folder} lacks {len(missing)} of the {len(shards)} files with its weights "
            f"(first {missing[0]}); copy the folder again"
        )


def find_checkpoint(checkpoint: str, step: int | None) -> Path:
    """The model folder of a pre-training checkpoint.

    Args:
        checkpoint: a local folder: one with weights, or one that has a folder ``step-N`` for each step that was kept
            (``step-0000200`` too); or a name on the Hugging Face hub, in which ``*`` may stand for the step; see
            :func:`trainer.hub.steps_on_hub`.
        step: which of these; None for the weights in the folder itself, or the only step that there is.

    Raises:
        UserError: for a URI, a folder without weights that can be read, or a step that is not there or not chosen.
    """
    folder = _local_folder(checkpoint)
    if folder is None:
        return _find_on_hub(checkpoint, step)
    steps = _steps_in(folder)
    if step is not None and not steps:
        raise UserError(f"checkpoint_step: {step} is not in {checkpoint!r}, which has no folders step-N; leave it out")
    if steps and (step is not None or not has_weights(folder)):
        folder = steps[choose_step(step, steps, checkpoint)]
    remedy = "give a folder with weights, or one with a folder step-N for each step"
    check_weights(folder, "checkpoint", str(folder), remedy=remedy)
    return folder.resolve()


def list_steps(checkpoint: str) -> list[int]:
    """The steps of a pre-training run, rising; none of a folder or a model on the hub that has only its weights.

    Raises:
        UserError: as :func:`find_checkpoint`.
    """
    from trainer.hub import STEP, steps_on_hub  # which knows from here what weights are called

    folder = _local_folder(checkpoint)
    if folder is not None:
        return list(_steps_in(folder))
    return list(steps_on_hub(checkpoint)) if STEP in checkpoint else []


def _local_folder(checkpoint: str) -> Path | None:
    """The folder that a checkpoint names; None for what can only be a name on the hub.

    Raises:
        UserError: when there is no such folder, and for a URI.
    """
    from trainer.hub import may_be_on_hub

    if URI.match(checkpoint):
        raise UserError(
            f"checkpoint: {checkpoint!r} needs a tracking store; use a sweep or `python -m sweeps.train`, which fetch "
            "it, or give a local folder"
        )
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if may_be_on_hub(checkpoint):
        return None
    siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    raise UserError(f"checkpoint: there is no folder {checkpoint!r}{near(folder.name, siblings)}")


def _find_on_hub(checkpoint: str, step: int | None) -> Path:
    from trainer.hub import NONE_ON_HUB, STEP, fetch_weights, steps_on_hub

    name = checkpoint
    if STEP in checkpoint:
        steps = steps_on_hub(checkpoint)
        name = steps[choose_step(step, steps, checkpoint)]
    elif step is not None:
        raise UserError(
            f"checkpoint_step: {step} is not in {checkpoint!r}, a model on the hub; leave it out, or write {STEP} in "
            "the name for the step's number"
        )
    folder = fetch_weights("checkpoint", name)
    check_weights(folder, "checkpoint", name, remedy=NONE_ON_HUB)
    return folder.resolve()


def _steps_in(folder: Path) -> dict[int, Path]:
    """Step -> its folder, by rising step."""
    matches = ((STEP_FOLDER.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def check_widths(settings: Mapping[str, Any], weights: str, folder: Path) -> None:
    """Refuses a checkpoint that cannot fit a model, from their config.json alone; what is left shows when it is read.

    Args:
        settings: the checkpoint's own config.json; empty where it has none.
        weights: where the checkpoint is, for the message.
        folder: of the model.

    Raises:
        UserError: naming what is different.
    """
    wanted = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in WIDTHS:
        ours, theirs = wanted.get(name), settings.get(name)
        if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
            raise UserError(
                f"checkpoint: the weights in {weights} do not fit the architecture of {folder} ({name} is {theirs}, "
                f"not {ours}); give {FITTING}"
            )


def choose_step(step: int | None, steps: Iterable[int], checkpoint: str) -> int:
    """The step asked for, or the only one that there is.

    Args:
        steps: those that there are, rising.
        checkpoint: where they are; for the message.

    Raises:
        UserError: listing them, when it is not among them, or when there are several and none is asked for.
    """
    known = list(steps)
    more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    listed = ", ".join(map(str, known[:MAX_LISTED])) + more
    if step is None:
        if len(known) == 1:
            return known[0]
        raise UserError(f"checkpoint_step: {checkpoint!r} has several steps; give one of {listed}")
    if step not in known:
        raise UserError(f"checkpoint_step: {step} is not in {checkpoint!r}; there are {listed}")
    return step
