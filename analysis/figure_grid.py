"""The search grid as heat maps: optimizers by learning rates, the mean score that chooses among them in each cell."""

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis import figure_style as style
from analysis.figure_panels import Panel, data_notes, panels_of, seeds_text, slug, subject
from analysis.select import Selection, Setting
from analysis.tables import Line

COLORS = colormaps["cividis"]  # made for the colour-blind, and lighter all the way up
EMPTY = (0.75, 0.75, 0.75, 1.0)  # of a cell of which no seed finished
CHOSEN = "chosen"  # id of the frame around the chosen cell
CELL = 0.3  # inches: a row's height
NARROW_GRID = 4  # learning rates: of no more, two grids stand beside each other


def draw_grids(lines: Sequence[Line]) -> dict[str, Figure]:
    """A figure for each group, a grid for each of its inits; only of those that tried more than one setting."""
    figures: dict[str, Figure] = {}
    for panel, grids in searches(lines):
        name = f"search-{slug(panel.name)}"
        while name in figures:
            name += "-another"
        figures[name] = _figure(f"Search on {panel.name}{subject(lines)}", grids, data_notes([panel]))
    return figures


def searches(lines: Sequence[Line]) -> list[tuple[Panel, dict[str, Selection]]]:
    """Each group of which more than one setting was tried, with those of its inits."""
    found = []
    for panel in panels_of(lines):
        grids = {name: line.selection for name, line in panel.last.items() if len(_cells(line.selection)) > 1}
        if any(setting.finished for selection in grids.values() for setting in selection.tried):
            found.append((panel, grids))
    return found


def _cells(selection: Selection) -> dict[tuple[str, float], Setting]:
    """(optimizer, learning rate) -> setting, of a model that is trained in steps."""
    return {(setting.optimizer, setting.learning_rate): setting for setting in selection.tried if setting.optimizer}


def _figure(title: str, grids: Mapping[str, Selection], notes: Sequence[str]) -> Figure:
    points = [point for selection in grids.values() for point in _cells(selection)]
    optimizers, rates = sorted({optimizer for optimizer, _ in points}), sorted({rate for _, rate in points})
    num_columns = min(len(grids), 1 if len(rates) > NARROW_GRID else 2)
    num_rows = math.ceil(len(grids) / num_columns)
    height = num_rows * (0.7 + CELL * len(optimizers))
    figure = style.new_figure(width=style.WIDTH if len(rates) + len(grids) > 4 else style.NARROW, height=height)
    scores = [setting.score for selection in grids.values() for setting in selection.tried if setting.finished]
    scale = Normalize(100 * min(scores), 100 * max(scores))
    places = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, (name, selection) in zip(places, grids.items(), strict=False):
        for point, setting in _cells(selection).items():
            place = rates.index(point[1]), optimizers.index(point[0])
            _draw_cell(axes, place, setting, scale, is_chosen=setting == selection.chosen)
        axes.set(xlim=(-0.5, len(rates) - 0.5), ylim=(len(optimizers) - 0.5, -0.5), xlabel="learning rate")
        axes.set_xticks(range(len(rates)), rate_texts(rates))
        axes.set_yticks(range(len(optimizers)), optimizers)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        style.set_heading(axes, [_heading(name, selection)], num_columns)
    for axes in places[len(grids) :]:
        axes.remove()
    first = next(iter(grids.values()))
    score = f"mean {first.by.removesuffix('/score')} {first.metric}"
    used = places[: len(grids)].tolist()
    figure.colorbar(ScalarMappable(scale, COLORS), ax=used, label=f"{score}, %", fraction=0.04, aspect=40)
    style.add_heading(figure, title, _legend(grids.values()))
    style.add_footnotes(figure, [f"In each cell the {score} over seeds.", *notes])
    return figure


def _heading(name: str, selection: Selection) -> str:
    chosen = selection.chosen
    if chosen is None:
        return f"{name}: none chosen, no trial has finished"
    return f"{name}: {chosen.optimizer} {chosen.learning_rate:.3g}, {seeds_text(selection)}"


def _draw_cell(axes: Axes, place: tuple[int, int], setting: Setting, scale: Normalize, is_chosen: bool) -> None:
    """Colour and number of a setting; a hatch where not all of its seeds finished, a frame where it is chosen."""
    column, row = place
    score, is_whole = 100 * setting.score, setting.finished == setting.expected
    face = COLORS(float(scale(score))) if setting.finished else EMPTY
    ink = ink_on(face)
    text = f"{score:.1f}" if setting.finished else ""
    if not is_whole:
        text = f"{text} {setting.finished}/{setting.expected}".strip()
    corner = (column - 0.5, row - 0.5)
    hatch = None if is_whole else "////"
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="white", linewidth=0.8, hatch=hatch))
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        color=ink,
        fontweight="bold" if is_chosen else "normal",
        bbox=None if is_whole else {"facecolor": face, "edgecolor": "none", "pad": 1},
    )
    if is_chosen:
        inside = (column - 0.45, row - 0.41)
        axes.add_patch(Rectangle(inside, 0.9, 0.82, fill=False, edgecolor=ink, linewidth=1.6, gid=CHOSEN))


def ink_on(face: tuple[float, ...]) -> str:
    """Black or white, whichever has more contrast with a colour (WCAG 2.2, relative luminance)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in face[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def rate_texts(rates: Sequence[float]) -> list[str]:
    """Learning rates in two digits, in as many as it takes where two would look alike."""
    short = [f"{rate:.2g}" for rate in rates]
    return short if len(set(short)) == len(short) else [f"{rate:g}" for rate in rates]


def _legend(selections: Iterable[Selection]) -> list[Patch]:
    handles = [Patch(facecolor="white", edgecolor="black", linewidth=1.6, label="chosen setting")]
    settings = [setting for selection in selections for setting in selection.tried]
    if any(setting.finished < setting.expected for setting in settings):
        label = "hatched: failed, diverged, running or missing; n/n: finished seeds"
        handles.append(Patch(facecolor=EMPTY, edgecolor="white", hatch="////", label=label))
    return handles
