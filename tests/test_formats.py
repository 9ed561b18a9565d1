"""Every layout in every format, on a terminal, in files and in the tracking store."""

import csv
import io
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from analysis.__main__ import main
from analysis.layouts import LAYOUTS, PROBES
from analysis.render import latex, markdown, table_csv
from analysis.sheet import Column, Sheet
from analysis.terminal import blocks, print_sheets
from sweeps import recorded
from tests.recorder import BASE, Recorder, predicted, report

OF_TRIALS = [name for name in LAYOUTS if name not in PROBES]


@pytest.fixture
def recorded_runs(experiment: str) -> str:
    """h4 with two inits, two learning rates and three seeds, with their predictions."""
    sweep = Recorder(
        experiment,
        base={**BASE, "model": "bert-base-uncased"},
        inits=("pretrained", "scratch"),
        learning_rates=(1e-4, 1e-5),
        seeds=3,
    )
    labels = [0, 1] * 20
    for init, hits in (("pretrained", 36), ("scratch", 20)):
        for seed in range(3):
            for learning_rate in (1e-4, 1e-5):
                right = hits + seed
                run_id = sweep.trial(
                    "finished", (right / 40, right / 40), init=init, seed=seed, learning_rate=learning_rate
                )
                found = [label if place < right else 1 - label for place, label in enumerate(labels)]
                predicted(run_id, labels, found)
    return experiment


SHEET = Sheet(
    title="50% & more_of [it]",
    columns=(
        Column(name="task", align="left"),
        Column(name="what", align="left"),
        Column(name="a_b", unit="f1 ↑"),
        Column(name="c", brief=False),
    ),
    rows=(
        {"task": "own|#1", "what": "ours\npaper", "a_b": "95.3 ± 0.4\n96.0", "c": "1\n2"},
        {"task": "[x]", "what": "ours", "a_b": "-5.0", "c": "3"},
    ),
    notes=("100% <sure>",),
    records=({"task": "own|#1", "value": 0.953, "none": None}, {"task": 'a,"b"\n', "other": 1}),
)


def test_markdown_keeps_a_cells_lines_in_its_cell_and_bars_out_of_the_table() -> None:
    text = markdown([SHEET])
    assert "| task | what | a_b<br>f1 ↑ | c |" in text
    assert "| --- | --- | ---: | ---: |" in text
    assert "| own\\|#1 | ours<br>paper | 95.3 ± 0.4<br>96.0 | 1<br>2 |" in text
    assert text.startswith("## 50% & more_of [it]\n")
    assert text.count("- 100% &lt;sure>") == 1


def test_latex_has_a_row_for_each_line_of_a_cell_and_escapes_what_is_not_text() -> None:
    text = latex([SHEET])
    assert r"\caption{50\% \& more\_of {[}it{]}}" in text
    assert r"task & what & a\_b & c \\" in text
    assert r" &  & f1 $\uparrow$ &  \\" in text
    assert r"own|\#1 & ours & 95.3 $\pm$ 0.4 & 1 \\" in text
    assert r" & paper & 96.0 & 2 \\[0.5ex]" in text
    assert r"{[}x{]} & ours & $-$5.0 & 3 \\" in text, "a bracket after a line's end would be an argument"
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_csv_is_read_back_as_it_was() -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv([SHEET, SHEET]))))
    assert len(rows) == 4
    assert rows[0] == {"task": "own|#1", "value": "0.953", "none": "", "other": ""}
    assert rows[1]["task"] == 'a,"b"\n'


def test_rows_must_have_the_cells_of_the_columns() -> None:
    with pytest.raises(ValueError, match="rows: a row has the cells"):
        Sheet(title="", columns=SHEET.columns, rows=({"task": "h4"},))
    with pytest.raises(ValueError, match="two have the same name"):
        Sheet(title="", columns=(Column(name="a"), Column(name="a")), rows=())


def test_columns_that_do_not_fit_follow_below_beside_the_same_words() -> None:
    widths = {"init": 10, "a": 10, "b": 10, "c": 10, "wide": 50}
    assert blocks(widths, ["init"], ["a", "b", "c"], 34) == [["init", "a", "b"], ["init", "c"]]
    assert blocks(widths, ["init"], ["wide", "a"], 34) == [["init", "wide"], ["init", "a"]]


@pytest.mark.parametrize("layout", [*OF_TRIALS, "init,optimizer x task,learning_rate"])
def test_every_layout_makes_whole_tables_in_every_format(recorded_runs: str, layout: str) -> None:
    sheets = report(recorded_runs, layout).sheets
    for sheet in sheets:
        width = len(sheet.columns)
        rows = [line for line in markdown([sheet]).splitlines() if line.startswith("| ")]
        assert len(rows) == 2 + len(sheet.rows)
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {width + 1}
        of_latex = [line for line in latex([sheet]).splitlines() if re.search(r"\\\\(\[0\.5ex\])?$", line)]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in of_latex} == {width - 1}
    records = list(csv.DictReader(io.StringIO(table_csv(sheets))))
    assert len(records) == sum(len(sheet.records) for sheet in sheets) > 0


@pytest.mark.parametrize("layout", ["table2", "v2-table6", "search", "verdict", "init x task"])
def test_on_a_narrow_terminal_nothing_is_cut(recorded_runs: str, layout: str) -> None:
    sheets = report(recorded_runs, layout).sheets
    file = io.StringIO()
    print_sheets(sheets, Console(file=file, force_terminal=True, width=72, color_system=None, markup=False))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 72
    words = set(text.split())
    shown = {word for sheet in sheets for row in sheet.rows for cell in row.values() for word in cell.split()}
    assert not {word for word in shown if word not in words and f"{word}," not in words}


def test_pretrained_against_scratch_stands_in_every_table_of_test_scores(recorded_runs: str) -> None:
    """All seeds differ by 16 of 40: no spread, so that the t-test has no p-value, but the bootstrap has one."""
    (sheet,) = report(recorded_runs, "auto").sheets
    row = next(row for row in sheet.rows if row["init"] == "pretrained")
    assert row["vs scratch"].startswith("+40.0")
    assert row["bootstrap p"] == "<0.001" or float(row["bootstrap p"]) < 0.05
    record = next(record for record in sheet.records if record["init"] == "pretrained")
    assert record["vs_scratch_difference"] == pytest.approx(0.4)
    assert record["vs_scratch_num_seeds"] == 3


# The command


def test_a_layouts_files_carry_its_name_and_are_logged_with_the_figures(
    recorded_runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert main(["--layout", "table2", "--output", str(folder)]) == 0
    tables = {f"table2.{ending}" for ending in ("md", "csv", "tex", "html")}
    assert {path.name for path in folder.iterdir() if path.is_file()} == tables
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"test-scores.png", "test-scores.svg", "training-loss.svg"} - figures <= {"training-loss.svg"}
    client = MlflowClient()
    (made,) = client.search_runs([recorded_runs], f"tags.`{recorded.KIND}` = 'compare'")
    logged = {item.path for item in client.list_artifacts(made.info.run_id, "tables")}
    assert logged == {f"tables/{name}" for name in tables}
    assert {item.path for item in client.list_artifacts(made.info.run_id, "figures")} == {
        f"figures/{name}" for name in figures
    }
    out = capsys.readouterr().out
    assert f"written: {folder / 'table2.md'}" in out
    assert f"logged to run {made.info.run_id} under tables/ and figures/" in out


def test_rows_and_columns_make_a_file_name(recorded_runs: str, tmp_path: Path) -> None:
    assert main(["--layout", "init,model x task", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "init-model-x-task.md").is_file()


@pytest.mark.parametrize("outcome", ["diverged", "failed", "running", "missing"])
@pytest.mark.parametrize("layout", ["auto", "table2", "verdict"])
def test_what_did_not_finish_is_in_the_exit_status_unless_it_is_allowed(
    experiment: str, layout: str, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Recorder(experiment, seeds=2)
    sweep.trial("finished", (0.9, 0.9), seed=0)
    if outcome != "missing":
        sweep.trial(outcome, seed=1)
    arguments = ["--layout", layout, "--output", "none"]
    assert main(arguments) == 1
    assert main([*arguments, "--allow-missing", "true"]) == 0
    out = capsys.readouterr().out
    assert out.count("incomplete:") == 2
    assert out.count(f"{outcome}: adam 1e-05 seed 1") == 2


def test_select_by_reaches_the_table(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Recorder(experiment, learning_rates=(1e-3, 1e-4))
    sweep.trial("finished", (0.9, 0.5, 0.7), learning_rate=1e-3)
    sweep.trial("finished", (0.8, 0.6, 0.8), learning_rate=1e-4)
    main(["--output", "none", "--select-by", "train/score"])
    assert "adam 0.0001" in capsys.readouterr().out
