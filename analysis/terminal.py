"""Tables on a terminal, whose width they keep to, and in a pipe, where nothing is wrapped or cut."""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.sheet import NONE, Column, Sheet

GAP = 2  # spaces between columns
PIPE_WIDTH = 10_000  # characters; whoever reads a pipe decides where to cut
WORDS_WIDTH = 32  # characters in a column of words, where they are wrapped
WORDS_BESIDE = 2  # columns of words that stand beside the numbers; those before them head a section

Row = Mapping[str, str]


def open_console(console: Console | None = None) -> Console:
    """The console given, or one for standard output; as wide as need be where it is not a terminal's."""
    console = console or Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def print_sheets(sheets: Iterable[Sheet], console: Console | None = None) -> None:
    """Prints each sheet: its title, its rows in sections, its footnotes.

    Numbers that do not fit beside each other follow below, beside the same words; a sheet of words alone is wrapped.
    """
    console = open_console(console)
    for sheet in sheets:
        console.print(Text(sheet.title, style="bold"))
        columns = [column for column in sheet.columns if column.brief]
        if all(column.align == "left" for column in columns):
            _print_words(sheet.rows, [column.name for column in columns], console)
        else:
            _print_sections(sheet.rows, columns, console)
        console.print()
        for note in sheet.notes:
            console.print(textwrap.fill(f"* {note}", console.width, subsequent_indent="  ", break_on_hyphens=False))
        console.print()


def _print_sections(rows: Sequence[Row], columns: Sequence[Column], console: Console) -> None:
    words = [column.name for column in columns if column.align == "left"]
    above, beside = words[:-WORDS_BESIDE], words[-WORDS_BESIDE:]
    headers = {column.name: f"{column.name}\n{column.unit}".strip() for column in columns}
    shown = [{headers[name]: row[name] for name in headers} for row in rows]
    numbers = [headers[column.name] for column in columns if column.align == "right"]
    for names in blocks(widths(shown), [headers[name] for name in beside], numbers, console.width):
        console.print(small_table([], names, beside, widest=shown), crop=False)
        for heading, section in groupby(shown, key=lambda row: [row[headers[name]] for name in above]):
            if above:
                console.print(Text(", ".join(word for word in heading if word != NONE), style="italic"))
            console.print(small_table(list(section), names, beside, widest=shown, header=False), crop=False)


def blocks(widths: Mapping[str, int], words: list[str], numbers: Sequence[str], width: int) -> list[list[str]]:
    """Columns that fit beside each other: the words, and as many of the numbers, at least one, as the width takes."""
    found: list[list[str]] = []
    for name in numbers:
        if not found or sum(widths[other] + GAP for other in (*found[-1], name)) - GAP > width:
            found.append([*words])
        found[-1].append(name)
    return found


def widths(rows: Sequence[Row]) -> dict[str, int]:
    """Column -> characters in the longest line of its cells and its header."""
    return {
        name: max(len(line) for text in (name, *(row[name] for row in rows)) for line in text.split("\n"))
        for name in rows[0]
    }


def fitting(rows: Sequence[Row], width: int) -> list[dict[str, str]]:
    """The rows without columns that are empty, and with line breaks in ``trouble`` and ``setting`` where needed."""
    used = [name for name in rows[0] if name == "test" or any(row[name] not in ("", NONE) for row in rows)]
    kept = [{name: row[name] for name in used} for row in rows]
    for column, separator in (("trouble", ", "), ("setting", " ")):
        if column in used and sum(widths(kept).values()) + GAP * (len(used) - 1) > width:
            kept = [{**row, column: row[column].replace(separator, separator.rstrip() + "\n")} for row in kept]
    return kept


def small_table(
    rows: Sequence[Row], names: Sequence[str], left: Collection[str], *, widest: Sequence[Row], header: bool = True
) -> Table:
    """Some columns of some rows; they are as wide as those of all the rows in ``widest``, so that tables line up."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_header=header,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    wide = widths(widest)
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", min_width=wide[name], no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def _print_words(rows: Sequence[Row], names: Sequence[str], console: Console) -> None:
    """The first column's words head a section; of the others the last one is wrapped beside the rest."""
    first, *others, last = names
    natural = widths(rows)
    wide = {name: min(WORDS_WIDTH, natural[name]) for name in others}
    left = console.width - sum(width + GAP for width in wide.values())
    wide[last] = min(natural[last], max(WORDS_WIDTH // 2, left))
    for heading, section in groupby(rows, key=lambda row: row[first]):
        console.print("", Text(heading, style="italic"), sep="\n")
        table = Table.grid(padding=(0, GAP, 0, 0))
        for name, width in wide.items():
            table.add_column(name, width=width)
        for row in section:
            table.add_row(*(Text(row[name]) for name in wide))
        console.print(table)
