"""A table that is ready to be shown: what every layout makes, and what every format is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

NONE = "-"  # in a cell: there is nothing to show


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a sheet.

    Attributes:
        name: the column's header, and its key in every row; no two of a sheet are alike.
        align: ``left`` for words, ``right`` for numbers.
        unit: a second line of the header, such as ``accuracy ↑``; empty where there is none.
        brief: whether a terminal shows it too; files show all columns.
    """

    name: str
    align: Literal["left", "right"] = "right"
    unit: str = ""
    brief: bool = True


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table with its title and footnotes.

    A cell is plain text, unescaped, and may have several lines, separated by ``\\n``; the lines of a row's cells stand
    beside each other, and the first of them is what a table is sorted by. ``-`` stands where there is nothing to show.

    Attributes:
        title: one line, plain text.
        columns: in order; the words that name a row (aligned left) come first.
        rows: the cells by column name; every row has the same keys, those of ``columns`` in their order.
        notes: footnotes, each a sentence or more.
        records: what CSV holds: every number by itself, by name; not the same rows, and None where there is nothing.
        incomplete: whether any expected cell behind the numbers is missing, failed, diverged or still running.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...] = ()
    records: tuple[Mapping[str, object], ...] = ()
    incomplete: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"columns: two have the same name: {names}")
        for row in self.rows:
            if list(row) != names:
                raise ValueError(f"rows: a row has the cells {list(row)}, the columns are {names}")
