"""Sheets as Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

from analysis.sheet import Sheet

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "[": "{[}",  # after a line's end it would open an argument
        "]": "{]}",
        "↑": r"$\uparrow$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def markdown(sheets: Iterable[Sheet]) -> str:
    """A heading, a GitHub table and its footnotes as a list, for every sheet."""
    return "\n".join(_markdown(sheet) for sheet in sheets)


MARKDOWN_TEXT = str.maketrans({"<": "&lt;"})
MARKDOWN = str.maketrans({"<": "&lt;", "|": "\\|", "\n": "<br>"})


def _markdown(sheet: Sheet) -> str:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.translate(MARKDOWN) for cell in cells) + " |"

    header = row(f"{column.name}\n{column.unit}".strip() for column in sheet.columns)
    rule = "| " + " | ".join("---" if column.align == "left" else "---:" for column in sheet.columns) + " |"
    title = sheet.title.translate(MARKDOWN_TEXT)
    notes = [f"- {note.translate(MARKDOWN_TEXT)}" for note in sheet.notes]
    return "\n".join([f"## {title}", "", header, rule, *(row(cells.values()) for cells in sheet.rows), "", *notes, ""])


def latex(sheets: Iterable[Sheet]) -> str:
    """A table environment in booktabs style with its footnotes underneath, for every sheet."""
    return "\n".join(
        [r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.", *(_latex(sheet) for sheet in sheets)]
    )


def _latex(sheet: Sheet) -> str:
    columns = "".join("l" if column.align == "left" else "r" for column in sheet.columns)
    units = [column.unit for column in sheet.columns]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{sheet.title.translate(LATEX)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(column.name for column in sheet.columns),
            *([_latex_row(units)] if any(units) else []),
            r"\midrule",
            *(line for row in sheet.rows for line in _latex_lines(row)),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\begin{flushleft}\footnotesize",
            *(f"{note.translate(LATEX)}\\par" for note in sheet.notes),
            r"\end{flushleft}",
            r"\end{table}",
            "",
        ]
    )


def _latex_lines(row: Mapping[str, str]) -> list[str]:
    """A row of LaTeX's for each line of the row's cells."""
    cells = [text.split("\n") for text in row.values()]
    height = max(map(len, cells))
    lines = [_latex_row(cell[place] if place < len(cell) else "" for cell in cells) for place in range(height)]
    return [*lines[:-1], f"{lines[-1]}[0.5ex]"] if height > 1 else lines


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(re.sub(r"^-(?=\d)", "$-$", cell.translate(LATEX)) for cell in cells) + r" \\"


FORMULA = re.compile(r"[=+@-](?![\d.])")  # what a spreadsheet takes for one, unless a number follows


def _inert(value: object) -> object:
    """A cell that no spreadsheet runs: a quote stands before what begins like a formula.

    See owasp.org/www-community/attacks/CSV_Injection.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def table_csv(sheets: Sequence[Sheet]) -> str:
    """Every number by itself: scores as fractions, the paper's too; what there is not is empty."""
    rows = [record for sheet in sheets for record in sheet.records]
    columns = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return file.getvalue()
