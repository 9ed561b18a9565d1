"""A user's own MIDI files: class folders give pieces in segments, and what is wrong with them is told by name."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.midi_files import write_midi
from tests.own_files import load
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


def test_split_folders_above_the_class_folders_are_obeyed(pieces: Path) -> None:
    for name in ("valid", "test"):
        for composer in ("Bach", "Ravel"):
            target = pieces / name / composer
            target.mkdir(parents=True)
            file = min((pieces / composer).iterdir())
            file.rename(target / file.name)
    for composer in ("Bach", "Ravel"):
        (pieces / "train").mkdir(exist_ok=True)
        (pieces / composer).rename(pieces / "train" / composer)
    dataset = load(pieces)
    assert [split.num_pieces for split in (dataset.train, dataset.valid, dataset.test)] == [8, 2, 2]
    assert dataset.split == "as given"


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
    assert "there is no class folder; make a folder for each class" in said(empty)
    assert "leave separator out" in said(pieces, separator=",")
    assert "leave labels=numbers out" in said(pieces, labels="numbers")
    (pieces / "Liszt").mkdir()
    assert "Liszt: there is no .mid or .midi file in this class folder" in said(pieces)
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
