"""What the music reader promises: whole segments, MAESTRO's published splits, one line for every mistake in its CSV."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.midi_files import HEADER, SHORT_PIECE, write_music
from tests.test_midi import raise_, reads_or_refuses
from trainer import midi
from trainer.midi import PITCH_NAMES, PITCHES
from trainer.sources import find
from trainer.tasks.music import COMPOSER, SEGMENT_LENGTH, segmented, segments
from trainer.tasks.task import DataError, Dataset

pytestmark = pytest.mark.usefixtures("pitch_cache")
CSV = "music/maestro-v1.0.0/maestro-v1.0.0.csv"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """The CSV of a small generated MAESTRO."""
    write_music(tmp_path)
    return tmp_path / CSV


def load(csv_path: Path) -> Dataset:
    return COMPOSER.dataset(COMPOSER.read(csv_path), (csv_path,))


@pytest.mark.parametrize(
    ("num_notes", "lengths"),
    [(1, [1]), (127, [127]), (128, [128]), (129, [128]), (255, [128]), (256, [128, 128]), (400, [128] * 3)],
)
def test_segments_are_whole_and_a_short_piece_is_its_own(num_notes: int, lengths: list[int]) -> None:
    pitches = "".join(PITCHES[number % 128] for number in range(num_notes))
    parts = segments(pitches)
    assert [len(part) for part in parts] == lengths
    assert "".join(parts) == pitches[: sum(lengths)]


def test_segments_know_their_piece_and_its_label() -> None:
    split = segmented(["a" * 300, "b" * 5, "c" * 128], [4, 2, 4])
    assert split.sequences == ("a" * 128, "a" * 128, "b" * 5, "c" * 128)
    assert split.labels.tolist() == [4, 4, 2, 4] and split.labels.dtype == np.int64
    assert split.pieces is not None and split.pieces.tolist() == [0, 0, 1, 2]
    assert split.num_pieces == 3


def test_maestro_gives_segments_in_the_published_splits(music: Path) -> None:
    examples = COMPOSER.read(music)
    assert examples.classes == ("Clara Schumann", "Frédéric Chopin", "Johann Sebastian Bach")
    assert examples.facts == {}
    splits = (examples.train, examples.valid, examples.test)
    assert [split.num_pieces for split in splits if split] == [7, 3, 3]
    lowest = [70, 40, 55]
    for split in filter(None, splits):
        assert {len(sequence) for sequence in split.sequences} <= {40, SEGMENT_LENGTH}
        for sequence, label in zip(split.sequences, split.labels, strict=True):
            assert lowest[label] <= min(map(ord, sequence)) and max(map(ord, sequence)) < lowest[label] + 24
    dataset = load(music)
    assert dataset.symbols == PITCHES and dataset.symbol_names == PITCH_NAMES
    assert dataset.split == "as given" and dataset.note == "1 % subset" and dataset.num_examples == 13
    assert Counter(map(len, dataset.train.sequences))[40] == 1
    assert load(music).digest == dataset.digest


def test_a_broken_piece_is_skipped_named_and_counted(music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = COMPOSER.read(music)
    capsys.readouterr()
    for name in ("2004/train_1.midi", SHORT_PIECE):
        (music.parent / name).write_bytes(b"MThd")
    examples = COMPOSER.read(music)
    assert examples.facts == {"skipped_files": "2"} and examples.train.num_pieces == 5
    assert examples.classes == before.classes and examples.valid is not None and before.valid is not None
    assert examples.valid.digest == before.valid.digest
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == [
        f"skipped {music.parent / '2004/train_1.midi'}",
        f"skipped {music.parent / SHORT_PIECE}",
    ]
    assert load(music).facts == {"skipped_files": "2"}


def test_a_composer_of_broken_pieces_only_is_still_a_class(music: Path) -> None:
    for number in range(0, 6, 3):
        (music.parent / f"2004/train_{number}.midi").write_bytes(b"broken")
    for name in ("validation_0", "test_0", "short"):
        (music.parent / f"2004/{name}.midi").write_bytes(b"broken")
    examples = COMPOSER.read(music)
    assert examples.classes is not None and examples.classes[1] == "Frédéric Chopin"
    assert set(examples.train.labels.tolist()) == {0, 2}


def test_a_split_without_a_readable_piece_is_refused(music: Path) -> None:
    for number in range(3):
        (music.parent / f"2004/test_{number}.midi").write_bytes(b"broken")
    assert refusal(lambda: COMPOSER.read(music)) == (
        f"{music}: none of the 3 MIDI files can be read of the split 'test'; unpack the archive again"
    )
    music.write_text(music.read_text(encoding="utf-8").replace(",test,", ",train,"), encoding="utf-8")
    assert refusal(lambda: COMPOSER.read(music)).startswith(f"{music}: there is no row of the split 'test'")


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "3.0.0"])
def test_every_version_of_maestro_is_known_by_its_layout(tmp_path: Path, version: str) -> None:
    path = tmp_path / f"music/maestro-v{version}/maestro-v{version}.csv"
    path.parent.mkdir(parents=True)
    path.touch()
    layouts = (COMPOSER.files, *COMPOSER.alternatives)
    assert [source.path for (source,) in layouts if find(source, tmp_path)] == [path.relative_to(tmp_path).as_posix()]
    assert [bool(source.url) for (source,) in layouts] == [True, False, False]  # other data is never fetched instead


def test_another_version_than_the_papers_says_so_beside_its_numbers(tmp_path: Path) -> None:
    write_music(tmp_path)
    assert COMPOSER.load(tmp_path).note == "1 % subset"
    folder = (tmp_path / "music/maestro-v1.0.0").rename(tmp_path / "music/maestro-v3.0.0")
    (folder / "maestro-v1.0.0.csv").rename(folder / "maestro-v3.0.0.csv")
    assert COMPOSER.load(tmp_path).note == "maestro-v3.0.0, the paper has maestro-v1.0.0, 1 % subset"


def test_columns_are_found_by_name_in_any_order(music: Path) -> None:
    expected = COMPOSER.read(music)
    rows = [line.split(",") for line in music.read_text(encoding="utf-8").replace('", Op. 10"', '"').splitlines()]
    chosen = [HEADER.index(name) for name in ("midi_filename", "split", "canonical_composer")]
    content = "\r\n".join(",".join(row[place] for place in chosen) for row in rows)
    music.write_bytes(b"\xef\xbb\xbf" + content.encode())
    read = COMPOSER.read(music)
    assert read.train.digest == expected.train.digest and read.classes == expected.classes


ROW = "Bach,Fugue,{split},2004,2004/{split}_{number}.midi,,"
ROWS = [ROW.format(split=split, number=number) for number in range(3) for split in ("train", "validation", "test")]
LINES = [",".join(HEADER), *ROWS]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("split,", "spilt,", 1, "no column is called 'split'; the header must name it once; did you mean 'spilt'?"),
        ("canonical_title", "split", 1, "several columns are called 'split'; the header must name it once"),
        (",validation,", ",valid,", 3, "wrong split 'valid'; allowed: train, validation, test; did you mean 'valida"),
        ("\nBach", "\n ", 2, "canonical_composer is empty; complete it or remove the row"),
        ("_1.midi", "_0.midi", 5, "the midi_filename '2004/train_0.midi' is that of line 2 too; remove one of them"),
        ("2004/test_1", "2004//train_0", 7, "the midi_filename '2004//train_0.midi' is that of line 2 too"),
        ("2004/train_2", "2004/no\tsuch", 8, "the MIDI file '2004/no\\tsuch.midi' is not there; unpack the whole"),
        ("train_2", "x" * 300, 8, f"the MIDI file '2004/{'x' * 300}.midi' cannot be read (File name too long)"),
        ("2004/test_0.midi", "2004", 4, "the MIDI file '2004' is not there"),
        ("2004/test_0.midi", "", 4, "wrong midi_filename ''; allowed: a path inside the CSV's folder"),
        ("2004/test_0", "/etc/x", 4, "wrong midi_filename '/etc/x.midi'; allowed: a path inside"),
        ("2004/test_0", "2004/../../x", 4, "wrong midi_filename '2004/../../x.midi'"),
        ("2004/test_0", "C:\\x", 4, "wrong midi_filename 'C:\\\\x.midi'"),
        ("2004/test_0", "C:/x", 4, "wrong midi_filename 'C:/x.midi'"),
        ("Fugue,test", "Fugue in C, BWV 846,test", 4, "8 column(s) where the header has 7; is the file truncated?"),
        (f"\n{ROWS[-1]}", "\nBach,Fu", 10, "2 column(s) where the header has 7"),
        (f"\n{ROWS[4]}", "\n", 6, "0 column(s) where the header has 7"),
        ("Bach,Fugue,test", 'Bach,"Fugue,test', 4, "this row is not CSV (unexpected end of data); is a quote missing,"),
        ("Bach,Fugue,test", 'Bach,"Fu"gue,test', 4, "this row is not CSV (',' expected after '\"')"),
        ("Bach,Fugue,test", "Bach,\xff,test", 4, "this is not UTF-8 text; is it the right file?"),
        ("\n".join(LINES[1:]), "", None, "there is no row below the header"),
        ("\n".join(LINES), " \n", None, "the file is empty"),
        ("\n".join(LINES), "<html>404</html>", 1, "no column is called 'canonical_composer'"),
    ],
)
def test_bad_csv_is_told_by_file_and_line(music: Path, old: str, new: str, line: int | None, said: str) -> None:
    content = "\n".join(LINES)
    assert content.count(old)
    music.write_bytes(content.replace(old, new, 1 if old != "_1.midi" else -1).encode("latin-1"))
    message = refusal(lambda: COMPOSER.read(music))
    assert message.startswith(f"{music}, line {line}: {said}" if line else f"{music}: {said}")


def test_a_quoted_line_break_does_not_shift_the_line_numbers(music: Path) -> None:
    lines = [*LINES[:2], LINES[2].replace("Fugue", '"Fugue\nin C"'), LINES[3].replace("test", "tset", 1)]
    music.write_text("\n".join(lines))
    assert refusal(lambda: COMPOSER.read(music)).startswith(f"{music}, line 5: wrong split 'tset'")


def test_missing_csv_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: the file cannot be read \(No such file or directory\)"):
        COMPOSER.read(tmp_path / "nowhere.csv")


CELLS = st.sampled_from([*HEADER, *LINES, "\n", "\r", ",", '"', "train", "../x", "\0", "Bach", "é", " "])


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=200), st.lists(CELLS, max_size=40).map(lambda cells: "".join(cells).encode()))
)
def test_arbitrary_bytes_as_csv_are_examples_or_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.csv"
    path.write_bytes(content)
    reads_or_refuses(lambda: COMPOSER.read(path))


def test_real_performances_have_the_known_counts(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load(real_data / CSV)
    splits = (dataset.train, dataset.valid, dataset.test)
    assert [split.num_pieces for split in splits] == [240, 18, 19]
    assert [len(split) for split in splits] == [5048, 462, 451]
    assert len(dataset.classes) == 10 and dataset.note == "23 % subset" and dataset.facts == {}
    assert set(map(len, dataset.train.sequences)) == {SEGMENT_LENGTH}
    monkeypatch.setattr(midi, "parse", raise_)
    assert load(real_data / CSV).digest == dataset.digest
