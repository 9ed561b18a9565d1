"""How long files take to become token ids: Polymath's one pass against a Hugging Face tokenizer, on one core.

    python -m benchmarks.encoding --model ../shared/models/bert-base-uncased

Two generated files of the paper's sizes: 27,782 DNA sequences of 500 nt (as H3K9ac) and 53,614 proteins of 50 residues
(as stability's training set). Both ways read the same file and must give the very same ids; the tokenizer is given each
sequence with its symbols written as their subwords, as peers do. The two ways alternate.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizer's threads; read when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.report import Report
from trainer.commandline import parse, run, setting
from trainer.encoding import encode
from trainer.mapping import map_symbols
from trainer.models import find_model, read_tokenizer, read_vocabulary
from trainer.tasks import TASKS
from trainer.tasks.protein import AMINO_ACIDS

SEED = 0
QUICKER = 20  # times fewer sequences


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure with."""

    model: str = setting("bert-base-uncased", help="Hugging Face name or local folder of the model")
    num_rounds: int = setting(5, help="how often each way is timed", unit="rounds")
    quick: bool = setting(False, help="one round of a twentieth of the sequences")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


def write_dna(path: Path, number: int) -> None:
    """Records of 500 nt in H3K9ac's format."""
    rng = np.random.default_rng(SEED)
    letters = np.frombuffer(b"ACGT", dtype="S1")[rng.integers(4, size=(number, 500))].view("S500").ravel().astype(str)
    path.write_text("".join(f">record{row}\n{letters[row]}\n{row % 2}\n" for row in range(len(letters))))


def write_proteins(path: Path, number: int) -> None:
    """Records of 50 residues in PLUS's format."""
    rng = np.random.default_rng(SEED)
    standard = np.frombuffer(AMINO_ACIDS[:20].encode(), dtype="S1")
    letters = standard[rng.integers(20, size=(number, 50))].view("S50").ravel().astype(str)
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
    report = Report(program="benchmarks.encoding", settings=settings)
    share, num_rounds = (QUICKER, 1) if settings.quick else (1, settings.num_rounds)
    num_dna, num_proteins = 27_782 // share, 53_614 // share
    with tempfile.TemporaryDirectory() as temporary:
        dna, proteins, few = Path(temporary, "dna.txt"), Path(temporary, "train.fa"), Path(temporary, "few.fa")
        write_dna(dna, num_dna)
        write_proteins(proteins, num_proteins)
        few.write_text(">protein 1.0\nACDE\n")  # stability's valid and test set
        for name, task, paths in (
            (f"{num_dna:,} DNA sequences of 500 nt", "h3k9ac", [dna]),
            (f"{num_proteins:,} proteins of 50 residues", "stability", [proteins, few, few]),
        ):
            ours, theirs = zip(*measure(task, paths, folder, num_rounds), strict=True)
            report.pairs(name, unit="s", ours=ours, peer=theirs, more_is_better=False)
    report.note("read, map and encode, on one core; both ways gave the same ids")
    return report.finish()


if __name__ == "__main__":
    run(main)
