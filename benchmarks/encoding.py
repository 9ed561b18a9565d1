"""How long files take to become token ids: Polymath's one pass against a Hugging Face tokenizer, on one core.

    python -m benchmarks.encoding --model ../shared/models/bert-base-uncased

Two generated files of the paper's sizes: 27,782 DNA sequences of 500 nt (as H3K9ac) and 53,614 proteins of 50 residues
(as stability's training set). Both ways read the same file and must give the very same ids; the tokenizer is given each
sequence with its symbols written as their subwords, as peers do. Medians over the rounds, which alternate.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizer's threads; read when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from trainer.commandline import parse, run, setting
from trainer.encoding import encode
from trainer.mapping import map_symbols
from trainer.models import find_model, read_tokenizer, read_vocabulary
from trainer.tasks import TASKS
from trainer.tasks.protein import AMINO_ACIDS

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure with."""

    model: str = setting("bert-base-uncased", help="Hugging Face name or local folder of the model")
    num_rounds: int = setting(5, help="how often each way is timed", unit="rounds")


def write_dna(path: Path) -> None:
    """27,782 records of 500 nt in H3K9ac's format."""
    rng = np.random.default_rng(SEED)
    letters = np.frombuffer(b"ACGT", dtype="S1")[rng.integers(4, size=(27_782, 500))].view("S500").ravel().astype(str)
    path.write_text("".join(f">record{row}\n{letters[row]}\n{row % 2}\n" for row in range(len(letters))))


def write_proteins(path: Path) -> None:
    """53,614 records of 50 residues in PLUS's format."""
    rng = np.random.default_rng(SEED)
    standard = np.frombuffer(AMINO_ACIDS[:20].encode(), dtype="S1")
    letters = standard[rng.integers(20, size=(53_614, 50))].view("S50").ravel().astype(str)
    path.write_text("".join(f">protein_{row} {row % 100 / 7}\n{letters[row]}\n" for row in range(len(letters))))


def measure(task_name: str, paths: Sequence[Path], folder: Path, num_rounds: int) -> list[tuple[float, float]]:
    """Seconds of every round: ours, the tokenizer's."""
    task, vocabulary, tokenizer = TASKS[task_name], read_vocabulary(folder), read_tokenizer(folder)
    max_tokens = task.max_length + 2
    # Words that stand alone between spaces, so that the tokenizer gives one token a symbol.
    ids = map_symbols("frequent", vocabulary, task.symbols, SEED)
    words = str.maketrans({s: f" {vocabulary.tokens[i]}" for s, i in zip(task.symbols, ids, strict=True)})

    def ours() -> np.ndarray:
        sequences = task.read(*paths).train.sequences
        return encode(sequences, task.symbols, ids, vocabulary, max_tokens).ids_NT

    def theirs() -> np.ndarray:
        texts = [sequence.translate(words) for sequence in task.read(*paths).train.sequences]
        rows = tokenizer(texts, truncation=True, max_length=max_tokens, padding=True, return_tensors="np")
        return rows["input_ids"]

    def timed(way: Callable[[], np.ndarray]) -> float:
        started = time.perf_counter()
        way()
        return time.perf_counter() - started

    if not np.array_equal(ours(), theirs()):
        raise AssertionError(f"{task_name}: the two ways differ")
    return [(timed(ours), timed(theirs)) for _ in range(num_rounds)]


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each file."""
    settings = parse(Settings, arguments, program="python -m benchmarks.encoding", description=__doc__ or "")
    folder = find_model(settings.model, needs_weights=False)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{'read, map and encode':<34}  {'Polymath':>9}  {'tokenizer':>9}  {'faster by':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        dna, proteins, few = Path(temporary, "dna.txt"), Path(temporary, "train.fa"), Path(temporary, "few.fa")
        write_dna(dna)
        write_proteins(proteins)
        few.write_text(">protein 1.0\nACDE\n")  # stability's valid and test set
        for name, task, paths in (
            ("27,782 DNA sequences of 500 nt", "h3k9ac", [dna]),
            ("53,614 proteins of 50 residues", "stability", [proteins, few, few]),
        ):
            rounds = measure(task, paths, folder, settings.num_rounds)
            ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{name:<34}  {ours:>7.2f} s  {theirs:>7.2f} s  {theirs / ours:>8.0f}x", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
