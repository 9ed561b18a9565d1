"""Generated files of a user's own sequences, and how they are loaded."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow
from pyarrow import parquet

from trainer.tasks.own import own_task
from trainer.tasks.task import Dataset

RECORDS = [
    ("ACGT"[number % 4 :] + "GATTACA" * (number % 3 + 1), "even" if number % 2 else "odd") for number in range(40)
]


def write_cells(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("sequence", "label")) -> Path:
    """A CSV file, or with that suffix a TSV file."""
    text = io.StringIO()
    rows_out = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
    rows_out.writerows([header, *rows])
    path.write_bytes(text.getvalue().encode())
    return path


def write_parquet(path: Path, **columns: object) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def load(path: Path, separator: str | None = None, labels: str = "auto") -> Dataset:
    return own_task(str(path), separator=separator, labels=labels).load()
