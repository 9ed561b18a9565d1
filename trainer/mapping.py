"""Token mappings: which subword token stands for each symbol of a sequence, or takes the place of a text's token.

The paper (section 3.1, arXiv 2103.07162) maps every symbol of a non-text discipline to one subword token of the
language model: to a frequent one, or, in the later version, to one drawn at random. Special tokens stay. A text's
tokens are mapped to other tokens, so that the words lose their meaning and the sentences keep their structure.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.errors import UserError

# BERT keeps its special, [unused] and single-character tokens below this id; the paper draws above it.
FIRST_ORDINARY_ID = 1000
UNUSED = re.compile(r"\[unused\d+\]|madeupword\d+")  # BERT's and RoBERTa's tokens that stand for nothing

# The most frequent characters of modern Chinese, after Jun Da's list (lingua.mtsu.edu/chinese-computing).
FREQUENT_HAN = (
    "的一是不了人我在有他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代"
)


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
                if token_id >= FIRST_ORDINARY_ID and token_id not in self.special_ids and not UNUSED.fullmatch(token)
            ],
            dtype=np.int64,
        )


def random_ids(vocabulary: Vocabulary, symbols: str, seed: int) -> np.ndarray:
    """(S,) distinct ids drawn uniformly from the ordinary ones by seed."""
    ids: np.ndarray = np.random.default_rng(seed).choice(vocabulary.ordinary_ids(), len(symbols), replace=False)
    return ids


def frequent_ids(vocabulary: Vocabulary, symbols: str, seed: int) -> np.ndarray:
    """(S,) ids of the most frequent words, the same for every seed.

    The subword vocabularies of BERT (uncased), RoBERTa and ALBERT list words by falling frequency in their
    pre-training text, so these are the first words of two letters or more: "the", "of", "and", "in", ... That of
    Chinese BERT lists characters by code point, so there the frequent ones are looked up: "的", "一", "是", "不", ...
    """
    if {*FREQUENT_HAN} <= {*vocabulary.tokens}:
        return np.array([vocabulary.tokens.index(word) for word in FREQUENT_HAN[: len(symbols)]], dtype=np.int64)
    word_starts_bare = not any(token.startswith(("Ġ", "▁")) for token in vocabulary.tokens)
    word = re.compile(r"[^\W\d_]{2,}" if word_starts_bare else r"[Ġ▁][^\W\d_]{2,}")
    ids = [
        token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token_id not in vocabulary.special_ids and word.fullmatch(token)
    ]
    return np.array(ids[: len(symbols)], dtype=np.int64)


def unused_ids(vocabulary: Vocabulary, symbols: str, seed: int) -> np.ndarray:
    """(S,) ids of tokens that pre-training never saw, the same for every seed: to show that they do not serve."""
    ids = [token_id for token_id, token in enumerate(vocabulary.tokens) if UNUSED.fullmatch(token)]
    return np.array(ids[: len(symbols)], dtype=np.int64)


def identity_ids(vocabulary: Vocabulary, symbols: str, seed: int) -> np.ndarray:
    """(S,) ids of the tokens that the symbols are, the same for every seed.

    For models that were pre-trained on such sequences: protein models like PLUS-TFM have a token for each amino acid.
    In a text model it is the letter as a word.
    """
    place = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    ids = [place.get(symbol, place.get(symbol.lower())) for symbol in symbols]
    if lacking := [symbol for symbol, token_id in zip(symbols, ids, strict=True) if token_id is None]:
        raise UserError(
            f"mapping: 'identity' needs a token for each symbol, and the model's vocabulary has none for "
            f"{' '.join(map(repr, lacking[:8]))}; give mapping=random"
        )
    if len(set(ids)) < len(symbols):
        raise UserError("mapping: 'identity' needs upper case and lower case in the vocabulary; give mapping=random")
    return np.array(ids, dtype=np.int64)


MAPPINGS: dict[str, Callable[[Vocabulary, str, int], np.ndarray]] = {
    "random": random_ids,
    "frequent": frequent_ids,
    "unused": unused_ids,
    "identity": identity_ids,
}


KINDS = {"random": f"ordinary (id {FIRST_ORDINARY_ID} and above, not special)", "frequent": "word", "unused": "unused"}


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
    try:
        ids = MAPPINGS[name](vocabulary, symbols, seed)
    except UserError:
        raise
    except ValueError:  # fewer to draw from than there are symbols
        ids = np.empty(0, dtype=np.int64)
    if len(ids) < len(symbols):
        remedy = "mapping=random" if name == "unused" else "a model with a larger vocabulary"
        raise UserError(
            f"mapping: {name!r} needs {len(symbols)} {KINDS[name]} tokens, one for each symbol, and the model's "
            f"vocabulary of {len(vocabulary.tokens)} has too few; give {remedy}"
        )
    return ids


def identity_table(num_tokens: int, seed: int, shift_by: int) -> np.ndarray:
    """(D,) every token itself: the text as it is."""
    return np.arange(num_tokens)


def shift_table(num_tokens: int, seed: int, shift_by: int) -> np.ndarray:
    """(D,) every token moved by shift_by places around the vocabulary: T(i) = (i + c) mod D."""
    return (np.arange(num_tokens) + shift_by) % num_tokens


def permutation_table(num_tokens: int, seed: int, shift_by: int) -> np.ndarray:
    """(D,) every token another one, drawn by seed."""
    return np.random.default_rng(seed).permutation(num_tokens)


TEXT_MAPPINGS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "identity": identity_table,
    "shift": shift_table,
    "permutation": permutation_table,
}


def map_tokens(name: str, vocabulary: Vocabulary, *, seed: int, shift_by: int, keep_special_tokens: bool) -> np.ndarray:
    """What becomes of every token of a text: (D,) token ids, a permutation of the vocabulary's D.

    Args:
        name: a key of ``TEXT_MAPPINGS``.
        seed: draws the permutation.
        shift_by: c of the shift.
        keep_special_tokens: whether [CLS], [SEP], [PAD] and the like stay, and the others are mapped among themselves.
            The paper's own code (github.com/sky1456723/BERT-non-text) maps every id of the input.
    """
    ids = np.arange(len(vocabulary.tokens))
    mapped = np.setdiff1d(ids, list(vocabulary.special_ids)) if keep_special_tokens else ids
    table = ids.copy()
    table[mapped] = mapped[TEXT_MAPPINGS[name](len(mapped), seed, shift_by)]
    return table
