"""Token mappings: which subword token stands for each symbol of a sequence.

The paper (section 3.1, arXiv 2103.07162) maps every symbol of a non-text discipline to one subword token of the
language model: to a frequent one, or, in the later version, to one drawn at random. Special tokens stay.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.errors import UserError

# BERT keeps its special, [unused] and single-character tokens below this id; the paper draws above it.
FIRST_ORDINARY_ID = 1000


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What mapping and encoding need to know of a tokenizer.

    Attributes:
        tokens: (V,) the vocabulary in id order.
        special_ids: ids that never stand for a symbol, e.g. [PAD] and [MASK].
        begin_id, end_id: the tokens around a single sequence ([CLS] and [SEP] in BERT).
        pad_id: fills a batch's shorter rows.
    """

    tokens: tuple[str, ...]
    special_ids: frozenset[int]
    begin_id: int
    end_id: int
    pad_id: int

    def ordinary_ids(self) -> np.ndarray:
        """(M,) ids, ascending, that are neither special, unused nor among the first 1000."""
        return np.array(
            [
                token_id
                for token_id, token in enumerate(self.tokens)
                if token_id >= FIRST_ORDINARY_ID
                and token_id not in self.special_ids
                and not re.fullmatch(r"\[unused\d+\]", token)
            ],
            dtype=np.int64,
        )


def random_ids(vocabulary: Vocabulary, num_symbols: int, seed: int) -> np.ndarray:
    """(S,) distinct ids drawn uniformly from the ordinary ones by seed."""
    ids: np.ndarray = np.random.default_rng(seed).choice(vocabulary.ordinary_ids(), num_symbols, replace=False)
    return ids


def frequent_ids(vocabulary: Vocabulary, num_symbols: int, seed: int) -> np.ndarray:
    """(S,) ids of the most frequent whole words, the same for every seed.

    The subword vocabularies of BERT (uncased), RoBERTa and ALBERT list words by falling frequency in their
    pre-training text, so these are the first words of two letters or more: "the", "of", "and", "in", ...
    """
    word_starts_bare = not any(token.startswith(("Ġ", "▁")) for token in vocabulary.tokens)
    word = re.compile(r"[^\W\d_]{2,}" if word_starts_bare else r"[Ġ▁][^\W\d_]{2,}")
    ids = [
        token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token_id not in vocabulary.special_ids and word.fullmatch(token)
    ]
    return np.array(ids[:num_symbols], dtype=np.int64)


def shift(ids: np.ndarray, shift_by: int, vocabulary_size: int) -> np.ndarray:
    """Ids of any shape, each moved by shift_by places around the vocabulary: T(i) = (i + c) mod D.

    The mapping of the text tasks (section 3.1): it keeps a sentence's structure and takes its words' meaning. The
    paper's own code moves every id, [CLS], [SEP] and [PAD] too.
    """
    return (ids + shift_by) % vocabulary_size


MAPPINGS: dict[str, Callable[[Vocabulary, int, int], np.ndarray]] = {
    "random": random_ids,
    "frequent": frequent_ids,
}


def map_symbols(name: str, vocabulary: Vocabulary, symbols: str, seed: int) -> np.ndarray:
    """The chosen token of every symbol.

    Args:
        name: a key of ``MAPPINGS``.
        symbols: the S distinct symbols of a task, one character each.
        seed: draws the random mapping.

    Returns:
        (S,) token ids, in the order of symbols.

    Raises:
        UserError: when the vocabulary has fewer usable tokens than there are symbols.
    """
    usable = len(vocabulary.ordinary_ids())
    ids = MAPPINGS[name](vocabulary, len(symbols), seed) if usable >= len(symbols) else np.empty(0, dtype=np.int64)
    if len(ids) < len(symbols):
        raise UserError(
            f"mapping: {name!r} needs {len(symbols)} ordinary tokens (id {FIRST_ORDINARY_ID} and above, not special), "
            f"the model's vocabulary of {len(vocabulary.tokens)} has too few; give a model with a larger vocabulary"
        )
    return ids
