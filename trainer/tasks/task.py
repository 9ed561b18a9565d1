"""What a task is: where its data lies, how its files become examples, and how it is scored."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.errors import UserError
from trainer.sources import Source, locate

SPLIT_SEED = 0
SPLIT_SHARE = 0.05  # of all examples for valid, and as many for test (appendix of arXiv 2103.07162)


class DataError(UserError):
    """A data file that cannot be read as what it should be; says which file, which line and what to do."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {message}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a dataset, of N examples.

    Attributes:
        sequences: N sequences of symbols, one character a symbol; of a text task N sentences.
        labels: (N,) class indices (int64), or the numbers to be predicted (float64).
        seconds: of a text task with sentence pairs the N second sentences; else empty.
        pieces: where examples are segments of longer pieces, (N,) the number of each one's piece; else None. A piece is
            scored by its segments' vote, and never split between train, valid and test.
        rows: (N,) the number of each example in what was read, from 0; None where that is its position.
        subsets: parts that are scored by themselves, name -> (M,) positions; the split's score is the mean of theirs.
    """

    sequences: tuple[str, ...]
    labels: np.ndarray
    seconds: tuple[str, ...] = ()
    pieces: np.ndarray | None = None
    rows: np.ndarray | None = None
    subsets: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def num_pieces(self) -> int:
        """How many pieces the examples are of; where they are whole ones, how many examples."""
        return len(self) if self.pieces is None else len(np.unique(self.pieces))

    @cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the sequences, labels and pieces, in order."""
        content = hashlib.sha256("\n".join(self.sequences).encode())
        if self.seconds:
            content.update("\n".join(self.seconds).encode())
        for numbers in (self.labels, self.pieces):
            if numbers is not None:
                content.update(numbers.astype("<f8" if numbers.dtype.kind == "f" else "<i8").tobytes())
        return content.hexdigest()[:16]

    def take(self, rows: np.ndarray) -> "Split":
        """The examples at the given (M,) positions, in that order; subsets are not kept."""
        return Split(
            sequences=tuple(self.sequences[row] for row in rows),
            labels=self.labels[rows],
            seconds=tuple(self.seconds[row] for row in rows) if self.seconds else (),
            pieces=None if self.pieces is None else self.pieces[rows],
            rows=rows if self.rows is None else self.rows[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a task's files hold.

    Attributes:
        train: examples to train on, and to draw the missing splits from.
        valid, test: None where the files do not say which examples are held out.
        symbols, symbol_names, classes: what was found in the files; None for what the task says of itself.
        split: how the splits came about, in words, where the files do not simply say it.
        note: what a reader of the numbers must know of these files, beside how many there are.
        facts: what else there is to record of this reading, e.g. ``{"skipped_files": "2"}``; tags of a run.
    """

    train: Split
    valid: Split | None = None
    test: Split | None = None
    symbols: str | None = None
    symbol_names: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    split: str = ""
    note: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task's examples as read and split.

    Attributes:
        symbols: every symbol that may occur, a character each, in a fixed order, which decides what the random mapping
            draws; "" for text.
        symbol_names: what the symbols are called where the characters only stand for them (pitches, words); else empty.
        classes: class names; a label is an index into them. Empty where a number is predicted.
        train, valid, test: the splits. Train is in random order, so that its first examples are a fair sample.
        split: how the splits were drawn, in words.
        note: what a reader of the numbers must know of the data, e.g. "28 % subset"; else "".
        source: where the data was read from.
        facts: what else there is to record, name -> value.
    """

    symbols: str
    symbol_names: tuple[str, ...] = ()
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    split: str
    note: str
    source: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the digests of train, valid and test."""
        digests = " ".join(split.digest for split in (self.train, self.valid, self.test))
        return hashlib.sha256(digests.encode()).hexdigest()[:16]

    @property
    def num_examples(self) -> int:
        """Examples in all (pieces, where they come in segments); test is not counted twice where it is valid."""
        splits = (self.train, self.valid) if self.test is self.valid else (self.train, self.valid, self.test)
        return sum(split.num_pieces for split in splits)

    def first_train_examples(self, count: int | None) -> "Dataset":
        """The same dataset with at most count training examples (all for None); valid and test stay whole."""
        if count is None or count >= len(self.train):
            return self
        return replace(self, train=self.train.take(np.arange(count)))


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task: subclasses say how their files become examples.

    Attributes:
        discipline: the paper's grouping (dna, protein, music, text).
        files: what it reads, in the order in which :meth:`read` takes them; empty for generated data.
        alternatives: other forms in which the same data comes, each in place of ``files``: read where a data folder
            holds them, and downloaded where ``files`` cannot be.
        num_examples: how many examples upstream has in all, to tell a subset; 0 where that is not known.
        symbols: every symbol that may occur; "" for text.
        classes: class names; empty where a number is predicted, or where the data names the classes.
        max_length: longest sequence in symbols, special tokens not counted; for text in tokens, special ones counted.
        keeps_both_ends: whether a longer sequence loses its middle rather than its end.
        metrics: keys of ``trainer.metrics.METRICS``; the first is the task's score.
        num_epochs: how long to train where nothing else is asked.
        checkpoint: which one is tested: the ``best`` on valid (with early stopping), or the ``final`` one.
        paper: where the data was first described.
    """

    discipline: str
    files: tuple[Source, ...]
    alternatives: tuple[tuple[Source, ...], ...] = ()
    num_examples: int
    symbols: str = ""
    classes: tuple[str, ...] = ()
    max_length: int
    keeps_both_ends: bool = False
    metrics: tuple[str, ...] = ("accuracy",)
    num_epochs: int = 20
    checkpoint: Literal["best", "final"] = "best"
    paper: str

    @property
    def metric(self) -> str:
        """The headline metric: the task's score."""
        return self.metrics[0]

    def metrics_for(self, dataset: "Dataset") -> tuple[str, ...]:
        """The metrics of some data, the headline one first; a task of a fixed kind has always the same."""
        return self.metrics

    @property
    def is_text(self) -> bool:
        """Whether sequences are sentences for the model's own tokenizer, rather than symbols to be mapped to tokens."""
        return self.discipline == "text"

    @abstractmethod
    def read(self, *paths: Path) -> Examples:
        """All examples of the task's files, or of one of the alternatives' files, in file order.

        Raises:
            DataError: naming the file and line of what is wrong.
        """

    def load(self, data_dir: Path | None = None) -> Dataset:
        """Finds or fetches the task's files, reads them and draws the splits that they leave open.

        Args:
            data_dir: folder with the files as upstream lays them out; without it the cache folder
                (``POLYMATH_DATA``), into which missing files are downloaded.

        Raises:
            UserError: for a missing folder or file, a failed download, or data that cannot be read.
        """
        paths = locate((self.files, *self.alternatives), data_dir)
        return self.dataset(self.read(*paths), paths)

    def dataset(self, examples: Examples, paths: tuple[Path, ...]) -> Dataset:
        """The dataset of what was read from some files."""
        train, valid, test, split = draw_splits(examples, paths[0] if paths else Path(self.discipline))
        dataset = Dataset(
            symbols=self.symbols if examples.symbols is None else examples.symbols,
            symbol_names=examples.symbol_names or (),
            classes=self.classes if examples.classes is None else examples.classes,
            train=train,
            valid=valid,
            test=test,
            split=split,
            note=examples.note,
            source=", ".join(str(path) for path in paths) or "generated",
            facts=examples.facts,
        )
        if dataset.num_examples >= self.num_examples:
            return dataset
        share = min(99, max(1, round(100 * dataset.num_examples / self.num_examples)))
        return replace(dataset, note=", ".join(filter(None, (examples.note, f"{share} % subset"))))


def draw_splits(examples: Examples, path: Path) -> tuple[Split, Split, Split, str]:
    """Train, valid and test, and in words how they came about; missing ones are drawn from train by a fixed seed.

    Raises:
        DataError: naming the path, where there are too few examples.
    """
    given = {name: split for name in ("valid", "test") if (split := getattr(examples, name)) is not None}
    missing = [name for name in ("valid", "test") if name not in given]
    total = examples.train.num_pieces + sum(split.num_pieces for split in given.values())
    num_held_out = round(total * SPLIT_SHARE) if missing else 0
    if missing and (num_held_out == 0 or examples.train.num_pieces <= num_held_out * len(missing)):
        raise DataError(path, None, f"{total} examples cannot be split 90/5/5; at least 11 are needed")
    order = np.random.default_rng(SPLIT_SEED).permutation(examples.train.num_pieces)
    for place, name in enumerate(missing):
        given[name] = _take_pieces(examples.train, order[place * num_held_out : (place + 1) * num_held_out])
    train = _take_pieces(examples.train, order[len(missing) * num_held_out :])
    if train.pieces is not None:
        train = train.take(np.random.default_rng(SPLIT_SEED).permutation(len(train)))
    match missing:
        case []:
            words = examples.split or "as given" + (", valid is test" if examples.test is examples.valid else "")
        case [name]:
            words = f"as given, {name} drawn from train (5 % of all) by seed {SPLIT_SEED}"
        case _:
            words = f"90/5/5 at random by seed {SPLIT_SEED}"
    return train, given["valid"], given["test"], words


def _take_pieces(split: Split, chosen: np.ndarray) -> Split:
    """The examples of the chosen pieces, piece by piece; without pieces the chosen examples."""
    if split.pieces is None:
        return split.take(chosen)
    _, piece_of_N = np.unique(split.pieces, return_inverse=True)
    place_of_P = np.full(split.num_pieces, len(chosen))
    place_of_P[chosen] = np.arange(len(chosen))
    order_N = np.argsort(place_of_P[piece_of_N], kind="stable")
    return split.take(order_N[: np.isin(piece_of_N, chosen).sum()])
