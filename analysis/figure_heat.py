"""Heat maps of how alike the layers of two models are: PWCCA and linear CKA side by side, a row for each pair."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis import figure_style as style
from analysis.figure_grid import EMPTY, ink_on
from analysis.figure_panels import slug
from analysis.probe_results import Matrix, Similarity
from analysis.probe_style import short
from analysis.probes import Probe

COLORS = colormaps["cividis"].with_extremes(bad=EMPTY)
SCALE = Normalize(0, 1)
PAIRS = 3  # on a page
MAX_NUMBERED = 9  # layers, the embeddings' among them: of more, cells are too small for numbers
MAX_TICKS = 13


def draw_similarities(probes: Sequence[Probe]) -> dict[str, Figure]:
    """Pages for each probe, ``pwcca-TASK``."""
    figures: dict[str, Figure] = {}
    for probe in probes:
        pairs = [result for result in probe.content.results if isinstance(result, Similarity)]
        portions = style.pages(pairs, PAIRS)
        name = f"pwcca-{slug(probe.name)}"
        while figures.keys() & {*(names := style.page_names(name, len(portions)))}:
            name += "-another"
        figures |= {name: _page(probe, portion) for name, portion in zip(names, portions, strict=True)}
    return figures


def _page(probe: Probe, pairs: Sequence[Similarity]) -> Figure:
    figure = style.new_figure(height=2.7 * len(pairs))
    grid = figure.subplots(len(pairs), 2, squeeze=False)
    for (left, right), pair in zip(grid, pairs, strict=True):
        for axes, matrix_LM, name in ((left, pair.pwcca_LM, "PWCCA"), (right, pair.cka_LM, "linear CKA")):
            _draw(axes, matrix_LM)
            style.set_heading(axes, [name], 2)
            axes.set_xlabel(style.wrapped(f"layer of {short(pair.models[1])}", 2.4))
        left.set_ylabel(style.wrapped(f"layer of {short(pair.models[0])}", 1.9))
    figure.colorbar(ScalarMappable(SCALE, COLORS), ax=grid.ravel().tolist(), fraction=0.04, aspect=40)
    style.add_heading(figure, f"Similarity of hidden states by layer: {short(probe.name)}", [])
    meaning = "0: nothing in common; 1: the same. Layer 0 is the embeddings' output."
    style.add_footnotes(figure, [meaning, "PWCCA is weighted by the neurons of the model on the vertical axis."])
    return figure


def _draw(axes: Axes, matrix_LM: Matrix) -> None:
    """Layer 0 is at the lower left."""
    values_LM = np.array(matrix_LM, dtype=np.float64)
    num_rows, num_columns = values_LM.shape
    edges = np.arange(num_columns + 1) - 0.5, np.arange(num_rows + 1) - 0.5
    axes.pcolormesh(*edges, np.ma.masked_invalid(values_LM), norm=SCALE, cmap=COLORS, edgecolors="white", linewidth=0.6)
    if max(values_LM.shape) <= MAX_NUMBERED:
        for (row, column), value in np.ndenumerate(values_LM):
            if np.isfinite(value):
                ink = ink_on(COLORS(float(SCALE(value))))
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(0, num_columns, math.ceil(num_columns / MAX_TICKS)))
    axes.set_yticks(range(0, num_rows, math.ceil(num_rows / MAX_TICKS)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
