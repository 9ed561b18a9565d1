"""The models: finding a model's files, reading its vocabulary, and building it with one of the inits.

Importing this module is cheap; torch and transformers come in when a model is built.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.architectures import check_architecture
from trainer.checkpoints import FITTING, URI, check_weights
from trainer.errors import UserError, first_line, near
from trainer.hub import DESCRIBING_FILES, NONE_ON_HUB, fetch_from_hub, fetch_weights, may_be_on_hub
from trainer.mapping import Vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
NO_WEIGHTS = (
    "give a folder with weights, or ask for scratch alone, which needs none (init=scratch, of a sweep inits=scratch, "
    "of a probe models=scratch with architecture=)"
)
POOLER = "pooler."  # of a body's weights; masked language models are trained without it
LAYER = re.compile(r"layers?\.\d+\.")  # in the name of a layer's weight, in every architecture


_provided: dict[str, Path] = {}  # the URI of a model in a tracking store -> its folder on this machine


def provide_model(uri: str, folder: Path) -> None:
    """From now on this is a model's folder in this process: it was fetched from a tracking store."""
    _provided[uri] = folder


def find_model(model: str, *, needs_weights: bool) -> Path:
    """The folder with a model's files, fetched from the Hugging Face hub when it is not a local one.

    Args:
        model: local folder, Hugging Face name, or a URI for which :func:`provide_model` was told a folder.
        needs_weights: whether an init reads weights; ``scratch`` needs only the configuration.

    Raises:
        UserError: for a folder that lacks the configuration, weights or tokenizer, an architecture that is not known,
            weights that are not safetensors, or a name that cannot be had.
    """
    folder = _provided.get(model) or Path(model).expanduser()
    if folder.is_file():
        raise UserError(f"model: {model!r} is a file; give the folder that it lies in")
    is_local = folder.is_dir()
    if not is_local:
        if URI.match(model):
            raise UserError(
                f"model: {model!r} needs a tracking store; use a sweep or `python -m sweeps.train`, which fetch it, or "
                "give a local folder"
            )
        if not may_be_on_hub(model):
            siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            hint = near(folder.name, siblings)
            raise UserError(f"model: there is no folder {model!r}{hint}; give one made by save_pretrained")
        folder = fetch_from_hub("model", model, DESCRIBING_FILES)
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise UserError(f"model: {model!r} has no config.json; give a folder made by save_pretrained")
    check_architecture(folder)
    if not names.intersection(TOKENIZER_FILES):
        wanted = ", ".join(TOKENIZER_FILES)
        raise UserError(f"model: {model!r} has no tokenizer (one of {wanted}); save the model's tokenizer beside it")
    if needs_weights:
        if not is_local:
            folder = fetch_weights("model", model)
        check_weights(folder, "model", model, remedy=NO_WEIGHTS if is_local else NONE_ON_HUB)
    return folder.resolve()


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


def read_config(folder: Path, num_outputs: int) -> "PretrainedConfig":
    """The architecture of a model folder, with a new classifier of num_outputs classes."""
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()  # a new classifier is what we want, not a warning
    try:
        config = AutoConfig.from_pretrained(folder, num_labels=num_outputs, local_files_only=True)
    except (ValueError, OSError, KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"model: the architecture in {folder}/config.json is not known ({first_line(error)})"
        ) from error
    config.gradient_checkpointing = False  # it saves a GPU memory and changes no number; a model with it has no copies
    return config


@lru_cache(maxsize=2)
def _read_weights(weights: Path, folder: Path) -> dict[str, Any]:
    """The body's weights in one folder for the architecture of another, in float32; read once a process.

    What lies around the body, a language model's head or a classifier, is left out. Half-precision weights become
    float32 here: training in pure half precision loses small updates.

    Raises:
        UserError: when they cannot be read or do not fit.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    parameter, remedy = "checkpoint", FITTING
    if weights == folder:
        parameter, remedy = "model", "a folder whose weights and config.json belong together"
    config = read_config(folder, 1)
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # reading draws numbers too, but only the first time in a process
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                weights,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a saved classifier may have any size; the body is checked below
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # a truncated file raises safetensors' own error
        raise UserError(
            f"{parameter}: the weights in {weights} cannot be read ({first_line(error)}); copy or download them again"
        ) from error
    body, new = f"{model.base_model_prefix}.", loading["missing_keys"]
    if misfit := _misfit(loading, body):
        raise UserError(
            f"{parameter}: the weights in {weights} do not fit the architecture of {folder} ({misfit}); give {remedy}"
        )
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(body) and name not in new}


def _misfit(loading: dict[str, Iterable[Any]], body: str) -> str:
    """What of the body does not fit, from what transformers says of the loading; nothing where all does."""
    wrong = sorted(entry for entry in loading["mismatched_keys"] if entry[0].startswith(body))
    if wrong:
        name, saved, wanted = wrong[0]
        return f"{name} is {tuple(saved)}, not {tuple(wanted)}"
    new = sorted(name.removeprefix(body) for name in loading["missing_keys"] if name.startswith(body))
    if lacking := [name for name in new if not name.startswith(POOLER)]:
        return f"{len(lacking)} weights are missing, first {lacking[0]}"
    if layers := sorted(name for name in loading["unexpected_keys"] if LAYER.search(name)):
        return f"{len(layers)} weights belong to more layers, first {layers[0]}"
    return ""


def build_model(
    folder: Path, *, init: str, num_outputs: int, seed: int, checkpoint: Path | None = None
) -> "PreTrainedModel":
    """A sequence classifier with the architecture of folder, on the CPU, in float32.

    The seed draws every new weight, in the order in which the architecture's own initialisation draws them
    (N(0, 0.02^2) for BERT). So for one seed all inits share the classifier, and ``reinit-embeddings`` has the very
    word embeddings that ``scratch`` has (section 3.2 of arXiv 2103.07162). All that follows the body counts as
    classifier, also where pre-training had a head of the same form (ModernBERT).

    Args:
        checkpoint: folder with the weights of init ``checkpoint``.

    Raises:
        UserError: when weights cannot be read or do not fit the architecture.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    config = read_config(folder, num_outputs)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    match init:
        case "scratch":
            weights = {}
        case "pretrained":
            weights = _read_weights(folder, folder)
        case "reinit-embeddings":
            weights = dict(_read_weights(folder, folder))
            del weights[word_embeddings_name(model)]
        case "checkpoint" if checkpoint is not None:
            weights = _read_weights(checkpoint, folder)
        case _:
            raise ValueError(f"init {init!r} has no case, or no checkpoint")
    model.load_state_dict(weights, strict=False)
    return model


def word_embeddings_name(model: "torch.nn.Module") -> str:
    """Name of the word-embedding matrix (V, H) among a model's parameters."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    return next(name for name, parameter in model.named_parameters() if parameter is embeddings.weight)
