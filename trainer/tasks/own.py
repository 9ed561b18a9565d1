"""A user's own sequences as a task: a CSV, TSV, Parquet or FASTA file, or class folders of MIDI files.

A file has a sequence and a label for each example, and may say which split it belongs to. What the symbols are, and
whether the labels are classes or numbers, is found in the file.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from trainer.errors import UserError, near, one_of
from trainer.sources import Source
from trainer.tasks.own_files import (
    SPLIT_WORDS,
    SPLITS,
    Table,
    brief,
    read_csv,
    read_labelled_fasta,
    read_parquet,
    read_tsv,
)
from trainer.tasks.own_labels import read_labels
from trainer.tasks.own_midi import read_midi_folder
from trainer.tasks.task import DataError, Dataset, Examples, Split, Task

READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".fa": read_labelled_fasta,
    ".fasta": read_labelled_fasta,
    ".faa": read_labelled_fasta,
    ".fna": read_labelled_fasta,
}
SUFFIXES = ", ".join(READERS)
LABELS = ("auto", "classes", "numbers")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
SEPARATOR_WORDS = {"space": " ", "tab": "\t"}  # what is hard to give on a command line
MAX_SYMBOLS = 60_000  # token ids are 16 bits wide
MAX_LENGTH = 510  # with two special tokens BERT's 512 positions
MAX_MIDI_LENGTH = 128


def is_path_by_form(name: str) -> bool:
    """Whether a task's name can only be meant as the path of a file or folder."""
    if "/" in name or os.sep in name or name[:1] in (".", "~"):
        return True
    return any(suffix.lower() in READERS for suffix in Path(name).suffixes[-2:])  # "my.csv.gz" is to be refused as one


def looks_like_a_path(name: str) -> bool:
    """Whether a task's name is meant as the path of a file or folder: by its form, or because there is one."""
    try:
        return bool(name) and (is_path_by_form(name) or Path(name).exists())
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class Own(Task):
    """What are a user's own sequences labelled with?

    Without a separator every character of a sequence is a symbol, blanks inside of it too; with one, every word is.

    Attributes:
        path: the file, or the folder with a folder of MIDI files for each class.
        separator: what stands between two words.
        labels: whether labels are class names or numbers to predict. ``auto``: numbers, where every label is one and
            they are not all integers, or more than 20 different ones; else classes.

    Raises:
        UserError: for an empty separator or a word that is not one of the labels.
    """

    path: str
    separator: str | None = None
    labels: str = "auto"
    discipline: str = "own"
    files: tuple[Source, ...] = ()
    num_examples: int = 0
    max_length: int = MAX_LENGTH
    paper: str = ""

    def __post_init__(self) -> None:
        one_of("labels", self.labels, LABELS)
        if self.separator == "":
            raise UserError("separator: '' is not allowed; give what stands between two words, or leave it out")

    def metrics_for(self, dataset: Dataset) -> tuple[str, ...]:
        return ("accuracy",) if dataset.classes else ("spearman", "pearson")

    def load(self, data_dir: Path | None = None) -> Dataset:
        """Reads the user's file or folder and draws the splits that it leaves open.

        Args:
            data_dir: where a relative path starts; without it in the current folder.

        Raises:
            UserError: for a path that does not exist, or data that cannot be read.
        """
        try:
            path = Path(self.path).expanduser()
            if data_dir is not None and not path.is_absolute():
                path = _folder(data_dir, path) / path
            if not path.exists():
                raise UserError(_not_there(path))
            return self.dataset(self.read(path), (path,))
        except OSError as error:
            where, reason = error.filename or self.path, error.strerror
            raise UserError(f"task: {str(where)!r} cannot be read ({reason}); check its permissions") from None
        except RuntimeError as error:  # "~nobody/my.csv"
            raise UserError(f"task: {self.path!r} cannot be found ({error}); give the whole path") from None

    def read(self, *paths: Path) -> Examples:
        (path,) = paths
        suffix = path.suffix.lower()
        if path.is_dir():
            self._refuse_options(path, "a folder of MIDI files", separator=True, numbers=True)
            return read_midi_folder(path)
        if suffix in PACKED:
            raise DataError(path, None, f"files that end in {suffix!r} cannot be read; unpack it first")
        if suffix not in READERS:
            hint = near(suffix, READERS) if suffix else ""
            raise DataError(path, None, f"files that end in {suffix!r} cannot be read; allowed: {SUFFIXES}{hint}")
        if READERS[suffix] is read_labelled_fasta:
            self._refuse_options(path, "FASTA", separator=True, numbers=False)
        table = READERS[suffix](path)
        _check_cells(table)
        rows = _split_rows(table)
        labels_N, classes = read_labels(table, self.labels)
        sequences, symbols, names = _read_symbols(table, self.separator)
        whole = Split(sequences=sequences, labels=labels_N)
        parts = {name: whole.take(positions) for name, positions in rows.items()}
        return Examples(
            train=parts["train"],
            valid=parts.get("valid"),
            test=parts.get("test"),
            symbols=symbols,
            symbol_names=names,
            classes=classes,
            facts={"ignored_columns": _listed(table.ignored)} if table.ignored else {},
        )

    def _refuse_options(self, path: Path, kind: str, *, separator: bool, numbers: bool) -> None:
        """Says which of the options mean nothing for this kind of file."""
        if separator and self.separator is not None:
            raise DataError(path, None, f"{kind} has no words; leave separator out, or give a CSV file")
        if numbers and self.labels == "numbers":
            raise DataError(path, None, f"{kind} has classes; leave labels=numbers out, or give a CSV file")


@cache
def own_task(path: str, *, separator: str | None = None, labels: str = "auto") -> Own:
    """The task of a user's own file or folder, which need not be on this machine yet.

    Args:
        path: of the file, or of the folder with class folders; a relative one starts in ``data_dir`` (see
            :meth:`Own.load`).
        separator: what stands between two words; "space" and "tab" mean these characters. None: each character is a
            symbol.
        labels: "auto", "classes" or "numbers".

    Raises:
        UserError: for an empty separator or another word for labels.
    """
    return Own(
        path=path,
        separator=SEPARATOR_WORDS.get(separator, separator) if separator else separator,
        labels=labels,
        max_length=MAX_LENGTH if Path(path).suffix.lower() in READERS else MAX_MIDI_LENGTH,
    )


def _folder(data_dir: Path, path: Path) -> Path:
    """The data folder that a relative path starts in."""
    folder = data_dir.expanduser()
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "is not there"
        remedy = f"give the folder that {str(path)!r} starts in, or leave data_dir out"
        raise UserError(f"data_dir: {str(data_dir)!r} {problem}; {remedy}")
    return folder


def _not_there(path: Path) -> str:
    parent = path.absolute().parent
    if path.is_symlink():
        target = str(path.readlink())
        return f"task: {str(path)!r} is a link that leads nowhere (to {target!r}); mend it, or give your file itself"
    if not parent.is_dir():
        return f"task: there is no folder {str(parent)!r} for {path.name!r}; give the path of your file"
    hint = near(path.name, [entry.name for entry in parent.iterdir()])
    return f"task: there is no file or folder {str(path)!r}; give the path of your file ({SUFFIXES}){hint}"


def _listed(columns: tuple[str, ...]) -> str:
    """Names of columns, at most eight, on one line."""
    names = [" ".join(name.split())[:30] or "one without a name" for name in columns[:8]]
    return ", ".join(names) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")


def _check_cells(table: Table) -> None:
    """Refuses empty sequences and labels."""
    for what, cells in (("sequence", table.sequences), ("label", table.labels)):
        if "" in cells:
            raise table.error(cells.index(""), f"the {what} is empty; complete or remove the example")


def _read_symbols(table: Table, separator: str | None) -> tuple[tuple[str, ...], str, tuple[str, ...] | None]:
    """Sequences with one character a symbol, all symbols in order, and the words that they stand for, if any."""
    if separator is None:
        symbols = sorted(set().union(*table.sequences))
        _check_number(table, len(symbols), "symbols", "is this the right column, or does it need a separator?")
        return table.sequences, "".join(symbols), None
    raw_words = set().union(*(sequence.split(separator) for sequence in table.sequences))
    words = sorted({word.strip() for word in raw_words} - {""})
    if raw_words == set(table.sequences):
        raise DataError(table.path, None, f"no sequence has the separator {separator!r}; give another or leave it out")
    if not separator.isspace() and "" in map(str.strip, raw_words):  # several blanks in a row separate as one does
        _check_words(table, separator)
    _check_number(table, len(words), "words", "is this the right separator?")
    symbol_of = {word: _private_character(number) for number, word in enumerate(words)} | {"": ""}
    raw_symbol_of = {word: symbol_of[word.strip()] for word in raw_words}
    sequences = tuple(
        "".join(map(raw_symbol_of.__getitem__, sequence.split(separator))) for sequence in table.sequences
    )
    return sequences, "".join(symbol_of.values()), tuple(words)


def _check_number(table: Table, number: int, what: str, question: str) -> None:
    if number > MAX_SYMBOLS:
        allowed = f"at most {MAX_SYMBOLS:,} are allowed"
        raise DataError(table.path, None, f"there are {number:,} different {what}, {allowed}; {question}")


def _check_words(table: Table, separator: str) -> None:
    """Refuses two separators without a word between, and one at either end."""
    for example, sequence in enumerate(table.sequences):
        words = [word.strip() for word in sequence.split(separator)]
        if "" in words:
            place = words.index("") + 1
            raise table.error(example, f"word {place} is empty; remove the separator {separator!r} beside it")


def _private_character(number: int) -> str:
    """The character that stands for a word: of Unicode's private ones, U+E000 to U+F8FF and from U+F0000 on."""
    first, last, plane = 0xE000, 0xF8FF, 0xF0000
    num_first = last - first + 1
    return chr(first + number if number < num_first else plane + number - num_first)


def _split_rows(table: Table) -> dict[str, np.ndarray]:
    """The positions of each split's examples; all in train where the file says nothing of splits."""
    if table.splits is None:
        return {"train": np.arange(len(table.labels))}
    for example, word in enumerate(table.splits):
        if word.lower() not in SPLIT_WORDS:
            found = f"unknown split {brief(word)}" if word else "the split is empty"
            allowed = ", ".join(SPLIT_WORDS)
            raise table.error(example, f"{found}; allowed: {allowed}{near(word[:30], SPLIT_WORDS)}")
    names = np.array([SPLIT_WORDS[word.lower()] for word in table.splits])
    if "train" not in names:
        raise DataError(table.path, None, "no example is in the split train; give some")
    return {name: np.flatnonzero(names == name) for name in SPLITS if name in names}
