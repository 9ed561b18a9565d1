"""Test scores as bars: a group for each task, a bar for each init, and what they compete with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import figure_style as style
from analysis.figure_panels import (
    Panel,
    Usual,
    data_notes,
    is_rival,
    panels_of,
    seeds_of,
    seeds_text,
    step_notes,
    subject,
    usual,
)
from analysis.paper import FRACTION, rival_figure
from analysis.tables import LIMIT, Line

GROUPS, ROWS = 6, 3  # groups of bars beside each other, and rows of them in a figure
FEW = 4  # series: with more, a figure is wide, for the sake of its legend
FILLED = 0.84  # of a group's place, by its bars
WIDEST = 0.28  # of a group's place, for one bar
SAME_FOR_RIVALS = ("task", LIMIT, FRACTION)
RED = "#D55E00"
DASHES = {"hilbert-cnn": (5, 1.5), "plus-tfm": (5, 1.5, 1, 1.5), "kmer": (1.5, 1)}
LABEL: dict[str, Any] = {
    "xytext": (0, 3),
    "textcoords": "offset points",
    "ha": "center",
    "path_effects": style.OUTLINE,
}
CLEARANCE = 12  # points of score that a label above a bar takes
PAPER: dict[str, Any] = {
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "zorder": 5,
    "clip_on": False,
}
PAPER_RED = {**PAPER, "markeredgecolor": RED}


@dataclass(frozen=True, kw_only=True)
class Level:
    """A rival's red line.

    Attributes:
        source: how many of our seeds are behind it, or where it stands in the paper.
        score: in percent.
    """

    model: str
    source: str
    score: float
    of_paper: bool

    @property
    def name(self) -> str:
        return f"the paper's rival {self.model}" if self.of_paper else f"rival {self.model}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The bars of a panel, and the rivals of its task."""

    panel: Panel
    rivals: tuple[Level, ...]


def draw_test_scores(lines: Sequence[Line]) -> dict[str, Figure]:
    """Test scores of all inits with the paper's figures, and of the tasks' rivals, our own runs or the paper's.

    A rival that has no model to compete with is a group of its own.
    """
    scored = [line for line in lines if line.selection.chosen is not None or not is_rival(line)]
    models = [line for line in scored if not is_rival(line)]
    rivals = [line for line in scored if is_rival(line)]
    alone = [rival for rival in rivals if not any(_compete(rival, line) for line in models)]
    groups = []
    for panel in panels_of([*models, *alone]):
        first = next(iter(panel.last.values()))
        own = [] if is_rival(first) else [rival for rival in rivals if _compete(rival, first)]
        groups.append(Group(panel=panel, rivals=tuple(_levels(first, own))))
    if not any(line.mean is not None for group in groups for line in group.panel.last.values()):
        return {}
    portions = style.pages(groups, GROUPS * ROWS)
    names = style.page_names("test-scores", len(portions))
    title = f"Test scores{subject(models)}"
    return {name: _page(title, portion) for name, portion in zip(names, portions, strict=True)}


def _compete(rival: Line, line: Line) -> bool:
    """Whether both learn the same task from the same examples."""
    one, other = rival.selection, line.selection
    same = all(one.config.get(name) == other.config.get(name) for name in SAME_FOR_RIVALS)
    return same and one.data_digest == other.data_digest and one.metric == other.metric


def _levels(line: Line, rivals: Sequence[Line]) -> list[Level]:
    """The red lines beside a model: our own rivals', and the paper's rival where it is none of them."""
    found = [
        Level(model=rival.model, source=seeds_text(rival.selection), score=100 * rival.mean, of_paper=False)
        for rival in rivals
        if rival.mean is not None
    ]
    config = line.selection.config
    is_part = config.get(FRACTION) is not None or config.get("max_train_examples") is not None
    figure = None if is_rival(line) or is_part else rival_figure(config["task"])
    if figure and figure.metric == line.selection.metric and figure.model not in {level.model for level in found}:
        source = f"{figure.version} {figure.table}"
        found.append(Level(model=figure.model, source=source, score=figure.value, of_paper=True))
    return found


def _page(title: str, groups: Sequence[Group]) -> Figure:
    rows = style.pages(groups, GROUPS)
    lines = [(name, line) for group in groups for name, line in group.panel.last.items()]
    levels = [level for group in groups for level in group.rivals]
    sources = [(name, seeds_text(line.selection)) for name, line in lines]
    counts = usual([*sources, *((level.name, level.source) for level in levels)])
    looks = style.styles(name for name, _ in lines)
    is_small = len(groups) < 3 and len(looks) <= FEW
    width = style.NARROW if is_small else style.WIDTH
    figure = style.new_figure(width=width, height=1.7 * len(rows))
    metrics = {line.selection.metric for _, line in lines}
    bar_width = min(WIDEST, FILLED / max(len(group.panel.last) for group in groups))
    places = figure.subplots(len(rows), 1, squeeze=False, sharey=True).ravel()
    for axes, row in zip(places, rows, strict=True):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(axis="y", color="0.88", linewidth=0.6)
        for place, group in enumerate(row):
            _draw_group(axes, place, group, looks, counts, bar_width)
        labels = [_label(group, 0.8 * width / len(rows[0]), len(metrics) > 1) for group in row]
        axes.set_xticks(range(len(row)), labels)
        axes.tick_params(axis="x", length=0)
        ylabel = f"test {'score' if len(metrics) > 1 else next(iter(metrics))}, %"
        axes.set(xlim=(-0.5, len(rows[0]) - 0.5), ylabel=ylabel)
    style.add_heading(figure, title, _legend(groups, looks, counts))
    style.add_footnotes(figure, _explained(groups), starred=not all(count.rule for count in counts.values()))
    return figure


def _label(group: Group, width: float, with_metric: bool) -> str:
    """A group's name in lines that fit a width in inches, with its metric where they are not all alike."""
    metric = next(iter(group.panel.last.values())).selection.metric
    return "\n".join([style.wrapped(group.panel.name, width), *([f"({metric})"] * with_metric)])


def _draw_group(
    axes: Axes,
    place: int,
    group: Group,
    looks: Mapping[str, style.Style],
    counts: Mapping[str, Usual],
    bar_width: float,
) -> None:
    """The bars around a place on the axis; what is not as the legend says stands above them."""
    num_bars = len(group.panel.last)
    for number, (name, line) in enumerate(group.panel.last.items()):
        x = place + (number - (num_bars - 1) / 2) * bar_width
        top = 0.0
        if line.mean is not None:
            error = None if line.std is None else 100 * line.std
            axes.bar(x, 100 * line.mean, bar_width, yerr=error, **style.bar_look(looks[name]))
            top = max(0.0, 100 * line.mean + (error or 0.0))
        if line.paper is not None:
            axes.plot(x + bar_width / 4, line.paper.value, **PAPER)  # beside the error bar
            top = max(top, line.paper.value) if line.paper.value < top + CLEARANCE else top
        if remark := _remark(line, counts[name].text):
            axes.annotate(remark, (x, top), rotation=90, **LABEL)
    for level in group.rivals:
        half = num_bars * bar_width / 2 + 0.04
        axes.plot([place - half, place + half], [level.score] * 2, **_level_look(level.model))
        if level.of_paper:
            axes.plot(place + half, level.score, **PAPER_RED)
        if level.source != counts[level.name].text:
            axes.annotate(level.source, (place, level.score), color=RED, **LABEL)


def _remark(line: Line, count: str) -> str:
    """``2/3``, ``no score``, or nothing to say."""
    chosen = line.selection.chosen
    if chosen is not None and line.mean is None:
        return "no score"
    return "" if seeds_text(line.selection) == count else "/".join(map(str, seeds_of(line.selection)))


def _level_look(model: str) -> dict[str, Any]:
    """A rival's red line."""
    dashes = (0, DASHES.get(model, (3, 3)))
    return {"color": RED, "linewidth": 1.4, "linestyle": dashes, "path_effects": style.OUTLINE}


def _legend(groups: Sequence[Group], looks: Mapping[str, style.Style], counts: Mapping[str, Usual]) -> list[Artist]:
    handles: list[Artist] = [style.bar_handle(look, counts[name].label(name)) for name, look in looks.items()]
    for level in {level.name: level for group in groups for level in group.rivals}.values():
        label, marker = counts[level.name].label(level.name), PAPER_RED if level.of_paper else {}
        handles.append(Line2D([], [], label=label, **_level_look(level.model), **marker))
    figures = dict.fromkeys(line.paper.model for group in groups for line in group.panel.last.values() if line.paper)
    if figures:
        handles.append(Line2D([], [], label=f"the paper's {', '.join(figures)}", linestyle="", **PAPER))
    return handles


def _explained(groups: Sequence[Group]) -> list[str]:
    lines = [line for group in groups for line in group.panel.last.values()]
    notes = ["Each init at the setting chosen for it."]
    if any(line.std is not None for line in lines):
        notes = ["Bars: mean ± sample standard deviation over seeds, each init at the setting chosen for it."]
    notes += step_notes(group.panel for group in groups)
    return [" ".join(notes), *data_notes(group.panel for group in groups)]
