"""A comparison as Markdown, CSV, LaTeX, and as a table on a terminal or in a pipe."""

import csv
import io
import re
import textwrap
from collections.abc import Iterable
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.select import STATES
from analysis.store import UNLISTED
from analysis.tables import NONE, Comparison, Line, phrase, value_text

GAP = 2  # spaces between columns
PIPE_WIDTH = 10_000  # characters; whoever reads a pipe decides where to cut
LEFT = frozenset({"task", "model", "mapping", "init", "metric", "optimizer", "setting", "data", "trouble"})
FIELD_LABELS = {"num_epochs": "epochs", "max_train_examples": "train examples"}
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def percent(fraction: float | None, std: float | None = None) -> str:
    """``95.3 ± 0.4`` from fractions; without a standard deviation the mean alone."""
    if fraction is None:
        return NONE
    return f"{100 * fraction:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _outcome(line: Line) -> dict[str, str]:
    """A line's results in words, by column."""
    chosen, paper = line.selection.chosen, line.paper
    return {
        "test": percent(line.test_mean, line.test_std),
        "n": f"{chosen.finished}/{chosen.expected}" if chosen else "0",
        "valid": percent(chosen.valid if chosen else None),
        "optimizer": chosen.optimizer if chosen else NONE,
        "learning rate": f"{chosen.learning_rate:g}" if chosen else NONE,
        "paper": percent(paper.value / 100, None if paper.std is None else paper.std / 100) if paper else NONE,
        "difference": NONE if line.difference is None else f"{line.difference:+.1f}",
        "trouble": line.trouble,
    }


def _flat(comparison: Comparison) -> list[dict[str, str]]:
    """The table with a column a field: what Markdown and LaTeX show. Every row has the same keys, in order."""
    metrics = {line.selection.metric for line in comparison.lines}
    score = f"test {metrics.pop()} ↑" if len(metrics) == 1 else "test score"
    rows = []
    for line in comparison.lines:
        row = {"task": line.task, "model": line.model}
        for name in comparison.varying:
            label = FIELD_LABELS.get(name, name.removeprefix(UNLISTED).replace("_", " "))
            row[label] = value_text(name, line.fields.get(name))
        row["init"] = line.selection.init
        if score == "test score":
            row["metric"] = f"{line.selection.metric} ↑"
        outcome = _outcome(line)
        rows.append({**row, score: outcome.pop("test"), **outcome})
    return rows


def markdown(comparison: Comparison) -> str:
    """A GitHub table with its footnotes as a list."""

    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rows = _flat(comparison)
    header = list(rows[0])
    rule = "| " + " | ".join("---" if name in LEFT else "---:" for name in header) + " |"
    notes = [f"- {note}" for note in (*comparison.common, *comparison.notes)]
    return "\n".join([row(header), rule, *(row(cells.values()) for cells in rows), "", *notes, ""])


def latex(comparison: Comparison) -> str:
    """A table environment in booktabs style with its footnotes underneath."""

    def row(cells: Iterable[str]) -> str:
        return " & ".join(re.sub(r"^-(?=\d)", "$-$", cell.translate(LATEX)) for cell in cells) + r" \\"

    rows = _flat(comparison)
    header = list(rows[0])
    columns = "".join("l" if name in LEFT else "r" for name in header)
    notes = [f"{note.translate(LATEX)}\\par" for note in (*comparison.common, *comparison.notes)]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.",
            r"\begin{table}",
            r"\centering\small",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            row(header),
            r"\midrule",
            *(row(cells.values()) for cells in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\begin{flushleft}\footnotesize",
            *notes,
            r"\end{flushleft}",
            r"\end{table}",
            "",
        ]
    )


def table_csv(comparison: Comparison) -> str:
    """Every number by itself: scores as fractions, the paper's too; what there is not is empty."""
    rows = [_csv_row(line) for line in comparison.lines]
    columns = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(line: Line) -> dict[str, object]:
    selection, chosen, paper = line.selection, line.selection.chosen, line.paper
    limit = selection.config["max_train_examples"]
    return {
        **{name.removeprefix(UNLISTED): value for name, value in selection.config.items()},
        "max_train_examples": "all" if limit is None else limit,
        "data_digest": selection.data_digest,
        "data_note": selection.data_note,
        "init": selection.init,
        "metric": selection.metric,
        "test_mean": line.test_mean,
        "test_std": line.test_std,
        "n": len(selection.test_scores),
        "n_expected": chosen.expected if chosen else None,
        "valid_mean": chosen.valid if chosen else None,
        "optimizer": chosen.optimizer if chosen else None,
        "learning_rate": chosen.learning_rate if chosen else None,
        "settings": selection.settings,
        "settings_considered": selection.considered,
        "paper_mean": round(paper.value / 100, 6) if paper else None,
        "paper_std": round(paper.std / 100, 6) if paper and paper.std is not None else None,
        "paper_model": paper.model if paper else None,
        "paper_source": f"{paper.version}, {paper.table}" if paper else None,
        "difference": None if line.difference is None else line.difference / 100,
        **{f"cells_{state}": selection.counts[state] for state in STATES},
        **{f"{state}_cells": "; ".join(cells) for state, cells in selection.unfinished.items()},
    }


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Prints a small table a group, with its settings above it and all footnotes at the end.

    A terminal's width is kept to; in a pipe nothing is wrapped or cut.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    rows = [_terminal_row(line) for line in comparison.lines]
    used = [name for name in rows[0] if name == "test" or any(row[name] not in ("", NONE) for row in rows)]
    rows = [{name: row[name] for name in used} for row in rows]
    for column, separator in (("trouble", ", "), ("setting", " ")):
        if column in used and sum(_widths(rows).values()) + GAP * (len(used) - 1) > console.width:
            rows = [{**row, column: row[column].replace(separator, separator.rstrip() + "\n")} for row in rows]
    widths = _widths(rows)
    for _, group in groupby(zip(comparison.lines, rows, strict=True), key=lambda pair: _group_identity(pair[0])):
        of_group = list(group)
        heading = _heading(of_group[0][0], comparison)
        console.print(*heading, _group_table([row for _, row in of_group], widths), "", sep="\n", crop=False)
    for note in comparison.notes:
        console.print(textwrap.fill(f"* {note}", console.width, subsequent_indent="  ", break_on_hyphens=False))


def _group_identity(line: Line) -> object:
    return line.selection.config, line.selection.data_digest


def _terminal_row(line: Line) -> dict[str, str]:
    """A line with the columns of the terminal's table, in order: narrower than the files' tables."""
    row = _outcome(line)
    setting = f"{row['optimizer']} {row['learning rate']}" if line.selection.chosen else NONE
    order = ("test", "n", "valid", "setting", "paper", "diff", "trouble")
    paper = percent(line.paper.value / 100) if line.paper else NONE
    row |= {"setting": setting, "paper": paper, "diff": row["difference"]}
    return {"init": line.selection.init, **{name: row[name] for name in order}}


def _heading(line: Line, comparison: Comparison) -> list[Text]:
    fields = {name: value for name, value in line.fields.items() if name != "data" or "data" in comparison.varying}
    return [
        Text(f"{line.task}, {line.model}: {line.selection.metric} ↑", style="bold"),
        Text(", ".join(phrase(name, value) for name, value in fields.items()), style="dim"),
    ]


def _widths(rows: list[dict[str, str]]) -> dict[str, int]:
    """Column -> characters in the longest line of its cells and its header."""
    return {name: max(map(len, [name, *(line for row in rows for line in row[name].split("\n"))])) for name in rows[0]}


def _group_table(rows: list[dict[str, str]], widths: dict[str, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, width in widths.items():
        table.add_column(name, justify="left" if name in LEFT else "right", min_width=width, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(text) for text in row.values()))
    return table
