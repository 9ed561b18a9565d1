"""Readers of a user's own files: CSV, TSV, Parquet and FASTA to a table of cells, class folders of MIDI to examples."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import near
from trainer.tasks.files import BYTE_ORDER_MARK, read_fasta
from trainer.tasks.task import DataError, Examples, Split

if TYPE_CHECKING:
    import pyarrow

SEQUENCE, LABEL, SPLIT = "sequence", "label", "split"  # the columns that are read; others may stand beside them
MIDI_SUFFIXES = (".mid", ".midi")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of N examples, without blanks around them.

    Attributes:
        splits: each example's split as the file calls it, or None where the file has no such column.
        lines: where each example stands in the file: the number of its (first) line, or of its row.
        unit: what ``lines`` counts, "line" or "row".
    """

    path: Path
    sequences: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    lines: Sequence[int]
    unit: str = "line"

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
    return content


def _check_columns(path: Path, line: int | None, columns: Sequence[str]) -> None:
    """Refuses columns without a sequence and a label, or with one of the known ones twice."""
    for name in (SEQUENCE, LABEL):
        if name not in columns:
            found = ", ".join(brief(column) for column in columns[:8]) + (", …" if len(columns) > 8 else "")
            hint = near(name, [column[:30] for column in columns])
            message = f"there is no column {name!r}, only {found or 'nothing'}{hint}; name the columns sequence, label"
            raise DataError(path, line, message)
    for name in (SEQUENCE, LABEL, SPLIT):
        if columns.count(name) > 1:
            raise DataError(path, line, f"there are {columns.count(name)} columns {name!r}; keep one of them")


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
    columns = [name.strip() for name in header]
    _check_columns(path, first_line, columns)
    wanted = [columns.index(name) for name in (SEQUENCE, LABEL, SPLIT) if name in columns]
    lines: list[int] = []
    kept: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                path, line, f"{len(row)} cell(s) instead of {len(columns)}, as the header has; mend or quote them"
            )
        lines.append(line)
        kept.append([row[column].strip() for column in wanted])
    if not kept:
        raise DataError(path, None, "there is a header but no example; give at least 11")
    sequences, labels, *splits = zip(*kept, strict=True)
    return Table(path=path, sequences=sequences, labels=labels, splits=splits[0] if splits else None, lines=lines)


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
            columns = file.schema_arrow.names
            _check_columns(path, None, columns)
            wanted = [name for name in (SEQUENCE, LABEL, SPLIT) if name in columns]
            for name in wanted:
                _check_kind(path, name, file.schema_arrow.field(name).type)
            cells = file.read(columns=wanted).to_pydict()
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(path, None, f"this is not a whole Parquet file ({reason}); write it anew") from None
    num_rows = len(cells[SEQUENCE])
    if not num_rows:
        raise DataError(path, None, "there are columns but no example; give at least 11")
    for name in wanted:
        if None in cells[name]:
            row = cells[name].index(None) + 1
            raise DataError(path, None, f"row {row}: the {name} is missing; complete or remove the row")
    texts: dict[str, tuple[str, ...]] = {name: tuple(str(cell).strip() for cell in cells[name]) for name in wanted}
    return Table(
        path=path,
        sequences=texts[SEQUENCE],
        labels=texts[LABEL],
        splits=texts.get(SPLIT),
        lines=range(1, num_rows + 1),
        unit="row",
    )


def _check_kind(path: Path, name: str, kind: "pyarrow.DataType") -> None:
    """Refuses a column of dates, lists and the like."""
    from pyarrow import types

    stored: Any = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored):
        return
    if name == LABEL and (types.is_integer(stored) or types.is_floating(stored) or types.is_boolean(stored)):
        return
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


def read_midi_folder(path: Path) -> Examples:
    """Pieces in class folders, ``CLASS/*.mid``, or ``train/CLASS/*.mid`` and the same for valid and test.

    A piece that cannot be read is left out, with a warning, and counted in the facts.

    Raises:
        DataError: naming the folder that is empty, holds no class, or whose files can none of them be read.
    """
    from trainer.midi import PITCH_NAMES, PITCHES, read_pitches
    from trainer.tasks.music import segmented

    parts = {part.name: part for part in _folders(path)}
    if set(parts) != set(SPLITS):
        parts = {"train": path}
    found = [(part, *piece) for part, folder in parts.items() for piece in _pieces(folder)]
    pitches = read_pitches([file for _, _, file in found])
    pieces = [(part, name, piece) for (part, name, _), piece in zip(found, pitches, strict=True) if piece]
    classes = tuple(sorted({name for _, name, _ in pieces}))

    def split(wanted: str) -> Split:
        kept = [(piece, classes.index(name)) for part, name, piece in pieces if part == wanted]
        if not kept:
            raise DataError(parts[wanted], None, "none of the MIDI files can be read; give files with notes in them")
        return segmented([piece for piece, _ in kept], [label for _, label in kept])

    splits = {part: split(part) for part in parts}
    if len(classes) == 1:
        raise DataError(path, None, f"all MIDI files are of one class, {brief(classes[0])}; give at least two folders")
    num_skipped = len(found) - len(pieces)
    return Examples(
        train=splits["train"],
        valid=splits.get("valid"),
        test=splits.get("test"),
        symbols=PITCHES,
        symbol_names=tuple(PITCH_NAMES),
        classes=classes,
        facts={"skipped_files": str(num_skipped)} if num_skipped else {},
    )


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pieces(folder: Path) -> list[tuple[str, Path]]:
    """Every MIDI file of the class folders, with its class."""
    layout = "make a folder for each class, with its .mid or .midi files"
    stray = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix.lower() in MIDI_SUFFIXES]
    if stray:
        raise DataError(folder, None, f"{brief(stray[0])} lies in no class folder; {layout}")
    pieces = []
    for class_folder in _folders(folder):
        files = sorted(entry for entry in class_folder.iterdir() if entry.suffix.lower() in MIDI_SUFFIXES)
        if not files:
            raise DataError(class_folder, None, f"there is no .mid or .midi file in this class folder; {layout}")
        pieces += [(class_folder.name, file) for file in files]
    if not pieces:
        raise DataError(folder, None, f"there is no class folder; {layout}")
    return pieces
