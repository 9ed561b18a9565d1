"""The figures of probes: a panel for each task, and in it a line or a box for each model or pair of models."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis import figure_style as style
from analysis.figure_curves import COLUMNS
from analysis.figure_heat import draw_similarities
from analysis.probe_results import Changes, Cosines, Distance, Numbers, Spectrum
from analysis.probe_style import Looks, looks_of, pair_handle, pair_look, short
from analysis.probes import Probe

FEW_PAIRS = 6  # of more, bands would hide each other
HANDLE = 3.6  # heights of text: as long as it takes to see the dashes of a line
BOX = {"0.05": "whislo", "0.25": "q1", "0.5": "med", "0.75": "q3", "0.95": "whishi"}  # quantile -> Matplotlib's name


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the figure of a kind is drawn.

    Attributes:
        panel: draws a probe's results into its axes.
        handle: what stands in the legend for a result's models.
        notes: what the drawing does not say by itself.
    """

    title: str
    xlabel: str
    ylabel: str
    panel: Callable[[Axes, Sequence[Any], Looks], None]
    handle: Callable[[tuple[str, ...], Looks], Artist]
    notes: Callable[[Sequence[Probe]], list[str]]


def draw_probes(probes: Sequence[Probe]) -> dict[str, Figure]:
    """The figures of probes of one kind: ``pwcca-TASK`` for each, or one named after the kind for all.

    Where there is more than a page takes, names end in ``-1``, ``-2``, ...
    """
    if not probes:
        return {}
    kind = probes[0].content.kind
    with style.house_style():
        if kind == "pwcca":
            return draw_similarities(probes)
        portions = style.pages(probes, max(COLUMNS))
        names = style.page_names(kind, len(portions))
        looks = looks_of(probes)
        return {name: _page(DRAWINGS[kind], portion, looks) for name, portion in zip(names, portions, strict=True)}


def _page(drawing: Drawing, probes: Sequence[Probe], looks: Looks) -> Figure:
    num_columns = COLUMNS[len(probes)]
    num_rows = math.ceil(len(probes) / num_columns)
    width = style.NARROW if len(probes) == 1 else style.WIDTH
    figure = style.new_figure(width=width, height=(2.6 if num_columns < 3 else 2.2) * num_rows)
    places = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, probe in zip(places, probes, strict=False):
        style.set_heading(axes, [short(probe.name)], num_columns)
        axes.set(xlabel=drawing.xlabel, ylabel=drawing.ylabel)
        drawing.panel(axes, probe.content.results, looks)
    for axes in places[len(probes) :]:
        axes.remove()
    shown = dict.fromkeys(result.models for probe in probes for result in probe.content.results)
    in_order = sorted(shown, key=lambda models: [list(looks).index(label) for label in models])
    handles = [drawing.handle(models, looks) for models in in_order]
    style.add_heading(figure, drawing.title, handles, handle_length=HANDLE)
    style.add_footnotes(figure, drawing.notes(probes))
    return figure


def _line_handle(models: tuple[str, ...], looks: Looks) -> Artist:
    return style.line_handle(looks[models[0]], short(models[0]))


def _marked_handle(models: tuple[str, ...], looks: Looks) -> Artist:
    return style.line_handle(looks[models[0]], short(models[0]), marker=True)


def _box_handle(models: tuple[str, ...], looks: Looks) -> Artist:
    return style.bar_handle(looks[models[0]], short(models[0]))


def _pair_handle(models: tuple[str, ...], looks: Looks) -> Artist:
    first, second = models
    return pair_handle(looks[first], looks[second], models)


def _floats(values: Numbers) -> np.ndarray:
    """nan stands for what there is not."""
    return np.array(values, dtype=np.float64)


def _draw_distances(axes: Axes, pairs: Sequence[Distance], looks: Looks) -> None:
    for pair in pairs:
        first, second = (looks[label] for label in pair.models)
        mean_L, std_L = _floats(pair.mean_L), _floats(pair.std_L)
        layers_L = np.arange(1, len(mean_L) + 1)
        axes.plot(layers_L, mean_L, **pair_look(first, second))
        if len(pairs) <= FEW_PAIRS and np.isfinite(std_L).any():
            axes.fill_between(layers_L, mean_L - std_L, mean_L + std_L, color=first.color, alpha=0.15, linewidth=0)
    axes.xaxis.set(major_locator=MaxNLocator(12, integer=True))
    axes.set_ylim(bottom=0)


def _distance_notes(probes: Sequence[Probe]) -> list[str]:
    few = all(len(probe.content.results) <= FEW_PAIRS for probe in probes)
    return [
        f"L1 distance per query token of matched heads; mean{' ± sample standard deviation' * few} over examples. "
        "0: the same maps; 2: no token attended to by both.",
        "A line has the colour of its first model, and the dashes and markers of its second.",
    ]


def _draw_spectra(axes: Axes, spectra: Sequence[Spectrum], looks: Looks) -> None:
    for one in spectra:
        counts_K, edges = np.array(one.counts_K), np.array(one.edges_log10)
        if counts_K.sum() > 0:
            look = style.line_look(looks[one.models[0]])
            look.pop("markersize")
            axes.stairs(counts_K / counts_K.sum() / np.diff(edges), edges, **look)
    axes.xaxis.set(
        major_locator=MaxNLocator(6, integer=True), major_formatter=FuncFormatter(lambda power, _: f"{10.0**power:g}")
    )
    axes.set_ylim(bottom=0)


def _draw_cosines(axes: Axes, found: Sequence[Cosines], looks: Looks) -> None:
    """A box for each model, in the order of the legend."""
    models = {one.models[0]: one.quantiles for one in found}
    in_order = [label for label in looks if label in models]
    axes.axhline(0, color="#999999", linewidth=0.6)
    for place, label in enumerate(in_order):
        stats = {name: models[label][share] for share, name in BOX.items()}
        if None in stats.values():
            continue
        look = style.bar_look(looks[label])
        look.pop("error_kw")
        axes.bxp(
            [stats],
            positions=[place],
            widths=0.6,
            showfliers=False,
            patch_artist=True,
            boxprops=look,
            medianprops={"color": "black", "linewidth": 1.6, "path_effects": style.OUTLINE},
        )
    axes.set(xlim=(-0.6, len(in_order) - 0.4))
    axes.set_xticks([])


def _draw_changes(axes: Axes, found: Sequence[Changes], looks: Looks) -> None:
    """On logarithmic axes: what is 0 has no place there, and an error bar that reaches 0 goes down to the edge."""
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    ends = []
    for one in found:
        stds_Q, mean_Q, error_Q = _floats(one.noise_stds_Q), _floats(one.mean_Q), np.nan_to_num(_floats(one.std_Q))
        drawn = (stds_Q > 0) & (mean_Q > 0)
        order = np.argsort(stds_Q[drawn])
        x, y, error = (values[drawn][order] for values in (stds_Q, mean_Q, error_Q))
        look = looks[one.models[0]]
        axes.errorbar(x, y, yerr=error, capsize=2.5, marker=look.marker, **style.line_look(look))
        ends += [*y, *(y - error)[y > error], *(y + error)]
    if ends:
        axes.set_ylim(min(ends) / 2, max(ends) * 2)
    ticks = sorted({std for one in found for std in one.noise_stds_Q if std > 0})
    axes.xaxis.set(major_locator=FixedLocator(ticks[:: math.ceil(len(ticks) / 5)]), minor_locator=NullLocator())
    axes.yaxis.set(major_locator=LogLocator(numticks=7), minor_locator=NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))


def _change_notes(probes: Sequence[Probe]) -> list[str]:
    """Names the points that have no place on logarithmic axes."""
    lacking = [
        f"{short(one.models[0])} at {std:g} ({short(probe.name)})"
        for probe in probes
        for one in probe.content.results
        if isinstance(one, Changes)
        for std, mean in zip(one.noise_stds_Q, one.mean_Q, strict=True)
        if not (std > 0 and mean and mean > 0)
    ]
    return [
        "L2 norm of the change of the last layer's first token; mean ± sample standard deviation over batches and "
        "draws.",
        *([f"Not drawn, since there is no change or no number: {', '.join(lacking)}."] if lacking else []),
    ]


DRAWINGS: Mapping[str, Drawing] = {
    "attention": Drawing(
        title="Distance of attention maps by layer",
        xlabel="layer",
        ylabel="L1 distance",
        panel=_draw_distances,
        handle=_pair_handle,
        notes=_distance_notes,
    ),
    "isometry": Drawing(
        title="Singular values of the Jacobian",
        xlabel="singular value",
        ylabel="share of values per decade",
        panel=_draw_spectra,
        handle=_line_handle,
        notes=lambda _: [
            "The last layer's first token by the input word embeddings, all examples together; zeros left out."
        ],
    ),
    "gradients": Drawing(
        title="Cosine of the gradients of different minibatches",
        xlabel="",
        ylabel="cosine",
        panel=_draw_cosines,
        handle=_box_handle,
        notes=lambda _: [
            "All pairs of minibatches, models in the order of the legend. Line: median; box: 25 to 75 %; whiskers: "
            "5 to 95 %."
        ],
    ),
    "perturbation": Drawing(
        title="Change of the output under noise on the parameters",
        xlabel="standard deviation of the noise",
        ylabel="L2 norm of the change",
        panel=_draw_changes,
        handle=_marked_handle,
        notes=_change_notes,
    ),
}
