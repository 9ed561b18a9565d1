"""Figures: everyone can read them, in print too, and the same data makes the same files."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from mlflow import MlflowClient

from analysis.figure_grid import COLORS, EMPTY, ink_on
from analysis.figure_style import CORPORA, OTHERS, STYLES, styles
from analysis.figures import draw, save
from tests.drawings import BERT, SEARCH, bars, drawn, log, losses, train
from tests.recorder import Recorder, selections


def luminance(color: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour, from 0 to 1."""
    return float(np.dot([0.2126, 0.7152, 0.0722], linear(color)))


def linear(color: Sequence[float]) -> np.ndarray:
    parts = np.asarray(color)
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(color_linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a linear RGB colour, under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    parts = to_xyz @ color_linear / np.array([0.9505, 1.0, 1.089])
    roots = np.where(parts > 0.008856, np.cbrt(parts), 7.787 * parts + 16 / 116)
    return np.array([116 * roots[1] - 16, 500 * (roots[0] - roots[1]), 200 * (roots[1] - roots[2])])


def test_inits_differ_for_the_colour_blind_in_grey_and_without_any_colour() -> None:
    """Deuteranopia by Machado, Oliveira and Fernandes 2009; a difference of 10 in lightness is seen at a glance."""
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    for one, other in combinations(STYLES.values(), 2):
        first, second = (linear(to_rgb(style.color)) for style in (one, other))
        seen = [lab(np.clip(deuteranopia @ color, 0, 1)) for color in (first, second)]
        assert np.linalg.norm(seen[0] - seen[1]) > 30
        assert abs(lab(first)[0] - lab(second)[0]) > 10
        assert one.line != other.line
        assert one.marker != other.marker
        assert one.hatch != other.hatch


def test_corpora_differ_in_colour_and_without_it_from_each_other_and_from_inits() -> None:
    inits = [STYLES[init] for init in ("pretrained", "reinit-embeddings", "scratch")]
    for one, other in combinations([*inits, *CORPORA.values(), *OTHERS], 2):
        assert one.color != other.color
        assert one.line != other.line
        assert one.marker != other.marker
        assert one.hatch != other.hatch


def test_a_generated_corpus_looks_the_same_whichever_others_there_are() -> None:
    alone = styles(["nested"])["nested"]
    assert styles(["english", "flat", "nested", "scratch", "uniform"])["nested"] == alone


def test_numbers_on_any_colour_of_a_cell_have_the_contrast_that_small_text_needs() -> None:
    """4.5 to 1, as the Web Content Accessibility Guidelines ask."""
    for face in [*COLORS(np.linspace(0, 1, 256)), EMPTY]:
        light, dark = sorted((luminance(to_rgb(ink_on(face))), luminance(face[:3])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.fixture(scope="module")
def drawings(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Figure]]]:
    """Two drawings of all kinds of figures: a search, a part of the data, checkpoints, on a task with a wild name."""
    own = {**BERT, "task": "/data/<script>alert(1)<b> & $x$_{y}.csv"}
    inits = ("pretrained", "reinit-embeddings", "scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        store = tmp_path_factory.mktemp("figures")
        experiment = MlflowClient().create_experiment(str(store), artifact_location=store.as_uri())
        for base in (own, {**own, "train_fraction": 0.01}):
            recorder = Recorder(experiment, base=base, inits=inits, learning_rates=(1e-6, 1e-5))
            for init in inits:
                recorder.trial("finished", (0.6, 0.6), init=init, learning_rate=1e-5)
                run_id = recorder.trial("finished", (0.9, 0.8), init=init)
                log(run_id, "train/loss", losses(60, 0), range(1, 61))
                log(run_id, "valid/score", (0.5, 0.6, 0.9), (30, 60, 100))
        for step in (0, 10):
            base = {**own, "checkpoint": "a", "checkpoint_step": step}
            train(Recorder(experiment, base=base, inits=("checkpoint",)), "checkpoint", 0, 60)
        yield [drawn(experiment), drawn(experiment)]


@pytest.fixture
def everything(drawings: list[dict[str, Figure]]) -> dict[str, Figure]:
    return drawings[0]


KINDS = {"test-scores", "training-loss", "valid-score-on-part", "pretraining-steps"}


def test_every_kind_of_figure_is_drawn_where_there_is_data_for_it(everything: dict[str, Figure]) -> None:
    assert everything.keys() > KINDS
    assert sum(name.startswith("search-") for name in everything) == 2


def test_an_init_has_the_same_colour_in_every_figure(everything: dict[str, Figure]) -> None:
    for name in KINDS:
        legend = everything[name].legends[0]
        shown = {str(patch.get_label()).split(",")[0]: patch.get_facecolor() for patch in legend.get_patches()}
        shown |= {str(line.get_label()).split(",")[0]: to_rgba(line.get_color()) for line in legend.get_lines()}
        assert shown
        assert all(color == to_rgba(STYLES[init].color) for init, color in shown.items() if init in STYLES)
        assert {"pretrained", "scratch"} <= shown.keys()


def test_png_and_svg_are_written_and_two_drawings_are_the_same_bytes(
    drawings: list[dict[str, Figure]], tmp_path: Path
) -> None:
    everything, again = drawings
    first = save(everything, tmp_path / "first/figures")
    second = save(again, tmp_path / "second/figures")
    assert {path.name for path in first} == {f"{name}.{kind}" for name in everything for kind in ("png", "svg")}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    height, width, _ = imread(tmp_path / "first/figures/test-scores.png").shape
    size = everything["test-scores"].get_size_inches()
    assert (width, height) == pytest.approx(tuple(200 * size), abs=1)


def test_svgs_are_sound_keep_their_text_and_run_nothing(everything: dict[str, Figure], tmp_path: Path) -> None:
    for path in save(everything, tmp_path):
        if path.suffix == ".svg":
            elements = list(ElementTree.fromstring(path.read_bytes()).iter())
            assert not [element for element in elements if str(element.tag).endswith("script")]
            texts = " ".join("".join(element.itertext()) for element in elements if str(element.tag).endswith("text"))
            assert "alert(1)" in texts
            assert "$x$" in texts


def test_no_text_is_smaller_than_8_points(everything: dict[str, Figure]) -> None:
    for figure in everything.values():
        assert figure.get_figwidth() <= 7
        assert all(float(text.get_fontsize()) >= 8 for text in texts_of(figure))


def texts_of(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text)]


def boxes(texts: Iterable[Text]) -> list[tuple[float, float, float, float]]:
    return [text.get_window_extent().extents for text in texts if text.get_text()]


def overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_sixteen_tasks_with_long_names_are_spread_over_pages_and_do_not_overlap(experiment: str) -> None:
    for number in range(16):
        base = {**BERT, "task": f"/data/a-rather-long-name-of-a-folder-with-sequences-{number}"}
        train(Recorder(experiment, base=base, inits=("pretrained",)), "pretrained", 0, 60)
    figures = drawn(experiment)
    assert sorted(figures) == ["test-scores", "training-loss-1", "training-loss-2", "training-loss-3"]
    assert len(figures["test-scores"].axes) == 3
    assert [len(figures[f"training-loss-{page}"].axes) for page in (1, 2, 3)] == [6, 6, 4]
    for name, figure in figures.items():
        FigureCanvasAgg(figure).draw()
        labels = [label for axes in figure.axes for label in axes.get_xticklabels()] if name == "test-scores" else []
        headings = {axes.get_title(loc="left") for axes in figure.axes}
        titles = [text for text in texts_of(figure) if text.get_text() in headings]
        found = boxes([*labels, *titles, *figure.legends[0].get_texts()])
        assert not [pair for pair in combinations(found, 2) if overlap(*pair)]
        assert all(left >= 0 and right <= figure.bbox.width for left, _, right, _ in found)


def test_nothing_is_drawn_for_what_has_no_data(experiment: str, tmp_path: Path) -> None:
    assert draw(MlflowClient(), []) == {}
    recorder = Recorder(experiment, inits=("pretrained", "scratch"), **SEARCH)
    recorder.trial("running")
    recorder.trial("diverged", init="scratch")
    assert drawn(experiment) == {}
    assert save({}, tmp_path) == []


def test_selections_that_only_their_seeds_tell_apart_are_never_one_panel(experiment: str) -> None:
    """As where rows or columns of a table are learning rates."""
    train(Recorder(experiment), "pretrained", 0)
    (one,) = selections(experiment)
    figures = draw(MlflowClient(), [one, one])
    assert [axes.get_title(loc="left") for axes in figures["training-loss"].axes] == ["h4", "h4 (2)"]
    assert len(bars(figures["test-scores"].axes[0])) == 2
