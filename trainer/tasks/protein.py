"""The protein tasks: subcellular localization, stability and fluorescence, in the files of PLUS, TAPE or DeepLoc 1.

The splits of stability and fluorescence are TAPE's (Rao et al. 2019, arXiv 1906.08230), the test split of localization
is DeepLoc's; PLUS (Min et al. 2021, doi.org/10.1109/ACCESS.2021.3110269) gives all three as FASTA files.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import near
from trainer.sources import Source
from trainer.tasks.files import read_bytes, read_fasta
from trainer.tasks.task import SPLIT_SEED, DataError, Examples, Split, Task

PLUS = "http://ailab.snu.ac.kr/PLUS/"
TAPE = "https://s3.amazonaws.com/songlabdata/proteindata/data_raw_pytorch"
TAPE_HOME = "https://github.com/songlab-cal/tape"
DEEPLOC = "https://services.healthtech.dtu.dk/services/DeepLoc-1.0"
SPLITS_PAPER = "splits of TAPE: Rao et al. 2019, arXiv 1906.08230"

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY" + "BOUXZ"  # the standard ones, then rare, ambiguous and unknown ones
REMEDIES = {
    "*": "cut the sequence before this stop",
    "-": "remove the gaps of an alignment",
    "J": "write X where leucine and isoleucine cannot be told apart",
}
LOCATIONS = tuple(
    "Cell.membrane Cytoplasm Endoplasmic.reticulum Extracellular Golgi.apparatus Lysosome/Vacuole Mitochondrion "
    "Nucleus Peroxisome Plastid".split()
)
AGAIN = "delete it and get it again"
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # float() also takes nan, inf and 1_0


def _plus(folder: str) -> tuple[Source, ...]:
    """PLUS's three files of a task; it has no address that gives a single file."""
    name = folder.lower()
    return tuple(
        Source(path=f"protein/{folder}/{name}_{split}.fa", homepage=PLUS) for split in ("train", "dev", "test")
    )


def _tape(name: str) -> tuple[Source, ...]:
    """TAPE's three files of a task, which come in one archive."""
    return tuple(
        Source(
            path=f"protein/tape/{name}/{name}_{split}.json",
            url=f"{TAPE}/{name}.tar.gz",
            homepage=TAPE_HOME,
            unpack="protein/tape",
        )
        for split in ("train", "valid", "test")
    )


@dataclass(frozen=True, kw_only=True)
class Localization(Task):
    """In which of ten places of a eukaryotic cell does this protein work?

    Both ends of a long protein are kept: the signals that send it to its place stand there. DeepLoc's own file, the
    alternative, marks the test records; 10 % of the others are drawn for valid, as many as PLUS has.
    """

    discipline: str = "protein"
    files: tuple[Source, ...] = _plus("Localization")
    alternatives: tuple[tuple[Source, ...], ...] = (
        (Source(path="protein/deeploc_data.fasta", url=f"{DEEPLOC}/deeploc_data.fasta", homepage=f"{DEEPLOC}/"),),
    )
    num_examples: int = 9977 + 1108 + 2773
    symbols: str = AMINO_ACIDS
    classes: tuple[str, ...] = LOCATIONS
    max_length: int = 510  # 512 tokens
    keeps_both_ends: bool = True
    paper: str = "Almagro Armenteros et al. 2017, doi.org/10.1093/bioinformatics/btx431"

    def read(self, *paths: Path) -> Examples:
        files = [_read_fasta(path) for path in paths]
        splits = [_located(path, proteins) for path, proteins in zip(paths, files, strict=True)]
        num_skipped = sum(int((split.labels < 0).sum()) for split in splits)
        facts = {"skipped_records": str(num_skipped)} if num_skipped else {}
        drawn = ""
        rows = [np.flatnonzero(split.labels >= 0) for split in splits]
        if len(paths) == 1:
            splits, rows = splits * 3, _deeploc_rows(paths[0], files[0], rows[0])
            drawn = f"test as given, valid drawn from the rest (10 %) by seed {SPLIT_SEED}"
        train, valid, test = (split.take(chosen) for split, chosen in zip(splits, rows, strict=True))
        return Examples(train=train, valid=valid, test=test, split=drawn, facts=facts)


@dataclass(frozen=True, kw_only=True)
class ProteinScore(Task):
    """A number is predicted from a protein.

    Attributes:
        key: what TAPE's JSON files call the number.
    """

    discipline: str = "protein"
    symbols: str = AMINO_ACIDS
    metrics: tuple[str, ...] = ("spearman", "pearson")
    key: str

    def read(self, *paths: Path) -> Examples:
        train, valid, test = map(self._read_split, paths)
        return Examples(train=train, valid=valid, test=test)

    def _read_split(self, path: Path) -> Split:
        if path.suffix == ".json":
            return _read_tape(path, self.key)
        proteins = _read_fasta(path)
        return Split(sequences=tuple(proteins.sequences), labels=_numbers(path, proteins))


@dataclass(frozen=True, kw_only=True)
class Stability(ProteinScore):
    """How well does this designed protein withstand proteases?

    The label is the stability score of Rocklin et al.: log10 of how much more protease it takes than an unfolded
    protein of this sequence would need, so that 1 is ten times as much.
    """

    files: tuple[Source, ...] = _plus("Stability")
    alternatives: tuple[tuple[Source, ...], ...] = (_tape("stability"),)
    num_examples: int = 53614 + 2512 + 12851
    max_length: int = 50
    key: str = "stability_score"
    paper: str = f"Rocklin et al. 2017, doi.org/10.1126/science.aan0693; {SPLITS_PAPER}"


@dataclass(frozen=True, kw_only=True)
class Fluorescence(ProteinScore):
    """How brightly does this mutant of the green fluorescent protein avGFP shine?

    The label is log10 of the fluorescence (arbitrary units) that Sarkisyan et al. measured. Train and valid have up to
    three mutations, test four and more.
    """

    files: tuple[Source, ...] = _plus("Fluorescence")
    alternatives: tuple[tuple[Source, ...], ...] = (_tape("fluorescence"),)
    num_examples: int = 21446 + 5362 + 27217
    max_length: int = 256
    key: str = "log_fluorescence"
    paper: str = f"Sarkisyan et al. 2016, doi.org/10.1038/nature17995; {SPLITS_PAPER}"


@dataclass(frozen=True, kw_only=True)
class _Proteins:
    """The N records of a FASTA file.

    Attributes:
        lines: where each record begins.
        headers: the words of each header: name, label and perhaps ``test``.
        sequences: in upper case.
    """

    lines: list[int]
    headers: list[list[str]]
    sequences: list[str]


def _read_fasta(path: Path) -> _Proteins:
    """The proteins of a FASTA file with headers ``>NAME LABEL`` or ``>NAME LABEL test``; labels are not looked at.

    Raises:
        DataError: for a truncated file, another header, a name that occurs twice, or a wrong sequence.
    """
    records = read_fasta(path)
    lines = [record.line for record in records]
    headers = [record.header.split() for record in records]
    if not records[-1].sequence:
        raise DataError(path, lines[-1], f"the file ends inside this record; it is truncated, {AGAIN}")
    for line, words in zip(lines, headers, strict=True):
        if len(words) != 2 and (len(words) != 3 or words[2] != "test"):
            header = " ".join(words)[:40]
            raise DataError(path, line, f"the header {header!r} is not a name and a label; write '>NAME LABEL'")
    first_lines: dict[str, int] = {}
    for line, (name, *_) in zip(lines, headers, strict=True):
        if (first := first_lines.setdefault(name, line)) != line:
            raise DataError(path, line, f"the name {name[:40]!r} stands in line {first} already; remove one of them")
    sequences = [record.sequence.upper() for record in records]
    if found := _wrong_sequence(sequences):
        row, problem = found
        raise DataError(path, lines[row], problem)
    return _Proteins(lines=lines, headers=headers, sequences=sequences)


def _wrong_sequence(sequences: Sequence[str]) -> tuple[int, str] | None:
    """The first sequence that is empty or has a wrong symbol, and what is wrong with it; None where all are right.

    Not ``files.check_symbols``: a JSON file has records rather than lines, and stops and gaps have their own remedy.
    """
    joined = "".join(sequences).encode(errors="replace")
    if all(sequences) and not joined.translate(None, delete=AMINO_ACIDS.encode()):
        return None
    for row, sequence in enumerate(sequences):
        if not sequence:
            return row, "the sequence is empty; remove the record or complete it"
        for position, symbol in enumerate(sequence, start=1):
            if symbol not in AMINO_ACIDS:
                remedy = REMEDIES.get(symbol, "X stands for an unknown one")
                allowed = ", ".join(AMINO_ACIDS)
                return row, f"wrong symbol {symbol!r} at position {position}; allowed: {allowed}; {remedy}"
    return None


def _numbers(path: Path, proteins: _Proteins) -> np.ndarray:
    """The labels as (N,) float64, all finite.

    Raises:
        DataError: for the first that is not a finite number.
    """
    texts = [words[1] for words in proteins.headers]
    labels = np.array([float(text) if NUMBER.fullmatch(text) else np.nan for text in texts])
    wrong = np.flatnonzero(~np.isfinite(labels))
    if len(wrong):
        text = texts[wrong[0]][:40]
        raise DataError(path, proteins.lines[wrong[0]], f"wrong label {text!r}; write a finite number, e.g. 1.25")
    return labels


def _located(path: Path, proteins: _Proteins) -> Split:
    """The proteins with their class indices; -1 for one with two places (Cytoplasm-Nucleus-U), which has no class.

    The class ends at the first ``-``; a letter for membrane-bound (M), soluble (S) or unknown (U) may follow.

    Raises:
        DataError: for the first unknown class, or where no protein has a class.
    """
    indices = {name: index for index, name in enumerate(LOCATIONS)}
    labels = np.full(len(proteins.headers), -1)
    for row, (_, label, *_) in enumerate(proteins.headers):
        name, second, *_ = f"{label}-".split("-")
        if name not in indices:
            problem = f"unknown class {name[:40]!r}; allowed: {', '.join(LOCATIONS)}{near(name[:40], LOCATIONS)}"
            raise DataError(path, proteins.lines[row], problem)
        if second not in indices:
            labels[row] = indices[name]
    if (labels < 0).all():
        raise DataError(path, None, f"every protein has two places, no record has one class; {AGAIN}")
    return Split(sequences=tuple(proteins.sequences), labels=labels)


def _deeploc_rows(path: Path, proteins: _Proteins, rows: np.ndarray) -> list[np.ndarray]:
    """Which of the given rows of DeepLoc's file are train, valid and test, each in file order.

    Raises:
        DataError: where one of them would be empty.
    """
    is_test = np.array([len(words) == 3 for words in proteins.headers])[rows]
    test, others = rows[is_test], rows[~is_test]
    num_valid = len(others) // 10
    if not num_valid or not len(test):
        problem = "at least 10 records without and 1 with the mark `test` after the class are needed"
        raise DataError(path, None, f"{problem}; if the file is truncated, {AGAIN}")
    drawn = np.random.default_rng(SPLIT_SEED).permutation(others)
    return [np.sort(drawn[num_valid:]), np.sort(drawn[:num_valid]), test]


def _read_tape(path: Path, key: str) -> Split:
    """The split of one of TAPE's JSON files: a list of objects with ``primary``, the sequence, and key, the number.

    Raises:
        DataError: naming the record, counted from 1.
    """
    content = read_bytes(path)
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:  # cut off, no text at all, nested too deeply
        raise DataError(path, getattr(error, "lineno", None), f"this is not a whole JSON file; {AGAIN}") from None
    if not isinstance(records, list) or not records:
        raise DataError(path, None, f"a list of records was expected, with at least one; {AGAIN}")
    sequences, labels = [], []
    for number, record in enumerate(records, start=1):
        sequence: Any = record.get("primary") if isinstance(record, dict) else None
        score: Any = record.get(key) if isinstance(record, dict) else None
        if isinstance(score, list) and len(score) == 1:
            (score,) = score
        if not isinstance(sequence, str):
            raise DataError(path, None, f"record {number}: no sequence; give it as text under 'primary'")
        # True and False are ints to Python, and an int may be too large for a float.
        if type(score) not in (int, float) or not abs(score) <= sys.float_info.max:
            raise DataError(path, None, f"record {number}: wrong or no label; give one finite number under {key!r}")
        sequences.append(sequence.upper() if sequence.isascii() else sequence)  # upper() makes SS of ß
        labels.append(float(score))
    if found := _wrong_sequence(sequences):
        row, problem = found
        raise DataError(path, None, f"record {row + 1}: {problem}")
    return Split(sequences=tuple(sequences), labels=np.array(labels, dtype=np.float64))


LOCALIZATION = Localization()
STABILITY = Stability()
FLUORESCENCE = Fluorescence()
