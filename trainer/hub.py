"""Models on the Hugging Face hub: fetching their files, and finding the steps of a pre-training run by name.

Only safetensors are fetched. Where a repository has none, the hub's own converter may have opened a pull request with
them; that is taken, as transformers takes it (transformers.safetensors_conversion), but no conversion is asked for.

Importing this module is cheap; huggingface_hub comes in when the hub is asked.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.checkpoints import UNREAD_WEIGHTS, WEIGHT_PATTERNS, has_weights
from trainer.errors import UserError, near

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DESCRIBING_FILES = ("*.json", "*.txt", "*.model")  # configuration and tokenizer
NONE_ON_HUB = (
    "other weights are never downloaded: load them with transformers on a machine that you trust, call save_pretrained "
    "and give that folder"
)
CONVERTER = "SFconvertbot"  # the hub's own account; a pull request can be opened by anybody
CONVERSION = "Adding `safetensors` variant of this model"  # what it calls its pull requests
STEP = "*"  # in a name, stands for the step's number
THOUSANDS = re.compile(r"k(?![a-z0-9])", re.IGNORECASE)  # after it: the number counts thousands of steps


def may_be_on_hub(name: str) -> bool:
    """Whether a text can be the name of a model on the hub; a path with more to it is a local one."""
    return name.count("/") <= 1 and not name.startswith((".", "/", "~"))


@lru_cache
def fetch_from_hub(parameter: str, name: str, patterns: tuple[str, ...], revision: str | None = None) -> Path:
    """The folder in the local Hugging Face cache with a model's files, fetched once a process.

    Args:
        parameter: the user's, for the message.
        patterns: of the files that are needed.
        revision: e.g. ``refs/pr/3``; None for the main branch.

    Raises:
        UserError: when there is no such model, or the hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    place = Path(name).parent
    hint = near(Path(name).name, [path.name for path in place.iterdir() if path.is_dir()]) if place.is_dir() else ""
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), revision=revision))
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(
            f"{parameter}: {name!r} is neither a local folder nor a model on the Hugging Face hub{hint}"
        ) from None
    except (LocalEntryNotFoundError, OSError):
        raise UserError(
            f"{parameter}: {name!r} is not in the local Hugging Face cache and the hub cannot be reached; download it "
            f"on a machine with a network (`hf download {name}`) or give a local folder{hint}"
        ) from None


@lru_cache
def fetch_weights(parameter: str, name: str) -> Path:
    """A folder with all that a model on the hub has: of its main branch, or with safetensors of their conversion.

    Raises:
        UserError: as :func:`fetch_from_hub`; a model without safetensors is left to the caller.
    """
    files = (*DESCRIBING_FILES, *WEIGHT_PATTERNS)
    folder = fetch_from_hub(parameter, name, files)
    if has_weights(folder):
        return folder
    revision = _find_conversion(name, folder)
    return fetch_from_hub(parameter, name, files, revision) if revision else folder


def _find_conversion(name: str, folder: Path) -> str | None:
    """The revision at which the hub's converter offers a model's weights as safetensors; None where there is none.

    Args:
        folder: of its main branch in the cache; where the hub cannot be reached, a conversion may lie beside it.
    """
    from httpx2 import HTTPError  # what huggingface_hub lets through when it has no connection
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        offers = [
            offer.git_reference
            for offer in api.get_repo_discussions(
                name, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
            )
            if offer.title == CONVERSION and offer.author == CONVERTER and offer.git_reference
        ]
        # What it was made from must be what the main branch has now.
        return next((offer for offer in offers if _unread(api, name, offer) == _unread(api, name, None)), None)
    except (OSError, HTTPError):
        refs = folder.parent.parent.glob("refs/refs/pr/*")
        fetched = (ref for ref in refs if has_weights(folder.with_name(ref.read_text().strip())))
        return next((f"refs/pr/{ref.name}" for ref in fetched), None)


def _unread(api: "HfApi", name: str, revision: str | None) -> dict[str, str | None]:
    """The weights that are no safetensors at a revision: file -> what git calls its content."""
    found = api.model_info(name, revision=revision, files_metadata=True).siblings or []
    return {file.rfilename: file.blob_id for file in found if UNREAD_WEIGHTS.search(file.rfilename)}


@lru_cache
def steps_on_hub(pattern: str) -> dict[int, str]:
    """The checkpoints of a pre-training run on the hub: step -> name, by rising step.

    Args:
        pattern: a name in which ``*`` stands for the step, and ``*k`` for thousands of steps:
            ``google/multiberts-seed_0-step_*k`` (arXiv 2106.16163).

    Raises:
        UserError: when there are none, on the hub or, where it cannot be reached, in the local cache.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, constants, get_session

    if pattern.count(STEP) != 1:
        raise UserError(f"checkpoint: {pattern!r} is not allowed; give one {STEP}, for the step's number")
    owner, _, _ = pattern.rpartition("/")
    before, after = pattern.split(STEP)
    numbered = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    where, remedy = "on the Hugging Face hub", "give another name"
    try:
        # Asked once: list_models itself tries for 23 s to reach a hub that is not there.
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        names = [model.id for model in HfApi().list_models(author=owner or None, search=before.rpartition("/")[2])]
    except (OSError, HTTPError):
        where = "with safetensors in the local Hugging Face cache, and the hub cannot be reached"
        remedy = "download some on a machine with a network"
        names = list(_names_in_cache())
    scale = 1000 if THOUSANDS.match(after) else 1
    steps = {int(match[1]) * scale: name for name in names if (match := numbered.fullmatch(name))}
    if not steps:
        raise UserError(f"checkpoint: there is no model {pattern!r}, a number for {STEP}, {where}; {remedy}")
    return dict(sorted(steps.items()))


def _names_in_cache() -> Iterator[str]:
    """The names of all models of which the local Hugging Face cache has safetensors."""
    from huggingface_hub import constants

    prefix = "models--"
    for folder in Path(constants.HF_HUB_CACHE).glob(f"{prefix}*"):
        if any(map(has_weights, folder.glob("snapshots/*"))):
            yield folder.name.removeprefix(prefix).replace("--", "/", 1)
