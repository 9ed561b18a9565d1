"""Small generated MIDI files, alone and in MAESTRO's layout; the composer can be learnt from the pitches."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pretty_midi

HEADER = "canonical_composer canonical_title split year midi_filename audio_filename duration".split()
LOWEST_PITCH = {"Frédéric Chopin": 40, "Johann Sebastian Bach": 55, "Clara Schumann": 70}
SPLIT_SIZES = {"train": 6, "validation": 3, "test": 3}
SHORT_PIECE = "2004/short.midi"


def write_midi(path: Path, pitches: Sequence[int]) -> None:
    """Writes one piano track: a note every tenth of a second."""
    piano = pretty_midi.Instrument(program=0)
    for number, pitch in enumerate(pitches):
        piano.notes.append(pretty_midi.Note(velocity=64, pitch=pitch, start=number / 10, end=number / 10 + 0.05))
    midi = pretty_midi.PrettyMIDI()
    midi.instruments.append(piano)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.write(str(path))


def midi_bytes(*tracks: tuple[bool, list[tuple[float, int]]]) -> bytes:
    """A MIDI file's content: tracks, of drums or not, each with (start in seconds, pitch) of its notes."""
    file = pretty_midi.PrettyMIDI()
    for is_drum, notes in tracks:
        track = pretty_midi.Instrument(program=0, is_drum=is_drum)
        track.notes += [pretty_midi.Note(velocity=64, pitch=pitch, start=s, end=s + 0.5) for s, pitch in notes]
        file.instruments.append(track)
    content = io.BytesIO()
    file.write(content)
    return content.getvalue()


def write_music(folder: Path) -> None:
    """Writes a small MAESTRO v1: by three composers in turn 6, 3 and 3 pieces, and one of 40 notes in train.

    The pieces have 130 to 400 notes, each composer's within two octaves of their own.
    """
    rng = np.random.default_rng(0)
    root = folder / "music/maestro-v1.0.0"
    composers = list(LOWEST_PITCH)
    rows = []
    for split, size in SPLIT_SIZES.items():
        for number in range(size):
            composer, name = composers[number % 3], f"2004/{split}_{number}.midi"
            rows.append([composer, f'Étude "{number}", Op. 10', split, "2004", name, "", ""])
            lowest = LOWEST_PITCH[composer]
            write_midi(root / name, rng.integers(lowest, lowest + 24, size=rng.integers(130, 401)).tolist())
    rows.append([composers[0], "Prélude", "train", "2004", SHORT_PIECE, "", ""])
    write_midi(root / SHORT_PIECE, rng.integers(40, 64, size=40).tolist())
    with (root / "maestro-v1.0.0.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
