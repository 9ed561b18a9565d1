"""How all figures look: sizes for print, colours by init and corpus, titles, legends and footnotes.

They differ in colour and lightness, and besides in line, marker and hatch, so that figures survive a photocopier.
Colours are of Okabe and Ito's set for the colour-blind (https://jfly.uni-koeln.de/color/), and of Paul Tol's
(https://sronpersonalpages.nl/~pault/) where those are too few.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import matplotlib
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.inits import series_place

Item = TypeVar("Item")

WIDTH = 7.0  # inches: the text width of a page, at which a figure is printed
NARROW = 4.6  # inches: of a figure with one small panel
LINE = 0.18  # inches: the height of a line of text
PANEL = 0.78  # of a panel's width, between its axes
CHARACTERS = 17  # of 8 points that an inch takes
BOLD = 0.75  # of so many, the part that fits of a bold title's

SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "text.parse_math": False,  # names may have dollars in them
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "polymath",  # the same ids in every drawing
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """What an init looks like; ``line`` is on and off lengths in points, a solid line without any."""

    color: str
    line: tuple[float, ...]
    marker: str
    hatch: str


STYLES = {
    "pretrained": Style(color="#0072B2", line=(), marker="o", hatch=""),
    "reinit-embeddings": Style(color="#009E73", line=(6, 1.5, 1.5, 1.5), marker="^", hatch="...."),
    "scratch": Style(color="#E69F00", line=(4, 1.5), marker="s", hatch="////"),
    "checkpoint": Style(color="#000000", line=(1.5, 1), marker="D", hatch="xxxx"),
}

CORPORA = {  # of the generated ones; others have theirs from OTHERS, by name
    "uniform": Style(color="#999999", line=(1, 1), marker="X", hatch=".."),
    "flat": Style(color="#56B4E9", line=(5, 1, 1, 1, 1, 1), marker="v", hatch="||||"),
    "nested": Style(color="#882255", line=(3, 1), marker="D", hatch="xxxx"),
}
OTHERS = (
    Style(color="#CC79A7", line=(8, 2), marker="P", hatch="\\\\\\\\"),
    Style(color="#999933", line=(10, 1.5), marker="h", hatch="----"),
    Style(color="#332288", line=(6, 2, 2, 2), marker="<", hatch="++++"),
    Style(color="#661100", line=(2, 2), marker=">", hatch="oooo"),
)
CHECKPOINTS = (  # of several whose corpora are not known
    STYLES["checkpoint"],
    Style(color="#000000", line=(5, 1, 1, 1, 1, 1), marker="v", hatch="++++"),
    Style(color="#000000", line=(1, 2.5), marker="P", hatch="oooo"),
    Style(color="#000000", line=(3, 3), marker="X", hatch="||||"),
)

OUTLINE = (patheffects.withStroke(linewidth=2.4, foreground="white"),)  # keeps thin lines visible on any colour


def styles(series: Iterable[str]) -> dict[str, Style]:
    """A style for each init and corpus, the same in every figure, in the order of the tables.

    Args:
        series: inits; corpora of checkpoints, and names of public ones; ``checkpoint NAME``, of several: these share a
            colour.
    """
    names = sorted({*series}, key=series_place)
    checkpoints = [name for name in names if name.startswith("checkpoint ")]
    fixed = {**STYLES, **CORPORA}
    others = [name for name in names if name not in fixed and name not in checkpoints]
    fixed |= zip(checkpoints, cycle(CHECKPOINTS), strict=False)
    fixed |= zip(others, cycle(OTHERS), strict=False)
    return {name: fixed[name] for name in names}


def line_handle(style: Style, label: str, *, marker: bool = False) -> Line2D:
    """A line for a legend."""
    return Line2D([], [], label=label, marker=style.marker if marker else "", **line_look(style))


def line_look(style: Style) -> dict[str, Any]:
    """How a line of a style is drawn."""
    return {
        "color": style.color,
        "linewidth": 1.4,
        "linestyle": (0, style.line) if style.line else "-",
        "markersize": 4,
    }


def bar_look(style: Style) -> dict[str, Any]:
    """How a bar of a style is drawn, and its error bar."""
    return {
        "facecolor": style.color,
        "hatch": style.hatch,
        "edgecolor": "white",  # of the hatch too
        "linewidth": 0.6,
        "error_kw": {"elinewidth": 1, "capsize": 2.5, "capthick": 1, "path_effects": OUTLINE},
    }


def bar_handle(style: Style, label: str) -> Patch:
    """A bar for a legend."""
    return Patch(label=label, **{name: value for name, value in bar_look(style).items() if name != "error_kw"})


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own defaults with SETTINGS, whatever the user's are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def wrapped(text: str, width: float) -> str:
    """A text in lines that fit a width in inches."""
    return textwrap.fill(text, max(8, int(CHARACTERS * width)))


def set_heading(axes: Axes, texts: Iterable[str], num_columns: int) -> None:
    """The name of one of so many panels beside each other, and what else it must say, each on lines of its own."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    space = figure.get_figwidth() * PANEL / num_columns
    axes.set_title("\n".join(wrapped(text, space) for text in texts), loc="left")


def new_figure(*, width: float = WIDTH, height: float) -> Figure:
    """An empty figure; sizes in inches, the height that of the panels alone."""
    return Figure(figsize=(width, height), layout="constrained")


def add_heading(figure: Figure, title: str, handles: Iterable[Artist], *, handle_length: float = 2.0) -> None:
    """A title and under it a legend, where there are handles, with as many columns as fit, above the panels.

    Args:
        handle_length: of a line in the legend, in heights of its text.
    """
    shown = list(handles)
    longest = max((len(str(handle.get_label())) for handle in shown), default=0)
    fitting = int(figure.get_figwidth() / (longest / CHARACTERS + 0.28 + 0.11 * handle_length))
    num_columns = max(1, min(fitting, len(shown)))
    heading = wrapped(title, BOLD * figure.get_figwidth())
    figure.legend(
        handles=shown,
        loc="outside upper left",
        ncols=num_columns,
        columnspacing=1.2,
        handlelength=handle_length,
        title=heading,
        title_fontproperties={"weight": "bold", "size": 9},
        alignment="left",
    )
    _add_lines(figure, math.ceil(len(shown) / num_columns) + 1 + heading.count("\n"))


def add_footnotes(figure: Figure, sentences: Sequence[str], *, starred: bool = False) -> None:
    """Sentences under the panels: what the drawing does not say by itself.

    Args:
        starred: whether the legend has entries with a star.
    """
    all_of_them = [*sentences, *(["* Except where a panel says otherwise."] * starred)]
    text = "\n".join(wrapped(sentence, 0.96 * figure.get_figwidth()) for sentence in all_of_them)
    figure.supxlabel(text, x=0.01, ha="left", color="#333333", linespacing=1.3)
    _add_lines(figure, 1 + text.count("\n"))


def _add_lines(figure: Figure, num_lines: int) -> None:
    """Makes room for lines of text, so that the panels keep their size."""
    figure.set_figheight(figure.get_figheight() + LINE * num_lines)


def pages(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in portions that fit a figure."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def page_names(name: str, num_pages: int) -> list[str]:
    """``name``, or ``name-1``, ``name-2``, ... of several."""
    return [name] if num_pages == 1 else [f"{name}-{number}" for number in range(1, num_pages + 1)]
