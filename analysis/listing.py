"""The comparison as one list: a row for every group and init, as a sheet and on a terminal."""

import textwrap
from itertools import groupby

from rich.console import Console
from rich.text import Text

from analysis.pairs import pair_columns, points
from analysis.paper import PaperFigure
from analysis.records import line_record
from analysis.sheet import NONE, Column, Sheet
from analysis.tables import Comparison, Line, label, phrase, value_text
from analysis.terminal import fitting, open_console, small_table

LEFT = frozenset({"task", "model", "mapping", "init", "metric", "optimizer", "setting", "data", "trouble"})
FIELD_LABELS = {"num_epochs": "epochs", "max_train_examples": "train examples"}


def percent(fraction: float | None, std: float | None = None) -> str:
    """``95.3 ± 0.4`` from fractions; without a standard deviation the mean alone."""
    if fraction is None or fraction != fraction:
        return NONE
    return f"{100 * fraction:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def figure_text(figure: PaperFigure | None) -> str:
    """A figure of the paper's, with its standard deviation where it has one."""
    return percent(figure.value / 100, None if figure.std is None else figure.std / 100) if figure else NONE


def comparison_sheet(comparison: Comparison) -> Sheet:
    """The table with a column a field: what the files show."""
    rows = _rows(comparison)
    return Sheet(
        title="Comparison",
        columns=tuple(Column(name=name, align="left" if name in LEFT else "right") for name in rows[0]),
        rows=tuple(rows),
        notes=(*comparison.common, *comparison.notes),
        records=tuple(line_record(line) for line in comparison.lines),
        incomplete=comparison.incomplete,
    )


def _outcome(line: Line) -> dict[str, str]:
    """A line's results in words, by column."""
    chosen = line.selection.chosen
    return {
        "test": percent(line.mean, line.std),
        "n": line.selection.seeds,
        "valid": percent(chosen.valid if chosen else None),
        "optimizer": chosen.optimizer or NONE if chosen else NONE,
        "learning rate": f"{chosen.learning_rate:g}" if chosen and chosen.optimizer else NONE,
        "paper": figure_text(line.paper),
        "difference": NONE if line.difference is None else points(line.difference / 100),
    }


def _rows(comparison: Comparison) -> list[dict[str, str]]:
    """Every row has the same keys, in order."""
    metrics = {line.selection.metric for line in comparison.lines}
    score = f"test {metrics.pop()} ↑" if len(metrics) == 1 else "test score"
    tested = any(line.pair for line in comparison.lines)
    rows = []
    for line in comparison.lines:
        row = {"task": line.task, "model": line.model}
        for name in comparison.varying:
            row[FIELD_LABELS.get(name, label(name))] = value_text(name, line.fields.get(name))
        row["init"] = line.selection.init
        if score == "test score":
            row["metric"] = f"{line.selection.metric} ↑"
        outcome = _outcome(line)
        row |= {score: outcome.pop("test"), **outcome}
        rows.append({**row, **(pair_columns(line.pair) if tested else {}), "trouble": line.trouble})
    return rows


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Prints a small table a group, with its settings above it and all footnotes at the end.

    A terminal's width is kept to; in a pipe nothing is wrapped or cut.
    """
    console = open_console(console)
    rows = fitting([_terminal_row(line) for line in comparison.lines], console.width)
    for _, group in groupby(zip(comparison.lines, rows, strict=True), key=lambda pair: _group_identity(pair[0])):
        of_group = list(group)
        heading = _heading(of_group[0][0], comparison)
        table = small_table([row for _, row in of_group], list(rows[0]), LEFT, widest=rows)
        console.print(*heading, table, "", sep="\n", crop=False)
    for note in comparison.notes:
        console.print(textwrap.fill(f"* {note}", console.width, subsequent_indent="  ", break_on_hyphens=False))


def _group_identity(line: Line) -> object:
    return line.selection.config, line.selection.data_digest


def _terminal_row(line: Line) -> dict[str, str]:
    """A line with the columns of the terminal's table, in order: narrower than the files' tables."""
    row, test = _outcome(line), line.pair.test if line.pair else None
    setting = f"{row['optimizer']} {row['learning rate']}" if row["optimizer"] != NONE else NONE
    return {
        "init": line.selection.init,
        **{name: row[name] for name in ("test", "n", "valid")},
        "setting": setting,
        "paper": percent(line.paper.value / 100) if line.paper else NONE,
        "diff": row["difference"],
        "vs scratch": NONE if test is None or test.difference is None else points(test.difference),
        "Holm p": pair_columns(line.pair)["Holm p"],
        "trouble": line.trouble,
    }


def _heading(line: Line, comparison: Comparison) -> list[Text]:
    fields = {name: value for name, value in line.fields.items() if name != "data" or "data" in comparison.varying}
    return [
        Text(f"{line.task}, {line.model}: {line.selection.metric} ↑", style="bold"),
        Text(", ".join(phrase(name, value) for name, value in fields.items()), style="dim"),
    ]
