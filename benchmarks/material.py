"""What both sides of the sweep benchmarks train: generated DNA, a small BERT without weights, some learning rates.

The model is a BERT of 2 layers and 128 hidden units with BERT's vocabulary of 30,522 tokens, at its usual dropout.
"""

import csv
import json
from pathlib import Path

import numpy as np

SEED = 0
BATCH_SIZE = 32
MODEL = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 30_522,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
}
TOKENS = {
    "[PAD]": 0,
    "[UNK]": 100,
    "[CLS]": 101,
    "[SEP]": 102,
    "[MASK]": 103,
    "A": 1996,
    "C": 1997,
    "G": 1998,
    "T": 1999,
}


def write(folder: Path, num_train: int, length: int) -> None:
    """Writes ``data.csv`` (a tenth of num_train more as valid, as many as test) and the folder ``model``."""
    rng = np.random.default_rng(SEED)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    with (folder / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "label", "split"])
        num_held_out = max(2, num_train // 10)
        for split, number in (("train", num_train), ("valid", num_held_out), ("test", num_held_out)):
            symbols = np.array(list("ACGT"))[rng.integers(4, size=(number, length))]
            labels = rng.permutation(number) % 2
            rows.writerows(("".join(row), "ab"[label], split) for row, label in zip(symbols, labels, strict=True))
    (folder / "model/config.json").write_text(json.dumps(MODEL))
    names = {number: token for token, number in TOKENS.items()}
    words = (names.get(number, f"word{number}") for number in range(MODEL["vocab_size"]))  # type: ignore[call-overload]
    (folder / "model/vocab.txt").write_text("\n".join(words) + "\n")


def read(path: Path) -> dict[str, list[tuple[str, int]]]:
    """Split -> its sequences and labels."""
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "valid": [], "test": []}
    with path.open(newline="") as file:
        for sequence, label, split in [*csv.reader(file)][1:]:
            splits[split].append((sequence, "ab".index(label)))
    return splits


def learning_rates(number: int) -> list[float]:
    """From 1e-4 down to 1e-7, evenly spaced in the exponent, to six digits."""
    return [float(f"{value:.6g}") for value in np.logspace(-4, -7, number)]
