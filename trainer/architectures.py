"""What differs between the architectures that can be trained; no other file asks which one a model is.

Importing this module is cheap: a folder's architecture is read from its config.json, without transformers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, first_line, one_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What an encoder takes beside token ids and attention mask.

    Attributes:
        max_positions: ``max_position_embeddings`` where config.json is silent.
        has_token_types: whether it can tell the sentences of a pair apart by token types.
        counts_from_padding: whether positions are numbered from the padding id + 1, as fairseq does, so that the
            position embeddings below are never used.
        encoder: where its layers are, or the module around them, from the body on; only first tokens are read of what
            comes out of it.
        has_bert_layers: whether its layers are built as BERT's.
        language_head: where the masked language model's head is, which turns hidden states into scores of tokens; empty
            where it is not one module.
    """

    max_positions: int = 512
    has_token_types: bool = True
    counts_from_padding: bool = False
    encoder: str = "encoder.layer"
    has_bert_layers: bool = True
    language_head: str = ""


ROBERTA = Architecture(counts_from_padding=True, language_head="lm_head")

# By config.json's model_type. An entry is all that a new encoder needs, when transformers can classify with it.
ARCHITECTURES = {
    "bert": Architecture(language_head="cls"),  # arXiv 1810.04805
    "roberta": ROBERTA,  # arXiv 1907.11692
    "albert": Architecture(  # arXiv 1909.11942
        encoder="encoder", has_bert_layers=False, language_head="predictions"
    ),
    "electra": Architecture(),  # arXiv 2003.10555
    "distilbert": Architecture(  # arXiv 1910.01108
        has_token_types=False, encoder="transformer.layer", has_bert_layers=False
    ),
    "modernbert": Architecture(  # arXiv 2412.13663
        max_positions=8192, has_token_types=False, encoder="layers", has_bert_layers=False
    ),
    "camembert": ROBERTA,  # arXiv 1911.03894
    "xlm-roberta": ROBERTA,  # arXiv 1911.02116
}

# What transformers takes where config.json is silent, in every architecture that asks for it.
DEFAULT_TOKEN_TYPES = 2
DEFAULT_PADDING = 1  # of those that count from padding


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model takes beside token ids and attention mask.

    Attributes:
        max_tokens: longest sequence, special tokens counted.
        token_types: whether it tells the sentences of a pair apart by token types.
        first_position: the number of a sequence's first position. RoBERTa counts from its padding id + 1, and without
            being told takes every token with that id, mapped there or not, for padding.
        reads_first_token: whether the classifier sees a sequence's first token alone.
        encoder, has_bert_layers: see :class:`Architecture`.
    """

    max_tokens: int
    token_types: bool
    first_position: int
    reads_first_token: bool = False
    encoder: str = ""
    has_bert_layers: bool = False


def check_architecture(folder: Path) -> None:
    """Refuses a folder whose model is none of ``ARCHITECTURES``, before anything is started or downloaded for it.

    Raises:
        UserError: naming what it is and what is known.
    """
    path = folder / "config.json"
    settings = _read_settings(path)
    if "model_type" not in settings:
        raise UserError(
            f"model: {path} has no model_type; known are {', '.join(ARCHITECTURES)}; "
            "give a folder made by save_pretrained"
        )
    one_of(f"model: the model_type in {path}", str(settings["model_type"]), ARCHITECTURES)
    if settings.get("is_decoder"):
        raise UserError(f"model: {path} says is_decoder, and only encoders can be trained; give an encoder")


def language_head_of(folder: Path) -> str:
    """Where the head of a folder's masked language model is.

    Raises:
        UserError: for an architecture that cannot be pre-trained here.
    """
    known = [name for name, architecture in ARCHITECTURES.items() if architecture.language_head]
    path = folder / "config.json"
    name = one_of(f"model: the model_type in {path}, to be pre-trained", str(_read_settings(path)["model_type"]), known)
    return ARCHITECTURES[name].language_head


def read_inputs(config: "PretrainedConfig") -> Inputs:
    """What the model of a transformers config takes."""
    return _inputs(config.to_dict())


def max_tokens_of(folder: Path) -> int:
    """How many tokens the model of a folder takes, special ones counted; from its config.json.

    Raises:
        UserError: when that cannot be read.
    """
    path = folder / "config.json"
    settings = _read_settings(path)
    try:
        return _inputs(settings).max_tokens
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"model: {path} cannot be read ({first_line(error)})") from None


def vocabulary_size_of(folder: Path) -> int:
    """How many tokens the model of a folder has embeddings for; from its config.json, 0 where that does not say.

    Raises:
        UserError: when that cannot be read.
    """
    size = _read_settings(folder / "config.json").get("vocab_size")
    return size if isinstance(size, int) else 0


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"model: {path} cannot be read ({first_line(error)})") from None
    if not isinstance(settings, dict):
        raise UserError(f"model: {path} holds no JSON object; give a folder made by save_pretrained")
    return settings


def _inputs(settings: Mapping[str, Any]) -> Inputs:
    architecture = ARCHITECTURES[settings["model_type"]]
    positions = int(settings.get("max_position_embeddings", architecture.max_positions))
    first = int(settings.get("pad_token_id", DEFAULT_PADDING)) + 1 if architecture.counts_from_padding else 0
    num_types = settings.get("type_vocab_size", DEFAULT_TOKEN_TYPES) if architecture.has_token_types else 0
    return Inputs(
        max_tokens=positions - first,
        token_types=num_types > 1,
        first_position=first,
        reads_first_token=settings.get("classifier_pooling", "cls") == "cls",  # ModernBERT's may be the mean
        encoder=architecture.encoder,
        has_bert_layers=architecture.has_bert_layers,
    )
