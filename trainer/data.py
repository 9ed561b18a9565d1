"""A task's data as a trial needs it: read once a process, and encoded once for each mapping."""

from functools import lru_cache
from pathlib import Path

from trainer.config import Subject, TrialConfig
from trainer.encoding import NUM_SPECIAL, Encoded, encode, encode_text
from trainer.errors import UserError
from trainer.mapping import map_symbols, map_tokens
from trainer.models import max_tokens_of, read_config, read_inputs, read_tokenizer, read_vocabulary
from trainer.tasks.task import Dataset, Split, Task

SPLITS = ("train", "valid", "test")


@lru_cache(maxsize=2)
def load_dataset(task: Task, data_dir: Path | None) -> Dataset:
    """A task's data, read once a process."""
    return task.load(data_dir)


def usable_length(subject: Subject, folder: Path) -> int:
    """How much of a sequence is used: max_length, or as much as a model takes; in symbols, of text in tokens.

    Raises:
        UserError: when the user asks for more than the model takes.
    """
    task, asked = subject.definition, subject.max_length or 0
    taken = max_tokens_of(folder)
    longest = taken if task.is_text else taken - NUM_SPECIAL
    if asked > longest and asked != task.max_length:
        between = "" if task.is_text else f", {longest} symbols between its special ones"
        raise UserError(f"max_length: {asked} is not allowed; the model takes {taken} tokens{between}")
    return min(asked, longest)


def check_mapping(subject: Subject, dataset: Dataset, folder: Path) -> None:
    """Refuses a mapping for which a model's vocabulary is too small, before any trial is started.

    Raises:
        UserError: naming the mapping.
    """
    if subject.mapping in ("frequent", "unused"):  # the vocabulary of every real model has room for random ones
        map_symbols(subject.mapping, read_vocabulary(folder), dataset.symbols, 0)


@lru_cache(maxsize=2)
def tokenize_dataset(
    task: Task, data_dir: Path | None, folder: Path, max_length: int, max_train_examples: int | None
) -> dict[str, Encoded]:
    """Every split of a text task as the model's tokenizer makes it, once a process, whatever mapping follows."""
    dataset = load_dataset(task, data_dir).first_train_examples(max_train_examples)
    tokenizer, vocabulary = read_tokenizer(folder), read_vocabulary(folder)
    max_tokens = min(max_length, read_inputs(read_config(folder, 1)).max_tokens)

    def encoded(split: Split) -> Encoded:
        return encode_text(split.sequences, split.seconds, tokenizer, vocabulary, max_tokens)

    valid = encoded(dataset.valid)
    test = valid if dataset.test is dataset.valid else encoded(dataset.test)
    return {"train": encoded(dataset.train), "valid": valid, "test": test}


def encode_dataset(config: TrialConfig, data_dir: Path | None, folder: Path) -> dict[str, Encoded]:
    """Every split as token ids, encoded once a process for each mapping."""
    max_length = config.max_length or config.definition.max_length
    # These do not play a part in every mapping; without them trials that only differ in them share the work.
    seed = config.seed if config.mapping in ("random", "permutation") else 0
    return _encode_dataset(
        *(config.definition, data_dir, folder, config.mapping or "", max_length, seed),
        *(config.shift_by, config.keep_special_tokens, config.max_train_examples),
    )


@lru_cache(maxsize=4)
def _encode_dataset(
    task: Task,
    data_dir: Path | None,
    folder: Path,
    mapping: str,
    max_length: int,
    seed: int,
    shift_by: int,
    keep_special_tokens: bool,
    max_train_examples: int | None,
) -> dict[str, Encoded]:
    vocabulary = read_vocabulary(folder)
    if task.is_text:
        table = map_tokens(mapping, vocabulary, seed=seed, shift_by=shift_by, keep_special_tokens=keep_special_tokens)
        tokenized = tokenize_dataset(task, data_dir, folder, max_length, max_train_examples)
        return {name: encoded.mapped(table) for name, encoded in tokenized.items()}
    dataset = load_dataset(task, data_dir).first_train_examples(max_train_examples)
    token_ids = map_symbols(mapping, vocabulary, dataset.symbols, seed)
    max_tokens = min(max_length + NUM_SPECIAL, read_inputs(read_config(folder, 1)).max_tokens)

    def encoded(split: Split) -> Encoded:
        return encode(
            split.sequences, dataset.symbols, token_ids, vocabulary, max_tokens, keeps_both_ends=task.keeps_both_ends
        )

    return {name: encoded(getattr(dataset, name)) for name in SPLITS}
