"""What a description says of labels: numbers and names that are different look different, and doubts are told."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.test_describe import TASK, dataset, entries, size, split, words
from trainer.describe import describe
from trainer.describe_picture import picture
from trainer.tasks.own import own_task


def table(labels: Sequence[float]) -> list[list[str]]:
    """What the first split's row says of some numbers."""
    whole = split(["A"] * len(labels), labels)
    head, *rows = entries(describe(TASK, dataset(whole, whole, whole, classes=()), 10))["numbers"]
    assert len({len(line) for line in (head, *rows[:2])}) == 1
    return [words(line)[1:] for line in rows]


def test_numbers_that_are_close_are_told_apart() -> None:
    (row, *_) = table([1000000 + number / 10 for number in range(1, 10)])
    assert row[:7] == ["1000000.1", "1000000.14", "1000000.3", "1000000.5", "1000000.7", "1000000.86", "1000000.9"]
    assert row[7:] == ["1000000.5", "0.2582"]
    (row, *_) = table([0.0] + [1000000 + number / 10 for number in range(60)])
    assert len(set(row[:7])) == 7
    (row, *_) = table([1.0, 1.0000000000000002])
    assert row[0] != row[6]
    (row, *_) = table([0.1] * 4 + [0.1 + 1e-17] * 4 + [1 / 3])
    assert max(map(len, row)) < 8


@pytest.mark.parametrize(
    ("labels", "std"),
    [([-3e300, 3e300], "3e+300"), ([-1e305, 1e305], "1e+305"), ([5e-324 * k for k in range(30)], "4.447e-323")],
)
def test_no_number_is_too_large_or_small(labels: list[float], std: str) -> None:
    assert table(labels)[0][-1] == std
    whole = split(["A"] * len(labels), labels)
    assert size(picture("my.csv", TASK, dataset(whole, whole, whole, classes=()), 512)) == (1000, 500)


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        (range(3), "auto", "integers taken for classes; labels=numbers predicts them as numbers"),
        (["1.0", "2.0"], "auto", "integers taken for classes; labels=numbers predicts them as numbers"),
        (range(30), "auto", "integers taken for numbers; labels=classes makes them classes"),
        (["1", "b"], "auto", ""),
        ([0.5, 1], "auto", ""),
        (range(3), "numbers", ""),
        (range(3), "classes", ""),
    ],
)
def test_how_to_change_what_integers_are_taken_for(
    tmp_path: Path, values: Sequence[object], labels: str, said: str
) -> None:
    path = tmp_path / "my.csv"
    path.write_text("sequence,label\n" + "".join(f"AC,{values[n % len(values)]}\n" for n in range(60)))
    task = own_task(str(path), labels=labels)
    lines = describe(task, task.load(), 10)
    assert [line.strip() for line in lines if "integers" in line] == ([said] if said else [])


def test_long_names_stay_different() -> None:
    yeasts = ("Saccharomyces cerevisiae strain A", "Saccharomyces cerevisiae strain B")
    names = (*yeasts, "x" * 30 + "y" * 40, "x" * 30 + "z" + "y" * 39, "up", "a b", "a\u00a0b")
    whole = split(["A"] * 14, [*range(7)] * 2)
    lines = entries(describe(TASK, dataset(whole, whole, whole, classes=names), 10))["classes"][1:-1]
    shown = [line.split("   ")[0] for line in lines]
    assert shown[:2] == ["Saccharomyc…iae strain A", "Saccharomyc…iae strain B"]
    assert shown[2:] == ["xxxxxxxxxx…yyyyyyyyyy #1", "xxxxxxxxxx…yyyyyyyyyy #2", "up", "a b #1", "a b #2"]
    assert max(map(len, shown)) <= 24


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("1", "1.0", "2"), ["classes '1' and '1.0' differ only in how they are written"]),
        (("+1", "01", "1"), ["classes '+1', '01' and '1' differ only in how they are written"]),
        (("True", "true", "false"), ["classes 'True' and 'true' differ only in how they are written"]),
        (("\u00e9", "e\u0301"), ["classes '\\xe9' and 'e\\u0301' differ only in how they are written"]),
        (("a b", "a\u00a0b"), ["classes 'a b' and 'a\\xa0b' differ only in how they are written"]),
        (("nan", "a", "1_0", "10"), []),
        ([form for n in "abcde" for form in (n, n.upper())], ["and 2 more such classes"]),
    ],
)
def test_classes_that_are_one_in_several_spellings_are_named(names: Sequence[str], said: list[str]) -> None:
    whole = split(["ACGT"] * 20, [n % len(names) for n in range(20)])
    beware = entries(describe(TASK, dataset(whole, whole, whole, classes=tuple(names)), 10))["beware"]
    about = [line for line in beware if "classes" in line]
    assert about[-1:] == said and len(about) <= 4
