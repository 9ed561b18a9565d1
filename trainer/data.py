"""A task's data as a trial needs it: read once a process, and encoded once for each mapping."""

from functools import lru_cache
from pathlib import Path

from trainer.config import TrialConfig
from trainer.encoding import NUM_SPECIAL, Encoded, encode, encode_text
from trainer.mapping import map_symbols, map_tokens
from trainer.models import read_config, read_inputs, read_tokenizer, read_vocabulary
from trainer.tasks.task import Dataset, Split, Task

SPLITS = ("train", "valid", "test")


@lru_cache(maxsize=2)
def load_dataset(task: Task, data_dir: Path | None) -> Dataset:
    """A task's data, read once a process."""
    return task.load(data_dir)


@lru_cache(maxsize=2)
def tokenize_dataset(task: Task, data_dir: Path | None, folder: Path, max_length: int) -> dict[str, Encoded]:
    """Every split of a text task as the model's tokenizer makes it, once a process, whatever mapping follows."""
    dataset, tokenizer, vocabulary = load_dataset(task, data_dir), read_tokenizer(folder), read_vocabulary(folder)
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
        *(config.shift_by, config.keep_special_tokens),
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
) -> dict[str, Encoded]:
    vocabulary = read_vocabulary(folder)
    if task.is_text:
        table = map_tokens(mapping, vocabulary, seed=seed, shift_by=shift_by, keep_special_tokens=keep_special_tokens)
        tokenized = tokenize_dataset(task, data_dir, folder, max_length)
        return {name: encoded.mapped(table) for name, encoded in tokenized.items()}
    dataset = load_dataset(task, data_dir)
    token_ids = map_symbols(mapping, vocabulary, dataset.symbols, seed)
    max_tokens = min(max_length + NUM_SPECIAL, read_inputs(read_config(folder, 1)).max_tokens)

    def encoded(split: Split) -> Encoded:
        return encode(
            split.sequences, dataset.symbols, token_ids, vocabulary, max_tokens, keeps_both_ends=task.keeps_both_ends
        )

    return {name: encoded(getattr(dataset, name)) for name in SPLITS}
