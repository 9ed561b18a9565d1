"""Mistakes in a user's own files: every one is told in one line with file, place and remedy."""

from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.own_files import RECORDS, load, write_cells, write_parquet
from trainer.errors import UserError
from trainer.tasks.own import MAX_SYMBOLS, READERS, own_task


def refused(tmp_path: Path, content: bytes | str, name: str = "my.csv", **options: str) -> str:
    """What is said of a file, from behind its path."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(lambda: load(path, **options))
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def cells(*rows: str, header: str = "sequence,label", count: int = 12) -> str:
    """A CSV with the given rows in front of good ones: the first stands in line 2."""
    return "\n".join([header, *rows, *[f"ACGT{'A' * number},{'xy'[number % 2]}" for number in range(count)]]) + "\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            cells(header="sequnce,label"),
            ["line 1: there is no column 'sequence', only 'sequnce', 'label'", "'sequnce'?"],
        ),
        (cells(header="Sequenz,label"), ["only 'Sequenz', 'label'; name the columns sequence, label; did you mean"]),
        *(
            (cells("A,x,test", header=f"sequence,label,{name}", count=0), [f"is the column '{name}' meant as 'split'?"])
            for name in ("splits", "slpit", "Spilt", "data_split")
        ),
        (cells("A,x,a,a", header="sequence,label,split,Split", count=0), ["line 1: there are 2 columns 'split'"]),
        (cells(header="sequence,target"), ["no column 'label'"]),
        (cells(header="\nsequence;label"), ["line 2: the header has semicolons, not commas; save the file"]),
        (cells(header='"sequence";"label"'), ["line 1: the header has semicolons"]),
        (cells(header="sequence\tlabel"), ["line 1: the header has tabs"]),
        (b"\x1f\x8b\x08\0\0", [": the file is packed with gzip; unpack it first"]),
        (b"PK\x03\x04\0", [": the file is a zip archive or an Excel file; unpack it, or save it as CSV"]),
        (b"PAR1\0\0PAR1", [": the file is a Parquet file; give it a name that ends in .parquet"]),
        (cells(header="label,label,sequence"), ["line 1: there are 2 columns 'label'; keep one"]),
        (cells("ACGT,x", "ACGT"), ["line 3: 1 cell(s) instead of 2", "quote"]),
        (cells("AC,GT,x"), ["line 2: 3 cell(s) instead of 2"]),
        (cells('"A\nC",x', " ,x"), ["line 4: the sequence is empty"]),
        (cells(","), ["line 2: the sequence is empty"]),
        (cells('"A\nC",x', '" \n ",x'), ["line 4: the sequence is empty"]),
        (cells("ACGT,"), ["line 2: the label is empty; complete or remove"]),
        (cells('"AC"GT,x'), ["line 2: the quotes are wrong"]),
        (cells("ACGT,x", '"ACGT,x'), ["line 3: the quotes are wrong", "double a quote"]),
        (cells("AC\0GT,x"), ["line 2: there is a NUL byte"]),
        (cells("Ä,x").encode("latin-1"), ["line 2: this is not UTF-8 text; save the file as UTF-8"]),
        (cells().encode("utf-16"), ["line 1: this is not UTF-8"]),
        (b"", [": the file is empty"]),
        (b"\xef\xbb\xbf\n \n", [": the file is empty"]),
        (b'""\n', ["line 1: there is no column 'sequence', only nothing", "name the columns"]),
        ("sequence,label\n", [": there is a header but no example"]),
        (cells(count=10), [": 10 examples cannot be split 90/5/5; at least 11"]),
        ("sequence,label\n" + "A,x\n" * 20, [": every label is 'x'; give examples of at least two classes"]),
        ("sequence,label\n" + "A,1.5\n" * 20, [": every label is 1.5; there is nothing to predict"]),
        ("sequence,label\n" + "".join(f"A,c{n}\n" for n in range(21)), ["no two examples have the same label"]),
        (
            "sequence,label\n" + "".join(f"A,{n}.5\n" for n in range(20)) + "A,NA\n",
            ["line 22: the label 'NA' is not a"],
        ),
        ("sequence,label\n" + "".join(f"A,{n}.5\n" for n in range(20)) + "A,nan\n", ["line 22", "labels=classes"]),
        ("sequence,label\n" + "".join(f"A,{n % 2}\n" for n in range(20)) + "A,inf\n", ["line 22: the label 'inf'"]),
        (cells("A,x,tset", header="sequence,label,split", count=0), ["line 2: unknown split 'tset'", "mean 'test'?"]),
        (cells("A,x,", header="sequence,label,split", count=0), ["line 2: the split is empty; allowed: train, valid"]),
        (cells("A,x,test", "A,y,dev", header="sequence,label,split", count=0), ["no example is in the split train"]),
    ],
)
def test_bad_csv_is_told_by_file_line_and_remedy(tmp_path: Path, content: str | bytes, parts: list[str]) -> None:
    message = refused(tmp_path, content)
    assert all(part in message for part in parts), message
    assert "?;" not in message


def test_tsv_with_commas_and_packed_files_say_what_to_do(tmp_path: Path) -> None:
    assert "the header has commas, not tabs; save the file with tabs" in refused(tmp_path, cells(), name="my.tsv")
    for name in ("my.csv.gz", "my.fasta.zip"):
        assert "cannot be read; unpack it first" in refused(tmp_path, b"any", name=name)


@pytest.mark.parametrize(
    ("label", "is_number"), [("one", False), ("nan", False), ("-inf", False), ("1e300", False), ("7", True)]
)
def test_forced_numbers_refuse_what_is_none_by_its_line(tmp_path: Path, label: str, is_number: bool) -> None:
    content = "sequence,label\n" + "".join(f"A,{n}\n" for n in range(20)) + f"A,{label}\n"
    if is_number:
        (tmp_path / "my.csv").write_text(content)
        assert load(tmp_path / "my.csv", labels="numbers").classes == ()
    else:
        message = refused(tmp_path, content, labels="numbers")
        assert message.startswith(f", line 22: the label {label!r} is not a number") and "labels=classes" in message


def test_bad_separators_are_told(tmp_path: Path) -> None:
    rows = "".join(f'"a,b",{"xy"[n % 2]}\n' for n in range(20))
    assert "no sequence has the separator '-'" in refused(tmp_path, f"sequence,label\n{rows}", separator="-")
    content = f'sequence,label\n{rows}"a,,b",x\n'
    assert ", line 22: word 2 is empty; remove the separator ','" in refused(tmp_path, content, separator=",")
    assert "separator: '' is not allowed" in refusal(lambda: own_task("my.csv", separator=""))
    assert "labels: unknown value 'number'" in refusal(lambda: own_task("my.csv", labels="number"))
    assert "did you mean 'numbers'" in refusal(lambda: own_task("my.csv", labels="number"))


def test_more_symbols_than_token_ids_are_refused(tmp_path: Path) -> None:
    letters = [chr(number) for number in range(0x20000, 0x20000 + MAX_SYMBOLS + 1)]
    rows = [("".join(letters[start::20]), start % 2) for start in range(20)]
    message = refusal(lambda: load(write_cells(tmp_path / "my.csv", rows)))
    assert "60,001 different symbols, at most 60,000" in message and "separator?" in message
    rows = [(" ".join(letters[start::20]), start % 2) for start in range(20)]
    message = refusal(lambda: load(write_cells(tmp_path / "my.csv", rows), separator=" "))
    assert "60,001 different words, at most 60,000" in message
    rows = [(" ".join(letters[start:MAX_SYMBOLS:20]), start % 2) for start in range(20)]
    assert len(load(write_cells(tmp_path / "my.csv", rows), separator=" ").symbols) == MAX_SYMBOLS


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (">a x\nACGT\n>b\nACGT\n", ["line 3: the header '>b' has no label; write '>NAME LABEL'"]),
        (">\nACGT\n", ["line 1: the header '>' has no label"]),
        (">a x\nACGT\n>b y\nAC\nGT\n>a y\nACGT\n", ["line 6: the name 'a' is also in line 1"]),
        (">a x\nACGT\n>b y\n>c y\nAC\n", ["line 3: the sequence is empty"]),
        ("ACGT\n", ["line 1: 'ACGT' where a FASTA header was expected"]),
        (">a x\nÄ\n", ["line 2: this is not ASCII"]),
        (" \n", [": the file is empty"]),
    ],
)
def test_bad_fasta_is_told_by_file_line_and_remedy(tmp_path: Path, content: str, parts: list[str]) -> None:
    message = refused(tmp_path, content, name="my.fa")
    assert all(part in message for part in parts), message
    assert "trainer.fetch" not in message


def test_fasta_has_no_words(tmp_path: Path) -> None:
    assert "leave separator out" in refused(tmp_path, ">a x\nAC\n", name="my.fa", separator=",")


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"sequence": ["A"] * 20}, ": there is no column 'label', only 'sequence'"),
        ({"sequence": [1] * 20, "label": ["x"] * 20}, ": the column 'sequence' holds 'int64'; store text there"),
        ({"sequence": [["A"]] * 20, "label": ["x"] * 20}, "the column 'sequence' holds 'list<"),
        ({"sequence": ["A"] * 20, "label": [b"x"] * 20}, "the column 'label' holds 'binary'; store text or numbers"),
        (
            {"sequence": ["A"] * 20, "label": pyarrow.array(range(20), pyarrow.date32())},
            "the column 'label' holds dates or times ('date32[day]'); store numbers there",
        ),
        ({"sequence": ["A"] * 20, "label": ["x", "y"] * 10, "splits": ["a"] * 20}, "'splits' meant as 'split'?"),
        (
            {"sequence": ["A"] * 20, "label": pyarrow.array([b"x", b"\xff"] * 10).view("str")},
            ": row 2: the label is not UTF-8 text; store it as UTF-8",
        ),
        ({"sequence": ["A", None] * 10, "label": ["x", "y"] * 10}, ": row 2: the sequence is missing"),
        ({"sequence": ["A", ""] * 10, "label": ["x", "y"] * 10}, ": row 2: the sequence is empty"),
        ({"sequence": ["A"] * 20, "label": [0.5, float("nan")] * 10}, ": row 2: the label 'nan' is not a number"),
        ({"sequence": pyarrow.array([], "str"), "label": pyarrow.array([], "str")}, "there are columns but no example"),
    ],
)
def test_bad_parquet_is_told_by_file_row_and_remedy(tmp_path: Path, columns: dict[str, object], part: str) -> None:
    path = write_parquet(tmp_path / "my.parquet", **columns)
    message = refusal(lambda: load(path, labels="numbers" if "nan" in part else "auto"))
    assert message.startswith(str(path)) and part in message


def test_truncated_parquet_and_text_in_it_that_is_no_utf8_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "my.parquet", sequence=["A"] * 20, label=["x", "y"] * 10)
    whole = path.read_bytes()
    assert "not a whole Parquet file" in refused(tmp_path, whole[:-20], name="my.parquet")
    assert "not a whole Parquet file" in refused(tmp_path, whole[20:], name="my.parquet")
    column = pyarrow.array([b"\xff"] * 20).view("str")
    path = write_parquet(path, sequence=column, label=["x", "y"] * 10)
    assert "row 1: the sequence is not UTF-8 text" in refusal(lambda: load(path))


def test_what_is_not_there_is_one_line_with_the_nearest_name(tmp_path: Path) -> None:
    write_cells(tmp_path / "promoters.csv", RECORDS)
    message = refusal(lambda: load(tmp_path / "promotors.csv"))
    assert "there is no file or folder" in message and message.endswith("did you mean 'promoters.csv'?")
    for link, target in (("my.csv", "gone.csv"), ("loop.csv", "loop.csv")):
        (tmp_path / link).symlink_to(target)
        message = refusal(lambda link=link: load(tmp_path / link))  # type: ignore[misc]
        assert f"{link}' is a link that leads nowhere (to '{target}')" in message and "did you mean" not in message
    message = refusal(lambda: own_task("my.csv").load(tmp_path / "nowhere"))
    assert message.startswith(f"data_dir: '{tmp_path / 'nowhere'}' is not there; give the folder that 'my.csv' starts")
    message = refusal(lambda: own_task("my.csv").load(tmp_path / "promoters.csv"))
    assert message.startswith("data_dir: ") and "is no folder" in message
    assert "there is no folder" in refusal(lambda: load(tmp_path / "nowhere" / "my.csv"))
    assert "cannot be found" in refusal(lambda: load(Path("~nobody-of-this-name/my.csv")))
    assert "\n" not in refusal(lambda: own_task("a\0b.csv").load())
    assert "\n" not in refusal(lambda: own_task("a" * 5000 + ".csv").load())
    assert "files that end in '.txt' cannot be read; allowed: .csv" in refused(tmp_path, "A", name="my.txt")
    assert "did you mean '.csv'?" in refused(tmp_path, "A", name="my.cvs")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda head, tail: head + tail,
            st.sampled_from([b"sequence,label\n", b"sequence\tlabel\tsplit\n", b">a x\n", b"PAR1"]),
            st.one_of(st.binary(max_size=100), st.text('ab,"\t\n>\r 01.é', max_size=200).map(str.encode)),
        ),
    ),
    suffix=st.sampled_from(sorted(READERS)),
    separator=st.sampled_from([None, ",", " "]),
    labels=st.sampled_from(["auto", "classes", "numbers"]),
)
def test_arbitrary_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, content: bytes, suffix: str, separator: str | None, labels: str
) -> None:
    path = tmp_path / f"my{suffix}"
    path.write_bytes(content)
    try:
        dataset = load(path, separator, labels)
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert len(dataset.digest) == 16


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), length=st.integers(0, 10**6))
def test_damaged_parquet_is_read_or_refused_in_one_line(tmp_path: Path, place: int, byte: int, length: int) -> None:
    path = write_parquet(tmp_path / "my.parquet", sequence=["ACGT", "CA"] * 10, label=["x", "y"] * 10)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content[: len(content) - (length % len(content) if length % 2 else 0)])
    try:
        load(path)
    except UserError as error:
        assert "\n" not in str(error)
