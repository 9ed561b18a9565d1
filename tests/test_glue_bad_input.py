"""Mistakes in GLUE's files: every one is told in one line with file and place."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.conftest import refusal
from tests.glue_files import tsv
from tests.test_glue import TASKS, all_tasks, read, sources
from trainer.tasks.glue import RTE, SST2, STSB, Glue
from trainer.tasks.task import DataError


def spoil(folder: Path, name: str, line: int, text: str | bytes, part: str = "train") -> str:
    """Puts text in place of a line (counted from 1) of a file; returns what the reader says, less the file and line."""
    path = folder / "glue" / name / f"{part}.tsv"
    lines = path.read_bytes().splitlines()
    lines[line - 1] = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    message = refusal(lambda: read(TASKS[name], folder))
    assert message.startswith(f"{path}, line {line}: ")
    return message.removeprefix(f"{path}, line {line}: ")


@pytest.mark.parametrize(
    ("name", "line", "text", "part"),
    [
        ("CoLA", 3, "gj04\t1", "2 column(s) instead of 4: 'source, label, star, sentence'; is the file truncated?"),
        ("CoLA", 3, "gj04\t1\t\ta\tb", "5 column(s) instead of 4"),
        ("SST-2", 25, "cut of", "1 column(s) instead of 2: 'sentence, label'; is the file truncated?"),
        ("SST-2", 2, "", "1 column(s) instead of 2"),
        ("MNLI", 4, "1\t2\t3", "3 column(s) instead of 12: 'index, promptID"),
        ("CoLA", 1, "gj04\t2\t\tHe.", "wrong label '2'; allowed: 0, 1"),
        ("CoLA", 1, "source\tlabel\tstar\tsentence", "wrong label 'label'; allowed: 0, 1"),
        ("SST-2", 5, "fine\tpositive", "wrong label 'positive'; allowed: 0, 1"),
        (
            "RTE",
            5,
            "1\ta\tb\tentail",
            "wrong label 'entail'; allowed: entailment, not_entailment; did you mean 'entail",
        ),
        ("QNLI", 5, "1\ta\tb\t", "wrong label ''; allowed: entailment, not_entailment"),
        ("STS-B", 7, "\t" * 7 + "a\tb\tnan", "wrong label 'nan'; allowed: a number from 0 to 5"),
        ("STS-B", 7, "\t" * 7 + "a\tb\tinf", "wrong label 'inf'; allowed: a number from 0 to 5"),
        ("STS-B", 7, "\t" * 7 + "a\tb\t5.01", "wrong label '5.01'; allowed: a number from 0 to 5"),
        ("STS-B", 7, "\t" * 7 + "a\tb\t-1", "wrong label '-1'; allowed: a number from 0 to 5"),
        ("STS-B", 7, "\t" * 7 + "a\tb\thigh", "wrong label 'high'; allowed: a number from 0 to 5"),
        ("CoLA", 9, "gj04\t1\t\t", "the first sentence is empty; complete the row or remove it"),
        ("SST-2", 9, "  \t1", "the first sentence is empty"),
        ("RTE", 9, "1\ta\t \tentailment", "the second sentence is empty"),
        ("QQP", 9, "1\t2\t3\t\tWhy?\t1", "the first sentence is empty"),
        ("MRPC", 2, b"1\t2\t3\tna\xefve\tb", "this is not UTF-8 text"),
        (
            "SST-2",
            1,
            "a fine film\t1",
            "no column 'sentence'; a header with sentence, label was expected, found: 'a fine",
        ),
        ("MNLI", 1, "index\tsentence1\tsentence2\tlabel", "no column 'gold_label'; a header with sentence1, sentence2"),
        ("RTE", 1, "index\tsentence1\tsentence2", "no column 'label'"),
    ],
)
def test_bad_file_is_told_by_file_and_line(
    glue_folder: Path, name: str, line: int, text: str | bytes, part: str
) -> None:
    assert spoil(glue_folder, name, line, text).startswith(part)


def test_bad_dev_file_is_told_by_its_own_name(glue_folder: Path) -> None:
    assert spoil(glue_folder, "MNLI", 3, "cut", part="dev_mismatched").startswith("1 column(s) instead of 16")


@all_tasks
def test_empty_file_and_one_with_only_a_header_are_refused(glue_folder: Path, name: str) -> None:
    path = glue_folder / TASKS[name].alternatives[0][0].path
    header = tsv(name, "train", 0)
    path.write_bytes(header)
    expected = "the file holds no rows; get the file again" if header else "the file is empty"
    assert refusal(lambda: read(TASKS[name], glue_folder)).startswith(f"{path}: {expected}")
    path.write_bytes(b"")
    assert refusal(lambda: read(TASKS[name], glue_folder)).startswith(f"{path}: the file is empty")
    path.unlink()
    assert refusal(lambda: read(TASKS[name], glue_folder)).startswith(f"{path}: the file cannot be read")


TEXTS, LABELS, SCORES = ["one", "two", "three"], [0, 1, 0], pa.array([1, -1, 2], pa.float32())
SST2_COLUMNS = "instead of 'sentence (string), label (int64)'; is it the right file?"


@pytest.mark.parametrize(
    ("task", "columns", "part"),
    [
        (SST2, {"label": LABELS}, f"columns 'label (int64)' {SST2_COLUMNS}"),
        (SST2, {"sentence": LABELS, "label": LABELS}, f"columns 'sentence (int64), label (int64)' {SST2_COLUMNS}"),
        (SST2, {"sentence": TEXTS, "label": TEXTS}, f"columns 'sentence (string), label (string)' {SST2_COLUMNS}"),
        (STSB, {"sentence1": TEXTS, "sentence2": TEXTS, "label": LABELS}, "columns 'sentence1 (string), sentence2"),
        (SST2, {"sentence": TEXTS, "label": [0, 1, -1]}, "row 3: label -1: this is GLUE's test set, whose labels are"),
        (STSB, {"sentence1": TEXTS, "sentence2": TEXTS, "label": SCORES}, "row 2: label -1: this is GLUE's test set"),
        (SST2, {"sentence": TEXTS, "label": [0, 2, 0]}, "row 2: wrong label '2'; allowed: 0, 1"),
        (SST2, {"sentence": TEXTS, "label": [0, None, 0]}, "row 2: column 'label' is empty"),
        (SST2, {"sentence": [None, "two", "three"], "label": LABELS}, "row 1: column 'sentence' is empty"),
        (SST2, {"sentence": ["one", "", "three"], "label": LABELS}, "row 2: the first sentence is empty"),
        (SST2, {"sentence": pa.array([], "string"), "label": pa.array([], "int64")}, "the file holds no rows"),
    ],
)
def test_bad_parquet_file_is_told_by_file_and_row(
    tmp_path: Path, task: Glue, columns: dict[str, list[object]], part: str
) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.table(columns), path)
    message = refusal(lambda: task.read(path, path))
    assert message.startswith(f"{path}: {part}")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.Table.from_arrays([TEXTS, TEXTS, LABELS], names=["sentence", "sentence", "label"]), path)
    assert refusal(lambda: SST2.read(path, path)).startswith(f"{path}: this is not a whole Parquet file (")


@pytest.mark.parametrize("cut", [0, 1, 4, 100, -1, -8])
def test_cut_parquet_file_is_refused(glue_forms: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "train.parquet"
    whole = glue_forms / RTE.files[0].path
    path.write_bytes(whole.read_bytes()[:cut])
    message = refusal(lambda: RTE.read(path, whole))
    assert message.startswith(f"{path}: the file is empty" if cut == 0 else f"{path}: this is not a whole Parquet file")


@given(task=st.sampled_from(list(TASKS.values())), form=st.sampled_from(["tsv", "parquet"]), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(
    glue_forms: Path, tmp_path: Path, task: Glue, form: str, data: st.DataObject
) -> None:
    """Arbitrary bytes alone, and in place of some bytes of a good file."""
    paths = [glue_forms / source.path for source in sources(task, form)]
    good = paths[0].read_bytes()
    junk = data.draw(st.binary(max_size=60) | st.text(alphabet='01 \t\r\n"a\ufeff\u2028', max_size=60).map(str.encode))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(start + 60, len(good))))
    spoilt = tmp_path / f"train.{form}"
    spoilt.write_bytes(data.draw(st.sampled_from([junk, good[:start] + junk + good[end:]])))
    try:
        assert len(task.read(spoilt, *paths[1:]).train) > 0
    except DataError as error:
        assert str(error).startswith(str(spoilt))
        assert len(str(error).splitlines()) == 1
