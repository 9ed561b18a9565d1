"""A user's own sequences: every format gives the same task, with symbols, labels and splits as the file has them."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from tests.conftest import refusal
from tests.own_files import RECORDS, load, write_cells, write_parquet
from trainer.tasks.own import READERS, Own, looks_like_a_path, own_task
from trainer.tasks.task import Dataset


def contents(dataset: Dataset) -> list[object]:
    """All that training sees of a dataset."""
    splits = [(split.sequences, split.labels.tolist()) for split in (dataset.train, dataset.valid, dataset.test)]
    return [*splits, dataset.symbols, dataset.symbol_names, dataset.classes, dataset.split]


def together(dataset: Dataset) -> Counter[tuple[str, object]]:
    pairs: Counter[tuple[str, object]] = Counter()
    for split in (dataset.train, dataset.valid, dataset.test):
        labels = [dataset.classes[label] if dataset.classes else label for label in split.labels.tolist()]
        pairs.update(zip(split.sequences, labels, strict=True))
    return pairs


def test_every_format_gives_the_same_dataset(tmp_path: Path) -> None:
    sequences, labels = zip(*RECORDS, strict=True)
    expected = load(write_cells(tmp_path / "my.csv", RECORDS))
    assert together(expected) == Counter(RECORDS)
    assert (expected.symbols, expected.classes, expected.symbol_names) == ("ACGT", ("even", "odd"), ())
    assert expected.split.startswith("90/5/5 at random")
    assert expected.source == str(tmp_path / "my.csv")
    wrapped = [f">name{n} {label}\n{seq[:5]}\n{seq[5:]}\n" for n, (seq, label) in enumerate(RECORDS)]
    others = [
        write_cells(tmp_path / "my.tsv", RECORDS),
        write_parquet(tmp_path / "my.parquet", label=labels, more=range(40), sequence=sequences),
        *(tmp_path / f"my{suffix}" for suffix in (".fa", ".fasta", ".faa", ".fna")),
    ]
    for path in others[2:]:
        path.write_text("".join(wrapped))
    assert {path.suffix for path in others} | {".csv"} == set(READERS)
    for path in others:
        dataset = load(path)
        assert contents(dataset) == contents(expected), path.suffix
        assert dataset.digest == expected.digest


def test_other_columns_are_ignored_and_named(tmp_path: Path) -> None:
    rows = [(number, sequence, "n", label, "") for number, (sequence, label) in enumerate(RECORDS)]
    header = ("id", "sequence", "species", "label", "")
    dataset = load(write_cells(tmp_path / "my.csv", rows, header=header))
    assert dataset.facts == {"ignored_columns": "id, species, one without a name"}
    assert together(dataset) == Counter(RECORDS)
    assert load(write_cells(tmp_path / "my.csv", RECORDS)).facts == {}
    sequences, labels = zip(*RECORDS, strict=True)
    more = {f"site {number}": [0] * 40 for number in range(10)}
    made = load(write_parquet(tmp_path / "my.parquet", SEQUENCE=sequences, Label=labels, **more))
    assert made.facts["ignored_columns"].endswith("site 6, site 7 and 2 more")
    assert contents(made) == contents(dataset)


@pytest.mark.parametrize(
    "kind",
    [pyarrow.float64(), pyarrow.float32(), pyarrow.decimal128(8, 3), pyarrow.dictionary(pyarrow.int32(), "str")],
)
def test_parquet_labels_may_be_numbers_of_every_width_and_dictionaries(tmp_path: Path, kind: pyarrow.DataType) -> None:
    labels = [number / 8 for number in range(40)]
    sequences = [sequence for sequence, _ in RECORDS]
    texts = pyarrow.array(map(str, labels)).dictionary_encode()
    numbers = map(Decimal, labels) if pyarrow.types.is_decimal(kind) else labels
    column = texts if pyarrow.types.is_dictionary(kind) else pyarrow.array(numbers, kind)
    expected = load(write_cells(tmp_path / "my.csv", list(zip(sequences, labels, strict=True))))
    assert contents(load(write_parquet(tmp_path / "my.parquet", sequence=sequences, label=column))) == contents(
        expected
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_byte_order_mark_and_blank_lines_change_nothing(tmp_path: Path, end: str, mark: bytes) -> None:
    path = write_cells(tmp_path / "my.csv", RECORDS)
    expected = contents(load(path))
    path.write_bytes(mark + path.read_bytes().replace(b"\n", end.encode()) + 2 * end.encode())
    assert contents(load(path)) == expected


def test_quoted_cells_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    records = [('a,"b"\r\nc' + "d" * number, "x, y" if number % 2 else 'z "z"') for number in range(20)]
    dataset = load(write_cells(tmp_path / "my.csv", records))
    assert together(dataset) == Counter(records)
    assert dataset.symbols == '\n\r",abcd'


def test_a_cell_may_be_a_million_symbols_long(tmp_path: Path) -> None:
    long = "ACGT" * 250_000
    dataset = load(write_cells(tmp_path / "my.csv", [(long, "x"), *RECORDS]))
    assert (long, "x") in together(dataset)


def test_every_character_of_any_script_is_a_symbol_and_blanks_at_the_ends_are_not(tmp_path: Path) -> None:
    records = [(f"  日本 é\U0001f3b5{'b' * number}\t", f" {'xy'[number % 2]} ") for number in range(20)]
    dataset = load(write_cells(tmp_path / "my.csv", records))
    assert dataset.symbols == " bé日本\U0001f3b5"
    assert together(dataset) == Counter((sequence.strip(), label.strip()) for sequence, label in records)


@pytest.mark.parametrize(("separator", "given"), [(",", ","), (" ", "space"), ("\t", "tab"), ("-", "-"), ("||", "||")])
def test_words_between_separators_become_one_character_each(tmp_path: Path, separator: str, given: str) -> None:
    words = ["B2", "C4", "C4", "naïve"]
    records = [(separator.join(words[number % 2 :] * 3), "xy"[number % 3 % 2]) for number in range(20)]
    dataset = load(write_cells(tmp_path / "my.csv", records), separator=given)
    assert dataset.symbols == "\ue000\ue001\ue002"
    assert dataset.symbol_names == ("B2", "C4", "naïve")
    names = dict(zip(dataset.symbols, dataset.symbol_names, strict=True))
    spelled = Counter(
        (separator.join(map(names.__getitem__, seq)), label) for seq, label in together(dataset).elements()
    )
    assert spelled == Counter(records)


def test_blanks_beside_words_and_several_blanks_between_them_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    expected = contents(load(write_cells(path, [(f"a,b{n % 2},c", n % 2) for n in range(20)]), separator=","))
    assert (
        contents(load(write_cells(path, [(f"a , b{n % 2},  c", n % 2) for n in range(20)]), separator=",")) == expected
    )
    assert (
        contents(load(write_cells(path, [(f"a  b{n % 2}   c", n % 2) for n in range(20)]), separator="space"))
        == expected
    )


def test_symbols_depend_on_the_set_of_words_only_and_all_of_them_can_be_encoded(tmp_path: Path) -> None:
    rows = [(" ".join(f"w{10 * row + place:05}" for place in range(10)), row % 2) for row in range(700)]
    first = load(write_cells(tmp_path / "my.csv", rows), separator=" ")
    second = load(write_cells(tmp_path / "my.csv", rows[::-1]), separator=" ")
    assert first.symbols == second.symbols and first.symbol_names == second.symbol_names
    assert first.symbol_names == tuple(f"w{number:05}" for number in range(7000))
    assert len(set(first.symbols)) == 7000 and first.symbols[6400] == "\U000f0000"
    "".join(first.symbols + "".join(first.train.sequences)).encode()


def test_symbols_of_test_alone_are_symbols_too(tmp_path: Path) -> None:
    rows = [(f"AB{'B' * number}", "xy"[number % 2], "train") for number in range(20)]
    held_out = [("AZ", "x", "test"), ("AQ", "y", "valid")]
    dataset = load(write_cells(tmp_path / "my.csv", rows + held_out, header=("sequence", "label", "split")))
    assert dataset.symbols == "ABQZ"


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["0", "1"], ("0", "1")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.0", "2.0"], ("1.0", "2.0")),
        (["b", "a", "10"], ("10", "a", "b")),
        ([str(number) for number in range(20)], tuple(map(str, range(20)))),
        ([str(number) for number in range(21)], ()),
        (["0.5", "1"], ()),
        (["1e-3", "2"], ()),
        (["1_0.5", "2_0.5"], ("1_0.5", "2_0.5")),
        ([*map(str, range(1, 20)), "X"], (*map(str, range(1, 20)), "X")),
    ],
)
def test_labels_are_numbers_or_classes_by_what_they_look_like(
    tmp_path: Path, values: list[str], classes: tuple[str, ...]
) -> None:
    rows = [("A" * (number + 1), values[number % len(values)]) for number in range(60)]
    dataset = load(write_cells(tmp_path / "my.csv", rows))
    assert dataset.classes == (tuple(sorted(classes)) if "X" in classes else classes)
    assert together(dataset) == Counter((seq, label if classes else float(label)) for seq, label in rows)
    assert dataset.train.labels.dtype == (np.int64 if classes else np.float64)


def test_labels_can_be_forced(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "my.csv", [("A" * (number + 1), number % 3) for number in range(30)])
    assert load(path, labels="numbers").classes == ()
    path = write_cells(tmp_path / "my.csv", [("A" * (number + 1), number % 3 / 2) for number in range(30)])
    assert load(path, labels="classes").classes == ("0.0", "0.5", "1.0")


def test_classes_are_scored_by_accuracy_and_numbers_by_spearman(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "my.csv", [("A" * (number + 1), number % 3) for number in range(30)])
    task = own_task(str(path))
    assert task.metrics_for(task.load()) == ("accuracy",) == task.metrics
    task = own_task(str(path), labels="numbers")
    assert task.metrics_for(task.load()) == ("spearman", "pearson")


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (("train", "valid", "test"), "as given"),
        (("Train", "VALIDATION", " test "), "as given"),
        (("train", "dev", "test"), "as given"),
        (("TRAIN", "Dev", "TEST"), "as given"),
        (("train", "train", "test"), "valid drawn from train"),
        (("train", "dev", "dev"), "test drawn from train"),
        (("train", "train", "train"), "90/5/5 at random"),
    ],
)
def test_split_column_is_obeyed_and_what_it_leaves_open_is_drawn(
    tmp_path: Path, words: tuple[str, str, str], split: str
) -> None:
    names = {
        word: {"validation": "valid", "dev": "valid"}.get(word.strip().lower(), word.strip().lower()) for word in words
    }
    rows = [("A" * (number + 1), "xy"[number % 2], words[number % 3]) for number in range(60)]
    header = ("sequence", "label", "split") if words[0] != "TRAIN" else (" Sequence", "LABEL", "Split ")
    dataset = load(write_cells(tmp_path / "my.csv", rows, header=header))
    assert split in dataset.split
    assert together(dataset) == Counter((sequence, label) for sequence, label, _ in rows)
    for name in ("valid", "test"):
        wanted = {sequence for sequence, _, word in rows if names[word] == name}
        got = set(getattr(dataset, name).sequences)
        assert got == wanted if wanted else len(got) == 3
    assert contents(load(tmp_path / "my.csv")) == contents(dataset)


def test_relative_path_starts_in_the_data_folder_or_else_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    write_cells(tmp_path / "data" / "my.csv", RECORDS)
    task = own_task("my.csv")
    monkeypatch.chdir(tmp_path)
    assert len(task.load(Path("data")).train) == 36
    assert "there is no file or folder 'my.csv'" in refusal(task.load)
    monkeypatch.chdir(tmp_path / "data")
    assert len(task.load().train) == 36
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(own_task("~/data/my.csv").load(Path("nowhere")).train) == 36


def test_a_task_can_be_named_without_its_file_being_there() -> None:
    task = own_task("/nowhere/my.csv", separator="tab", labels="classes")
    assert task == own_task("/nowhere/my.csv", separator="\t", labels="classes") and len({task, task}) == 1
    assert isinstance(task, Own) and task.discipline == "own" and not task.is_text
    assert task.max_length == 510 and own_task("/nowhere/pieces").max_length == 128


def test_paths_are_told_from_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pieces").mkdir()
    paths = ["my.csv", "MY.FASTA", "my.csv.gz", "a/b", "./x", "~/x", "..", "pieces", "my.parquet"]
    assert [name for name in paths if not looks_like_a_path(name)] == []
    names = ["splice", "", "h4", "csv", "my.txt", "a" * 5000, "a\0"]
    assert [name for name in names if looks_like_a_path(name)] == []
