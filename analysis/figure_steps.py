"""Test score against pre-training step: what a model has gained by then from its pre-training."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis import figure_style as style
from analysis.figure_curves import COLUMNS
from analysis.figure_panels import Panel, data_notes, panels_of, seeds_of, seeds_text, step_text, subject, usual
from analysis.tables import Line

WIDE = 20  # from this ratio of the last step to the first above 0, the axis is logarithmic
MAX_TICKS = 5
LABEL: dict[str, Any] = {"textcoords": "offset points", "path_effects": style.OUTLINE}


def draw_steps(lines: Sequence[Line]) -> dict[str, Figure]:
    """A panel for each group with checkpoints of two steps or more; the other inits are horizontal lines."""
    found = [
        panel
        for panel in panels_of(lines)
        if any(sum(line.mean is not None for line in _by_step(panel, name).values()) > 1 for name in panel.series)
    ]
    portions = style.pages(found, max(COLUMNS))
    names = style.page_names("pretraining-steps", len(portions))
    title = f"Test score against pre-training step{subject(lines)}"
    return {name: _page(title, portion) for name, portion in zip(names, portions, strict=True)}


def _by_step(panel: Panel, series: str) -> dict[int, Line]:
    """A checkpoint's lines by step; nothing of an init that has no steps."""
    return {step: line for step, line in panel.series[series].items() if step is not None}


def _page(title: str, panels: Sequence[Panel]) -> Figure:
    num_columns = COLUMNS[len(panels)]
    num_rows = math.ceil(len(panels) / num_columns)
    width = style.NARROW if len(panels) == 1 else style.WIDTH
    figure = style.new_figure(width=width, height=(2.4 if num_columns < 3 else 2.0) * num_rows)
    counts = usual(
        (name, seeds_text(line.selection))
        for panel in panels
        for name, steps in panel.series.items()
        for line in steps.values()
    )
    looks = style.styles(counts)
    places = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, panel in zip(places, panels, strict=False):
        heading = [panel.name]
        for name in panel.series:
            heading += _draw_series(axes, panel, name, looks[name], counts[name].text)
        style.set_heading(axes, heading, num_columns)
        _scale(axes, sorted({step for name in panel.series for step in _by_step(panel, name)}))
        metric = next(iter(panel.last.values())).selection.metric
        axes.set(xlabel="pre-training step", ylabel=f"test {metric}, %")
    for axes in places[len(panels) :]:
        axes.remove()
    stepped = {name for panel in panels for name in panel.series if _by_step(panel, name)}
    handles = [
        style.line_handle(look, counts[name].label(name), marker=name in stepped) for name, look in looks.items()
    ]
    style.add_heading(figure, title, handles)
    starred = not all(count.rule for count in counts.values())
    style.add_footnotes(figure, [_explained(panels), *data_notes(panels)], starred=starred)
    return figure


def _draw_series(axes: Axes, panel: Panel, name: str, look: style.Style, count: str) -> list[str]:
    """Points with error bars of a checkpoint, a level with its band of any other init.

    Returns:
        What the panel's heading must say of it.
    """
    by_step = _by_step(panel, name)
    if not by_step:
        (line,) = panel.series[name].values()
        if line.mean is not None:
            axes.axhline(100 * line.mean, **style.line_look(look))
        if line.mean is not None and line.std is not None:
            low, high = 100 * (line.mean - line.std), 100 * (line.mean + line.std)
            axes.axhspan(low, high, color=look.color, alpha=0.15, linewidth=0)
        seeds = seeds_text(line.selection)
        return [] if seeds == count else [f"{name} {seeds}"]
    scored = {step: line for step, line in by_step.items() if line.mean is not None}
    means = [100 * (line.mean or 0.0) for line in scored.values()]
    errors = [100 * (line.std or 0.0) for line in scored.values()]
    axes.errorbar([*scored], means, yerr=errors, capsize=2.5, marker=look.marker, **style.line_look(look))
    for step, line in by_step.items():
        text = "/".join(map(str, seeds_of(line.selection)))
        if line.mean is None:  # at the foot of the panel: there is nothing to stand beside
            axes.annotate(text, (step, 0), (0, 3), xycoords=("data", "axes fraction"), **LABEL, ha="center")
        elif seeds_text(line.selection) != count:
            axes.annotate(text, (step, 100 * line.mean), (5, -4), **LABEL, ha="left", va="top")
    return []


def _scale(axes: Axes, steps: Sequence[int]) -> None:
    """A logarithmic axis where steps lie far apart; step 0 has its place on both kinds."""
    above = [step for step in steps if step > 0]
    if steps[-1] > WIDE * above[0]:
        axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
        axes.set_xlim(-above[0] / 3, 1.6 * steps[-1])
        powers = [10**power for power in range(math.floor(math.log10(above[0])), math.ceil(math.log10(steps[-1])) + 1)]
        shown = [power for power in powers if above[0] <= power <= steps[-1]] or [above[0], steps[-1]]
        ticks = [*([0] if 0 in steps else []), *shown[:: math.ceil(len(shown) / MAX_TICKS)]]
        axes.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    else:
        axes.xaxis.set(major_locator=MaxNLocator(MAX_TICKS, integer=True))
    axes.xaxis.set(major_formatter=FuncFormatter(lambda step, _: step_text(step)))


def _explained(panels: Sequence[Panel]) -> str:
    lines = [line for panel in panels for steps in panel.series.values() for line in steps.values()]
    spread = (
        "Mean ± sample standard deviation over seeds, each" if any(line.std is not None for line in lines) else "Each"
    )
    return f"{spread} at the setting chosen for it."
