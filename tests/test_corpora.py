"""Sweeps over pre-training checkpoints: what tables and figures call them, and what they are held against."""

import csv
import io
from collections.abc import Mapping, Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal

from analysis.client import Client
from analysis.database import Database
from analysis.listing import comparison_sheet
from analysis.render import markdown, table_csv
from analysis.source import source_of
from analysis.statistics import holm, paired_test
from analysis.store import read_trials
from tests.drawings import bars, drawn, footnotes, legend, xs, ys
from tests.recorder import BASE, Recorder, cell, checkpoint_params, comparison, printed, report

RUNS = {"uniform": "a" * 32, "flat": "b" * 32, "nested": "c" * 32, "english": "d" * 32, "kannada": "e" * 32}
ADDRESSES = {corpus: f"runs:/{run_id}/checkpoints" for corpus, run_id in RUNS.items()}
CORPORA = {address: corpus for corpus, address in ADDRESSES.items()}
SCRATCH = (0.60, 0.62, 0.61)
GAINS = {"uniform": 0.0, "flat": 0.03, "nested": 0.05, "english": 0.2, "kannada": 0.1}
JITTER = (0.0, 0.004, 0.011)  # by seed: differences are not all alike


Tests = Mapping[tuple[str, int | None], Sequence[float]]  # address and step -> test scores by seed


def scores(corpus: str) -> list[float]:
    """Test scores by seed."""
    spread = 1 + list(GAINS).index(corpus)
    return [first + GAINS[corpus] + spread * more for first, more in zip(SCRATCH, JITTER, strict=True)]


def record(
    experiment: str,
    tests: Tests,
    *,
    task: str = "h4",
    corpora: Mapping[str, str] = CORPORA,
    others: Mapping[str, Sequence[float]] | None = None,
) -> Recorder:
    """A sweep over checkpoints with these test scores, (address, step) -> by seed, and those of other inits."""
    others = {"scratch": SCRATCH} if others is None else others
    sweep = Recorder(
        experiment,
        base={**BASE, "task": task},
        inits=("checkpoint", *others),
        seeds=3,
        checkpoints=list(tests),
        corpora=corpora,
    )
    sweep.scored(others)
    for (address, step), values in tests.items():
        params = checkpoint_params(address, step)
        for seed, value in enumerate(values):
            sweep.trial("finished", (value - 0.01, value), init="checkpoint", seed=seed, **params)
    return sweep


def five(experiment: str, *, task: str = "h4", step: int = 1000) -> Recorder:
    return record(experiment, {(ADDRESSES[corpus], step): scores(corpus) for corpus in GAINS}, task=task)


def rows_of(experiment: str) -> list[dict[str, str]]:
    (sheet,) = report(experiment, "auto").sheets
    return [dict(row) for row in sheet.rows]


def series(figure: Figure) -> list[str]:
    """What the legend names, without the paper's figures."""
    return [name.split(",")[0] for name in legend(figure) if "the paper's" not in name]


def curves(axes: Axes) -> list[Line2D]:
    """The lines over steps, without the ends of their error bars."""
    return [line for line in axes.lines if len(xs(line)) == 3 and line.get_marker() != "_"]


# The default table


def test_every_corpus_is_a_row_beside_the_one_from_scratch(experiment: str) -> None:
    five(experiment)
    rows = rows_of(experiment)
    assert [row["init"] for row in rows] == [
        "scratch",
        *(f"checkpoint ({corpus})" for corpus in ("uniform", "flat", "nested", "english", "kannada")),
    ]
    assert [row["n"] for row in rows] == ["3/3"] * 6
    assert rows[4]["test accuracy ↑"] == "83.0 ± 2.7"
    assert rows[4]["valid"] == "82.0"
    assert rows[4]["learning rate"] == "1e-05"
    assert not {"checkpoint", "corpus", "checkpoint step", "pre-training step"} & rows[0].keys()


def test_each_corpus_is_tested_against_scratch_by_seed_and_corrected_for_all_of_them(experiment: str) -> None:
    five(experiment)
    made = report(experiment, "auto").comparison
    assert made is not None
    lines = {line.series: line for line in made.lines}
    tests = {corpus: paired_test(dict(enumerate(scores(corpus))), dict(enumerate(SCRATCH))) for corpus in GAINS}
    corrected = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    assert lines["scratch"].pair is None
    for corpus, test in tests.items():
        pair = lines[corpus].pair
        assert pair is not None
        assert pair.second is lines["scratch"].selection
        assert pair.test.difference == pytest.approx(test.difference)
        assert pair.test.p_value == pytest.approx(test.p_value)
        assert pair.p_adjusted == pytest.approx(corrected[corpus])
    assert "5 of checkpoint against scratch." in " ".join(made.notes)


def test_the_step_is_a_column_where_it_differs_and_a_footnote_where_it_does_not(experiment: str) -> None:
    five(experiment)
    assert any("pre-training step 1000" in sentence for sentence in comparison(experiment).common)
    five(experiment, step=200)
    rows = rows_of(experiment)
    shown = [(row["init"], row["pre-training step"]) for row in rows]
    assert shown[:3] == [("scratch", "-"), ("checkpoint (uniform)", "200"), ("checkpoint (uniform)", "1000")]
    assert len(rows) == 11
    assert not any("pre-training step 1000" in sentence for sentence in comparison(experiment).common)


def test_two_pretraining_runs_on_one_corpus_are_two_rows_with_names_of_their_own(experiment: str) -> None:
    one, other = ADDRESSES["nested"], f"runs:/{'f' * 32}/checkpoints"
    corpora = {one: "nested", other: "nested"}
    record(experiment, {(one, 1000): (0.7, 0.7, 0.7), (other, 1000): (0.8, 0.8, 0.8)}, corpora=corpora)
    rows = rows_of(experiment)
    assert [(row["init"], row["test accuracy ↑"]) for row in rows] == [
        ("scratch", "61.0 ± 1.0"),
        ("checkpoint (nested, cccccccc)", "70.0 ± 0.0"),
        ("checkpoint (nested, ffffffff)", "80.0 ± 0.0"),
    ]
    assert series(drawn(experiment)["test-scores"]) == ["scratch", "nested (cccccccc)", "nested (ffffffff)"]
    (sheet,) = report(experiment, "corpora").sheets
    assert [row["corpus"] for row in sheet.rows] == ["scratch", "nested (cccccccc)", "nested (ffffffff)"]
    notes = " ".join(sheet.notes)
    assert f"nested (cccccccc) is {one}; nested (ffffffff) is {other}." in notes


def test_another_corpus_at_the_same_address_is_another_row(experiment: str) -> None:
    """As where a folder's checkpoints were written anew."""
    record(experiment, {("/pre", None): (0.7, 0.7, 0.7)}, corpora={"/pre": "flat"})
    record(experiment, {("/pre", None): (0.8, 0.8)}, corpora={"/pre": "nested"})
    rows = {row["init"]: row for row in rows_of(experiment)}
    assert rows["checkpoint (flat)"]["test accuracy ↑"] == "70.0 ± 0.0"
    assert rows["checkpoint (nested)"]["test accuracy ↑"] == "80.0 ± 0.0"
    assert rows["checkpoint (nested)"]["trouble"] == "1 missing"


def test_a_cell_that_is_missing_goes_by_the_corpus_that_other_trials_of_its_checkpoint_know(experiment: str) -> None:
    five(experiment)
    record(experiment, {(ADDRESSES["nested"], 1000): ()}, task="splice")
    splice = [row for row in rows_of(experiment) if row["task"] == "splice"]
    assert [(row["init"], row["n"], row["trouble"]) for row in splice] == [
        ("scratch", "3/3", ""),
        ("checkpoint (nested)", "0/3", "3 missing"),
    ]
    (only,) = report(experiment, "auto", tasks=["splice"]).sheets
    assert only.rows[-1]["init"] == "checkpoint (nested)"


def test_a_corpus_that_is_called_like_an_init_is_not_taken_for_it(experiment: str) -> None:
    record(experiment, {("/pre/a", None): (0.8,)}, corpora={"/pre/a": "scratch"})
    assert [row["init"] for row in rows_of(experiment)] == ["scratch", "checkpoint (scratch)"]
    assert series(drawn(experiment)["test-scores"]) == ["scratch", "checkpoint scratch"]


def test_csv_has_corpus_checkpoint_and_step_by_themselves(experiment: str) -> None:
    five(experiment)
    rows = list(csv.DictReader(io.StringIO(table_csv([comparison_sheet(comparison(experiment))]))))
    found = [(row["init"], row["corpus"], row["checkpoint"], row["checkpoint_step"]) for row in rows]
    assert found[0] == ("scratch", "", "", "")
    assert found[3] == ("checkpoint", "nested", ADDRESSES["nested"], "1000")


def test_a_terminal_shows_corpora_and_scratch_in_one_table(experiment: str) -> None:
    five(experiment)
    five(experiment, step=0)
    text = printed(comparison(experiment), terminal=True, width=100)
    assert text.count("h4, all-MiniLM-L6-v2: accuracy ↑") == 1
    words = [line.split()[:2] for line in text.splitlines()]
    start = words.index(["scratch", "-"])
    assert words[start + 1 : start + 4] == [["uniform", "0"], ["uniform", "1000"], ["flat", "0"]]


def test_trials_that_know_no_corpus_are_checkpoints_by_their_names(experiment: str) -> None:
    record(experiment, {("/pre/one", None): (0.7,)}, corpora={})
    assert [row["init"] for row in rows_of(experiment)] == ["scratch", "checkpoint"]
    assert "Checkpoints: checkpoint is /pre/one." in comparison(experiment).notes
    record(experiment, {("/pre/other", None): (0.8,)}, corpora={})
    assert [row["init"] for row in rows_of(experiment)] == ["scratch", "checkpoint (one)", "checkpoint (other)"]


def test_trials_without_checkpoints_have_no_trace_of_them(experiment: str) -> None:
    Recorder(experiment, inits=("pretrained", "scratch"), seeds=2).all_trials((0.9, 0.8))
    (sheet,) = report(experiment, "auto").sheets
    text = markdown([sheet]) + table_csv([sheet])
    assert not {"corpus", "checkpoint", "pre-training"} & {*text.lower().replace("_", " ").split()}
    assert "corpus" not in text and "checkpoint" not in text


def test_the_database_and_mlflow_give_the_same_corpora(experiment: str, tracking_uri: str) -> None:
    five(experiment)
    direct = source_of(MlflowClient(tracking_uri))
    assert isinstance(direct, Database)
    trials = read_trials(direct, [experiment])
    assert_frame_equal(trials, read_trials(Client(tracking_uri), [experiment]))
    assert {*trials["params.corpus"].dropna()} == {*GAINS}


# The layout


def test_the_layout_has_a_row_a_corpus_and_a_column_a_task(experiment: str) -> None:
    others = {"scratch": SCRATCH, "pretrained": (0.9, 0.9, 0.9)}
    record(experiment, {(ADDRESSES[corpus], 1000): scores(corpus) for corpus in GAINS}, others=others)
    five(experiment, task="splice")
    (sheet,) = report(experiment, "corpora").sheets
    names = ["scratch", "uniform", "flat", "nested", "english", "kannada", "pretrained"]
    assert [row["corpus"] for row in sheet.rows] == names
    assert [column.name for column in sheet.columns] == ["corpus", "what", "h4", "splice"]
    shown = cell(sheet, "h4", corpus="english")
    assert (shown["ours"], shown["n"], shown["vs scratch"]) == ("83.0 ± 2.7", "3/3", "+22.0")
    assert shown["Holm p"] != "-"
    assert cell(sheet, "splice", corpus="pretrained")["ours"] == "-"
    assert "paper" not in cell(sheet, "h4", corpus="scratch"), "BERT-base's figure is no match for these models"
    assert not any("2103.07162" in note for note in sheet.notes)


def test_cells_of_the_layout_that_are_missing_or_failed_are_named(experiment: str) -> None:
    tests: Tests = {(ADDRESSES["flat"], 1000): (0.7, 0.71, 0.72), (ADDRESSES["nested"], 1000): (0.7,)}
    sweep = record(experiment, tests)
    sweep.trial("diverged", init="checkpoint", seed=1, **checkpoint_params(ADDRESSES["nested"], 1000))
    made = report(experiment, "corpora")
    shown = cell(made.sheets[0], "h4", corpus="nested")
    assert (shown["ours"], shown["n"], shown["missing"], shown["diverged"]) == ("70.0", "1/3", "1", "1")
    notes = " ".join(made.sheets[0].notes)
    assert "h4 checkpoint (nested), missing: adam 1e-05 seed 2." in notes
    assert "h4 checkpoint (nested), diverged: adam 1e-05 seed 1." in notes
    assert made.incomplete


def test_steps_are_rows_of_the_layout_where_they_differ(experiment: str) -> None:
    address = ADDRESSES["english"]
    record(experiment, {(address, 1000): (0.8,), (address, 200): (0.7,), (ADDRESSES["flat"], 200): (0.6,)})
    (sheet,) = report(experiment, "corpora").sheets
    shown = [(row["corpus"], row["pre-training step"], row["h4"].split("\n")[0]) for row in sheet.rows]
    assert shown == [
        ("scratch", "-", "61.0 ± 1.0"),
        ("flat", "200", "60.0"),
        ("english", "200", "70.0"),
        ("english", "1000", "80.0"),
    ]


def test_the_layout_leaves_out_what_stands_beside_no_checkpoint_and_says_so(experiment: str) -> None:
    five(experiment)
    Recorder(experiment, base={**BASE, "num_epochs": 3}, inits=("scratch",)).all_trials((0.9, 0.9))
    Recorder(experiment, base={**BASE, "task": "h3"}, inits=("scratch",)).all_trials((0.9, 0.9))
    (sheet,) = report(experiment, "corpora").sheets
    assert [row["corpus"] for row in sheet.rows].count("scratch") == 1
    assert any("Not in this table" in note and note.endswith(": h3.") for note in sheet.notes)


def test_the_layout_says_where_there_are_no_checkpoints(experiment: str) -> None:
    Recorder(experiment, inits=("scratch",)).all_trials((0.9, 0.9))
    (sheet,) = report(experiment, "corpora").sheets
    assert any(note.startswith("No trial began from a checkpoint") for note in sheet.notes)


# Figures


def test_each_corpus_is_a_line_over_steps_and_scratch_and_pretrained_are_levels(experiment: str) -> None:
    tests: Tests = {
        (ADDRESSES[corpus], step): [score + gain for score in SCRATCH]
        for corpus in ("english", "nested")
        for step, gain in ((0, 0.0), (100, 0.1), (5000, 0.2 if corpus == "english" else 0.15))
    }
    for task in ("h4", "splice"):
        record(experiment, tests, task=task, others={"scratch": SCRATCH, "pretrained": (0.9, 0.92, 0.91)})
    figure = drawn(experiment)["pretraining-steps"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["h4", "splice"]
    assert legend(figure) == [f"{name}, 3 of 3 seeds" for name in ("pretrained", "scratch", "nested", "english")]
    for axes in figure.axes:
        assert [list(ys(line)) for line in curves(axes)] == [pytest.approx([61, 71, 76]), pytest.approx([61, 71, 81])]
        assert [round(float(ys(line)[0]), 6) for line in axes.lines if list(xs(line)) == [0, 1]] == [91, 61]
    assert "named after their corpus: nested, english." in footnotes(figure)


def test_public_checkpoints_go_by_the_name_that_their_steps_share(experiment: str) -> None:
    for seed in (0, 1):
        address = f"google/multiberts-seed_{seed}-step_*k"
        tests: Tests = {(address, step): (0.6 + step / 1e7,) for step in (0, 20_000, 2_000_000)}
        record(experiment, tests, corpora={}, others={})
        names = [f"multiberts-seed_{number}, 1 of 3 seeds" for number in range(seed + 1)]
        assert legend(drawn(experiment)["pretraining-steps"]) == names
    (axes,) = drawn(experiment)["pretraining-steps"].axes
    assert [list(xs(line)) for line in curves(axes)] == [[0, 20_000, 2_000_000]] * 2
    assert [row["init"] for row in rows_of(experiment)][:3] == ["checkpoint (multiberts-seed_0)"] * 3


@pytest.fixture
def one_step(experiment: str) -> Figure:
    five(experiment)
    return drawn(experiment)["test-scores"]


def test_of_one_step_each_there_are_bars_with_the_names_of_the_corpora(one_step: Figure) -> None:
    names = ["scratch", "uniform", "flat", "nested", "english", "kannada"]
    assert series(one_step) == names
    means = [sum(values) / 3 for values in (SCRATCH, *(scores(corpus) for corpus in names[1:]))]
    assert bars(one_step.axes[0]) == pytest.approx([100 * mean for mean in means])
    colors = {tuple(patch.get_facecolor()) for patch in one_step.legends[0].get_patches()}
    assert len(colors) == len(names)


def test_bars_of_corpora_at_different_steps_say_so(experiment: str) -> None:
    record(experiment, {(ADDRESSES["flat"], 500): (0.7,), (ADDRESSES["nested"], 2000): (0.8,)})
    assert "Pre-training steps: flat 500, nested 2k." in footnotes(drawn(experiment)["test-scores"])
