"""Figures of probes: they show the recorded numbers, and a model looks the same in all of them."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, StepPatch
from matplotlib.text import Text
from mlflow import MlflowClient

from analysis.figure_grid import ink_on
from analysis.figure_heat import COLORS
from analysis.figure_probes import draw_probes
from analysis.figure_style import STYLES
from analysis.layouts import PROBES
from analysis.probe_style import FAMILIES, looks_of
from analysis.probes import read_probes
from tests.drawings import footnotes, legend, words, xs, ys
from tests.probe_runs import MODELS, content, record_probe

SIX = (*MODELS, "scratch seed 1", "bert-base-uncased", "fine-tuned all-MiniLM-L6-v2", "fine-tuned scratch seed 0")


def drawn(experiment: str, kind: str) -> dict[str, Figure]:
    return draw_probes(read_probes(MlflowClient(), [experiment], kind, where="here"))


def figure_of(experiment: str, kind: str) -> Figure:
    (figure,) = drawn(experiment, kind).values()
    return figure


def recorded_result(experiment: str, kind: str, **changes: Any) -> dict[str, Any]:
    """Records a probe of two models and returns what it found of the first one, or of both."""
    found = content(kind)
    found["results"][0] |= changes
    record_probe(experiment, found)
    return dict(found["results"][0])


def heading(axes: Axes) -> str:
    return axes.get_title(loc="left")


def test_heat_maps_have_the_recorded_similarity_of_every_two_layers(experiment: str) -> None:
    """Rows, from below, are layers of the first model; 0 to 1 is one scale for all of them."""
    found = recorded_result(experiment, "pwcca")
    figures = drawn(experiment, "pwcca")
    assert list(figures) == ["pwcca-splice"]
    left, right, _ = figures["pwcca-splice"].axes
    for axes, name, title in ((left, "pwcca", "PWCCA"), (right, "cka", "linear CKA")):
        assert heading(axes) == title
        (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
        np.testing.assert_array_equal(mesh.get_array(), found[name])
        assert mesh.get_clim() == (0, 1)
        shown = {text.get_position(): text.get_text() for text in axes.texts}
        assert shown == {(column, row): f"{found[name][row][column]:.2f}" for row in range(3) for column in range(3)}
        assert axes.get_ylim()[0] < axes.get_ylim()[1]
        assert axes.get_xlabel() == "layer of scratch seed 0"
    assert left.get_ylabel() == "layer of all-MiniLM-L6-v2"


def test_numbers_in_heat_maps_can_be_read_and_lacking_ones_are_grey(experiment: str) -> None:
    found = content("pwcca")
    found["results"][0]["pwcca"] = [[0.0, 0.5, 1.0], [0.3, None, 0.7], [0.4, 0.6, 0.8]]
    record_probe(experiment, found)
    axes = figure_of(experiment, "pwcca").axes[0]
    assert len(axes.texts) == 8
    for text in axes.texts:
        assert text.get_color() == ink_on(COLORS(float(text.get_text())))
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    assert np.ma.getmaskarray(np.ma.asarray(mesh.get_array()))[1, 1]


def test_many_layers_are_colours_without_numbers_and_many_pairs_are_several_pages(experiment: str) -> None:
    record_probe(experiment, content("pwcca", "h4", SIX[:4], num_layers=12))
    figures = drawn(experiment, "pwcca")
    assert list(figures) == ["pwcca-h4-1", "pwcca-h4-2"]
    assert not [text for figure in figures.values() for axes in figure.axes for text in words(axes)]
    assert len(figures["pwcca-h4-1"].axes) == 2 * 3 + 1


def test_tasks_whose_names_make_one_file_name_have_a_figure_each(experiment: str) -> None:
    for task in ("own/a", "own a", "own"):
        record_probe(experiment, content("pwcca", task))
    assert sorted(drawn(experiment, "pwcca")) == ["pwcca-own", "pwcca-own-a", "pwcca-own-a-another"]


def test_attention_is_a_line_over_layers_with_a_band_of_the_spread(experiment: str) -> None:
    found = recorded_result(experiment, "attention")
    figure = figure_of(experiment, "attention")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(xs(line), [1, 2])
    np.testing.assert_array_equal(ys(line), found["mean"])
    (band,) = [one for one in axes.collections if isinstance(one, PolyCollection)]
    points = {(x, round(y, 9)) for x, y in np.asarray(band.get_paths()[0].vertices)}
    for layer, mean, std in zip((1, 2), found["mean"], found["std"], strict=True):
        assert {(layer, round(mean - std, 9)), (layer, round(mean + std, 9))} <= points
    assert legend(figure) == ["all-MiniLM-L6-v2 and scratch seed 0"]
    assert heading(axes) == "splice"


def test_many_pairs_have_no_bands_and_no_two_lines_look_alike(experiment: str) -> None:
    record_probe(experiment, content("attention", models=SIX))
    figure = figure_of(experiment, "attention")
    (axes,) = figure.axes
    assert len(axes.lines) == len(legend(figure)) == 15
    assert not axes.collections
    assert "standard deviation" not in footnotes(figure)
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in axes.lines}
    assert len(looks) == 15


def test_histograms_are_shares_of_the_values_per_decade(experiment: str) -> None:
    found = recorded_result(experiment, "isometry", edges_log10=[-2.0, -1.5, 0.0], counts=[30, 10])
    (axes,) = figure_of(experiment, "isometry").axes
    first, _ = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    values, edges, _ = first.get_data()
    np.testing.assert_array_equal(edges, found["edges_log10"])
    np.testing.assert_allclose(values, [0.75 / 0.5, 0.25 / 1.5])
    assert axes.xaxis.get_major_formatter()(-2, 0) == "0.01"


def test_boxes_are_the_recorded_quantiles_in_the_order_of_the_legend(experiment: str) -> None:
    shares = {"0": -1.0, "0.05": -0.2, "0.25": 0.1, "0.5": 0.3, "0.75": 0.5, "0.95": 0.9, "1": 1.0}
    recorded_result(experiment, "gradients", quantiles=shares)
    figure = figure_of(experiment, "gradients")
    (axes,) = figure.axes
    boxes = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    heights = {round(y, 9) for _, y in np.asarray(boxes[0].get_path().vertices)}
    assert heights == {0.1, 0.5}
    levels = {tuple(ys(line)) for line in axes.lines if xs(line).mean() == 0}
    assert {(0.3, 0.3), (-0.2, -0.2), (0.9, 0.9), (0.1, -0.2), (0.5, 0.9)} <= levels
    assert legend(figure) == [*MODELS]
    assert [to_hex(box.get_facecolor()).upper() for box in boxes] == ["#0072B2", "#E69F00"]


def test_changes_are_points_with_error_bars_on_logarithmic_axes(experiment: str) -> None:
    recorded_result(experiment, "perturbation", mean=[2.0, 1e-2, 3e-4, 1e-6], std=[0.5, 2e-2, None, 1e-7])
    (axes,) = figure_of(experiment, "perturbation").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    line = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(xs(line), [1e-8, 1e-6, 1e-4, 1e-2])
    np.testing.assert_array_equal(ys(line), [1e-6, 3e-4, 1e-2, 2.0])
    errors = next(one for one in axes.collections if isinstance(one, LineCollection))
    ends = {round(float(x), 9): tuple(segment[:, 1]) for segment in errors.get_segments() for x in segment[:1, 0]}
    assert ends[0.01] == pytest.approx((1.5, 2.5))
    assert axes.get_ylim()[0] > 0
    assert [axes.xaxis.get_major_formatter()(tick, 0) for tick in (1e-8, 1e-2)] == ["1e-08", "0.01"]


def test_no_change_has_no_place_on_a_logarithmic_axis_and_the_figure_says_so(experiment: str) -> None:
    recorded_result(experiment, "perturbation", mean=[2.0, None, 1e-4, 0.0])
    figure = figure_of(experiment, "perturbation")
    line = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_array_equal(xs(line), [1e-6, 1e-2])
    said = "all-MiniLM-L6-v2 at 0.0001 (splice), all-MiniLM-L6-v2 at 1e-08 (splice)."
    assert f"Not drawn, since there is no change or no number: {said}" in footnotes(figure)


@pytest.mark.parametrize("kind", PROBES)
def test_what_there_is_no_number_for_is_drawn_as_nothing(kind: str, experiment: str) -> None:
    found = content(kind)
    for result in found["results"]:
        for name, value in result.items():
            if name in ("mean", "std") and isinstance(value, list):
                result[name] = [None] * len(value)
            elif name == "quantiles":
                result[name] = dict.fromkeys(value)
            elif name == "counts":
                result[name] = [0] * len(value)
            elif name in ("pwcca", "cka"):
                result[name] = [[None] * len(row) for row in value]
    record_probe(experiment, found)
    figure = figure_of(experiment, kind)
    FigureCanvasAgg(figure).draw()
    assert not [text for axes in figure.axes for text in words(axes)]


@pytest.mark.parametrize("kind", PROBES[1:])
def test_each_task_has_a_panel_and_seven_have_two_pages(kind: str, experiment: str) -> None:
    for number in range(7):
        record_probe(experiment, content(kind, f"task{number}"))
    figures = drawn(experiment, kind)
    assert list(figures) == [f"{kind}-1", f"{kind}-2"]
    assert [heading(axes) for axes in figures[f"{kind}-1"].axes] == [f"task{number}" for number in range(6)]
    assert [heading(axes) for axes in figures[f"{kind}-2"].axes] == ["task6"]


def test_a_model_looks_the_same_in_every_figure_and_families_have_their_own_looks(experiment: str) -> None:
    """As the inits do in the figures of trials."""
    seen: dict[str, set[str]] = {model: set() for model in SIX}
    for kind in ("isometry", "gradients", "perturbation"):
        record_probe(experiment, content(kind, models=SIX))
        legend = figure_of(experiment, kind).legends[0]
        colors = {str(patch.get_label()): patch.get_facecolor() for patch in legend.get_patches()}
        colors |= {str(line.get_label()): to_rgba(line.get_color()) for line in legend.get_lines()}
        assert colors.keys() == seen.keys()
        for model, color in colors.items():
            seen[model].add(to_hex(color).upper())
    assert all(len(colors) == 1 for colors in seen.values())
    assert (seen["all-MiniLM-L6-v2"], seen["scratch seed 0"]) == ({"#0072B2"}, {"#E69F00"})
    assert looks_of(read_probes(MlflowClient(), [experiment], "isometry", where="here"))[SIX[4]] == STYLES["checkpoint"]


def test_models_differ_in_colour_line_marker_and_hatch_and_families_in_grey() -> None:
    looks = [look for family in FAMILIES.values() for look in family]
    for one, other in combinations(looks, 2):
        assert len({one.color, other.color}) == len({one.line, other.line}) == 2
        assert len({one.marker, other.marker}) == len({one.hatch, other.hatch}) == 2
    first = [np.dot([0.2126, 0.7152, 0.0722], to_rgb(family[0].color)) for family in FAMILIES.values()]
    assert all(abs(one - other) > 0.15 for one, other in combinations(first, 2))


@pytest.mark.parametrize("kind", PROBES)
def test_long_names_stay_inside_the_figure(kind: str, experiment: str) -> None:
    models = ("all-MiniLM-L6-v2 " * 5 + "end", "scratch " + "one-more-name-" * 20, "_" + "hidden" * 9)
    record_probe(experiment, content(kind, "a-rather-long-name-of-a-task-" * 5, models))
    for figure in drawn(experiment, kind).values():
        FigureCanvasAgg(figure).draw()
        ticks = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            if text.get_text() and text not in ticks:
                left, bottom, right, top = text.get_window_extent().extents
                assert left >= 0 and right <= figure.bbox.width, text.get_text()
                assert bottom >= 0 and top <= figure.bbox.height, text.get_text()
        assert all(float(text.get_fontsize()) >= 8 for text in figure.findobj(Text) if isinstance(text, Text))
