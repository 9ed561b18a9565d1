"""What a task is: where its data lies, how a file becomes examples, and how it is scored."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

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
    """One part of a dataset: N sequences of symbols, one character a symbol, and their (N,) class indices."""

    sequences: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.sequences)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the sequences and labels, in order."""
        content = hashlib.sha256("\n".join(self.sequences).encode())
        content.update(self.labels.astype("<i8").tobytes())
        return content.hexdigest()[:16]

    def take(self, rows: np.ndarray) -> "Split":
        """The examples at the given (M,) positions, in that order."""
        return Split(sequences=tuple(self.sequences[row] for row in rows), labels=self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task's examples as read and split.

    Attributes:
        symbols: every symbol that may occur, in a fixed order; the order decides what the random mapping draws.
        classes: class names; a label is an index into them.
        train, valid, test: the splits.
        split: how the splits were drawn, in words.
        note: what a reader of the numbers must know of the data, e.g. "28 % subset"; else "".
        source: where the data was read from.
    """

    symbols: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    split: str
    note: str
    source: str

    @cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the digests of train, valid and test."""
        digests = " ".join(split.digest for split in (self.train, self.valid, self.test))
        return hashlib.sha256(digests.encode()).hexdigest()[:16]

    def first_train_examples(self, count: int | None) -> "Dataset":
        """The same dataset with at most count training examples (all for None); valid and test stay whole."""
        if count is None or count >= len(self.train):
            return self
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Dataset(**{**values, "train": self.train.take(np.arange(count))})


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task: subclasses say how their files become examples.

    Attributes:
        discipline: the paper's grouping (dna, protein, music, text).
        files: what it reads, in the order in which :meth:`read` takes them; empty for generated data.
        num_examples: how many examples upstream has, to tell a subset.
        symbols: every symbol that may occur.
        classes: class names.
        max_length: longest sequence in symbols, special tokens not counted; longer ones are cut at the end.
        metric: key of ``trainer.metrics.METRICS``; the task's score.
        num_epochs: how long to train where nothing else is asked; early stopping applies.
        paper: where the data was first described.
    """

    discipline: str
    files: tuple[Source, ...]
    num_examples: int
    symbols: str
    classes: tuple[str, ...]
    max_length: int
    metric: str = "accuracy"
    num_epochs: int = 20
    paper: str

    @abstractmethod
    def read(self, *paths: Path) -> Split:
        """All examples of the task's files, in file order.

        Raises:
            DataError: naming the file and line of what is wrong.
        """

    def load(self, data_dir: Path | None = None) -> Dataset:
        """Finds or fetches the task's files, reads them and draws the splits.

        Args:
            data_dir: folder with the files as upstream lays them out; without it the cache folder
                (``POLYMATH_DATA``), into which missing files are downloaded.

        Raises:
            UserError: for a missing folder or file, a failed download, or data that cannot be read.
        """
        paths = [locate(source, data_dir) for source in self.files]
        examples = self.read(*paths)
        num_held_out = round(len(examples) * SPLIT_SHARE)
        if num_held_out == 0:
            what = paths[0] if paths else Path(self.discipline)
            raise DataError(what, None, f"{len(examples)} examples cannot be split 90/5/5; at least 11 are needed")
        order = np.random.default_rng(SPLIT_SEED).permutation(len(examples))
        share = min(99, max(1, round(100 * len(examples) / self.num_examples)))
        return Dataset(
            symbols=self.symbols,
            classes=self.classes,
            valid=examples.take(order[:num_held_out]),
            test=examples.take(order[num_held_out : 2 * num_held_out]),
            train=examples.take(order[2 * num_held_out :]),
            split=f"90/5/5 at random by seed {SPLIT_SEED}",
            note=f"{share} % subset" if len(examples) < self.num_examples else "",
            source=", ".join(str(path) for path in paths) or "generated",
        )
