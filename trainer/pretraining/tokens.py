"""A corpus's text as token ids on disk: tokenised once, on all cores, memory-mapped and used again.

What is kept for a text and a tokenizer lies in the cache folder under ``corpora/KEY``: ``tokens.bin``, one id after the
other in as few bytes as the vocabulary needs, documents with the tokenizer's end token between them.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.digests import folder_digest
from trainer.errors import UserError, first_line
from trainer.models import read_tokenizer
from trainer.pretraining.texts import Texts, batches, lines_of
from trainer.pretraining.vocabulary import train_tokenizer
from trainer.sources import cache_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORM = 1  # of what is kept; another number makes everything anew
TOKENS = "tokens.bin"
MAKING = ".making-"  # how a folder's name begins that is yet to be filled
LEFT_S = 7 * 24 * 3600.0  # after which nobody can be filling it
ONLY_IDS = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}


def tokenized(texts: Texts, tokenizer_folder: Path, most_tokens: int) -> np.ndarray:
    """All token ids of a text, (M,), memory-mapped; of one that may be endless, as many as are needed.

    Args:
        most_tokens: how many a pre-training reads.

    Raises:
        UserError: when the text or the cache folder cannot be read or written.
    """
    most = most_tokens if texts.is_endless else 0
    what = [FORM, texts.digest, folder_digest(tokenizer_folder, weights=False), most]
    tokenizer = read_tokenizer(tokenizer_folder)
    place = _shelf() / f"tokens-{_key(what)}"
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    with _made_once(place) as folder:
        if folder:
            with (folder / TOKENS).open("wb") as file:
                for ids in _token_ids(texts, tokenizer, most):
                    np.asarray(ids, dtype=kind).tofile(file)
    path = place / TOKENS
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)


def _token_ids(texts: Texts, tokenizer: "PreTrainedTokenizerBase", most: int) -> Iterator[list[int]]:
    """Token ids, some thousand lines at a time, each document's followed by the end token."""
    num_tokens = 0
    for batch in batches(lines_of(texts)):
        lines = [line for line in batch if line is not None]
        # The tokenizer's own threads share the lines.
        encoded = iter(tokenizer(lines, verbose=False, **ONLY_IDS)["input_ids"] if lines else ())
        end = [tokenizer.sep_token_id]
        ids = list(chain.from_iterable(end if line is None else next(encoded) for line in batch))
        yield ids
        num_tokens += len(ids)
        if most and num_tokens >= most:
            return


def trained_tokenizer(texts: Texts, model_folder: Path, vocabulary_size: int) -> Path:
    """A folder with a tokenizer of the model's kind, trained on the text, and the model's config.json.

    Raises:
        UserError: when the text or the cache folder cannot be read or written, or the model's tokenizer is of a kind
            that cannot be trained.
    """
    what = [FORM, texts.digest, folder_digest(model_folder, weights=False), vocabulary_size]
    place = _shelf() / f"tokenizer-{_key(what)}"
    with _made_once(place) as folder:
        if folder:
            try:
                trained = train_tokenizer(read_tokenizer(model_folder), texts, vocabulary_size)
            except UserError:
                raise
            except Exception as error:
                raise UserError(
                    f"vocabulary_size: no tokenizer could be trained as that of {model_folder} ({first_line(error)}); "
                    "leave it out, or give another model"
                ) from None
            if len(trained) > vocabulary_size:
                raise UserError(
                    f"vocabulary_size: {vocabulary_size} is not allowed, the text's characters and the special tokens "
                    f"make {len(trained)} tokens; give more than that"
                )
            trained.save_pretrained(folder)
            _write_config(folder, model_folder, trained)
    return place


def _write_config(folder: Path, model_folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """The model's config.json, with another vocabulary."""
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    special = {"bos": tokenizer.cls_token_id, "eos": tokenizer.sep_token_id}
    config |= {f"{name}_token_id": token_id for name, token_id in special.items() if f"{name}_token_id" in config}
    config |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _shelf() -> Path:
    return cache_folder() / "corpora"


def _key(what: list[Any]) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


@contextmanager
def _made_once(place: Path) -> Iterator[Path | None]:
    """A new folder to be filled, which then stands at its place; None when it is there already.

    Of several processes that make it at once, the first counts.

    Raises:
        UserError: when the cache folder cannot be written.
    """
    if place.is_dir():
        yield None
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f"{MAKING}*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=MAKING, ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary, "new")
            folder.mkdir()
            yield folder
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
    except OSError as error:
        raise UserError(
            f"POLYMATH_DATA: {str(place.parent)!r} cannot be written ({first_line(error)}); "
            "set it to a folder with room"
        ) from None
