"""Readers of a user's own files: CSV, TSV, Parquet and FASTA to a table of cells."""

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import near
from trainer.tasks.files import BYTE_ORDER_MARK, read_fasta
from trainer.tasks.task import DataError

if TYPE_CHECKING:
    import pyarrow

SEQUENCE, LABEL, SPLIT = "sequence", "label", "split"  # the columns that are read; others may stand beside them
SPLITS = ("train", "valid", "test")
SPLIT_WORDS = {name: name for name in SPLITS} | {"validation": "valid", "dev": "valid"}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
PACKED_FILES = {
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"\xfd7zXZ": "packed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard; unpack it first",
    b"PK\x03\x04": "a zip archive or an Excel file; unpack it, or save it as CSV",
}
NEAR_SPLIT = 0.75  # how alike "splits", "slpit" and "spit" are to "split", but "site" and "species" are not


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of N examples, without blanks around them.

    Attributes:
        splits: each example's split as the file calls it, or None where the file has no such column.
        lines: where each example stands in the file: the number of its (first) line, or of its row.
        unit: what ``lines`` counts, "line" or "row".
        ignored: the columns that are not read.
    """

    path: Path
    sequences: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    lines: Sequence[int]
    unit: str = "line"
    ignored: tuple[str, ...] = ()

    def error(self, example: int, message: str) -> DataError:
        """What is wrong with the example at a position, counted from 0."""
        line = self.lines[example]
        if self.unit == "line":
            return DataError(self.path, line, message)
        return DataError(self.path, None, f"{self.unit} {line}: {message}")


def brief(text: str) -> str:
    """A piece of somebody's file as it may stand in a message: quoted, on one line, at most 30 characters of it."""
    return repr(text if len(text) <= 30 else text[:29] + "…")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    except OSError as error:
        raise DataError(path, None, f"the file cannot be read ({error.strerror}); check its permissions") from None
    if not content.strip():
        raise DataError(path, None, "the file is empty; give one with at least 11 examples")
    for beginning, found in PACKED_FILES.items():
        if content.startswith(beginning):
            raise DataError(path, None, f"the file is {found}")
    if content.startswith(b"PAR1") and content.endswith(b"PAR1") and path.suffix.lower() != ".parquet":
        raise DataError(path, None, "the file is a Parquet file; give it a name that ends in .parquet")
    return content


def _find_columns(path: Path, line: int | None, header: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Where the known columns are, however their names are capitalised, and the names of those that are ignored.

    Refuses columns without a sequence and a label, with a known one twice, or with a misspelt split: its test examples
    would be trained on.
    """
    names = [name.strip().lower() for name in header]
    for name in (SEQUENCE, LABEL):
        if name not in names:
            found = ", ".join(brief(column) for column in header[:8]) + (", …" if len(header) > 8 else "")
            hint = near(name, [column[:30] for column in header])
            message = f"there is no column {name!r}, only {found or 'nothing'}; name the columns sequence, label{hint}"
            raise DataError(path, line, message)
    for name in (SEQUENCE, LABEL, SPLIT):
        if names.count(name) > 1:
            raise DataError(path, line, f"there are {names.count(name)} columns {name!r}; keep one of them")
    places = {name: names.index(name) for name in (SEQUENCE, LABEL, SPLIT) if name in names}
    ignored = tuple(column for place, column in enumerate(header) if place not in places.values())
    for column in ignored if SPLIT not in places else ():
        is_near = difflib.SequenceMatcher(None, SPLIT, column[:30].strip().lower()).ratio() >= NEAR_SPLIT
        if is_near or SPLIT in column.lower():
            raise DataError(
                path, line, f"is the column {brief(column)} meant as {SPLIT!r}? Rename it to that, or remove it"
            )
    return places, ignored


def read_csv(path: Path) -> Table:
    """A UTF-8 file of comma-separated cells with a header: columns sequence, label and, if need be, split.

    Cells may be quoted (``"``), and then hold commas, line breaks and doubled quotes; blank lines count for nothing.

    Raises:
        DataError: naming the file and line.
    """
    return _read_cells(path, ",")


def read_tsv(path: Path) -> Table:
    """The same as :func:`read_csv` with tabs in place of commas."""
    return _read_cells(path, "\t")


def _read_cells(path: Path, delimiter: str) -> Table:
    rows = _rows(path, delimiter)
    first_line, header = next(rows, (1, []))
    places, ignored = _find_columns(path, first_line, [name.strip() for name in header])
    lines: list[int] = []
    kept: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                path, line, f"{len(row)} cell(s) instead of {len(header)}, as the header has; mend or quote them"
            )
        lines.append(line)
        kept.append([row[column].strip() for column in places.values()])
    if not kept:
        raise DataError(path, None, "there is a header but no example; give at least 11")
    sequences, labels, *splits = zip(*kept, strict=True)
    split = splits[0] if splits else None
    return Table(path=path, sequences=sequences, labels=labels, splits=split, lines=lines, ignored=ignored)


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its first line."""
    content = _content(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(path, line, "this is not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(path, line, "there is a NUL byte; is it a text file? Save it as UTF-8")
    _check_separator(path, text, delimiter)
    csv.field_size_limit(2**31 - 1)  # a chromosome is longer than the 131,072 characters that a cell may have
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if len(row) > 1 or "".join(row).strip():
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise DataError(path, line, f"the quotes are wrong ({error}); double a quote inside of a quoted cell") from None


def _check_separator(path: Path, text: str, delimiter: str) -> None:
    """Refuses a header that is in one piece, but would not be with another separator."""
    header = text.lstrip().partition("\n")[0].partition("\r")[0]
    other = max(SEPARATORS, key=header.count)
    if delimiter not in header and other in header:
        wanted, line = SEPARATORS[delimiter], text.count("\n", 0, text.index(header)) + 1
        raise DataError(path, line, f"the header has {SEPARATORS[other]}, not {wanted}; save the file with {wanted}")


def read_parquet(path: Path) -> Table:
    """A Parquet file with the columns sequence (text), label (text or numbers) and, if need be, split (text).

    Raises:
        DataError: naming the file and row, counted from 1.
    """
    import pyarrow
    from pyarrow import parquet

    _content(path)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            places, ignored = _find_columns(path, None, schema.names)
            for name, place in places.items():
                _check_kind(path, name, schema.field(place).type)
            columns = file.read(columns=[schema.names[place] for place in places.values()])
            cells = {name: _cells(path, name, columns[schema.names[place]]) for name, place in places.items()}
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(path, None, f"this is not a whole Parquet file ({reason}); write it anew") from None
    num_rows = len(cells[SEQUENCE])
    if not num_rows:
        raise DataError(path, None, "there are columns but no example; give at least 11")
    for name in places:
        if None in cells[name]:
            row = cells[name].index(None) + 1
            raise DataError(path, None, f"row {row}: the {name} is missing; complete or remove the row")
    texts: dict[str, tuple[str, ...]] = {name: tuple(str(cell).strip() for cell in cells[name]) for name in places}
    return Table(
        path=path,
        sequences=texts[SEQUENCE],
        labels=texts[LABEL],
        splits=texts.get(SPLIT),
        lines=range(1, num_rows + 1),
        unit="row",
        ignored=ignored,
    )


def _cells(path: Path, name: str, column: "pyarrow.ChunkedArray") -> list[Any]:
    """What the rows of a column hold; refuses text that cannot be decoded."""
    cells: list[Any] = []
    try:
        for cell in column:
            cells.append(cell.as_py())
    except UnicodeDecodeError:
        raise DataError(path, None, f"row {len(cells) + 1}: the {name} is not UTF-8 text; store it as UTF-8") from None
    return cells


def _check_kind(path: Path, name: str, kind: "pyarrow.DataType") -> None:
    """Refuses a column of dates, lists and the like. Decimal numbers are numbers, of whatever width."""
    from pyarrow import types

    stored: Any = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored):
        return
    are_numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    if name == LABEL and any(is_one(stored) for is_one in are_numbers):
        return
    if name == LABEL and types.is_temporal(stored):
        remedy = "store numbers there, e.g. days since the first one, or class names as text"
        raise DataError(path, None, f"the column {name!r} holds dates or times ({brief(str(kind))}); {remedy}")
    allowed = "text or numbers" if name == LABEL else "text"
    raise DataError(path, None, f"the column {name!r} holds {brief(str(kind))}; store {allowed} there")


def read_labelled_fasta(path: Path) -> Table:
    """A FASTA file with headers ``>NAME LABEL``: the label is all that follows the first blank.

    Raises:
        DataError: naming the file and line.
    """
    _content(path)
    records = read_fasta(path)
    lines: dict[str, int] = {}
    labels = []
    for record in records:
        name, *label = record.header.split(None, 1)[:2] or [""]
        if not label:
            raise DataError(path, record.line, f"the header {brief('>' + name)} has no label; write '>NAME LABEL'")
        if name in lines:
            raise DataError(
                path, record.line, f"the name {brief(name)} is also in line {lines[name]}; give each record its own"
            )
        lines[name] = record.line
        labels.append(label[0])
    return Table(
        path=path,
        sequences=tuple(record.sequence for record in records),
        labels=tuple(labels),
        lines=list(lines.values()),
    )
