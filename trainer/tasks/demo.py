"""The demonstration: a generated task, small enough to be learned in seconds on a laptop, with a planted pattern.

The pattern is nesting, the structure on which ``python -m trainer.demo`` pre-trains its model. So the demo shows
what a transfer looks like where there is something to transfer; it is not evidence about text or about biology.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.pretraining.artificial import is_nested, nested_brackets
from trainer.sources import Source
from trainer.tasks.task import Examples, Split, Task

DEMO_SEED = 20210713
NUM_SWAPS = 2


def break_nesting(rng: np.random.Generator, kinds_T: np.ndarray, partners_T: np.ndarray) -> np.ndarray:
    """Swaps two closing brackets of different kinds, twice; draws again while the result (T,) is still nested."""
    closing = np.flatnonzero(partners_T < np.arange(len(partners_T)))
    if len(set(kinds_T.tolist())) == 1:
        return kinds_T  # nothing to swap: so rare that no sequence of the demo is like this
    broken_T = kinds_T
    while is_nested(broken_T):
        broken_T = kinds_T.copy()
        for _ in range(NUM_SWAPS):
            first = rng.choice(closing)
            second = rng.choice(closing[broken_T[closing] != broken_T[first]])
            broken_T[[first, second]] = broken_T[[second, first]]
    return broken_T


@dataclass(frozen=True, kw_only=True)
class Demo(Task):
    """Is a sequence of 32 letters well nested ("nested"), or were closing letters swapped ("broken")?

    Recipe: 20,000 sequences of :func:`nested_brackets` over 16 letters by a fixed seed; every second one is broken by
    :func:`break_nesting`. A swap keeps every letter's count, so counting letters does not tell the classes apart: only
    which letter matches which does.
    """

    discipline: str = "toy"
    files: tuple[Source, ...] = ()
    num_examples: int = 20_000
    symbols: str = "ABCDEFGHIJKLMNOP"
    classes: tuple[str, ...] = ("nested", "broken")
    max_length: int = 32
    num_epochs: int = 8
    paper: str = "generated; after Papadimitriou & Jurafsky 2020, arXiv 2004.14601"

    def read(self, *paths: Path) -> Examples:
        rng = np.random.default_rng(DEMO_SEED)
        kinds_NT, partners_NT = nested_brackets(rng, self.num_examples, self.max_length, len(self.symbols))
        labels_N = np.arange(self.num_examples, dtype=np.int64) % len(self.classes)
        for row in np.flatnonzero(labels_N == self.classes.index("broken")):
            kinds_NT[row] = break_nesting(rng, kinds_NT[row], partners_NT[row])
        letters = np.frombuffer(self.symbols.encode("ascii"), dtype="S1")
        sequences = letters[kinds_NT].view(f"S{self.max_length}").ravel().astype(str)
        return Examples(train=Split(sequences=tuple(sequences.tolist()), labels=labels_N))


DEMO = Demo()
