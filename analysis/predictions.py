"""The test predictions that a trial leaves behind: ``predictions/test.csv``, as ``trainer.artifacts`` writes it."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from analysis.source import Store
from analysis.store import read_artifact

PATH = "predictions/test.csv"
PROBABILITY = "probability_"  # with the class behind it, one column for each class, in the classes' order
KEPT_RUNS = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a trial predicted for each of N test examples; where segments vote on their pieces, for each piece.

    Attributes:
        examples_N: the examples' numbers in what was read.
        labels_N, predicted_N: class indices (int64), or numbers (float64).
        subsets_N: the subset of each example, where subsets are scored by themselves.
    """

    examples_N: np.ndarray
    labels_N: np.ndarray
    predicted_N: np.ndarray
    subsets_N: np.ndarray | None

    def same_test_as(self, other: "Predictions") -> bool:
        """Whether both are of the same examples, with the same labels, in the same order."""
        if self.subsets_N is None or other.subsets_N is None:
            alike = self.subsets_N is other.subsets_N
        else:
            alike = np.array_equal(self.subsets_N, other.subsets_N)
        columns = ((self.examples_N, other.examples_N), (self.labels_N, other.labels_N))
        return alike and all(np.array_equal(*pair) for pair in columns)


@lru_cache(maxsize=KEPT_RUNS)
def read_predictions(store: Store, run_id: str) -> Predictions | None:
    """A finished run's test predictions; None where it has none, or they are damaged. Each run is read once."""
    try:
        text = read_artifact(store, run_id, PATH)
        return None if text is None else parse(text)
    except (ValueError, OverflowError):  # no UTF-8, no table, or not these columns
        return None


def parse(text: str) -> Predictions:
    """Reads a table of test predictions.

    Raises:
        ValueError: when it is cut short, lacks a column, names an unknown class, or holds anything but finite numbers.
    """
    if not text.endswith("\n"):
        raise ValueError("the last line is cut short")
    table = pd.read_csv(io.StringIO(text), dtype=str, na_filter=False)  # "NA" and "" may be classes
    missing = {"example", "label", "prediction"} - set(table.columns)
    if missing or table.empty:
        raise ValueError(f"no rows, or no column {', '.join(sorted(missing))}")
    classes = [name.removeprefix(PROBABILITY) for name in table.columns if name.startswith(PROBABILITY)]
    labels_N, predicted_N = (_values(table[name], classes) for name in ("label", "prediction"))
    return Predictions(
        examples_N=table["example"].to_numpy(dtype=np.int64),
        labels_N=labels_N,
        predicted_N=predicted_N,
        subsets_N=table["subset"].to_numpy(dtype=np.str_) if "subset" in table.columns else None,
    )


def _values(column: "pd.Series[str]", classes: list[str]) -> np.ndarray:
    """(N,) class indices, or numbers where there are no classes."""
    if classes:
        indices_N = pd.Index(classes).get_indexer(pd.Index(column))
        if (indices_N < 0).any():
            raise ValueError("a class without a column of its probability")
        return indices_N.astype(np.int64)
    numbers_N = column.to_numpy(dtype=np.float64)
    if not np.isfinite(numbers_N).all():
        raise ValueError("a number that is not finite")
    return numbers_N
