"""The eight GLUE tasks: from tab-separated ``glue_data`` files, or from the Parquet files of the Hugging Face Hub.

Both give the very same examples. The labels of the test sets are secret, so the dev set is valid and test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.errors import first_line, near
from trainer.sources import Source
from trainer.tasks.files import read_bytes, read_lines
from trainer.tasks.task import DataError, Examples, Split, Task

HOMEPAGE = "https://gluebenchmark.com/tasks"
DATASET = "https://huggingface.co/datasets/nyu-mll/glue"
HUB = f"{DATASET}/resolve/bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
TAB = "\t"
MAX_SCORE = 5.0  # of STS-B: 0 (nothing in common) to 5 (the same meaning)
REMEDY = f"get the file again, by `python -m trainer.fetch` or from {HOMEPAGE}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The N rows of one file: its one or two columns of sentences, and the labels as they stand there.

    Attributes:
        numbers: (N) where each row stands, from 1: its line in a text file, its row in Parquet.
    """

    path: Path
    numbers: Sequence[int]
    sentences: Sequence[Sequence[str]]
    labels: Sequence[str | int | float]
    num_skipped: int = 0  # broken rows that were left out

    def error(self, row: int, message: str) -> DataError:
        if _is_parquet(self.path):
            return DataError(self.path, None, f"row {self.numbers[row]}: {message}")
        return DataError(self.path, self.numbers[row], message)


@dataclass(frozen=True, kw_only=True)
class Glue(Task):
    """A class (or, of STS-B, a number from 0 to 5) for a sentence or a pair of sentences.

    Attributes:
        tsv_columns: the columns of the sentences, then the label's.
        parquet_columns: likewise; empty where they have the same names.
        tsv_header: every column of a tab-separated file that has no header line; else empty.
        tsv_labels: how the classes are written there; empty where by their names.
        max_broken_rows: how many rows of a tab-separated file may be broken by a line break inside; they are left out.
        allows_empty_second: whether the second sentence may be empty.
        subset_names: what the dev files are called where there are several.
    """

    discipline: str = "text"
    max_length: int = 128
    num_epochs: int = 3
    checkpoint: Literal["best", "final"] = "final"
    tsv_columns: tuple[str, ...]
    parquet_columns: tuple[str, ...] = ()
    tsv_header: tuple[str, ...] = ()
    tsv_labels: tuple[str, ...] = ()
    max_broken_rows: int = 0
    allows_empty_second: bool = False
    subset_names: tuple[str, ...] = ()

    def read(self, *paths: Path) -> Examples:
        parts = [self._rows(path) for path in paths]
        train, *devs = (self._split(rows) for rows in parts)
        dev = devs[0] if len(devs) == 1 else _join(dict(zip(self.subset_names, devs, strict=True)))
        skipped = sum(rows.num_skipped for rows in parts)
        return Examples(train=train, valid=dev, test=dev, facts={"skipped_rows": str(skipped)} if skipped else {})

    def _rows(self, path: Path) -> Rows:
        names = self.parquet_columns or self.tsv_columns
        rows = _read_parquet(path, names, bool(self.classes)) if _is_parquet(path) else self._read_tsv(path)
        if not rows.labels:
            raise DataError(path, None, f"the file holds no rows; {REMEDY}")
        return rows

    def _read_tsv(self, path: Path) -> Rows:
        """The rows of a tab-separated file, in which quotes are characters like any other."""
        lines = read_lines(path, "utf-8")
        header = list(self.tsv_header) or lines[0].split(TAB)
        if missing := [name for name in self.tsv_columns if name not in header]:
            expected = f"a header with {', '.join(self.tsv_columns)} was expected, found: {lines[0][:80]!r}"
            raise DataError(path, 1, f"no column {missing[0]!r}; {expected}; is it the right file?")
        columns: dict[int, list[str]] = {header.index(name): [] for name in self.tsv_columns}
        first = 1 if self.tsv_header else 2
        numbers, broken = [], []
        for number, line in enumerate(lines[first - 1 :], start=first):
            fields = line.split(TAB)
            if len(fields) != len(header) or (self.max_broken_rows and "\r" in line):
                broken.append(number)
                if len(broken) > self.max_broken_rows:
                    raise self._wrong_columns(path, broken[0], lines[broken[0] - 1], header)
            else:
                numbers.append(number)
                for place, column in columns.items():
                    column.append(fields[place])
        *sentences, labels = columns.values()
        return Rows(path=path, numbers=numbers, sentences=sentences, labels=labels, num_skipped=len(broken))

    def _wrong_columns(self, path: Path, number: int, line: str, header: Sequence[str]) -> DataError:
        count = f"{line.count(TAB) + 1} column(s) instead of {len(header)}: {', '.join(header)[:150]!r}"
        allowed = f" (the first of more than {self.max_broken_rows} broken rows)" if self.max_broken_rows else ""
        return DataError(path, number, f"{count}{allowed}; is the file truncated? If so, {REMEDY}")

    def _split(self, rows: Rows) -> Split:
        for place, sentences in enumerate(rows.sentences):
            if not (place == 1 and self.allows_empty_second) and not all(map(str.strip, sentences)):
                row = next(row for row, sentence in enumerate(sentences) if not sentence.strip())
                raise rows.error(
                    row, f"the {('first', 'second')[place]} sentence is empty; complete the row or remove it"
                )
        return Split(
            sequences=tuple(rows.sentences[0]),
            seconds=tuple(rows.sentences[1]) if len(rows.sentences) == 2 else (),
            labels=self._class_indices(rows) if self.classes else _scores(rows),
        )

    def _class_indices(self, rows: Rows) -> np.ndarray:
        """The classes (N,), int64."""
        names = range(len(self.classes)) if _is_parquet(rows.path) else self.tsv_labels or self.classes
        index_of = {name: index for index, name in enumerate(names)}
        indices = [index_of.get(label, -1) for label in rows.labels]
        if -1 in indices:
            raise _wrong_label(rows, indices.index(-1), [str(name) for name in names])
        return np.array(indices, dtype=np.int64)


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _wrong_label(rows: Rows, row: int, allowed: Sequence[str]) -> DataError:
    if rows.labels[row] == -1:  # as a number: only Parquet has it
        return rows.error(row, "label -1: this is GLUE's test set, whose labels are secret; give the validation file")
    text = str(rows.labels[row])[:80]
    return rows.error(row, f"wrong label {text!r}; allowed: {', '.join(allowed)}{near(text, allowed)}")


def _scores(rows: Rows) -> np.ndarray:
    """The numbers to be predicted (N,), float64.

    Parquet has them in single precision, so both forms pass through that; five decimals give 3.8 for 3.7999999.
    """
    scores = []
    for row, label in enumerate(rows.labels):
        try:
            score = float(label)
        except ValueError:
            score = np.nan
        if not 0 <= score <= MAX_SCORE:
            raise _wrong_label(rows, row, [f"a number from 0 to {MAX_SCORE:g}"])
        scores.append(score)
    return np.round(np.array(scores, dtype=np.float32).astype(np.float64), 5)


def _join(parts: dict[str, Split]) -> Split:
    """One split of several, which stay its subsets."""
    ends = np.cumsum([len(part) for part in parts.values()])
    return Split(
        sequences=tuple(sentence for part in parts.values() for sentence in part.sequences),
        seconds=tuple(sentence for part in parts.values() for sentence in part.seconds),
        labels=np.concatenate([part.labels for part in parts.values()]),
        subsets={name: np.arange(end - len(part), end) for (name, part), end in zip(parts.items(), ends, strict=True)},
    )


def _read_parquet(path: Path, names: Sequence[str], has_classes: bool) -> Rows:
    """The rows of a Parquet file whose labels are class indices, or else numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    label_types = ("int64", "int32", "int8") if has_classes else ("float", "double")
    types = {name: ("string", "large_string") for name in names[:-1]} | {names[-1]: label_types}
    content = read_bytes(path)
    try:
        with parquet.ParquetFile(pa.BufferReader(content)) as file:
            found = {field.name: str(field.type) for field in file.schema_arrow}
            if any(found.get(name) not in types[name] for name in names):
                expected = ", ".join(f"{name} ({types[name][0]})" for name in names)
                instead = ", ".join(f"{name} ({kind})" for name, kind in found.items())[:200]
                raise DataError(path, None, f"columns {instead!r} instead of {expected!r}; is it the right file?")
            table = file.read(columns=list(names))
            *sentences, labels = (table.column(name).to_pylist() for name in names)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"this is not a whole Parquet file ({first_line(error)}); {REMEDY}") from None
    rows = Rows(path=path, numbers=range(1, len(labels) + 1), sentences=sentences, labels=labels)
    for name, column in zip(names, (*sentences, labels), strict=True):
        if None in column:
            raise rows.error(column.index(None), f"column {name!r} is empty; {REMEDY}")
    return rows


def _files(folder: str, devs: tuple[str, ...] = ("validation",)) -> tuple[Source, ...]:
    paths = [f"{folder}/{part}-00000-of-00001.parquet" for part in ("train", *devs)]
    return tuple(Source(path=f"glue/{path}", url=f"{HUB}/{path}", homepage=DATASET) for path in paths)


def _glue_data(folder: str, devs: tuple[str, ...] = ("dev",)) -> tuple[tuple[Source, ...], ...]:
    """GLUE's own files of a task, which can only be had by hand."""
    return (tuple(Source(path=f"glue/{folder}/{part}.tsv", homepage=HOMEPAGE) for part in ("train", *devs)),)


COLA = Glue(  # Is the sentence grammatical English?
    files=_files("cola"),
    alternatives=_glue_data("CoLA"),
    num_examples=8551 + 1043,
    classes=("unacceptable", "acceptable"),
    metrics=("matthews", "accuracy"),
    tsv_header=("source", "label", "star", "sentence"),
    tsv_columns=("sentence", "label"),
    tsv_labels=("0", "1"),
    paper="CoLA: Warstadt, Singh & Bowman 2019, arxiv.org/abs/1805.12471",
)

SST2 = Glue(  # Does the phrase from a film review speak well of the film?
    files=_files("sst2"),
    alternatives=_glue_data("SST-2"),
    num_examples=67349 + 872,
    classes=("negative", "positive"),
    tsv_columns=("sentence", "label"),
    tsv_labels=("0", "1"),
    paper="SST-2: Socher et al. 2013, aclanthology.org/D13-1170",
)

MRPC = Glue(  # Do two sentences from the news say the same?
    files=_files("mrpc"),
    alternatives=_glue_data("MRPC"),
    num_examples=3668 + 408,
    classes=("not_paraphrase", "paraphrase"),
    metrics=("f1", "accuracy"),
    tsv_columns=("#1 String", "#2 String", "Quality"),
    tsv_labels=("0", "1"),
    parquet_columns=("sentence1", "sentence2", "label"),
    paper="MRPC: Dolan & Brockett 2005, aclanthology.org/I05-5002",
)

# In GLUE's train.tsv line breaks inside questions make some twenty broken lines, which the Hub leaves out; two rows
# have no second question, and stay (github.com/huggingface/datasets/issues/277).
QQP = Glue(  # Do two questions from Quora ask the same?
    files=_files("qqp"),
    alternatives=_glue_data("QQP"),
    num_examples=363846 + 40430,
    classes=("not_duplicate", "duplicate"),
    metrics=("f1", "accuracy"),
    tsv_columns=("question1", "question2", "is_duplicate"),
    tsv_labels=("0", "1"),
    parquet_columns=("question1", "question2", "label"),
    max_broken_rows=50,
    allows_empty_second=True,
    paper="QQP: Iyer, Dandekar & Csernai 2017, quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
)

STSB = Glue(  # How close are two sentences in meaning, from 0 to 5?
    files=_files("stsb"),
    alternatives=_glue_data("STS-B"),
    num_examples=5749 + 1500,
    metrics=("spearman", "pearson"),
    tsv_columns=("sentence1", "sentence2", "score"),
    parquet_columns=("sentence1", "sentence2", "label"),
    paper="STS-B: Cer et al. 2017, aclanthology.org/S17-2001",
)

MNLI = Glue(  # Does a premise entail a hypothesis, contradict it, or neither?
    files=_files("mnli", ("validation_matched", "validation_mismatched")),
    alternatives=_glue_data("MNLI", ("dev_matched", "dev_mismatched")),
    num_examples=392702 + 9815 + 9832,
    classes=("entailment", "neutral", "contradiction"),
    tsv_columns=("sentence1", "sentence2", "gold_label"),
    parquet_columns=("premise", "hypothesis", "label"),
    allows_empty_second=True,  # some 40 are missing or "n/a" to other readers: github.com/nyu-mll/jiant/issues/729
    subset_names=("matched", "mismatched"),
    paper="MNLI: Williams, Nangia & Bowman 2018, aclanthology.org/N18-1101",
)

QNLI = Glue(  # Does the sentence answer the question?
    files=_files("qnli"),
    alternatives=_glue_data("QNLI"),
    num_examples=104743 + 5463,
    classes=("entailment", "not_entailment"),
    tsv_columns=("question", "sentence", "label"),
    paper="QNLI: Wang et al. 2018, aclanthology.org/W18-5446, from SQuAD (Rajpurkar et al. 2016)",
)

RTE = Glue(  # Does the first sentence entail the second?
    files=_files("rte"),
    alternatives=_glue_data("RTE"),
    num_examples=2490 + 277,
    classes=("entailment", "not_entailment"),
    tsv_columns=("sentence1", "sentence2", "label"),
    paper="RTE: Dagan, Glickman & Magnini 2006, doi.org/10.1007/11736790_9, to Bentivogli et al. 2009 (RTE-5)",
)
