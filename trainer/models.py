"""The models: finding a model's files, reading its vocabulary, and building it with one of the inits.

Importing this module is cheap; torch and transformers come in when a model is built.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, first_line, near
from trainer.mapping import Vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
COUNTS_FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
    "esm",
    "data2vec-text",
)
DEFAULT_POSITIONS = 512
FETCHED_FILES = ["*.json", "*.txt", "*.model", "model*.safetensors"]  # never pickled weights


def find_model(model: str, *, needs_weights: bool) -> Path:
    """The folder with a model's files, fetched from the Hugging Face hub when it is not a local one.

    Args:
        model: local folder or Hugging Face name.
        needs_weights: whether an init reads weights; ``scratch`` needs only the configuration.

    Raises:
        UserError: for a folder that lacks the configuration, weights or tokenizer, or a name that cannot be had.
    """
    folder = Path(model).expanduser()
    if folder.is_file():
        raise UserError(f"model: {model!r} is a file; give the folder that it lies in")
    if not folder.is_dir():
        if model.count("/") > 1 or model.startswith((".", "/", "~")):
            siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            hint = near(folder.name, siblings)
            raise UserError(f"model: there is no folder {model!r}{hint}; give one made by save_pretrained")
        folder = _fetch_from_hub(model)
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise UserError(f"model: {model!r} has no config.json; give a folder made by save_pretrained")
    if not names.intersection(TOKENIZER_FILES):
        wanted = ", ".join(TOKENIZER_FILES)
        raise UserError(f"model: {model!r} has no tokenizer (one of {wanted}); save the model's tokenizer beside it")
    if needs_weights and not names.intersection(WEIGHT_FILES):
        pickled = " (pickled weights are not read: convert them with save_pretrained)" if _has_pickles(names) else ""
        raise UserError(
            f"model: {model!r} has no weights (model.safetensors){pickled}; give a folder with weights, or ask for "
            "scratch alone (init=scratch, of a sweep inits=scratch), which needs none"
        )
    return folder.resolve()


def _has_pickles(names: set[str]) -> bool:
    return any(name.endswith((".bin", ".pt", ".ckpt")) for name in names)


@lru_cache
def _fetch_from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED_FILES))
    except (RepositoryNotFoundError, HFValidationError):
        siblings = [path.name for path in Path.cwd().iterdir() if path.is_dir()]
        raise UserError(
            f"model: {name!r} is neither a local folder nor a model on the Hugging Face hub{near(name, siblings)}"
        ) from None
    except (LocalEntryNotFoundError, OSError):
        raise UserError(
            f"model: {name!r} is not in the local Hugging Face cache and the hub cannot be reached; download it on a "
            f"machine with a network (`hf download {name}`) or give a local folder"
        ) from None


@lru_cache(maxsize=4)
def read_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder.

    Raises:
        UserError: when it cannot be read.
    """
    from transformers import AutoTokenizer

    names = {path.name for path in folder.iterdir()}
    # From ALBERT's spiece.model alone, transformers takes its ordinary tokens ( ) " - . for special ones.
    is_bare = "spiece.model" in names and "tokenizer.json" not in names
    more: dict[str, Any] = {"extra_special_tokens": []} if is_bare else {}
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
    except Exception as error:  # transformers and tokenizers raise many types for a broken file
        raise UserError(f"model: the tokenizer in {folder} cannot be read ({first_line(error)})") from error


@lru_cache(maxsize=4)
def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary and special tokens of a model folder's tokenizer.

    Raises:
        UserError: when it cannot be read, lacks a special token that we need, or does not fit the architecture.
    """
    tokenizer = read_tokenizer(folder)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    size = getattr(read_config(folder, 1), "vocab_size", len(tokens))
    if not size / 2 < len(tokens) <= size:
        raise UserError(
            f"model: the tokenizer in {folder} has {len(tokens)} tokens and config.json says vocab_size {size}; "
            "give a folder in which they belong together"
        )
    ids = {"cls": tokenizer.cls_token_id, "sep": tokenizer.sep_token_id, "pad": tokenizer.pad_token_id}
    if lacking := [name for name, token_id in ids.items() if token_id is None]:
        raise UserError(
            f"model: the tokenizer in {folder} has no {' and no '.join(lacking)} token; give a model of the BERT kind"
        )
    return Vocabulary(
        tokens=tuple(tokens),
        special_ids=frozenset(tokenizer.all_special_ids),
        begin_id=ids["cls"],
        end_id=ids["sep"],
        pad_id=ids["pad"],
    )


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model takes beside token ids and attention mask.

    Attributes:
        max_tokens: longest sequence, special tokens counted.
        token_types: whether it tells the sentences of a pair apart by token types.
        first_position: the number of a sequence's first position. RoBERTa counts from its padding id + 1, and without
            being told takes every token with that id, mapped there or not, for padding.
    """

    max_tokens: int
    token_types: bool
    first_position: int


def read_inputs(config: "PretrainedConfig") -> Inputs:
    """What the architecture takes."""
    positions = getattr(config, "max_position_embeddings", DEFAULT_POSITIONS)
    first = config.pad_token_id + 1 if config.model_type in COUNTS_FROM_PADDING else 0
    return Inputs(
        max_tokens=positions - first, token_types=getattr(config, "type_vocab_size", 0) > 1, first_position=first
    )


def max_tokens_of(folder: Path) -> int:
    """How many tokens the model of a folder takes, special ones counted; from its config.json, without transformers.

    Raises:
        UserError: when that is no JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = int(config.get("max_position_embeddings", DEFAULT_POSITIONS))
        first = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in COUNTS_FROM_PADDING else 0
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"model: {folder}/config.json cannot be read ({first_line(error)})") from None
    return positions - first


def read_config(folder: Path, num_outputs: int) -> "PretrainedConfig":
    """The architecture of a model folder, with a new classifier of num_outputs classes."""
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()  # a new classifier is what we want, not a warning
    try:
        return AutoConfig.from_pretrained(folder, num_labels=num_outputs, local_files_only=True)
    except (ValueError, OSError, KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"model: the architecture in {folder}/config.json is not known ({first_line(error)})"
        ) from error


@lru_cache(maxsize=1)
def _pretrained_weights(folder: Path) -> dict[str, Any]:
    """The weights that the folder holds, a classifier's own left out, in float32; read once a process.

    Half-precision checkpoints become float32 here: training in pure half precision loses small updates.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # a truncated file raises safetensors' own error, a misfit RuntimeError
        raise UserError(f"model: the weights in {folder} cannot be read ({first_line(error)})") from error
    body, new = f"{model.base_model_prefix}.", loading["missing_keys"]
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(body) and name not in new}


def build_model(folder: Path, *, init: str, num_outputs: int, seed: int) -> "PreTrainedModel":
    """A sequence classifier with the architecture of folder, on the CPU, in float32.

    The seed draws every new weight, in the order in which the architecture's own initialisation draws them
    (N(0, 0.02^2) for BERT). So for one seed all inits share the classifier, and ``reinit-embeddings`` has the very
    word embeddings that ``scratch`` has (section 3.2 of arXiv 2103.07162).
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    # Read before the seed is set: reading draws random numbers too, but only the first time in a process.
    pretrained = {} if init == "scratch" else _pretrained_weights(folder)
    torch.manual_seed(seed)
    config = read_config(folder, num_outputs)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    match init:
        case "scratch":
            weights = {}
        case "pretrained":
            weights = pretrained
        case "reinit-embeddings":
            weights = {name: tensor for name, tensor in pretrained.items() if name != word_embeddings_name(model)}
        case _:
            raise ValueError(f"init {init!r} has no case")
    model.load_state_dict(weights, strict=False)
    return model


def word_embeddings_name(model: "torch.nn.Module") -> str:
    """Name of the word-embedding matrix (V, H) among a model's parameters."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    return next(name for name, parameter in model.named_parameters() if parameter is embeddings.weight)
