"""What the protein readers promise: the real files' counts, one dataset from every form, one line for every mistake."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.protein_files import SIZES, Record, as_deeploc, as_tape, make_records, write_proteins
from trainer.errors import UserError
from trainer.tasks.protein import FLUORESCENCE, LOCALIZATION, LOCATIONS, STABILITY, ProteinScore
from trainer.tasks.task import Dataset, Split, Task

SCORES = [(STABILITY, "Stability"), (FLUORESCENCE, "Fluorescence")]


def paths_in(folder: Path, task: Task) -> tuple[Path, ...]:
    return tuple(folder / source.path for source in task.files)


def load(folder: Path, task: Task) -> Dataset:
    """The dataset of PLUS's files in folder."""
    paths = paths_in(folder, task)
    return task.dataset(task.read(*paths), paths)


def splits_of(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.valid, dataset.test


def records_of(split: Split) -> Counter[Record]:
    """How often each pair of a location and a sequence occurs."""
    return Counter((LOCATIONS[label], sequence) for label, sequence in zip(split.labels, split.sequences, strict=True))


@pytest.fixture
def plus(tmp_path: Path) -> Path:
    """A data folder with generated files in PLUS's form."""
    write_proteins(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("task", "sizes", "longest"), [(STABILITY, [53614, 2512, 12851], 50), (FLUORESCENCE, [21446, 5362, 27217], 237)]
)
def test_real_scores_are_read_whole(real_data: Path, task: Task, sizes: list[int], longest: int) -> None:
    dataset = load(real_data, task)
    assert [len(split) for split in splits_of(dataset)] == sizes
    assert (dataset.note, dataset.split, dataset.classes, dataset.facts) == ("", "as given", (), {})
    for path, split in zip(paths_in(real_data, task), splits_of(dataset), strict=True):
        lines = path.read_text().splitlines()
        expected = zip(lines[1::2], [float(header.split()[1]) for header in lines[0::2]], strict=True)
        assert Counter(zip(split.sequences, split.labels, strict=True)) == Counter(expected)
        assert split.labels.dtype == np.float64
        assert set("".join(split.sequences)) <= set(dataset.symbols[:20])
    assert max(map(len, dataset.train.sequences)) == longest <= task.max_length


def test_real_localization_says_that_it_is_a_subset(real_data: Path) -> None:
    dataset = load(real_data, LOCALIZATION)
    assert [len(split) for split in splits_of(dataset)] == [2863, 1678, 2768]
    assert (dataset.note, dataset.split, dataset.facts) == ("53 % subset", "as given", {})
    assert dataset.classes == LOCATIONS
    counts = [Counter(dataset.classes[label] for label in split.labels) for split in splits_of(dataset)]
    assert [count["Nucleus"] for count in counts] == [819, 476, 806]
    assert [count["Peroxisome"] for count in counts] == [29, 23, 30]
    assert all(set(count) == set(LOCATIONS) for count in counts)
    symbols = set("".join(sequence for split in splits_of(dataset) for sequence in split.sequences))
    assert symbols == set(dataset.symbols) - {"O"}


def test_symbols_are_the_standard_amino_acids_and_then_the_others() -> None:
    assert {task.symbols for task in (LOCALIZATION, STABILITY, FLUORESCENCE)} == {"ACDEFGHIKLMNPQRSTVWYBOUXZ"}


def test_generated_files_hold_every_class_and_sequences_that_are_too_long(plus: Path) -> None:
    dataset = load(plus, LOCALIZATION)
    assert [len(split) for split in splits_of(dataset)] == [60, 20, 20]
    assert set(dataset.train.labels) == set(range(10))
    assert sum(len(sequence) > 512 for sequence in dataset.train.sequences) == 9
    assert records_of(dataset.train) == Counter(make_records("Localization", "train"))


@pytest.mark.parametrize("in_list", [True, False])
@pytest.mark.parametrize(("task", "folder"), SCORES)
def test_tape_and_plus_give_the_same_dataset(plus: Path, task: ProteinScore, folder: str, in_list: bool) -> None:
    paths = tuple(plus / f"{split}.json" for split in SIZES)
    for path, split in zip(paths, SIZES, strict=True):
        content = as_tape(task.key, [(label, seq.lower()) for label, seq in make_records(folder, split)])
        path.write_text(content if in_list else re.sub(r": \[(.*?)\]", r": \1", content))
    from_tape = task.dataset(task.read(*paths), paths)
    assert from_tape.digest == load(plus, task).digest
    assert (from_tape.split, from_tape.facts) == ("as given", {})


def test_tape_archives_unpack_to_the_files_that_are_read() -> None:
    (stability,) = STABILITY.alternatives
    names = [f"protein/tape/stability/stability_{split}.json" for split in ("train", "valid", "test")]
    assert [source.path for source in stability] == names
    assert all(source.unpack == "protein/tape" and source.url.endswith("/stability.tar.gz") for source in stability)


DEEPLOC_TRAIN = make_records("Localization", "train") + make_records("Localization", "dev")[:9]
DEEPLOC_TEST = make_records("Localization", "test")
TWO_PLACES = [("Cytoplasm-Nucleus", "MKV")] * 3


def test_deeploc_draws_a_tenth_for_valid_and_skips_proteins_in_two_places(tmp_path: Path) -> None:
    path = tmp_path / "deeploc_data.fasta"
    test = as_deeploc("Q", [*DEEPLOC_TEST, TWO_PLACES[0]], " test")
    path.write_text(test + as_deeploc("P", TWO_PLACES[1:] + DEEPLOC_TRAIN))
    first, second = LOCALIZATION.read(path), LOCALIZATION.read(path)
    assert first.valid and first.test and second.valid
    assert (len(first.train), len(first.valid), len(first.test)) == (63, 6, 20)
    assert records_of(first.train) + records_of(first.valid) == Counter(DEEPLOC_TRAIN)
    assert records_of(first.test) == Counter(DEEPLOC_TEST)
    assert first.facts["skipped_records"] == "3"
    assert first.split == "test as given, valid drawn from the rest (10 %) by seed 0"
    assert first.valid.digest == second.valid.digest
    assert first.valid.sequences != tuple(sequence for _, sequence in DEEPLOC_TRAIN[:6])


def test_deeploc_counts_imply_those_of_plus(tmp_path: Path) -> None:
    path = tmp_path / "deeploc_data.fasta"
    records = [("Nucleus", "MKV")] * 11085
    path.write_text(as_deeploc("Q", records[:2773], " test") + as_deeploc("P", records))
    dataset = LOCALIZATION.dataset(LOCALIZATION.read(path), (path,))
    assert ([len(split) for split in splits_of(dataset)], dataset.note) == ([9977, 1108, 2773], "")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (as_deeploc("P", DEEPLOC_TRAIN), "1 with the mark `test`"),
        (as_deeploc("Q", DEEPLOC_TEST, " test") + as_deeploc("P", DEEPLOC_TRAIN[:9]), "at least 10 records without"),
        (as_deeploc("Q", TWO_PLACES, " test"), "every protein has two places"),
    ],
)
def test_deeploc_file_without_a_split_is_told_so(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "deeploc_data.fasta"
    path.write_text(content)
    message = refusal(lambda: LOCALIZATION.read(path))
    assert message.startswith(f"{path}: ") and part in message and "get it again" in message


def test_class_ends_at_the_first_dash_in_plus_files_too(plus: Path) -> None:
    expected = load(plus, LOCALIZATION)
    for path in paths_in(plus, LOCALIZATION):
        path.write_text(re.sub(r"^(>.*)$", r"\1-M-x", path.read_text(), flags=re.MULTILINE))
    assert load(plus, LOCALIZATION).digest == expected.digest


def test_lower_case_and_line_ends_of_windows_are_read_alike(plus: Path) -> None:
    expected = load(plus, FLUORESCENCE)
    path = paths_in(plus, FLUORESCENCE)[0]
    path.write_bytes(path.read_bytes().lower().replace(b"\n", b"\r\n"))
    assert load(plus, FLUORESCENCE).digest == expected.digest


@pytest.mark.parametrize("label", ["1", "-0.5", "+.5", "2.", "1e-3", "-1.5E+2", "0.009999999776482"])
def test_every_way_to_write_a_number_is_read(plus: Path, label: str) -> None:
    path = paths_in(plus, STABILITY)[0]
    path.write_text(f">a {label}\nMKV\n")
    assert STABILITY.read(path, path, path).train.labels.tolist() == [float(label)]


GOOD = ">a 0.5\nMKV\n"
LETTERS = ", ".join("ACDEFGHIKLMNPQRSTVWYBOUXZ")


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (f"{GOOD}>b 0.5", 3, "the file ends inside this record; it is truncated"),
        (f"{GOOD}>b", 3, "it is truncated, delete it and get it again"),
        (f"{GOOD}>b\nMKV\n", 3, "the header 'b' is not a name and a label; write '>NAME LABEL'"),
        (f"{GOOD}>\nMKV\n", 3, "the header '' is not a name and a label"),
        (f"{GOOD}>b 0.5 x\nMKV\n", 3, "the header 'b 0.5 x' is not a name and a label"),
        (f"{GOOD}>a 0.5\nMKI\n", 3, "the name 'a' stands in line 1 already; remove one of them"),
        (f"{GOOD}>b 0.5\n\n>c 0.5\nMKV\n", 3, "the sequence is empty; remove the record or complete it"),
        (f"{GOOD}>b 0.5\nMK*\n", 3, f"wrong symbol '*' at position 3; allowed: {LETTERS}; cut the sequence before"),
        (f"{GOOD}>b 0.5\nM-K\n", 3, "remove the gaps of an alignment"),
        (f"{GOOD}>b 0.5\nMKJ\n", 3, "write X where leucine and isoleucine cannot be told apart"),
        (f"{GOOD}>b 0.5\nM K\n", 3, "wrong symbol ' ' at position 2"),
        (f"{GOOD}>b 0.5\nMKÜ\n", 4, "this is not ASCII text"),
        ("MKV\n", 1, "'MKV' where a FASTA header was expected"),
    ],
)
@pytest.mark.parametrize(("task", "count"), [(STABILITY, 3), (LOCALIZATION, 3), (LOCALIZATION, 1)])
def test_bad_fasta_file_is_told_by_file_and_line(
    tmp_path: Path, task: Task, count: int, content: str, line: int, part: str
) -> None:
    label = "0.5" if task is STABILITY else "Nucleus-S"
    path = tmp_path / "some.fa"
    path.write_text(content.replace("0.5", label))
    message = refusal(lambda: task.read(*[path] * count))
    assert message.startswith(f"{path}, line {line}: ") and part.replace("0.5", label) in message


@pytest.mark.parametrize("task", [STABILITY, FLUORESCENCE, LOCALIZATION])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_of_the_three_files_is_checked(plus: Path, task: Task, place: int) -> None:
    paths = paths_in(plus, task)
    paths[place].write_text(paths[place].read_text() + ">last 1")
    assert refusal(lambda: task.read(*paths)).startswith(f"{paths[place]}, line ")


@pytest.mark.parametrize("label", ["nan", "-inf", "abc", "1_0", "1e999", "1,5", "0x1", "--1", "1e", ".", "Nucleus"])
def test_label_that_is_no_finite_number_is_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "stability_train.fa"
    path.write_text(f"{GOOD}>b {label}\nMKV\n")
    message = refusal(lambda: STABILITY.read(path, path, path))
    assert message == f"{path}, line 3: wrong label {label!r}; write a finite number, e.g. 1.25"


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("nucleus", "did you mean 'Nucleus'?"),
        ("Cell_membrane-S", "did you mean 'Cell.membrane'?"),
        ("Golgi-M", "did you mean 'Golgi.apparatus'?"),
        ("-M", "unknown class ''; allowed: Cell.membrane, Cytoplasm"),
    ],
)
def test_unknown_class_is_told_with_the_nearest(tmp_path: Path, label: str, hint: str) -> None:
    path = tmp_path / "localization_train.fa"
    path.write_text(f">a Nucleus\nMKV\n>b {label}\nMKV\n")
    message = refusal(lambda: LOCALIZATION.read(path, path, path))
    assert message.startswith(f"{path}, line 3: unknown class ") and hint in message


ONE = '{"primary": "MKV", "log_fluorescence": [1.5]}'
BAD_LABELS = ["null", "[null]", "[]", "[1, 2]", "[[1]]", '"1.5"', "true", "[false]", "{}"]
BAD_LABELS += ["NaN", "[NaN]", "Infinity", "-Infinity", "1e999", "1" + "0" * 400]


@pytest.mark.parametrize(
    ("content", "where", "part"),
    [
        (f"[{ONE}, {ONE[:20]}", ", line 1: ", "this is not a whole JSON file; delete it and get it again"),
        (f"[{ONE},\n{ONE}", ", line 2: ", "this is not a whole JSON file"),
        ("[" * 100_000, ": ", "this is not a whole JSON file"),
        ("1" * 5000, ": ", "this is not a whole JSON file"),
        (ONE, ": ", "a list of records was expected"),
        ("[]", ": ", "a list of records was expected, with at least one"),
        (f"[{ONE}, 3]", ": record 2: ", "no sequence; give it as text under 'primary'"),
        (f'[{ONE}, {{"log_fluorescence": [1.5]}}]', ": record 2: ", "no sequence"),
        ('[{"primary": ["M"], "log_fluorescence": 1}]', ": record 1: ", "no sequence"),
        ('[{"primary": "", "log_fluorescence": 1}]', ": record 1: ", "the sequence is empty"),
        (f"[{ONE}, {ONE.replace('V', '*')}]", ": record 2: ", "wrong symbol '*' at position 3"),
        (f"[{ONE}, {ONE.replace('V', 'ß')}]", ": record 2: ", "wrong symbol 'ß' at position 3"),
        (ONE.replace("V", "\\ud800").join("[]"), ": record 1: ", "wrong symbol '\\ud800' at position 3"),
        (f'[{ONE}, {{"primary": "M"}}]', ": record 2: ", "give one finite number under 'log_fluorescence'"),
        ('[{"primary": "M", "stability_score": [1]}]', ": record 1: ", "wrong or no label"),
        *[(ONE.replace("[1.5]", label).join("[]"), ": record 1: ", "wrong or no label") for label in BAD_LABELS],
    ],
)
def test_bad_json_file_is_told_by_file_and_record(tmp_path: Path, content: str, where: str, part: str) -> None:
    path = tmp_path / "fluorescence_train.json"
    path.write_text(content)
    message = refusal(lambda: FLUORESCENCE.read(path, path, path))
    assert message.startswith(f"{path}{where}") and part in message


FORMS: list[tuple[Task, str, int]] = [(LOCALIZATION, "a.fa", 3), (LOCALIZATION, "deeploc_data.fasta", 1)]
FORMS += [(task, name, 3) for task in (STABILITY, FLUORESCENCE) for name in ("a.fa", "a.json")]


@pytest.mark.parametrize(("task", "name", "count"), FORMS)
@pytest.mark.parametrize("content", [b"", b" \n\n", b"\x1f\x8b\x08\x00" + bytes(range(256))])
def test_empty_or_binary_file_is_refused(tmp_path: Path, task: Task, name: str, count: int, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    problem = ": the file is empty; " if not content.strip() else ""
    assert refusal(lambda: task.read(*[path] * count)).startswith(f"{path}{problem}")


PIECES = [b">a ", b"0.5", b"Nucleus", b"-M", b" test", b"\n", b"\r", b"\nMKV", b"*", b"[", b"]", b"{", b"}", b",", b":"]
PIECES += [b'"primary"', b'"stability_score"', b'"log_fluorescence"', b'"MKV"', b"null", b"\xff", b"\xc3\x9f", b"1e999"]
contents = st.binary(max_size=60) | st.lists(st.sampled_from(PIECES) | st.binary(max_size=2)).map(b"".join)


@pytest.mark.parametrize(("task", "name", "count"), FORMS)
@given(content=contents)
def test_arbitrary_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, task: Task, name: str, count: int, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        examples = task.read(*[path] * count)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert set("".join(examples.train.sequences)) <= set(task.symbols)
        assert np.isfinite(examples.train.labels).all()
