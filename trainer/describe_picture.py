"""A picture of a task's data: how long its sequences are, and how many there are of each class or number."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.describe_counts import (
    MAX_CLASSES,
    class_counts,
    named_splits,
    piece_labels,
    sequence_lengths,
    short_names,
    unit_of,
)
from trainer.tasks.task import Dataset, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 30
COLORS = ("#9ecae1", "#4292c6", "#08306b")
MAX_BINS = 40
LOG_RATIO = 20  # lengths that are spread this far above their median are drawn on a logarithmic scale


def picture(task_name: str, task: Task, dataset: Dataset, max_length: int) -> bytes:
    """A PNG of 1000 x 500 pixels: how long the sequences are, and how many there are of each class or number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{Path(task_name).name[-60:]}: {dataset.num_examples:,} {unit_of(dataset)}", parse_math=False)
    _draw_lengths(left, task, dataset, max_length)
    if dataset.classes:
        _draw_classes(right, dataset)
    else:
        _draw_numbers(right, dataset)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    content = io.BytesIO()
    with warnings.catch_warnings():  # a class name in a script that matplotlib's font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format="png")
    return content.getvalue()


def _draw_lengths(axes: "Axes", task: Task, dataset: Dataset, max_length: int) -> None:
    lengths = [sequence_lengths(task, split) for split in named_splits(dataset).values()]
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


def _draw_numbers(axes: "Axes", dataset: Dataset) -> None:
    labels = {name: piece_labels(split) for name, split in named_splits(dataset).items()}
    together = np.concatenate([*labels.values()])
    low, high = together.min(), together.max()
    edges = np.linspace(low, high, MAX_BINS + 1)
    edges = np.unique(np.clip(edges, low, high))  # steps between the smallest numbers there are may lead beyond the end
    axes.hist([*labels.values()], bins=edges.tolist(), stacked=True, color=COLORS[: len(labels)], label=[*labels])
    axes.set(xlabel="label", ylabel=unit_of(dataset), title="numbers")


def _draw_classes(axes: "Axes", dataset: Dataset) -> None:
    """A bar for each class; of many classes the largest first, and those beyond 30 as one number."""
    counts_SC, names = class_counts(dataset), short_names(dataset.classes)
    if len(names) > MAX_CLASSES:
        order = np.argsort(-counts_SC.sum(axis=0), kind="stable")
        counts_SC, names = counts_SC[:, order], [names[place] for place in order]
    size = "medium" if len(names) <= MAX_CLASSES else 7
    places, starts = np.arange(len(names[:MAX_BARS])), np.zeros(len(names[:MAX_BARS]))
    for split, counts_C, color in zip(named_splits(dataset), counts_SC[:, :MAX_BARS], COLORS, strict=False):
        axes.barh(places, counts_C, left=starts, height=0.75, color=color, label=split)
        starts += counts_C
    axes.set_yticks(places, names[:MAX_BARS], fontsize=size, parse_math=False)
    if num_more := len(names[MAX_BARS:]):
        rest = f" and {num_more} more with {counts_SC[:, MAX_BARS:].sum():,} {unit_of(dataset)} together"
        axes.text(0, MAX_BARS, rest, fontsize=size, va="center")
    margin = max(0.5, (5 - len(names)) / 2)  # few bars are not fat
    axes.set_ylim(len(places) - 1 + margin + bool(num_more), -margin)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set(xlabel=unit_of(dataset), title=f"{len(names):,} classes")
