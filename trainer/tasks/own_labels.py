"""The labels of a user's own examples: class names, or numbers to be predicted."""

import numpy as np

from trainer.tasks.own_files import Table, brief
from trainer.tasks.task import DataError

MAX_CLASS_INTEGERS = 20  # more different integers than these are taken for numbers
MAX_NUMBER = 1e15  # the squares of larger ones do not fit in 32 bits


def as_number(text: str) -> float | None:
    """A number from -1e15 to 1e15, or None. Python's ``1_000`` is none, and nan and inf are not."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= MAX_NUMBER and "_" not in text else None


def read_labels(table: Table, kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as (N,) class indices with the classes' names, or as (N,) numbers without."""
    numbers = {label: as_number(label) for label in set(table.labels)}
    if kind == "numbers" or (kind == "auto" and _are_numbers(table, numbers)):
        for example, label in enumerate(table.labels):
            if numbers[label] is None:
                raise table.error(
                    example,
                    f"the label {brief(label)} is not a number within ±1e15; mend or remove it, or give labels=classes",
                )
        values_N = np.array([numbers[label] for label in table.labels], dtype=np.float64)
        if values_N.min() == values_N.max():
            raise DataError(table.path, None, f"every label is {table.labels[0]}; there is nothing to predict")
        return values_N, ()
    in_order = {label: (value, label) for label, value in numbers.items() if value is not None}
    classes = sorted(numbers, key=in_order.__getitem__ if len(in_order) == len(numbers) else None)
    if len(classes) == 1:
        raise DataError(table.path, None, f"every label is {brief(classes[0])}; give examples of at least two classes")
    if len(classes) == len(table.labels) > MAX_CLASS_INTEGERS:
        raise DataError(table.path, None, "no two examples have the same label; is this the right column?")
    index = {name: position for position, name in enumerate(classes)}
    return np.array([index[label] for label in table.labels], dtype=np.int64), tuple(classes)


def _are_numbers(table: Table, numbers: dict[str, float | None]) -> bool:
    """Whether labels are measurements rather than class names.

    Where most are and a few are not ("NA", "nan", "3,5"), the answer is yes, for these to be refused: each number
    would else become a class.
    """
    finite = {value for value in numbers.values() if value is not None}
    are_measured = len(finite) > MAX_CLASS_INTEGERS or not all(value.is_integer() for value in finite)
    if None not in numbers.values():
        return are_measured
    has_gaps = any(value is None and label.lower() in ("nan", "inf", "-inf") for label, value in numbers.items())
    num_finite = sum(numbers[label] is not None for label in table.labels)
    return (are_measured or has_gaps) and num_finite > len(table.labels) / 2
