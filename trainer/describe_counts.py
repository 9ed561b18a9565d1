"""What is counted and named of a dataset, for the lines and the picture that describe it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainer.tasks.task import Dataset, Split, Task

MAX_CLASSES = 12
MAX_WIDTH = 24


def named_splits(dataset: Dataset) -> dict[str, Split]:
    """The splits by name; where valid is test, it comes once."""
    if dataset.valid is dataset.test:
        return {"train": dataset.train, "valid = test": dataset.valid}
    return {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}


def piece_labels(split: Split) -> np.ndarray:
    """The labels (P,) of the split's pieces; where examples are whole, theirs."""
    return split.labels if split.pieces is None else split.labels[np.unique(split.pieces, return_index=True)[1]]


def class_counts(dataset: Dataset) -> np.ndarray:
    """How many pieces (or whole examples) each split has of each class: (splits, C)."""
    size = len(dataset.classes)
    return np.array([np.bincount(piece_labels(split), minlength=size) for split in named_splits(dataset).values()])


def sequence_lengths(task: Task, split: Split) -> np.ndarray:
    """The length (N,) of each sequence in symbols; of a sentence, or pair, in words."""
    if not task.is_text:
        return np.fromiter(map(len, split.sequences), dtype=np.int64, count=len(split))
    seconds = split.seconds or [""] * len(split)
    return np.array([len(f"{one} {two}".split()) for one, two in zip(split.sequences, seconds, strict=True)])


def unit_of(dataset: Dataset) -> str:
    return "examples" if dataset.train.pieces is None else "pieces"


def short_names(names: Sequence[str]) -> list[str]:
    """The names on one line and in at most 24 characters each; those that then look alike are numbered."""
    shown = [_short(name, MAX_WIDTH) for name in names]
    times, taken = Counter(shown), set(shown)
    for place, name in enumerate(shown):
        if times[name] > 1:
            number = 1
            while shown[place] in taken:
                shown[place] = _short(name, MAX_WIDTH - len(f" #{number}")) + f" #{number}"
                number += 1
            taken.add(shown[place])
    return shown


def _short(name: str, width: int) -> str:
    """A name on one line, without its middle where it is too long."""
    name = "".join(letter if letter.isprintable() else "?" for letter in " ".join(name.split()))
    start = (width - 1) // 2
    return name if len(name) <= width else name[:start] + "…" + name[start + 1 - width :]
