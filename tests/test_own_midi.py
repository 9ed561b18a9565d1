"""A user's own MIDI files: class folders give pieces in segments, and what is wrong with them is told by name."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.midi_files import write_midi
from tests.own_files import load
from trainer.describe import describe
from trainer.midi import PITCH_NAMES, PITCHES
from trainer.tasks.own import own_task


@pytest.fixture
def pieces(tmp_path: Path, pitch_cache: Path) -> Path:
    """A folder with two class folders of six MIDI files; 300 notes each; Bach climbs where Ravel falls."""
    folder = tmp_path / "pieces"
    for number in range(6):
        climb = [20 + number + place % 100 for place in range(300)]
        write_midi(folder / "Bach" / f"{number}.mid", climb)
        write_midi(folder / "Ravel" / f"{number}.MIDI", climb[::-1])
    (folder / "README.txt").write_text("own pieces")
    (folder / ".hidden").mkdir()
    return folder


def test_class_folders_of_midi_files_are_pieces_in_segments(pieces: Path) -> None:
    dataset = load(pieces)
    assert (dataset.symbols, dataset.symbol_names, dataset.classes) == (PITCHES, PITCH_NAMES, ("Bach", "Ravel"))
    assert [split.num_pieces for split in (dataset.train, dataset.valid, dataset.test)] == [10, 1, 1]
    assert len(dataset.train) == 20 and {len(sequence) for sequence in dataset.train.sequences} == {128}
    for split in (dataset.train, dataset.valid, dataset.test):
        climbs = [ord(sequence[1]) > ord(sequence[0]) for sequence in split.sequences]
        assert [dataset.classes[label] == "Bach" for label in split.labels] == climbs
    assert dataset.facts == {} and own_task(str(pieces)).metrics_for(dataset) == ("accuracy",)


@pytest.mark.parametrize(
    ("held_out", "sizes", "split"),
    [
        (("valid", "test"), [8, 2, 2], "as given"),
        (("Validation", "TEST"), [8, 2, 2], "as given"),
        (("dev",), [9, 2, 1], "as given, test drawn from train"),
        (("test",), [9, 1, 2], "as given, valid drawn from train"),
        ((), [10, 1, 1], "90/5/5 at random"),
    ],
)
def test_split_folders_above_the_class_folders_are_obeyed(
    pieces: Path, held_out: tuple[str, ...], sizes: list[int], split: str
) -> None:
    for name in held_out:
        for composer in ("Bach", "Ravel"):
            target = pieces / name / composer
            target.mkdir(parents=True)
            file = min((pieces / composer).iterdir())
            file.rename(target / file.name)
    for composer in ("Bach", "Ravel"):
        (pieces / "Train").mkdir(exist_ok=True)
        (pieces / composer).rename(pieces / "Train" / composer)
    dataset = load(pieces)
    assert [part.num_pieces for part in (dataset.train, dataset.valid, dataset.test)] == sizes
    assert dataset.split.startswith(split) and dataset.classes == ("Bach", "Ravel")


def test_split_folders_that_do_not_fit_are_refused(pieces: Path) -> None:
    (pieces / "test").mkdir()
    message = refusal(lambda: load(pieces))
    assert message.startswith(f"{pieces}: the split folder 'test' lies beside 'Bach', which is none; move or rename")
    assert "train/CLASS/*.mid" in message
    for composer in ("Bach", "Ravel"):
        (pieces / composer).rename(pieces / "test" / composer)
    assert "there is a split folder 'test' but no 'train'" in refusal(lambda: load(pieces))
    (pieces / "test").rename(pieces / "train")
    for name in ("valid", "dev"):
        (pieces / name).mkdir()
    assert "both 'dev' and 'valid' are the split valid; keep one" in refusal(lambda: load(pieces))
    (pieces / "dev").rmdir()
    assert "there is no class folder with MIDI files in 'valid'" in refusal(lambda: load(pieces))
    (pieces / "valid").rmdir()
    write_midi(pieces / "stray.mid", [60])
    assert "'stray.mid' lies in no class folder" in refusal(lambda: load(pieces))


def test_what_macos_and_dot_folders_hide_is_not_read(pieces: Path) -> None:
    expected = load(pieces).digest
    for place in (pieces, pieces / "Bach", pieces / "Bach" / ".old", pieces / "__MACOSX" / "Bach"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "._0.mid").write_bytes(b"\0\5\x16\7")
    write_midi(pieces / "Bach" / ".old" / "0.mid", [60])
    dataset = load(pieces)
    assert dataset.digest == expected and dataset.facts == {}


@pytest.mark.parametrize("below", ["fugues", "fugues/in c"])
def test_files_below_a_class_folder_are_not_dropped(pieces: Path, below: str) -> None:
    write_midi(pieces / "Ravel" / below / "1.mid", [60])
    message = refusal(lambda: load(pieces))
    assert message == f"{pieces}: MIDI files lie in 'Ravel/{below}', below a class folder; move them into 'Ravel'"


def test_broken_midi_files_are_skipped_and_counted(pieces: Path) -> None:
    for number in range(2):
        (pieces / "Bach" / f"broken{number}.mid").write_bytes(b"MThd\0")
    assert load(pieces).facts == {"skipped_files": "2"}


def test_bad_folders_are_told_by_name_and_remedy(pieces: Path, tmp_path: Path) -> None:
    def said(path: Path, **options: str) -> str:
        message = refusal(lambda: load(path, **options))
        assert message.startswith(str(path))
        return message

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no class folder with MIDI files; expected are class folders with .mid" in said(empty)
    (empty / "docs").mkdir()
    assert said(empty).startswith(f"{empty}: there is no class folder with MIDI files; expected")
    assert "leave separator out" in said(pieces, separator=",")
    assert "leave labels=numbers out" in said(pieces, labels="numbers")
    (pieces / "Liszt").mkdir()
    assert f"{pieces}: there is no MIDI file in the class folder 'Liszt'; expected" in said(pieces)
    (pieces / "Liszt").rmdir()
    (pieces / "stray.mid").write_bytes(b"")
    assert "'stray.mid' lies in no class folder" in said(pieces)
    (pieces / "stray.mid").unlink()
    for file in (pieces / "Ravel").iterdir():
        file.write_bytes(b"no")
    assert "all MIDI files are of one class, 'Bach'; give at least two folders" in said(pieces)
    for file in (pieces / "Bach").iterdir():
        file.write_bytes(b"no")
    assert "none of the MIDI files can be read" in said(pieces)


def test_a_folder_with_a_suffix_is_still_a_folder(tmp_path: Path) -> None:
    (tmp_path / "my.csv").mkdir()
    assert "there is no class folder" in refusal(lambda: load(tmp_path / "my.csv"))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300).flatmap(lambda tail: st.sampled_from([tail, b"MThd" + tail])))
def test_arbitrary_bytes_among_midi_files_are_skipped_or_read(pieces: Path, content: bytes) -> None:
    (pieces / "Bach" / "any.mid").write_bytes(content)
    assert load(pieces).num_examples == 12 + (load(pieces).facts == {})


def test_describe_takes_no_pitch_for_a_blank(tmp_path: Path) -> None:
    """Pitch 32 is the character of that number, which happens to be the blank."""
    for number in range(24):
        write_midi(tmp_path / f"{'ab'[number % 2]}/{number}.mid", [60 + number % 2] * 130)
    task = own_task(str(tmp_path))
    assert not any("blank" in line for line in describe(task, task.load(), 128))
