"""The DNA tasks: splice junctions and histone occupancy, in the files of Hilbert-CNN.

Source: github.com/Doulrs/Hilbert-CNN, folder ``data`` (Yin et al. 2018, openreview.net/forum?id=HJvvRoe0W).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.errors import near
from trainer.sources import Source
from trainer.tasks.task import DataError, Split, Task

UPSTREAM = "https://raw.githubusercontent.com/Doulrs/Hilbert-CNN/5754b8ba45452acae1829c96533c5b3612bf32b7/data"
SPLICE_CLASSES = ("EI", "IE", "N")
SPLICE_LENGTH = 60


def _lines(path: Path) -> list[str]:
    """The file's lines without trailing blank ones.

    Raises:
        DataError: for a file that cannot be read, is empty or is not ASCII text.
    """
    try:
        lines = path.read_bytes().rstrip().splitlines()
    except OSError as error:
        raise DataError(path, None, f"the file cannot be read ({error.strerror})") from None
    if not lines:
        raise DataError(path, None, "the file is empty; delete it and run `python -m trainer.fetch` to get it again")
    for number, line in enumerate(lines, start=1):
        if not line.isascii():
            raise DataError(path, number, "this is not ASCII text; is it the right file?")
    return [line.decode("ascii").strip() for line in lines]


def _check_symbols(path: Path, line: int, sequence: str, symbols: str) -> None:
    if not sequence:
        raise DataError(path, line, "the sequence is empty; remove the record or complete it")
    wrong = set(sequence) - set(symbols)
    if wrong:
        symbol = next(symbol for symbol in sequence if symbol in wrong)
        position = sequence.index(symbol) + 1
        allowed = ", ".join(symbols) + near(symbol, symbols)
        raise DataError(path, line, f"wrong symbol {symbol!r} at position {position}; allowed: {allowed}")


@dataclass(frozen=True, kw_only=True)
class Splice(Task):
    """Is the middle of 60 nt an exon-intron boundary (EI), an intron-exon one (IE), or neither (N)?

    A line is ``CLASS, NAME, SEQUENCE``; the ambiguity codes D, N, R, S are symbols of their own.
    """

    discipline: str = "dna"
    files: tuple[Source, ...] = (
        Source(
            path="dna/splice.txt", url=f"{UPSTREAM}/splice.txt", git_blob="66ee68cb4acc9e55318d64283a9b6ca7df4b6a5f"
        ),
    )
    num_examples: int = 3190
    symbols: str = "ACGTDNRS"
    classes: tuple[str, ...] = SPLICE_CLASSES
    max_length: int = SPLICE_LENGTH
    paper: str = "UCI Molecular Biology (Splice-junction Gene Sequences), doi.org/10.24432/C5M888"

    def read(self, *paths: Path) -> Split:
        (path,) = paths
        sequences, labels = [], []
        for number, line in enumerate(_lines(path), start=1):
            if not line:
                raise DataError(path, number, "the line is blank; remove it")
            columns = [column.strip() for column in line.split(",")]
            if len(columns) != 3:
                raise DataError(
                    path,
                    number,
                    f"{len(columns)} column(s) instead of 3: CLASS, NAME, SEQUENCE; is the file truncated?",
                )
            label, _, sequence = columns
            if label not in self.classes:
                allowed = ", ".join(self.classes)
                raise DataError(path, number, f"wrong label {label!r}; allowed: {allowed}{near(label, self.classes)}")
            _check_symbols(path, number, sequence, self.symbols)
            if len(sequence) != SPLICE_LENGTH:
                raise DataError(
                    path, number, f"{len(sequence)} symbols instead of {SPLICE_LENGTH}; is the file truncated?"
                )
            sequences.append(sequence)
            labels.append(self.classes.index(label))
        return Split(sequences=tuple(sequences), labels=np.array(labels, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Histone(Task):
    """Does a nucleosome of this kind sit on these 500 nt of yeast DNA?

    A record is three lines: ``>name``, the sequence, the label 0 or 1.
    """

    discipline: str = "dna"
    symbols: str = "ACGT"
    classes: tuple[str, ...] = ("0", "1")
    max_length: int = 500
    paper: str = "Pokholok et al. 2005, doi.org/10.1016/j.cell.2005.06.026"

    def read(self, *paths: Path) -> Split:
        (path,) = paths
        lines = _lines(path)
        sequences, labels = [], []
        for start in range(0, len(lines), 3):
            record = lines[start : start + 3]
            if not record[0].startswith(">"):
                raise DataError(
                    path, start + 1, f"{record[0][:20]!r} where a name was expected; a record is >name, sequence, label"
                )
            if len(record) < 3:
                raise DataError(
                    path,
                    start + len(record),
                    f"the file ends inside the record {record[0]!r}; it is truncated, delete it and fetch it again",
                )
            name, sequence, label = record
            _check_symbols(path, start + 2, sequence, self.symbols)
            if label not in self.classes:
                raise DataError(path, start + 3, f"wrong label {label!r} of record {name!r}; allowed: 0, 1")
            sequences.append(sequence)
            labels.append(int(label))
        return Split(sequences=tuple(sequences), labels=np.array(labels, dtype=np.int64))


def _histone(file: str, git_blob: str, num_examples: int) -> Histone:
    source = Source(path=f"dna/{file}", url=f"{UPSTREAM}/{file}", git_blob=git_blob)
    return Histone(files=(source,), num_examples=num_examples)


H3 = _histone("H3.txt", "5d92655be8c9c31712f1636a931677824497bbbc", 14965)
H4 = _histone("H4.txt", "bf15dee3c20ec1a2910f404b31ad56673c852226", 14601)
H3K9AC = _histone("H3K9ac.txt", "7ab727805bbe76db772252af5429677752e3572e", 27782)
SPLICE = Splice()
