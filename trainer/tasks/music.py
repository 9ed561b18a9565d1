"""The music task: who composed a piece, from the pitches of MAESTRO's performances.

Source: magenta.withgoogle.com/datasets/maestro (Hawthorne et al. 2019, arXiv 1810.12247).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from trainer.archives import is_inside
from trainer.errors import near
from trainer.midi import PITCH_NAMES, PITCHES, read_pitches
from trainer.sources import Source
from trainer.tasks.files import read_lines
from trainer.tasks.task import DataError, Examples, Split, Task

HOMEPAGE = "https://magenta.withgoogle.com/datasets/maestro"
PAPERS_VERSION = "maestro-v1.0.0"
SEGMENT_LENGTH = 128
SPLITS = ("train", "validation", "test")
COLUMNS = ("canonical_composer", "split", "midi_filename")


def segments(pitches: str) -> list[str]:
    """A piece's segments of SEGMENT_LENGTH notes: the examples, which later vote on the piece.

    A tail of fewer notes is dropped, as in the paper's code: it would have a whole vote with less to go by. A piece
    that is itself shorter is kept as its one segment, else it could not be scored. Unlike there
    (github.com/sky1456723/BERT-non-text, ``Music/preprocess.py``), a last segment of exactly SEGMENT_LENGTH notes is
    kept, and the notes of the whole piece are in order of their start before it is cut: there they are sorted within
    each segment only, so that a segment may hold notes of other places.
    """
    ends = range(SEGMENT_LENGTH, len(pitches) + 1, SEGMENT_LENGTH)
    return [pitches[end - SEGMENT_LENGTH : end] for end in ends] or [pitches]


def segmented(pieces: Sequence[str], labels: Sequence[int]) -> Split:
    """The split whose examples are the segments of P pieces, numbered 0 to P - 1, each piece with its label."""
    segments_P = [segments(pitches) for pitches in pieces]
    counts_P = [len(parts) for parts in segments_P]
    return Split(
        sequences=tuple(chain.from_iterable(segments_P)),
        labels=np.repeat(np.array(labels, dtype=np.int64), counts_P),
        pieces=np.repeat(np.arange(len(pieces)), counts_P),
    )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A row of MAESTRO's metadata."""

    composer: str
    split: str
    midi: Path


def read_metadata(path: Path) -> list[Piece]:
    """The rows of a MAESTRO CSV, whose MIDI files lie beside it; other columns than COLUMNS may be there or not.

    Raises:
        DataError: naming file and line, for a CSV that cannot be read, or whose MIDI files are not there.
    """
    (first_line, header), *rows = _read_csv(path)
    for name in COLUMNS:
        if header.count(name) != 1:
            problem = "several columns are" if name in header else "no column is"
            hint = "" if name in header else near(name, header)
            raise DataError(path, first_line, f"{problem} called {name!r}; the header must name it once{hint}")
    if not rows:
        raise DataError(path, None, "there is no row below the header; the file is truncated, fetch it again")
    pieces, line_of = [], dict[PurePosixPath, int]()
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                path, line, f"{len(row)} column(s) where the header has {len(header)}; is the file truncated?"
            )
        composer, split, midi = (row[header.index(name)] for name in COLUMNS)
        if not composer.strip():
            raise DataError(path, line, "canonical_composer is empty; complete it or remove the row")
        if split not in SPLITS:
            raise DataError(path, line, f"wrong split {split!r}; allowed: {', '.join(SPLITS)}{near(split, SPLITS)}")
        if (before := line_of.setdefault(PurePosixPath(midi), line)) != line:
            raise DataError(path, line, f"the midi_filename {midi!r} is that of line {before} too; remove one of them")
        pieces.append(Piece(composer=composer.strip(), split=split, midi=_midi_file(path, line, midi)))
    return pieces


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """The rows, each with the number of the line on which it begins; at least one."""
    lines = read_lines(path, "utf-8")
    reader = csv.reader(lines, strict=True)
    rows, line = [], 1
    try:
        for row in reader:
            rows.append((line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            path, line, f"this row is not CSV ({error}); is a quote missing, or the file truncated?"
        ) from None
    return rows


def _midi_file(path: Path, line: int, name: str) -> Path:
    if not is_inside(name):
        raise DataError(path, line, f"wrong midi_filename {name!r}; allowed: a path inside the CSV's folder")
    try:
        if (midi := path.parent / name).is_file():
            return midi
        problem = "is not there"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise DataError(
        path, line, f"the MIDI file {name!r} {problem}; unpack the whole archive beside the CSV, or remove the row"
    )


@dataclass(frozen=True, kw_only=True)
class Composer(Task):
    """Who composed this piano piece? From 128 pitches at a time, in order of note start; see :func:`segments`.

    A piece is an example of upstream's; its segments are the sequences. Every composer in the metadata is a class. A
    MIDI file that cannot be parsed or has no notes is skipped, named on stderr and counted (``skipped_files``).
    """

    discipline: str = "music"
    files: tuple[Source, ...]
    num_examples: int = 1184
    symbols: str = PITCHES
    max_length: int = SEGMENT_LENGTH
    paper: str = "Hawthorne et al. 2019, MAESTRO v1.0.0, arXiv 1810.12247"

    def read(self, *paths: Path) -> Examples:
        (path,) = paths
        rows = read_metadata(path)
        classes = tuple(sorted({row.composer for row in rows}))
        pitches = read_pitches([row.midi for row in rows])
        splits = {}
        for name in SPLITS:
            chosen = [(row, notes) for row, notes in zip(rows, pitches, strict=True) if row.split == name]
            pieces = [(notes, classes.index(row.composer)) for row, notes in chosen if notes is not None]
            if not pieces:
                problem = f"none of the {len(chosen)} MIDI files can be read" if chosen else "there is no row"
                raise DataError(path, None, f"{problem} of the split {name!r}; unpack the archive again")
            splits[name] = segmented(*zip(*pieces, strict=True))
        num_skipped = pitches.count(None)
        return Examples(
            train=splits["train"],
            valid=splits["validation"],
            test=splits["test"],
            symbol_names=PITCH_NAMES,
            classes=classes,
            note="" if path.stem == PAPERS_VERSION else f"{path.stem}, the paper has {PAPERS_VERSION}",
            facts={"skipped_files": str(num_skipped)} if num_skipped else {},
        )


def _metadata(version: str) -> str:
    return f"music/maestro-v{version}/maestro-v{version}.csv"


COMPOSER = Composer(
    files=(
        Source(
            path=_metadata("1.0.0"),
            url="https://storage.googleapis.com/magentadata/datasets/maestro/v1.0.0/maestro-v1.0.0-midi.zip",
            homepage=HOMEPAGE,
            sha256="f620f9e1eceaab8beea10617599add2e9c83234199b550382a2f603098ae7135",
            unpack="music",
        ),
    ),
    # Read where a user has them, but never downloaded in place of version 1: they are other data.
    alternatives=tuple(
        (Source(path=_metadata(version), homepage=HOMEPAGE, unpack="music"),) for version in ("2.0.0", "3.0.0")
    ),
)
