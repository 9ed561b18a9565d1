"""Small generated protein files in PLUS's layout; the label can be learnt from the sequence."""

import json
from pathlib import Path

import numpy as np

from trainer.tasks.protein import LOCATIONS

SIZES = {"train": 60, "dev": 20, "test": 20}
STANDARD = "ACDEFGHIKLMNPQRSTVWY"
LENGTHS = {"Localization": (40, 200), "Stability": (43, 50), "Fluorescence": (235, 237)}

Record = tuple[str, str]
"""A label and a sequence."""


def make_records(folder: str, split: str) -> list[Record]:
    """Generated records of one split, the same at every call.

    Localization: the ten classes in turn, each with a letter of its own in half of the places; every seventh is
    longer than 512. Stability and Fluorescence: the label is the share of W, the more the higher.
    """
    rng = np.random.default_rng([list(LENGTHS).index(folder), list(SIZES).index(split)])
    records = []
    for number in range(SIZES[split]):
        if folder == "Localization":
            label, letter, share = LOCATIONS[number % 10], STANDARD[number % 10], 0.5
        else:
            letter, share = "W", rng.uniform(0, 0.5)
            label = repr(round(8 * share - 1, 6))
        shortest, longest = (513, 700) if folder == "Localization" and number % 7 == 0 else LENGTHS[folder]
        length = rng.integers(shortest, longest + 1)
        letters = np.where(rng.random(length) < share, letter, rng.choice([*STANDARD], length))
        records.append((label, "".join(letters)))
    return records


def as_fasta(name: str, records: list[Record]) -> str:
    """The records as PLUS writes them: ``>NAME_NUMBER LABEL`` and the sequence in one line."""
    return "".join(f">{name}_{number} {label}\n{sequence}\n" for number, (label, sequence) in enumerate(records))


def as_deeploc(prefix: str, records: list[Record], mark: str = "") -> str:
    """The records as DeepLoc writes them: a letter after the class, perhaps `` test``, sequences over several lines."""
    lines = []
    for number, (label, sequence) in enumerate(records):
        lines.append(f">{prefix}{number:04d}-2 {label}-{'MSU'[number % 3]}{mark}")
        lines += [sequence[start : start + 60] for start in range(0, len(sequence), 60)]
    return "".join(f"{line}\n" for line in lines)


def as_tape(key: str, records: list[Record]) -> str:
    """The records as TAPE writes them: a list of objects, each number in a list of its own."""
    return json.dumps([{"id": "é", "primary": sequence, key: [float(label)]} for label, sequence in records])


def write_proteins(folder: Path) -> None:
    """Writes 60 train, 20 dev and 20 test records of each of the three tasks into folder/protein."""
    for task in LENGTHS:
        target = folder / "protein" / task
        target.mkdir(parents=True, exist_ok=True)
        for split in SIZES:
            name = f"{task.lower()}_{split}"
            (target / f"{name}.fa").write_text(as_fasta(name, make_records(task, split)))
