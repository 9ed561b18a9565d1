"""A task's data as a trial needs it: read once a process, and encoded once for each mapping."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer.architectures import max_tokens_of, read_inputs, vocabulary_size_of
from trainer.config import Subject, TrialConfig
from trainer.encoding import NUM_SPECIAL, Encoded, check_size, encode, encode_text
from trainer.errors import UserError
from trainer.mapping import map_symbols, map_tokens
from trainer.models import find_model, read_config, read_tokenizer, read_vocabulary
from trainer.rivals import check_rival
from trainer.tasks.task import Dataset, Split, Task

ROOM_FOR_RANDOM = 10_000  # tokens: enough ordinary ones for any task's symbols

# Which examples of train: at most so many, or a share of them drawn by a seed. None stands for valid and test.
Part = tuple[int | None, float | None, int] | None

_provided: dict[tuple[Task, Path | None], Dataset] = {}


def provide_dataset(task: Task, data_dir: Path | None, dataset: Dataset) -> None:
    """From now on this is a task's data in this process: it came from elsewhere, and no file is read.

    Args:
        data_dir: under which folder's name trials will ask for it; there need not be such a folder.
    """
    before = _provided.get((task, data_dir))
    if before is None or before.digest != dataset.digest:
        _encode_split.cache_clear()
        _tokenize_split.cache_clear()
    _provided[task, data_dir] = dataset


def load_dataset(task: Task, data_dir: Path | None) -> Dataset:
    """A task's data, read once a process."""
    return _provided.get((task, data_dir)) or _read_dataset(task, data_dir)


@lru_cache(maxsize=2)
def _read_dataset(task: Task, data_dir: Path | None) -> Dataset:
    return task.load(data_dir)


def check_data(subject: Subject, dataset: Dataset, *, needs_weights: bool) -> tuple[Path | None, int]:
    """Looks whether a model and some data go together, before torch takes its seconds to import or a trial starts.

    Args:
        needs_weights: whether the model's own weights are to be read.

    Returns:
        The model's folder (None of a rival, which has none), and how much of a sequence is used, in symbols or, of
        text, in tokens.

    Raises:
        UserError: when they do not, or when there is no such model.
    """
    if subject.is_rival:
        check_rival(subject.model, subject.definition, dataset)
        return None, subject.max_length or subject.definition.max_length
    folder = find_model(subject.model, needs_weights=needs_weights)
    check_size(vocabulary_size_of(folder))
    check_mapping(subject, dataset, folder)
    return folder, usable_length(subject, folder)


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
    """Refuses a mapping that a model's vocabulary or the data does not allow, before any trial is started.

    Raises:
        UserError: naming the mapping.
    """
    if subject.definition.is_text:
        return
    if subject.mapping == "random" and vocabulary_size_of(folder) >= ROOM_FOR_RANDOM:
        return  # without reading the vocabulary, which takes seconds to import
    if subject.mapping == "identity" and dataset.symbol_names:
        raise UserError("mapping: 'identity' is for symbols of one character; give mapping=random")
    map_symbols(subject.mapping or "", read_vocabulary(folder), dataset.symbols, 0)


def training_part(dataset: Dataset, config: TrialConfig) -> Dataset:
    """The dataset with only those training examples that a trial uses, in random order; valid and test stay whole."""
    return _with_part(dataset, _part(config))


def _part(config: TrialConfig) -> Part:
    seed = 0 if config.train_fraction is None else config.seed
    return config.max_train_examples, config.train_fraction, seed


def _with_part(dataset: Dataset, part: Part) -> Dataset:
    limit, fraction, seed = part or (None, None, 0)
    if fraction is None:
        return dataset.first_train_examples(limit)
    rows = stratified_rows(dataset.train.labels, fraction, seed)
    return replace(dataset, train=dataset.train.take(rows))


def stratified_rows(labels_N: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """(M,) positions of a share of the examples, at least one, in random order, with labels spread as in all.

    Systematic sampling: the examples are put in the order of their labels, in random order where these are equal, and
    taken at even steps from a random start. Of every class there are as many as its share says, give or take one; of
    numbers the sample has all quantiles.
    """
    rng = np.random.default_rng(seed)
    order_N = np.lexsort((rng.random(len(labels_N)), labels_N))
    num_drawn = max(1, round(len(labels_N) * fraction))
    places_M = ((np.arange(num_drawn) + rng.random()) * len(labels_N) / num_drawn).astype(np.int64)
    rows_M: np.ndarray = rng.permutation(order_N[places_M])
    return rows_M


def encode_dataset(config: TrialConfig, data_dir: Path | None, folder: Path) -> dict[str, Encoded]:
    """Every split as token ids, encoded once a process for each mapping."""
    task = config.definition
    max_length = config.max_length or task.max_length
    # These do not play a part in every mapping; without them trials that only differ in them share the work.
    seed = config.seed if config.mapping in ("random", "permutation") else 0
    how = (config.mapping or "", max_length, seed, config.shift_by, config.keep_special_tokens)
    valid = _encode_split(task, data_dir, folder, "valid", None, *how)
    is_one = load_dataset(task, data_dir).test is load_dataset(task, data_dir).valid
    return {
        "train": _encode_split(task, data_dir, folder, "train", _part(config), *how),
        "valid": valid,
        "test": valid if is_one else _encode_split(task, data_dir, folder, "test", None, *how),
    }


def _split(task: Task, data_dir: Path | None, name: str, part: Part) -> Split:
    split: Split = getattr(_with_part(load_dataset(task, data_dir), part), name)
    return split


@lru_cache(maxsize=12)
def _encode_split(
    task: Task,
    data_dir: Path | None,
    folder: Path,
    name: str,
    part: Part,
    mapping: str,
    max_length: int,
    seed: int,
    shift_by: int,
    keep_special_tokens: bool,
) -> Encoded:
    if task.is_text:
        vocabulary = read_vocabulary(folder)
        table = map_tokens(mapping, vocabulary, seed=seed, shift_by=shift_by, keep_special_tokens=keep_special_tokens)
        return _tokenize_split(task, data_dir, folder, name, part, max_length).mapped(table)
    split, symbols = _split(task, data_dir, name, part), load_dataset(task, data_dir).symbols
    return _encoded(task, split, symbols, folder, mapping, max_length, seed)


@lru_cache(maxsize=6)
def _tokenize_split(task: Task, data_dir: Path | None, folder: Path, name: str, part: Part, max_length: int) -> Encoded:
    """A split of a text task as the model's tokenizer makes it, once a process, whatever mapping follows."""
    return _tokenized(_split(task, data_dir, name, part), folder, max_length)


def encode_examples(config: TrialConfig, split: Split, symbols: str, folder: Path) -> Encoded:
    """Some examples as a trial of this config reads them.

    Args:
        symbols: of the whole dataset.
        folder: of the model.
    """
    task, max_length, mapping = (
        config.definition,
        config.max_length or config.definition.max_length,
        config.mapping or "",
    )
    if not task.is_text:
        return _encoded(task, split, symbols, folder, mapping, max_length, config.seed)
    table = map_tokens(
        mapping,
        read_vocabulary(folder),
        seed=config.seed,
        shift_by=config.shift_by,
        keep_special_tokens=config.keep_special_tokens,
    )
    return _tokenized(split, folder, max_length).mapped(table)


def _encoded(task: Task, split: Split, symbols: str, folder: Path, mapping: str, max_length: int, seed: int) -> Encoded:
    vocabulary = read_vocabulary(folder)
    return encode(
        split.sequences,
        symbols,
        map_symbols(mapping, vocabulary, symbols, seed),
        vocabulary,
        min(max_length + NUM_SPECIAL, read_inputs(read_config(folder, 1)).max_tokens),
        keeps_both_ends=task.keeps_both_ends,
    )


def _tokenized(split: Split, folder: Path, max_length: int) -> Encoded:
    max_tokens = min(max_length, read_inputs(read_config(folder, 1)).max_tokens)
    return encode_text(split.sequences, split.seconds, read_tokenizer(folder), read_vocabulary(folder), max_tokens)
