"""``python -m trainer.describe``: what was understood of a task's data, in words and in a picture, before training."""

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from trainer.commandline import parse, run, setting
from trainer.describe_counts import (
    MAX_CLASSES,
    class_counts,
    named_splits,
    piece_labels,
    sequence_lengths,
    short_names,
    unit_of,
)
from trainer.describe_picture import picture
from trainer.errors import UserError
from trainer.tasks import OWN, TASKS, find_task
from trainer.tasks.own import Own
from trainer.tasks.own_labels import as_number
from trainer.tasks.task import Dataset, Task

MAX_SYMBOLS = 40
MAX_NAMES = 3
QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which task to describe, how to read it, and where the picture goes.

    Raises:
        UserError: for a limit below 1, or a picture that is no PNG.
    """

    task: str = setting("h4", help=f"the task: {', '.join(TASKS)}, or {OWN}")
    data_dir: str | None = setting(None, help="folder with the data files; auto: the cache folder (POLYMATH_DATA)")
    separator: str | None = setting(
        None, help="what stands between words in your own file, e.g. space, tab or -", none="none"
    )
    labels: str = setting("auto", help="what the labels of your own file are: auto, classes or numbers")
    max_length: int | None = setting(
        None, help="where longer sequences are cut; auto: the task's limit", unit="symbols, of text tokens"
    )
    output: str | None = setting("description.png", help="where to write the picture; none: no picture", none="none")

    def __post_init__(self) -> None:
        find_task(self.task, self.separator, self.labels)
        if self.max_length is not None and self.max_length < 1:
            raise UserError(f"max_length: {self.max_length} is not allowed; give at least 1, or auto")
        if self.output is not None and Path(self.output).suffix.lower() != ".png":
            raise UserError(f"output: {self.output!r} is not allowed; give a name that ends in .png, or none")


def describe(task: Task, dataset: Dataset, max_length: int) -> list[str]:
    """What was understood of a task's data, one fact a line.

    Args:
        max_length: where longer sequences are cut, in symbols; of a text task in tokens.
    """
    entries = {
        "data": [dataset.source, *([dataset.note] if dataset.note else [])],
        unit_of(dataset): _examples(dataset),
        "classes" if dataset.classes else "numbers": [
            *(_classes(dataset) if dataset.classes else _numbers(dataset)),
            *_guessed(task, dataset),
        ],
        "symbols": _symbols(dataset),
        "lengths": _lengths(task, dataset, max_length),
        "facts": [f"{name.replace('_', ' ')}: {value}" for name, value in dataset.facts.items()],
        "beware": _warnings(task, dataset),
    }
    return [
        f"{'' if place else name:<10}{line}".rstrip()
        for name, lines in entries.items()
        for place, line in enumerate(lines)
    ]


def _examples(dataset: Dataset) -> list[str]:
    splits = named_splits(dataset)
    sizes = ", ".join(f"{name} {split.num_pieces:,}" for name, split in splits.items())
    lines = [f"{dataset.num_examples:,}: {sizes} ({dataset.split})"]
    if dataset.train.pieces is not None:
        lines.append("cut into segments: " + ", ".join(f"{name} {len(split):,}" for name, split in splits.items()))
    return lines


def _classes(dataset: Dataset) -> list[str]:
    """A table of the classes, the most frequent of many, and what a constant guess would score."""
    names, counts_SC = list(named_splits(dataset)), class_counts(dataset)
    shown = short_names(dataset.classes)
    rows = [(name, counts_SC[:, place]) for place, name in enumerate(shown)]
    if len(rows) > MAX_CLASSES:
        order = np.argsort(-counts_SC.sum(axis=0), kind="stable")
        rest = order[MAX_CLASSES:]
        rows = [rows[place] for place in order[:MAX_CLASSES]]
        rows.append((f"and {len(rest)} more", counts_SC[:, rest].sum(axis=1)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{len(dataset.classes):<{width}}" + "".join(f"{name:>14}" for name in names)]
    lines += [f"{name:<{width}}" + "".join(f"{count:>14,}" for count in counts_S) for name, counts_S in rows]
    guess = int(counts_SC[0].argmax())
    share = counts_SC[-1, guess] / counts_SC[-1].sum()
    lines.append(f"always guessing {shown[guess]!r}, the most frequent in train: {100 * share:.1f} % right on test")
    return lines


def _numbers(dataset: Dataset) -> list[str]:
    """A table of the numbers' spread in each split."""
    rows = {name: _spread(piece_labels(split)) for name, split in named_splits(dataset).items()}
    digits = max(_digits(values[: len(QUANTILES)]) for values in rows.values())
    cells = {
        name: [*(f"{value:.{digits}g}" for value in values[:-1]), f"{values[-1]:.4g}"] for name, values in rows.items()
    }
    width = max(11, *(len(cell) + 2 for row in cells.values() for cell in row))
    head = " " * 12 + "".join(f"{name:>{width}}" for name in (*QUANTILES, "mean", "std"))
    return [head, *(f"{name:<12}" + "".join(f"{cell:>{width}}" for cell in row) for name, row in cells.items())]


def _spread(labels_N: np.ndarray) -> list[float]:
    """The quantiles, mean and standard deviation, in a scale in which the square of no label overflows."""
    _, exponent = np.frexp(np.abs(labels_N).max())
    scaled_N = np.ldexp(labels_N, -exponent)
    values = [*np.quantile(scaled_N, list(QUANTILES.values())), scaled_N.mean(), scaled_N.std()]
    return [float(value) for value in np.ldexp(values, exponent)]


def _digits(quantiles: Sequence[float]) -> int:
    """How many digits, from 4, tell quantiles apart that differ by more than rounding does."""
    least = 1e-12 * (quantiles[-1] - quantiles[0])
    pairs = [(low, high) for low, high in pairwise(quantiles) if high - low > least]
    enough = (digits for digits in range(4, 17) if all(f"{a:.{digits}g}" != f"{b:.{digits}g}" for a, b in pairs))
    return next(enough, 17)


def _guessed(task: Task, dataset: Dataset) -> list[str]:
    """How to change what integers were taken for, where nobody said it."""
    if not isinstance(task, Own) or task.labels != "auto" or dataset.train.pieces is not None:
        return []
    if not dataset.classes:
        labels = np.concatenate([split.labels for split in named_splits(dataset).values()])
        return ["integers taken for numbers; labels=classes makes them classes"] if (labels % 1 == 0).all() else []
    numbers = map(as_number, dataset.classes)
    if all(number is not None and number.is_integer() for number in numbers):
        return ["integers taken for classes; labels=numbers predicts them as numbers"]
    return []


def _symbols(dataset: Dataset) -> list[str]:
    if not (names := _symbol_names(dataset)):
        return ["text, for the model's tokenizer"]
    shown = " ".join(names[:MAX_SYMBOLS]) + (" ..." if len(names) > MAX_SYMBOLS else "")
    return textwrap.wrap(f"{len(names):,}: {shown}", 100, break_on_hyphens=False)


def _symbol_names(dataset: Dataset) -> list[str]:
    """The symbols as they can be seen."""
    if dataset.symbol_names:
        return short_names(dataset.symbol_names)
    return [symbol if symbol.isprintable() and symbol != " " else repr(symbol) for symbol in dataset.symbols]


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ", ".join([*names[:MAX_NAMES], *more])


def _lengths(task: Task, dataset: Dataset, max_length: int) -> list[str]:
    lengths_N = np.concatenate([sequence_lengths(task, split) for split in named_splits(dataset).values()])
    quantiles = np.quantile(lengths_N, list(QUANTILES.values()), method="inverted_cdf")
    spread = ", ".join(f"{name} {value:,}" for name, value in zip(QUANTILES, quantiles, strict=True))
    part = "middle" if task.keeps_both_ends else "end"
    if task.is_text:
        return [f"{spread} (words)", f"cut at {max_length:,} tokens, special ones counted, at the {part}"]
    num_longer = int((lengths_N > max_length).sum())
    cut = f"{num_longer:,} ({100 * num_longer / len(lengths_N):.1f} %) are longer and lose their {part}"
    return [f"{spread} (symbols)", f"cut at {max_length:,}: {cut if num_longer else 'none is longer'}"]


def _warnings(task: Task, dataset: Dataset) -> list[str]:
    """What may surprise: classes and symbols that cannot be learned, test examples that can be looked up."""
    lines, splits = [], named_splits(dataset)
    if dataset.classes:
        counts_SC, shown = class_counts(dataset), short_names(dataset.classes)
        problems = {f"{name} has no": counts_C == 0 for name, counts_C in zip(splits, counts_SC, strict=True)}
        for problem, is_so_C in ({"there is only one": counts_SC.sum(axis=0) == 1} | problems).items():
            if some := [shown[place] for place in np.flatnonzero(is_so_C)]:
                lines.append(f"{problem} example of {_some(some)}")
        lines += _alike(dataset.classes)
    if not task.is_text:
        held_out = set().union(*dataset.valid.sequences, *dataset.test.sequences)
        unseen = held_out.difference(*dataset.train.sequences)
        names = dict(zip(dataset.symbols, _symbol_names(dataset), strict=True))
        if some := [names[symbol] for symbol in sorted(unseen)]:
            lines.append(f"train has no symbol {_some(some)}")
    seen = set(zip(dataset.train.sequences, dataset.train.seconds or dataset.train.sequences, strict=True))
    for name, split in list(splits.items())[1:]:
        if num_seen := sum(map(seen.__contains__, zip(split.sequences, split.seconds or split.sequences, strict=True))):
            lines.append(f"{num_seen:,} of {len(split):,} sequences of {name} are in train too")
    if isinstance(task, Own) and not dataset.symbol_names and any(map(str.isspace, dataset.symbols)):
        lines.append("a blank is a symbol here; for words give separator=space")
    return lines


def _alike(classes: Sequence[str]) -> list[str]:
    """Classes that are one number or word in several spellings: "1" and "1.0", "Yes" and "yes"."""
    groups: dict[float | str, list[str]] = {}
    for name in classes:
        plain = _plain(name)
        number = as_number(plain)
        groups.setdefault(plain if number is None else number, []).append(name)
    lines = []
    for names in groups.values():
        if len(names) > 1:
            looks_same = len({_plain(name, keep_case=True) for name in names}) < len(names)
            shown = [ascii(name) if looks_same else repr(name) for name in names]
            lines.append(f"classes {', '.join(shown[:-1])} and {shown[-1]} differ only in how they are written")
    return lines[:MAX_NAMES] + ([f"and {len(lines) - MAX_NAMES} more such classes"] if len(lines) > MAX_NAMES else [])


def _plain(name: str, *, keep_case: bool = False) -> str:
    """A name without what cannot be seen: how its accents are composed, and of what kind its blanks are."""
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    return name if keep_case else unicodedata.normalize("NFKC", name.casefold())


def main(arguments: Sequence[str]) -> int:
    """Prints the description and writes the picture."""
    settings = parse(
        Settings, arguments, program="python -m trainer.describe", description="Say what a task's data is."
    )
    task = find_task(settings.task, separator=settings.separator, labels=settings.labels)
    dataset = task.load(Path(settings.data_dir) if settings.data_dir else None)
    max_length = settings.max_length or task.max_length
    print(f"{'task':<10}{settings.task} ({task.discipline})", *describe(task, dataset, max_length), sep="\n")
    if settings.output is not None:
        content = picture(settings.task, task, dataset, max_length)
        try:
            Path(settings.output).expanduser().write_bytes(content)
        except (OSError, RuntimeError) as error:  # "~nobody" is a RuntimeError
            raise UserError(f"output: {settings.output!r} cannot be written ({error}); give another file") from None
        print(f"{'picture':<10}{settings.output}")
    return 0


if __name__ == "__main__":
    run(main)
