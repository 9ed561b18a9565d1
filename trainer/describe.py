"""``python -m trainer.describe``: what was understood of a task's data, in words and in a picture, before training."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.commandline import parse, run, setting
from trainer.errors import UserError
from trainer.tasks import OWN, TASKS, find_task
from trainer.tasks.own import Own
from trainer.tasks.task import Dataset, Split, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES = 12
MAX_BARS = 30
MAX_SYMBOLS = 40
MAX_NAMES = 3
QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
COLORS = ("#9ecae1", "#4292c6", "#08306b")
MAX_BINS = 40
LOG_RATIO = 20  # lengths that are spread this far above their median are drawn on a logarithmic scale


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
        _unit(dataset): _examples(dataset),
        "classes" if dataset.classes else "numbers": _classes(dataset) if dataset.classes else _numbers(dataset),
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


def _splits(dataset: Dataset) -> dict[str, Split]:
    """The splits by name; where valid is test, it comes once."""
    if dataset.valid is dataset.test:
        return {"train": dataset.train, "valid = test": dataset.valid}
    return {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}


def _piece_labels(split: Split) -> np.ndarray:
    """The labels (P,) of the split's pieces; where examples are whole, theirs."""
    return split.labels if split.pieces is None else split.labels[np.unique(split.pieces, return_index=True)[1]]


def _class_counts(dataset: Dataset) -> np.ndarray:
    """How many pieces (or whole examples) each split has of each class: (splits, C)."""
    size = len(dataset.classes)
    return np.array([np.bincount(_piece_labels(split), minlength=size) for split in _splits(dataset).values()])


def _unit(dataset: Dataset) -> str:
    return "examples" if dataset.train.pieces is None else "pieces"


def _examples(dataset: Dataset) -> list[str]:
    splits = _splits(dataset)
    sizes = ", ".join(f"{name} {split.num_pieces:,}" for name, split in splits.items())
    lines = [f"{dataset.num_examples:,}: {sizes} ({dataset.split})"]
    if dataset.train.pieces is not None:
        lines.append("cut into segments: " + ", ".join(f"{name} {len(split):,}" for name, split in splits.items()))
    return lines


def _classes(dataset: Dataset) -> list[str]:
    """A table of the classes, the most frequent of many, and what a constant guess would score."""
    names, counts_SC = list(_splits(dataset)), _class_counts(dataset)
    rows = [(_short(name), counts_SC[:, place]) for place, name in enumerate(dataset.classes)]
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
    name = _short(dataset.classes[guess])
    lines.append(f"always guessing {name!r}, the most frequent in train: {100 * share:.1f} % right on test")
    return lines


def _numbers(dataset: Dataset) -> list[str]:
    """A table of the numbers' spread in each split."""
    lines = [" " * 12 + "".join(f"{name:>11}" for name in (*QUANTILES, "mean", "std"))]
    for name, split in _splits(dataset).items():
        labels_N = _piece_labels(split)
        values = [*np.quantile(labels_N, list(QUANTILES.values())), labels_N.mean(), labels_N.std()]
        lines.append(f"{name:<12}" + "".join(f"{value:>11.4g}" for value in values))
    return lines


def _symbols(dataset: Dataset) -> list[str]:
    if not (names := _symbol_names(dataset)):
        return ["text, for the model's tokenizer"]
    shown = " ".join(names[:MAX_SYMBOLS]) + (" ..." if len(names) > MAX_SYMBOLS else "")
    return textwrap.wrap(f"{len(names):,}: {shown}", 100, break_on_hyphens=False)


def _symbol_names(dataset: Dataset) -> list[str]:
    """The symbols as they can be seen."""
    if dataset.symbol_names:
        return [_short(name) for name in dataset.symbol_names]
    return [symbol if symbol.isprintable() and symbol != " " else repr(symbol) for symbol in dataset.symbols]


def _short(name: str) -> str:
    """A name on one line, in at most 24 characters."""
    name = "".join(letter if letter.isprintable() else "?" for letter in " ".join(name.split()))
    return name if len(name) <= 24 else name[:23] + "…"


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ", ".join([*map(_short, names[:MAX_NAMES]), *more])


def _sequence_lengths(task: Task, split: Split) -> np.ndarray:
    """The length (N,) of each sequence in symbols; of a sentence, or pair, in words."""
    if not task.is_text:
        return np.fromiter(map(len, split.sequences), dtype=np.int64, count=len(split))
    seconds = split.seconds or [""] * len(split)
    return np.array([len(f"{one} {two}".split()) for one, two in zip(split.sequences, seconds, strict=True)])


def _lengths(task: Task, dataset: Dataset, max_length: int) -> list[str]:
    lengths_N = np.concatenate([_sequence_lengths(task, split) for split in _splits(dataset).values()])
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
    lines, splits = [], _splits(dataset)
    if dataset.classes:
        counts_SC = _class_counts(dataset)
        problems = {f"{name} has no": counts_C == 0 for name, counts_C in zip(splits, counts_SC, strict=True)}
        for problem, is_so_C in ({"there is only one": counts_SC.sum(axis=0) == 1} | problems).items():
            if some := [dataset.classes[place] for place in np.flatnonzero(is_so_C)]:
                lines.append(f"{problem} example of {_some(some)}")
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
    if isinstance(task, Own) and any(symbol.isspace() for symbol in dataset.symbols):
        lines.append("a blank is a symbol here; for words give separator=space")
    return lines


def picture(task_name: str, task: Task, dataset: Dataset, max_length: int) -> bytes:
    """A PNG of 1000 x 500 pixels: how long the sequences are, and how many there are of each class or number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{Path(task_name).name[-60:]}: {dataset.num_examples:,} {_unit(dataset)}", parse_math=False)
    _draw_lengths(left, task, dataset, max_length)
    if dataset.classes:
        _draw_classes(right, dataset)
    else:
        labels = {name: _piece_labels(split) for name, split in _splits(dataset).items()}
        low, high = (limit(np.concatenate([*labels.values()])) for limit in (np.min, np.max))
        bins = np.linspace(low, high, MAX_BINS + 1).tolist()
        right.hist([*labels.values()], bins=bins, stacked=True, color=COLORS[: len(labels)], label=[*labels])
        right.set(xlabel="label", ylabel=_unit(dataset), title="numbers")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    content = io.BytesIO()
    with warnings.catch_warnings():  # a class name in a script that matplotlib's font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format="png")
    return content.getvalue()


def _draw_lengths(axes: "Axes", task: Task, dataset: Dataset, max_length: int) -> None:
    lengths = [_sequence_lengths(task, split) for split in _splits(dataset).values()]
    together = np.concatenate(lengths)
    low, high = int(together.min()), int(together.max())
    if high > LOG_RATIO * np.median(together) and low > 0:
        edges = np.unique(np.geomspace(low, high + 1, MAX_BINS + 1).round())
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    else:
        step = -(-(high - low + 1) // MAX_BINS)  # each bin takes in as many lengths as the others
        edges = np.arange(low, high + 1 + step, step, dtype=np.float64)
    axes.hist(lengths, bins=(edges - 0.5).tolist(), stacked=True, color=COLORS[: len(lengths)])
    if high == low:
        axes.set_xlim(low - 5, high + 5)
    unit, title = "symbols", f"none is cut at {max_length:,} symbols"
    if task.is_text:
        unit, title = "words", f"cut at {max_length:,} tokens"
    elif high > max_length:
        axes.axvline(max_length + 0.5, color="#d94801", linestyle="--")
        title = f"cut at {max_length:,} symbols (dashed)"
    axes.set(xlabel=f"length ({unit})", ylabel="sequences", title=title)


def _draw_classes(axes: "Axes", dataset: Dataset) -> None:
    """A bar for each class; of many classes the largest first, and those beyond 30 as one number."""
    counts_SC, names = _class_counts(dataset), [_short(name) for name in dataset.classes]
    if len(names) > MAX_CLASSES:
        order = np.argsort(-counts_SC.sum(axis=0), kind="stable")
        counts_SC, names = counts_SC[:, order], [names[place] for place in order]
    size = "medium" if len(names) <= MAX_CLASSES else 7
    places, starts = np.arange(len(names[:MAX_BARS])), np.zeros(len(names[:MAX_BARS]))
    for split, counts_C, color in zip(_splits(dataset), counts_SC[:, :MAX_BARS], COLORS, strict=False):
        axes.barh(places, counts_C, left=starts, height=0.75, color=color, label=split)
        starts += counts_C
    axes.set_yticks(places, names[:MAX_BARS], fontsize=size, parse_math=False)
    if num_more := len(names[MAX_BARS:]):
        rest = f" and {num_more} more with {counts_SC[:, MAX_BARS:].sum():,} {_unit(dataset)} together"
        axes.text(0, MAX_BARS, rest, fontsize=size, va="center")
    margin = max(0.5, (5 - len(names)) / 2)  # few bars are not fat
    axes.set_ylim(len(places) - 1 + margin + bool(num_more), -margin)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set(xlabel=_unit(dataset), title=f"{len(names):,} classes")


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
