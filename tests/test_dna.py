"""What the DNA reader promises: the real files' counts, stable splits, and one line for every way to be wrong."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import UserError
from trainer.tasks import TASKS
from trainer.tasks.dna import H4, SPLICE
from trainer.tasks.task import DataError, Dataset, Task

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "dna").is_dir(), reason="needs the real files in ../shared/data/dna")

BASES = "ACGT" * 15
SPLICE_LINES = [f"{label},  NAME-{number},    {BASES}" for number, label in enumerate(("EI", "IE", "N") * 8)]
HISTONE_LINES = [line for number in range(24) for line in (f">record{number}", "ACGT" * 125, str(number % 2))]


def write(folder: Path, task: Task, content: bytes | list[str]) -> Path:
    """The task's file in folder, with the given bytes or lines."""
    path = folder / task.files[0].path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode())
    return path


def refusal(folder: Path, task: Task) -> str:
    """The one line that a user gets for a bad file."""
    with pytest.raises(UserError) as caught:
        task.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def without(lines: list[str], **changed: str) -> list[str]:
    """The lines with some replaced: ``line5="..."``, counted from 1."""
    replaced = {int(name.removeprefix("line")): line for name, line in changed.items()}
    return [replaced.get(number, line) for number, line in enumerate(lines, start=1)]


def num_classes(dataset: Dataset) -> Counter[str]:
    labels = np.concatenate([dataset.train.labels, dataset.valid.labels, dataset.test.labels])
    return Counter(dataset.classes[label] for label in labels)


@needs_data
def test_real_splice_file_has_the_published_counts() -> None:
    examples = SPLICE.read(DATA / "dna" / "splice.txt").train
    assert len(examples) == 3190
    assert Counter(SPLICE.classes[label] for label in examples.labels) == {"EI": 767, "IE": 768, "N": 1655}
    assert {len(sequence) for sequence in examples.sequences} == {60}
    assert set("".join(examples.sequences)) == set("ACGTDNRS") == set(SPLICE.symbols)
    dataset = SPLICE.load(DATA)
    assert dataset.note == ""
    assert num_classes(dataset) == {"EI": 767, "IE": 768, "N": 1655}
    assert dataset.source == str(DATA / "dna" / "splice.txt")


@needs_data
@pytest.mark.parametrize(("task", "num_examples"), [("h3", 4185), ("h4", 4110)])
def test_real_histone_file_says_that_it_is_a_subset(task: str, num_examples: int) -> None:
    dataset = TASKS[task].load(DATA)
    assert len(dataset.train) + len(dataset.valid) + len(dataset.test) == num_examples
    assert dataset.note == "28 % subset"
    assert set("".join(dataset.train.sequences)) == set("ACGT")
    assert max(len(sequence) for sequence in dataset.train.sequences) == TASKS[task].max_length
    assert set(num_classes(dataset)) == {"0", "1"}


@needs_data
@pytest.mark.parametrize(("task", "sizes"), [("splice", (2870, 160, 160)), ("h4", (3698, 206, 206))])
def test_real_split_is_90_5_5_of_every_record_once_and_always_the_same(task: str, sizes: tuple[int, int, int]) -> None:
    first, second = TASKS[task].load(DATA), TASKS[task].load(DATA)
    assert (len(first.train), len(first.valid), len(first.test)) == sizes
    together = first.train.sequences + first.valid.sequences + first.test.sequences
    assert Counter(together) == Counter(TASKS[task].read(DATA / TASKS[task].files[0].path).train.sequences)
    assert first.digest == second.digest
    assert first.valid.sequences == second.valid.sequences
    assert first.test.labels.tolist() == second.test.labels.tolist()


@needs_data
def test_split_never_changes_between_versions() -> None:
    dataset = SPLICE.load(DATA)
    held_out = "\n".join(dataset.valid.sequences + dataset.test.sequences)
    assert hashlib.sha256(held_out.encode()).hexdigest()[:16] == "6aa948eabb228977"


def test_splits_share_no_record(tmp_path: Path) -> None:
    sequences = [f"{number:060b}".replace("0", "A").replace("1", "C") for number in range(200)]
    write(tmp_path, SPLICE, [f"EI,NAME,{sequence}" for sequence in sequences])
    dataset = SPLICE.load(tmp_path)
    parts = [set(split.sequences) for split in (dataset.train, dataset.valid, dataset.test)]
    assert [len(part) for part in parts] == [180, 10, 10]
    assert set.union(*parts) == set(sequences)


def test_label_stays_with_its_sequence(tmp_path: Path) -> None:
    write(tmp_path, H4, [line for number in range(40) for line in (">name", "ACGT"[number % 4] * 9, str(number % 2))])
    dataset = H4.load(tmp_path)
    for split in (dataset.train, dataset.valid, dataset.test):
        assert [int(sequence[0] in "CT") for sequence in split.sequences] == split.labels.tolist()


@pytest.mark.parametrize(("task", "lines"), [(SPLICE, SPLICE_LINES), (H4, HISTONE_LINES)])
def test_line_ends_of_every_platform_and_trailing_blanks_are_read_alike(
    tmp_path: Path, task: Task, lines: list[str]
) -> None:
    expected = task.read(write(tmp_path, task, lines)).train
    assert len(expected) == 24
    for end in (b"\r\n", b"\n\n\n", b" \n"):
        content = end.join(line.encode() for line in lines) if end != b"\n\n\n" else "\n".join(lines).encode() + end
        read = task.read(write(tmp_path, task, content)).train
        assert read.sequences == expected.sequences
        assert read.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize(
    ("lines", "line", "part"),
    [
        ([*SPLICE_LINES, "EI"], 25, "1 column(s) instead of 3"),
        ([*SPLICE_LINES, "EI, NAME"], 25, "2 column(s) instead of 3: CLASS, NAME, SEQUENCE; is the file truncated?"),
        ([*SPLICE_LINES, "EI, NAME,"], 25, "the sequence is empty"),
        ([*SPLICE_LINES, "EI, NAME, ACGT"], 25, "4 symbols instead of 60; is the file truncated?"),
        (without(SPLICE_LINES, line3="EI, NAME, MORE, " + BASES), 3, "4 column(s) instead of 3"),
        (without(SPLICE_LINES, line3=f"EI, NAME, {BASES}A"), 3, "61 symbols instead of 60"),
        (
            without(SPLICE_LINES, line5=f"EI, NAME, {BASES[:-4]}ACXT"),
            5,
            "wrong symbol 'X' at position 59; allowed: A, C",
        ),
        (without(SPLICE_LINES, line1=f"EI, NAME, {BASES.lower()}"), 1, "wrong symbol 'a' at position 1"),
        (without(SPLICE_LINES, line1=f"EI, NAME, {BASES.lower()}"), 1, "did you mean 'A'?"),
        (
            without(SPLICE_LINES, line2=f"ei, NAME, {BASES}"),
            2,
            "wrong label 'ei'; allowed: EI, IE, N; did you mean 'EI'?",
        ),
        (without(SPLICE_LINES, line4=f"N, NÄME, {BASES}"), 4, "not ASCII"),
        (without(SPLICE_LINES, line7=""), 7, "the line is blank; remove it"),
        (HISTONE_LINES, 1, "1 column(s) instead of 3"),
    ],
)
def test_bad_splice_file_is_told_by_file_and_line(tmp_path: Path, lines: list[str], line: int, part: str) -> None:
    path = write(tmp_path, SPLICE, lines)
    message = refusal(tmp_path, SPLICE)
    assert message.startswith(f"{path}, line {line}: ")
    assert part in message


@pytest.mark.parametrize(
    ("lines", "line", "part"),
    [
        (HISTONE_LINES[:-2], 70, "the file ends inside the record '>record23'; it is truncated"),
        (HISTONE_LINES[:-1], 71, "the file ends inside the record '>record23'; it is truncated"),
        ([*HISTONE_LINES[:-2], "ACG"], 71, "the file ends inside the record '>record23'; it is truncated"),
        (HISTONE_LINES[1:], 1, "'ACGTACGTACGTACGTACGT' where a name was expected"),
        (without(HISTONE_LINES, line5="ACGX"), 5, "wrong symbol 'X' at position 4; allowed: A, C, G, T"),
        (without(HISTONE_LINES, line5="ACGN"), 5, "wrong symbol 'N' at position 4"),
        (without(HISTONE_LINES, line5="acgt"), 5, "did you mean 'A'?"),
        (without(HISTONE_LINES, line5=""), 5, "the sequence is empty"),
        (without(HISTONE_LINES, line6="2"), 6, "wrong label '2' of record '>record1'; allowed: 0, 1"),
        (without(HISTONE_LINES, line6=""), 6, "wrong label ''"),
        ([*HISTONE_LINES[:2], *HISTONE_LINES[3:]], 3, "wrong label '>record1' of record '>record0'"),
        ([*HISTONE_LINES[:3], "", *HISTONE_LINES[3:]], 4, "'' where a name was expected"),
        (without(HISTONE_LINES, line8="ACGÜ"), 8, "not ASCII"),
        (SPLICE_LINES, 1, "where a name was expected; a record is >name, sequence, label"),
    ],
)
def test_bad_histone_file_is_told_by_file_and_line(tmp_path: Path, lines: list[str], line: int, part: str) -> None:
    path = write(tmp_path, H4, lines)
    message = refusal(tmp_path, H4)
    assert message.startswith(f"{path}, line {line}: ")
    assert part in message


@pytest.mark.parametrize("task", [SPLICE, H4])
@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_empty_file_is_refused(tmp_path: Path, task: Task, content: bytes) -> None:
    path = write(tmp_path, task, content)
    message = refusal(tmp_path, task)
    assert message.startswith(f"{path}: the file is empty") and "trainer.fetch" in message


@pytest.mark.parametrize("task", [SPLICE, H4])
def test_binary_file_is_refused(tmp_path: Path, task: Task) -> None:
    path = write(tmp_path, task, b"\x1f\x8b\x08\x00" + bytes(range(256)))
    assert refusal(tmp_path, task).startswith(f"{path}, line 1: this is not ASCII text")


@pytest.mark.parametrize("task", [SPLICE, H4])
def test_missing_file_is_one_line_from_the_folder_and_from_the_reader(tmp_path: Path, task: Task) -> None:
    message = refusal(tmp_path, task)
    assert str(tmp_path) in message and task.files[0].path in message and task.files[0].url in message
    with pytest.raises(DataError, match=r"nowhere\.txt: the file cannot be read \(No such file or directory\)"):
        task.read(tmp_path / "nowhere.txt")


def test_ten_records_are_too_few_and_eleven_are_enough(tmp_path: Path) -> None:
    path = write(tmp_path, SPLICE, SPLICE_LINES[:10])
    assert refusal(tmp_path, SPLICE) == f"{path}: 10 examples cannot be split 90/5/5; at least 11 are needed"
    write(tmp_path, SPLICE, SPLICE_LINES[:11])
    dataset = SPLICE.load(tmp_path)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (9, 1, 1)
    assert dataset.note == "1 % subset"


def test_one_record_less_is_a_subset_too(tmp_path: Path) -> None:
    write(tmp_path, SPLICE, SPLICE_LINES[:3] * 1063)
    assert SPLICE.load(tmp_path).note == "99 % subset"


def test_fewer_train_examples_are_the_first_and_leave_the_rest_alone(tmp_path: Path) -> None:
    write(tmp_path, H4, HISTONE_LINES)
    whole = H4.load(tmp_path)
    assert whole.first_train_examples(None) is whole
    assert whole.first_train_examples(len(whole.train)) is whole
    part = whole.first_train_examples(3)
    assert part.train.labels.tolist() == whole.train.labels.tolist()[:3]
    assert part.test is whole.test and part.valid is whole.valid
    assert part.digest != whole.digest


def test_a_name_may_occur_twice_as_twelve_of_splices_do(tmp_path: Path) -> None:
    """Names are not looked at: examples are told apart by their place in the file."""
    write(tmp_path, SPLICE, SPLICE_LINES[:1] * 24)
    assert len(SPLICE.read(tmp_path / "dna" / "splice.txt").train) == 24


@settings(deadline=None)
@given(task=st.sampled_from([SPLICE, H4]), junk=st.binary(max_size=200), kept=st.integers(0, 24))
def test_arbitrary_bytes_are_examples_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, task: Task, junk: bytes, kept: int
) -> None:
    """Junk alone, and after some good lines."""
    lines = SPLICE_LINES if task is SPLICE else HISTONE_LINES
    good = "".join(f"{line}\n" for line in lines[:kept]).encode()
    path = write(tmp_path_factory.getbasetemp(), task, good + junk)
    try:
        assert len(task.read(path).train) > 0
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
