"""A user's own MIDI files: class folders, alone or below split folders, to examples."""

import os
from pathlib import Path

from trainer.tasks.own_files import SPLIT_WORDS, brief
from trainer.tasks.task import DataError, Examples, Split

SUFFIXES = (".mid", ".midi")
LAYOUT = "expected are class folders with .mid or .midi files, CLASS/*.mid, or train/CLASS/*.mid"


def read_midi_folder(path: Path) -> Examples:
    """Pieces in class folders, ``CLASS/*.mid``, or ``train/CLASS/*.mid`` and, if need be, the same for valid and test.

    Names that begin with a dot count for nothing (macOS puts a ``._1.mid`` beside ``1.mid``). A piece that cannot be
    read is left out, with a warning, and counted in the facts.

    Raises:
        DataError: naming the folder given, and what in it is not as expected.
    """
    from trainer.midi import PITCH_NAMES, PITCHES, read_pitches
    from trainer.tasks.music import segmented

    parts = _split_folders(path)
    found = [(part, *piece) for part, folder in parts.items() for piece in _pieces(path, folder)]
    pitches = read_pitches([file for _, _, file in found])
    pieces = [(part, name, piece) for (part, name, _), piece in zip(found, pitches, strict=True) if piece]
    classes = tuple(sorted({name for _, name, _ in pieces}))

    def split(wanted: str) -> Split:
        kept = [(piece, classes.index(name)) for part, name, piece in pieces if part == wanted]
        if not kept:
            raise DataError(parts[wanted], None, "none of the MIDI files can be read; give files with notes in them")
        return segmented([piece for piece, _ in kept], [label for _, label in kept])

    splits = {part: split(part) for part in parts}
    if len(classes) == 1:
        raise DataError(path, None, f"all MIDI files are of one class, {brief(classes[0])}; give at least two folders")
    num_skipped = len(found) - len(pieces)
    return Examples(
        train=splits["train"],
        valid=splits.get("valid"),
        test=splits.get("test"),
        symbols=PITCHES,
        symbol_names=tuple(PITCH_NAMES),
        classes=classes,
        facts={"skipped_files": str(num_skipped)} if num_skipped else {},
    )


def _folders(path: Path) -> list[Path]:
    hidden = ("__MACOSX",)  # what macOS packs beside the files
    return sorted(
        entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "." and entry.name not in hidden
    )


def _is_midi(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if _is_midi(entry.name) and not entry.is_dir())


def _split_folders(path: Path) -> dict[str, Path]:
    """The folder of each split; the whole one is train where no folder in it is called like a split."""
    parts: dict[str, Path] = {}
    others = []
    for folder in _folders(path):
        part = SPLIT_WORDS.get(folder.name.lower())
        if part is None:
            others.append(folder)
        elif part in parts:
            names = f"{brief(parts[part].name)} and {brief(folder.name)}"
            raise DataError(path, None, f"both {names} are the split {part}; keep one of them")
        else:
            parts[part] = folder
    if not parts:
        return {"train": path}
    named = brief(next(iter(parts.values())).name)
    if others:
        problem = f"the split folder {named} lies beside {brief(others[0].name)}, which is none"
        raise DataError(path, None, f"{problem}; move or rename one of them; {LAYOUT}")
    if "train" not in parts:
        raise DataError(path, None, f"there is a split folder {named} but no 'train'; {LAYOUT}")
    if stray := _files(path):
        raise DataError(path, None, f"{brief(stray[0].name)} lies in no class folder; {LAYOUT}")
    return parts


def _pieces(path: Path, part: Path) -> list[tuple[str, Path]]:
    """Every MIDI file of the class folders of a split, with its class.

    Args:
        path: the folder that the user gave, for messages.
    """
    where = "" if part == path else f" in {brief(part.name)}"
    if stray := _files(part):
        raise DataError(path, None, f"{brief(stray[0].name)} lies in no class folder{where}; {LAYOUT}")
    files = {folder: _files(folder) for folder in _folders(part)}
    if not any(files.values()):
        raise DataError(path, None, f"there is no class folder with MIDI files{where}; {LAYOUT}")
    for folder, directly in files.items():
        name = brief(folder.relative_to(path).as_posix())
        if (nested := _nested(folder)) is not None:
            below = brief(nested.relative_to(path).as_posix())
            raise DataError(path, None, f"MIDI files lie in {below}, below a class folder; move them into {name}")
        if not directly:
            raise DataError(path, None, f"there is no MIDI file in the class folder {name}; {LAYOUT}")
    return [(folder.name, file) for folder, directly in files.items() for file in directly]


def _nested(class_folder: Path) -> Path | None:
    """A folder somewhere below a class folder that has MIDI files."""
    for place, folders, names in os.walk(class_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(place) != class_folder and any(map(_is_midi, names)):
            return Path(place)
    return None
