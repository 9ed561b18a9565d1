"""Curves over training steps, a line and a band for each init: the training loss, and valid scores on few examples."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from analysis import figure_style as style
from analysis.figure_panels import Panel, data_notes, panels_of, seeds_text, step_notes, subject, usual
from analysis.paper import FRACTION
from analysis.tables import Line

COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}  # number of panels in a figure -> how many beside each other
MAX_POINTS = 2000  # drawn of a history
MARKED = 25  # points: no more have a marker each
WINDOWS = 50  # a loss is averaged over this part of the longest history

History = Callable[[str, str], pd.DataFrame]  # run id, metric -> columns step, value
Values = pd.Series  # of floats, by step
Frame = TypeVar("Frame", pd.Series, pd.DataFrame)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The histories of one init, of each seed that has one."""

    line: Line
    histories: tuple[Values, ...]

    @property
    def seeds(self) -> str:
        return seeds_text(self.line.selection, len(self.histories))


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The curves of a panel, by series; those alone that there are.

    Attributes:
        window: how many values of a history are averaged to one point.
    """

    panel: Panel
    by_series: dict[str, Curve]
    window: int

    @property
    def longest(self) -> int:
        """The number of values in the longest history."""
        return max(len(values) for curve in self.by_series.values() for values in curve.histories)


def draw_losses(history: History, lines: Sequence[Line]) -> dict[str, Figure]:
    """The training loss of every init over steps, a panel for each group."""
    found = _read(history, lines, "train/loss")
    found = [replace(curves, window=max(1, curves.longest // WINDOWS)) for curves in found]
    return _draw("training-loss", f"Training loss{subject(lines)}", "training loss", found)


def draw_valid_scores(history: History, lines: Sequence[Line]) -> dict[str, Figure]:
    """Valid scores while training on a part of the examples; bars where there was one evaluation only."""
    on_part = [line for line in lines if line.selection.config.get(FRACTION) is not None]
    found = _read(history, on_part, "valid/score", scale=100)
    found = [replace(curves, window=math.ceil(curves.longest / MAX_POINTS)) for curves in found]
    title = f"Valid score while training on {part_text(on_part)}{subject(on_part)}"
    return _draw("valid-score-on-part", title, "valid score, %", found)


def part_text(lines: Sequence[Line]) -> str:
    """``1% of the examples``, or ``a part of the examples`` where the parts differ."""
    shares = {float(line.selection.config[FRACTION]) for line in lines}
    return f"{f'{100 * shares.pop():g}%' if len(shares) == 1 else 'a part'} of the examples"


def _read(history: History, lines: Sequence[Line], metric: str, scale: float = 1) -> list[Curves]:
    """The panels that have any history of a metric, unsmoothed."""
    found = []
    for panel in panels_of(lines):
        by_series = {}
        for series, line in panel.last.items():
            frames = [history(run.run_id, metric) for run in line.selection.runs]
            histories = tuple(scale * frame.set_index("step")["value"] for frame in frames if len(frame))
            if histories:
                by_series[series] = Curve(line=line, histories=histories)
        if by_series:
            found.append(Curves(panel=panel, by_series=by_series, window=1))
    return found


def smoothed(values: Values, window: int) -> Values:
    """The running mean over the last ``window`` values, at every step that has so many."""
    return values.rolling(min(window, len(values))).mean().dropna()


def thinned(values: Frame) -> Frame:
    """At most about MAX_POINTS rows, the last one among them.

    Of running means: what is left out between two points is in their windows, which are at least as long as the way
    between them.
    """
    return values.iloc[:: -max(1, math.ceil(len(values) / MAX_POINTS))][::-1]


def mean_and_band(histories: Sequence[Values]) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, columns ``mean`` and ``std``, at the steps that all seeds have."""
    shared = pd.concat(histories, axis=1, join="inner")
    return pd.DataFrame({"mean": shared.mean(axis=1), "std": shared.std(axis=1, ddof=1)})


def _draw(name: str, title: str, ylabel: str, found: Sequence[Curves]) -> dict[str, Figure]:
    portions = style.pages(found, max(COLUMNS))
    names = style.page_names(name, len(portions))
    return {name: _page(title, ylabel, portion) for name, portion in zip(names, portions, strict=True)}


def _page(title: str, ylabel: str, found: Sequence[Curves]) -> Figure:
    num_columns = COLUMNS[len(found)]
    num_rows = math.ceil(len(found) / num_columns)
    width = style.NARROW if len(found) == 1 else style.WIDTH
    figure = style.new_figure(width=width, height=(2.4 if num_columns < 3 else 2.0) * num_rows)
    counts = usual((name, curve.seeds) for curves in found for name, curve in curves.by_series.items())
    looks = style.styles(counts)
    same_window = len({curves.window for curves in found}) == 1
    places = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, curves in zip(places, found, strict=False):
        heading = [curves.panel.name]
        heading += [
            f"{name} {curve.seeds}" for name, curve in curves.by_series.items() if curve.seeds != counts[name].text
        ]
        heading += [] if same_window else [f"mean of {curves.window:,} steps"]
        style.set_heading(axes, heading, num_columns)
        axes.set(ylabel=ylabel)
        _draw_panel(axes, curves, looks)
    for axes in places[len(found) :]:
        axes.remove()
    style.add_heading(
        figure, title, [style.line_handle(look, counts[name].label(name)) for name, look in looks.items()]
    )
    notes = [*_explained(found, same_window), *data_notes(one.panel for one in found)]
    style.add_footnotes(figure, notes, starred=not all(count.rule for count in counts.values()))
    return figure


def _explained(found: Sequence[Curves], same_window: bool) -> list[str]:
    """What lines and bands are."""
    curves = [curve for one in found for curve in one.by_series.values()]
    notes = ["Each init at the setting chosen for it."]
    if any(len(curve.histories) > 1 for curve in curves):
        notes = ["Line and band: mean ± sample standard deviation over seeds, each init at the setting chosen for it."]
    if any(len({values.index[-1] for values in curve.histories}) > 1 for curve in curves):
        notes.append("Thin lines: single seeds, from where the first of them stopped.")
    if same_window and found[0].window > 1:
        notes.append(f"Running mean over {found[0].window:,} steps.")
    return [" ".join([*notes, *step_notes(curves.panel for curves in found)])]


def _draw_panel(axes: Axes, curves: Curves, looks: Mapping[str, style.Style]) -> None:
    if curves.longest == 1:
        for place, (name, curve) in enumerate(curves.by_series.items()):
            values = pd.Series([values.iloc[0] for values in curve.histories])
            error = values.std(ddof=1) if len(values) > 1 else None
            axes.bar(place, values.mean(), yerr=error, **style.bar_look(looks[name]))
        axes.set_xticks([])
        return
    for name, curve in curves.by_series.items():
        _draw_curve(axes, curve, looks[name], curves.window)
    axes.set(xlabel="step")
    axes.xaxis.set(major_locator=MaxNLocator(4, integer=True), major_formatter=StrMethodFormatter("{x:,.0f}"))


def _draw_curve(axes: Axes, curve: Curve, look: style.Style, window: int) -> None:
    """The mean and band as far as all seeds go, and each seed by itself from there."""
    histories = [smoothed(values, window) for values in curve.histories]
    band = thinned(mean_and_band(histories))
    marker = look.marker if len(band) <= MARKED else ""
    axes.plot(band.index, band["mean"], marker=marker, **style.line_look(look))
    if len(histories) > 1:
        low, high = band["mean"] - band["std"], band["mean"] + band["std"]
        axes.fill_between(band.index, low, high, color=look.color, alpha=0.2, linewidth=0)
    for values in histories:
        alone = thinned(values[values.index >= band.index.max()] if len(band) else values)
        if len(alone) > 1:
            axes.plot(alone.index, alone, **{**style.line_look(look), "linewidth": 0.6})
