"""What reading MIDI promises: notes in order, a cache by content, processes that end, broken files named."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, files_in
from tests.midi_files import midi_bytes, write_midi
from trainer import midi
from trainer.errors import UserError
from trainer.midi import PITCH_NAMES, PITCHES, MidiError, parse, read_pitches

pytestmark = pytest.mark.usefixtures("pitch_cache")
needs_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="needs two CPUs")


@pytest.fixture
def some_files(tmp_path: Path) -> list[Path]:
    """Eleven MIDI files, all different, and one that is broken."""
    paths = [tmp_path / f"{number}.mid" for number in range(12)]
    for number, path in enumerate(paths):
        write_midi(path, range(number + 1, 120))
    paths[5].write_bytes(b"broken")
    return paths


def raise_(*_: object) -> str:
    raise AssertionError("a file is parsed here")


def reads_or_refuses(action: Callable[[], object]) -> None:
    try:
        action()
    except (UserError, MidiError) as error:
        assert "\n" not in str(error)


def test_pitches_have_the_names_of_pretty_midi() -> None:
    assert [ord(pitch) for pitch in PITCHES] == list(range(128))
    assert tuple(pretty_midi.note_number_to_name(number) for number in range(128)) == PITCH_NAMES


def test_notes_of_all_tracks_come_in_order_of_start_then_pitch_without_drums() -> None:
    left = [(0.0, 50), (1.0, 40), (0.5, 0)]
    right = [(1.0, 39), (0.25, 127), (1.0, 60)]
    content = midi_bytes((False, left), (True, [(0.1, 35)]), (False, right))
    assert [ord(pitch) for pitch in parse(content)] == [50, 127, 0, 39, 40, 60]


def test_tempo_on_a_later_track_is_read_without_a_warning() -> None:
    content = midi_bytes((False, [(0.0, 60), (1.0, 62)]))
    tempo, start = b"\x00\xff\x51\x03\x05\x16\x15", content.rindex(b"MTrk") + 8
    size = int.from_bytes(content[start - 4 : start], "big") + len(tempo)
    changed = content[: start - 4] + size.to_bytes(4, "big") + tempo + content[start:]
    with pytest.warns(RuntimeWarning, match="non-zero tracks"):
        pretty_midi.PrettyMIDI(io.BytesIO(changed))
    assert parse(changed) == "<>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a MIDI file: it does not begin with MThd"),
        (b"RIFF" + bytes(100), "not a MIDI file"),
        (midi_bytes((False, [(0, 60)]))[:-9], "truncated: it ends in the middle of a track"),
        (midi_bytes((False, [])), "it has no notes"),
        (midi_bytes((True, [(0, 35)])), "it has no notes but drums"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk", "its time is not counted in ticks per beat"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk", "its time is not counted in ticks per beat"),
        (b"MThd\0\0\0\6\0\1\0\1\1\0MTrk\0\0\0\4\0\xf5\0\0", "corrupt: OSError: undefined status byte 0xf5"),
        (b"MThd\0\0\0\6\0\1\0\1\1\0MTrk\0\0\0\0", "corrupt: ValueError: max()"),
        (b"MThd\0\0\0\6\0\1\0\1\1\0MTrk\0\1\0\0" + b"\xff" * 5000, "corrupt: more than 4096 bytes in a row"),
        (b"MThd\0\0\0\6\0\1\0\1\1\0MTrk\0\0\0\7\xff\xff\xff\x7f\x90\x3c\x40", "corrupt: ValueError: MIDI file has"),
    ],
)
def test_broken_midi_is_one_line(content: bytes, said: str) -> None:
    with pytest.raises(MidiError) as caught:
        parse(content)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_broken_files_are_none_and_named_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["good.mid", "text.mid", "empty.mid", "none.mid", "missing.mid", "large.mid"]
    good, text, empty, none, missing, large = (tmp_path / name for name in names)
    write_midi(good, [60, 62])
    text.write_text("la la la")
    empty.touch()
    none.write_bytes(midi_bytes((False, [])))
    large.write_bytes(b"MThd" + bytes(midi.MAX_BYTES))
    for _ in range(2):
        assert read_pitches([text, good, empty, none, missing, large, good]) == [None, "<>", *[None] * 4, "<>"]
        assert capsys.readouterr().err.splitlines() == [
            f"skipped {text}: not a MIDI file: it does not begin with MThd",
            f"skipped {empty}: not a MIDI file: it does not begin with MThd",
            f"skipped {none}: it has no notes",
            f"skipped {missing}: it cannot be read (No such file or directory)",
            f"skipped {large}: larger than 8 MiB",
        ]


def test_a_file_is_parsed_once_wherever_it_lies(
    tmp_path: Path, pitch_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, moved, other = tmp_path / "a.mid", tmp_path / "elsewhere.midi", tmp_path / "b.mid"
    write_midi(first, [60, 62, 64])
    assert read_pitches([first]) == ["<>@"]
    (name,) = files_in(pitch_cache)
    assert (pitch_cache / name).read_bytes() == bytes([60, 62, 64])
    first.rename(moved)
    monkeypatch.setattr(midi, "parse", raise_)
    assert read_pitches([moved]) == ["<>@"]
    write_midi(other, [60, 62, 65])
    with pytest.raises(AssertionError, match="a file is parsed here"):
        read_pitches([other])


@pytest.mark.parametrize("content", [b"", b"<>\x80"])
def test_a_cached_file_that_cannot_be_pitches_is_made_anew(tmp_path: Path, pitch_cache: Path, content: bytes) -> None:
    path = tmp_path / "a.mid"
    write_midi(path, [60, 62, 64])
    read_pitches([path])
    (name,) = files_in(pitch_cache)
    (pitch_cache / name).write_bytes(content)
    assert read_pitches([path]) == ["<>@"]
    assert (pitch_cache / name).read_bytes() == b"<>@"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mid"
    write_midi(path, [60, 62, 64])
    monkeypatch.setenv("POLYMATH_DATA", str(path))
    assert read_pitches([path, path]) == ["<>@", "<>@"]


@needs_cpus
def test_processes_read_what_this_one_reads(
    some_files: list[Path], pitch_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = read_pitches(some_files)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"skipped {some_files[5]}: not a MIDI file")
    kept = files_in(pitch_cache)
    monkeypatch.setenv("POLYMATH_DATA", str(pitch_cache.parent.with_name("second")))
    monkeypatch.setattr(midi, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(midi, "parse", raise_)  # in this process, not in those that are started
    assert read_pitches(some_files) == here
    start, end, *rest = capsys.readouterr().err.splitlines()
    assert (start, end.split(" in ")[0], rest) == ("parsing 12 MIDI files", "parsed 12 MIDI files", said)
    assert files_in(pitch_cache.parent.with_name("second") / "pitches") == kept and len(kept) == 11


def test_files_are_read_here_when_processes_die(some_files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [parse(path.read_bytes()) for path in some_files[:5]]
    monkeypatch.setattr(midi, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(midi, "_watch_parent", os.abort)
    assert read_pitches(some_files[:5]) == expected


@needs_cpus
@pytest.mark.parametrize(
    ("end", "when"),
    [
        ("os.killpg(0, signal.SIGINT)", 1),
        ("os.killpg(0, signal.SIGINT)", 12),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1),
    ],
)
def test_no_process_outlives_an_interrupted_reading(
    tmp_path: Path, some_files: list[Path], end: str, when: int
) -> None:
    code = f"""
import contextlib, itertools, os, signal, sys
from pathlib import Path
from trainer import midi

@contextlib.contextmanager
def end_after_some_files(num_files):
    numbers = itertools.count(1)
    yield lambda: {end} if next(numbers) == {when} else None

signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background start without
midi.PARALLEL_BYTES, midi._progress = 0, end_after_some_files
try:
    midi.read_pitches([Path(name) for name in sys.argv[1:]])
except KeyboardInterrupt:
    print("interrupted")
"""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, some_files)],
        cwd=ROOT,
        env={**os.environ, "POLYMATH_DATA": str(tmp_path / "new")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said, _ = started.communicate(timeout=60)  # ends when the last process that could write has ended
    assert "Traceback" not in said
    assert (said == "interrupted\n") == ("SIGINT" in end)


@needs_cpus
def test_a_ray_worker_reads_in_processes_too(ray_here: None, some_files: list[Path], tmp_path: Path) -> None:
    import ray

    @ray.remote(num_cpus=1, max_calls=1)  # the worker ends with what is changed in it
    def read(paths: list[Path], folder: str) -> list[str | None]:
        os.environ["POLYMATH_DATA"] = folder
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(midi, "PARALLEL_BYTES", 0)
            patch.setattr(midi, "parse", None)  # in the worker itself nothing can be parsed
            return midi.read_pitches(paths)

    assert ray.get(read.remote(some_files, str(tmp_path / "new")), timeout=60) == read_pitches(some_files)


def test_reading_midi_needs_no_torch() -> None:
    code = "import sys, trainer.midi; sys.exit('torch' in sys.modules or 'pretty_midi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


GOOD = midi_bytes((False, [(number / 4, 60 + number) for number in range(8)]))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400).map(lambda tail: b"MThd\0\0\0\6\0\1\0\1\1\0MTrk\0\0\1\0" + tail),
        st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    )
)
def test_arbitrary_bytes_as_midi_are_pitches_or_one_line(changes: bytes | list[tuple[int, int]]) -> None:
    if isinstance(changes, bytes):
        content = changes
    else:
        changed = bytearray(GOOD)
        for place, byte in changes:
            changed[place] = byte
        content = bytes(changed)
    reads_or_refuses(lambda: parse(content))
