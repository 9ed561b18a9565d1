"""The DNA tasks: splice junctions and histone occupancy, in the files of Hilbert-CNN.

Source: github.com/Doulrs/Hilbert-CNN, folder ``data`` (Yin et al. 2018, openreview.net/forum?id=HJvvRoe0W).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.errors import near
from trainer.sources import Source
from trainer.tasks.files import check_symbols, read_lines
from trainer.tasks.task import DataError, Examples, Split, Task

UPSTREAM = "https://raw.githubusercontent.com/Doulrs/Hilbert-CNN/5754b8ba45452acae1829c96533c5b3612bf32b7/data"
SPLICE_CLASSES = ("EI", "IE", "N")
SPLICE_LENGTH = 60


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

    def read(self, *paths: Path) -> Examples:
        (path,) = paths
        sequences, labels = [], []
        lines = read_lines(path)
        for number, line in enumerate(lines, start=1):
            if not line.strip():
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
            check_symbols(path, [number], [sequence], self.symbols)
            if len(sequence) != SPLICE_LENGTH:
                raise DataError(
                    path, number, f"{len(sequence)} symbols instead of {SPLICE_LENGTH}; is the file truncated?"
                )
            sequences.append(sequence)
            labels.append(self.classes.index(label))
        return Examples(train=Split(sequences=tuple(sequences), labels=np.array(labels, dtype=np.int64)))


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

    def read(self, *paths: Path) -> Examples:
        (path,) = paths
        lines = [line.strip() for line in read_lines(path)]
        names, sequences, labels = lines[0::3], lines[1::3], lines[2::3]
        for record, name in enumerate(names):
            if not name.startswith(">"):
                raise DataError(
                    path, 3 * record + 1, f"{name[:20]!r} where a name was expected; a record is >name, sequence, label"
                )
            if record < len(labels) and labels[record] not in self.classes:
                label = labels[record]
                raise DataError(path, 3 * record + 3, f"wrong label {label!r} of record {name!r}; allowed: 0, 1")
        if len(labels) < len(names):
            raise DataError(
                path,
                len(lines),
                f"the file ends inside the record {names[-1]!r}; it is truncated, delete it and fetch it again",
            )
        check_symbols(path, range(2, len(lines) + 1, 3), sequences, self.symbols)
        return Examples(train=Split(sequences=tuple(sequences), labels=np.array(labels, dtype=np.int64)))


def _histone(file: str, git_blob: str, num_examples: int) -> Histone:
    source = Source(path=f"dna/{file}", url=f"{UPSTREAM}/{file}", git_blob=git_blob)
    return Histone(files=(source,), num_examples=num_examples)


H3 = _histone("H3.txt", "5d92655be8c9c31712f1636a931677824497bbbc", 14965)
H4 = _histone("H4.txt", "bf15dee3c20ec1a2910f404b31ad56673c852226", 14601)
H3K9AC = _histone("H3K9ac.txt", "7ab727805bbe76db772252af5429677752e3572e", 27782)
SPLICE = Splice()
