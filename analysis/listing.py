"""The comparison as one list: a row for every group and init, as a sheet and on a terminal."""

import textwrap
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from analysis.inits import CHECKPOINT_STEP, OF_CHECKPOINTS
from analysis.pairs import key, pair_columns, points
from analysis.paper import PaperFigure
from analysis.records import line_record
from analysis.sheet import NONE, Column, Sheet
from analysis.tables import Comparison, Line, label, phrase, value_text
from analysis.terminal import fitting, open_console, small_table

LEFT = frozenset({"task", "model", "mapping", "init", "metric", "optimizer", "setting", "data", "trouble"})
FIELD_LABELS = {"num_epochs": "epochs", "max_train_examples": "train examples"}
STEP_LABEL = "pre-training step"


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
            if name != CHECKPOINT_STEP:
                row[FIELD_LABELS.get(name, label(name))] = value_text(name, line.fields.get(name))
        row["init"] = line.init
        if CHECKPOINT_STEP in comparison.varying:
            row[STEP_LABEL] = value_text(CHECKPOINT_STEP, line.fields.get(CHECKPOINT_STEP))
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
    have_steps = CHECKPOINT_STEP in comparison.varying
    rows = fitting([_terminal_row(line, with_step=have_steps) for line in comparison.lines], console.width)
    for _, group in groupby(zip(comparison.lines, rows, strict=True), key=lambda pair: _group_identity(pair[0])):
        of_group = list(group)
        heading = _heading([line for line, _ in of_group], comparison)
        table = small_table([row for _, row in of_group], list(rows[0]), LEFT, widest=rows)
        console.print(*heading, table, "", sep="\n", crop=False)
    for note in comparison.notes:
        console.print(textwrap.fill(f"* {note}", console.width, subsequent_indent="  ", break_on_hyphens=False))


def _group_identity(line: Line) -> object:
    """The same for lines that may stand in one table: checkpoints stand beside the other inits."""
    return key(line.selection, OF_CHECKPOINTS)


def _terminal_row(line: Line, *, with_step: bool) -> dict[str, str]:
    """A line with the columns of the terminal's table, in order: narrower than the files' tables."""
    row, test = _outcome(line), line.pair.test if line.pair else None
    setting = f"{row['optimizer']} {row['learning rate']}" if row["optimizer"] != NONE else NONE
    return {
        "init": line.series,
        **({"step": value_text(CHECKPOINT_STEP, line.fields.get(CHECKPOINT_STEP))} if with_step else {}),
        **{name: row[name] for name in ("test", "n", "valid")},
        "setting": setting,
        "paper": percent(line.paper.value / 100) if line.paper else NONE,
        "diff": row["difference"],
        "vs scratch": NONE if test is None or test.difference is None else points(test.difference),
        "Holm p": pair_columns(line.pair)["Holm p"],
        "trouble": line.trouble,
    }


def _heading(lines: Sequence[Line], comparison: Comparison) -> list[Text]:
    first = lines[0]
    left_out = {CHECKPOINT_STEP} & {*comparison.varying}  # it has a column
    left_out |= {"data"} - {*comparison.varying}
    fields = {name: value for line in lines for name, value in line.fields.items() if name not in left_out}
    return [
        Text(f"{first.task}, {first.model}: {first.selection.metric} ↑", style="bold"),
        Text(", ".join(phrase(name, value) for name, value in fields.items()), style="dim"),
    ]
