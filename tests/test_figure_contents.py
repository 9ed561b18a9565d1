"""Figures: what they show is what was recorded, with what is missing said."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figure_curves import MAX_POINTS
from analysis.figure_grid import CHOSEN
from analysis.figure_style import STYLES
from tests.drawings import BERT, SEARCH, bars, cells, drawn, footnotes, legend, log, train, words, xs, ys
from tests.recorder import BASE, Recorder


def test_line_and_band_are_mean_and_sample_deviation_of_the_recorded_losses(experiment: str) -> None:
    """Of running means over a fiftieth of the steps: 4 of 200."""
    recorder = Recorder(experiment, seeds=3)
    histories_RT = np.stack([train(recorder, "pretrained", seed) for seed in range(3)])
    figure = drawn(experiment)["training-loss"]
    smooth_RS = np.stack([np.convolve(history, np.ones(4) / 4, "valid") for history in histories_RT])
    mean_S, std_S = smooth_RS.mean(axis=0), smooth_RS.std(axis=0, ddof=1)
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(xs(line), np.arange(4, 201))
    np.testing.assert_allclose(ys(line), mean_S)
    (band,) = (one for one in figure.axes[0].collections if isinstance(one, PolyCollection))
    points = {(round(x), round(y, 9)) for x, y in np.asarray(band.get_paths()[0].vertices)}
    expected = {
        (step, round(edge, 9)) for edges in (mean_S - std_S, mean_S + std_S) for step, edge in enumerate(edges, 4)
    }
    assert expected <= points
    assert "Running mean over 4 steps." in footnotes(figure)
    assert legend(figure) == ["pretrained, 3 of 3 seeds"]


def test_a_single_seed_has_a_line_and_no_band(experiment: str) -> None:
    train(Recorder(experiment), "pretrained", 0)
    figure = drawn(experiment)["training-loss"]
    assert len(figure.axes[0].lines) == 1
    assert not figure.axes[0].collections
    assert "standard deviation" not in footnotes(figure)


def test_long_histories_are_thinned_by_averaging_and_not_by_dropping(experiment: str) -> None:
    """A single high loss among 6,000, wherever it is, lifts what is drawn."""
    num_steps = 3 * MAX_POINTS
    run_id = Recorder(experiment).trial("finished", (0.9, 0.9))
    values = np.ones(num_steps)
    values[3333] = 1000
    log(run_id, "train/loss", values, range(1, num_steps + 1))
    (line,) = drawn(experiment)["training-loss"].axes[0].lines
    assert len(ys(line)) <= MAX_POINTS + 1
    assert xs(line)[-1] == num_steps
    assert ys(line).max() == pytest.approx(1 + 999 / 120)


def test_where_a_seed_stops_early_the_others_go_on_by_themselves(experiment: str) -> None:
    """A mean over the survivors alone would jump."""
    recorder = Recorder(experiment, seeds=3)
    for seed, num_steps in enumerate((100, 150, 200)):
        train(recorder, "pretrained", seed, num_steps)
    figure = drawn(experiment)["training-loss"]
    mean, *alone = figure.axes[0].lines
    assert xs(mean)[-1] == 100
    assert [(xs(line)[0], xs(line)[-1]) for line in alone] == [(100, 150), (100, 200)]
    assert all(line.get_linewidth() < mean.get_linewidth() for line in alone)
    assert "Thin lines: single seeds" in footnotes(figure)


def test_a_group_that_lacks_seeds_says_so_in_every_figure(experiment: str) -> None:
    for task, lacking in (("h3", False), ("h4", True), ("splice", False)):
        recorder = Recorder(experiment, base={**BERT, "task": task}, inits=("pretrained", "scratch"), seeds=2)
        train(recorder, "pretrained", 0)
        train(recorder, "pretrained", 1)
        train(recorder, "scratch", 0)
        if lacking:
            recorder.trial("diverged", init="scratch", seed=1)
        else:
            train(recorder, "scratch", 1)
    figures = drawn(experiment)
    for name in ("training-loss", "test-scores"):
        assert legend(figures[name])[:2] == ["pretrained, 2 of 2 seeds", "scratch, 2 of 2 seeds*"]
        assert "* Except where a panel says otherwise." in footnotes(figures[name])
    titles = [axes.get_title(loc="left") for axes in figures["training-loss"].axes]
    assert titles == ["h3", "h4\nscratch 1 of 2 seeds", "splice"]
    assert words(figures["test-scores"].axes[0]) == ["1/2"]


def test_an_init_of_which_nothing_finished_has_no_bar_but_a_remark(experiment: str) -> None:
    recorder = Recorder(experiment, inits=("pretrained", "scratch"), seeds=2)
    recorder.scored({"pretrained": (0.9, 0.92)})
    recorder.trial("diverged", init="scratch")
    (axes,) = drawn(experiment)["test-scores"].axes
    assert bars(axes) == [91]
    assert legend(drawn(experiment)["test-scores"])[1] == "scratch, 0 of 2 seeds"


def test_bars_are_mean_test_scores_with_error_bars_of_the_sample_deviation(experiment: str) -> None:
    recorder = Recorder(experiment, inits=("pretrained", "scratch"), seeds=3)
    recorder.scored({"pretrained": (0.90, 0.92, 0.97), "scratch": (0.7, 0.7, 0.73)})
    (axes,) = drawn(experiment)["test-scores"].axes
    assert bars(axes) == pytest.approx([93, 71])
    spans = [one.get_segments()[0] for one in axes.collections if isinstance(one, LineCollection)]
    halves = [(span[1][1] - span[0][1]) / 2 for span in spans]
    assert halves == pytest.approx([np.std([90, 92, 97], ddof=1), np.std([70, 70, 73], ddof=1)])


def test_the_red_line_is_our_rival_and_the_papers_where_we_have_none(experiment: str) -> None:
    """The paper's Hilbert-CNN has 94.1 on splice."""
    for task in ("h4", "splice"):
        Recorder(experiment, base={**BERT, "task": task}, seeds=2).all_trials((0.9, 0.86))
    rival = {**BASE, "model": "hilbert-cnn"}
    Recorder(experiment, base=rival, inits=("scratch",), seeds=2).scored({"scratch": (0.80, 0.84)})
    figure = drawn(experiment)["test-scores"]
    red = [line for line in figure.axes[0].lines if line.get_color() == "#D55E00" and len(xs(line)) == 2]
    assert [ys(line)[0] for line in red] == pytest.approx([82, 94.1])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["h4", "splice"]
    assert legend(figure) == [
        "pretrained, 2 of 2 seeds",
        "rival hilbert-cnn, 2 of 2 seeds",
        "the paper's rival hilbert-cnn, v1 table 2",
        "the paper's bert-base-uncased",
    ]


def test_a_rival_is_held_against_models_that_had_the_same_data_only(experiment: str) -> None:
    Recorder(experiment, base=BERT).all_trials((0.9, 0.86))
    Recorder(experiment, base={**BASE, "model": "kmer"}, inits=("scratch",), digest="other").all_trials((0.8, 0.8))
    labels = [label.get_text() for label in drawn(experiment)["test-scores"].axes[0].get_xticklabels()]
    assert [label.split(",")[0] for label in labels] == ["h4", "h4"]
    assert "kmer" in " ".join(labels[0].split() + labels[1].split())


def test_a_rival_that_lacks_seeds_says_so_at_its_line(experiment: str) -> None:
    for task, scores in (("h3", (0.8, 0.82)), ("h4", (0.8,)), ("splice", (0.9, 0.94))):
        Recorder(experiment, base={**BERT, "task": task}).all_trials((0.9, 0.86))
        rival = {**BASE, "task": task, "model": "hilbert-cnn"}
        Recorder(experiment, base=rival, inits=("scratch",), seeds=2).scored({"scratch": scores})
    figure = drawn(experiment)["test-scores"]
    assert "rival hilbert-cnn, 2 of 2 seeds*" in legend(figure)
    assert words(figure.axes[0]) == ["1 of 2 seeds"]


def test_the_papers_figures_stand_beside_the_bars(experiment: str) -> None:
    """BERT-base on h4 under a random mapping: 85.9 pretrained and 66.6 scratch, in version 2."""
    Recorder(experiment, base=BERT, inits=("pretrained", "scratch")).all_trials((0.9, 0.86))
    (axes,) = drawn(experiment)["test-scores"].axes
    diamonds = [ys(line)[0] for line in axes.lines if line.get_marker() == "D"]
    assert diamonds[:2] == [85.9, 66.6]


@pytest.fixture
def checkpoints(experiment: str) -> dict[str, Figure]:
    """Scores of three pre-training steps, the last one first, and of pretrained and scratch."""
    Recorder(experiment, base=BERT, inits=("pretrained", "scratch"), seeds=2).all_trials((0.9, 0.86))
    for step, score in ((100_000, 0.84), (0, 0.7), (900, 0.75)):
        base = {**BERT, "checkpoint": "runs:/1/model", "checkpoint_step": step}
        Recorder(experiment, base=base, inits=("checkpoint",), seeds=2).all_trials((0.9, score))
    return drawn(experiment)


def test_scores_stand_at_their_pretraining_steps_and_step_0_is_seen(checkpoints: dict[str, Figure]) -> None:
    figure = checkpoints["pretraining-steps"]
    (axes,) = figure.axes
    points = next(line for line in axes.lines if line.get_marker() == "D")
    assert list(xs(points)) == [0, 900, 100_000]
    assert list(ys(points)) == pytest.approx([70.5, 75.5, 84.5])
    assert axes.get_xlim()[0] < 0
    assert axes.get_xscale() == "symlog"
    levels = [ys(line)[0] for line in axes.lines if list(xs(line)) == [0, 1]]
    assert levels == pytest.approx([86.5, 86.5])
    assert legend(figure) == [f"{init}, 2 of 2 seeds" for init in ("pretrained", "scratch", "checkpoint")]


def test_bars_take_the_last_step_of_a_checkpoint(checkpoints: dict[str, Figure]) -> None:
    figure = checkpoints["test-scores"]
    assert bars(figure.axes[0]) == pytest.approx([86.5, 86.5, 84.5])
    assert "Checkpoints: at their last step." in footnotes(figure)


def test_several_checkpoints_are_told_apart_by_line_and_marker(experiment: str) -> None:
    for path in ("runs:/1/english", "runs:/2/kannada"):
        for step in (0, 500):
            base = {**BERT, "checkpoint": path, "checkpoint_step": step}
            Recorder(experiment, base=base, inits=("checkpoint",)).all_trials((0.9, 0.8))
    figure = drawn(experiment)["pretraining-steps"]
    assert legend(figure) == ["checkpoint english, 1 of 1 seed", "checkpoint kannada, 1 of 1 seed"]
    first, second = figure.legends[0].get_lines()
    assert first.get_color() == second.get_color() == STYLES["checkpoint"].color
    assert first.get_marker() != second.get_marker()


def test_losses_are_those_of_a_checkpoints_last_step_and_the_figure_says_so(experiment: str) -> None:
    for step, num_steps in ((0, 60), (500, 80)):
        base = {**BERT, "checkpoint": "/pre", "checkpoint_step": step}
        train(Recorder(experiment, base=base, inits=("checkpoint",)), "checkpoint", 0, num_steps)
    figure = drawn(experiment)["training-loss"]
    (line,) = figure.axes[0].lines
    assert xs(line)[-1] == 80
    assert "Checkpoints: at their last step." in footnotes(figure)


def test_valid_scores_on_part_of_the_data_are_those_of_every_evaluation(experiment: str) -> None:
    base = {**BERT, "task": "mrpc", "mapping": "shift", "train_fraction": 0.01}
    recorder = Recorder(experiment, base=base, seeds=2, metric="f1")
    scores_RE = np.array([[0.5, 0.6, 0.65, 0.7], [0.4, 0.5, 0.72, 0.7]])
    for seed, scores_E in enumerate(scores_RE):
        log(recorder.trial("finished", (0.7, 0.7), seed=seed), "valid/score", scores_E, (25, 50, 75, 100))
    figure = drawn(experiment)["valid-score-on-part"]
    (line,) = figure.axes[0].lines
    assert list(xs(line)) == [25, 50, 75, 100]
    assert list(ys(line)) == pytest.approx(100 * scores_RE.mean(axis=0))
    assert figure.legends[0].get_title().get_text().startswith("Valid score while training on 1% of the examples")


def test_a_single_evaluation_on_part_of_the_data_is_a_bar(experiment: str) -> None:
    base = {**BERT, "train_fraction": 0.01}
    Recorder(experiment, base=base, inits=("pretrained", "scratch")).all_trials((0.7, 0.6))
    (axes,) = drawn(experiment)["valid-score-on-part"].axes
    assert bars(axes) == [70, 70]


@pytest.fixture
def grid(experiment: str) -> Figure:
    """2 optimizers x 3 learning rates, 2 seeds; one cell diverged, of another one seed is missing."""
    recorder = Recorder(experiment, base=BERT, seeds=2, **SEARCH)
    scores = {("adam", 1e-6): 0.5, ("adam", 1e-5): 0.93, ("radam", 1e-6): 0.55, ("radam", 1e-5): 0.88}
    for (optimizer, rate), score in scores.items():
        for seed in range(2):
            recorder.trial("finished", (score, 0.1), optimizer=optimizer, learning_rate=rate, seed=seed)
    recorder.trial("diverged", optimizer="adam", learning_rate=1e-4)
    recorder.trial("finished", (0.99, 0.99), optimizer="radam", learning_rate=1e-4)
    return drawn(experiment)["search-h4"]


def test_the_chosen_cell_is_framed_and_cells_have_their_mean(grid: Figure) -> None:
    axes = grid.axes[0]
    (frame,) = [patch for patch in axes.patches if patch.get_gid() == CHOSEN]
    assert isinstance(frame, Rectangle)
    assert frame.get_center().tolist() == pytest.approx([1, 0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1e-06", "1e-05", "0.0001"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["adam", "radam"]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "50.0", (1, 0): "93.0", (2, 0): "0/2", (0, 1): "55.0", (1, 1): "88.0", (2, 1): "99.0 1/2"}
    assert axes.get_title(loc="left") == "pretrained: adam 1e-05, 2 of 2 seeds"


def test_cells_that_did_not_finish_are_hatched(grid: Figure) -> None:
    hatched = {place for place, square in cells(grid.axes[0]).items() if square.get_hatch()}
    assert hatched == {(2, 0), (2, 1)}
    assert any(label.startswith("hatched") for label in legend(grid))
