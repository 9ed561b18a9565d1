"""Sequences of symbols to arrays of token ids, in one vectorised pass; no tokenizer runs here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.errors import UserError
from trainer.mapping import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of N sequences.

    Attributes:
        ids_NT: (N, T) uint16, two bytes a token: begin token, mapped symbols, end token, then padding.
        lengths_N: (N,) int64, tokens in each row that are not padding.
    """

    ids_NT: np.ndarray
    lengths_N: np.ndarray


def encode(
    sequences: Sequence[str], symbols: str, token_ids: np.ndarray, vocabulary: Vocabulary, max_tokens: int
) -> Encoded:
    """Replaces every symbol by its token and adds the vocabulary's begin and end tokens.

    Args:
        sequences: N strings over the symbols (Latin-1 characters).
        symbols: the S symbols.
        token_ids: (S,) the token of each symbol.
        max_tokens: longest row, special tokens counted; a longer sequence loses its end.

    Raises:
        UserError: when the vocabulary's ids do not fit in 16 bits.
    """
    if len(vocabulary.tokens) > np.iinfo(np.uint16).max + 1:
        raise UserError(f"model: a vocabulary of {len(vocabulary.tokens)} tokens is too large; at most 65536 fit")
    table = np.zeros(256, dtype=np.uint16)
    table[np.frombuffer(symbols.encode("latin-1"), dtype=np.uint8)] = token_ids
    room = max_tokens - 2
    kept = [sequence[:room] for sequence in sequences]
    codes = np.frombuffer("".join(kept).encode("latin-1"), dtype=np.uint8)
    lengths_N = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept)) + 2
    columns = np.arange(lengths_N.max(initial=2))
    ids_NT = np.full((len(kept), len(columns)), vocabulary.pad_id, dtype=np.uint16)
    # Row-major order of this mask is the order of the joined symbols.
    ids_NT[(columns >= 1) & (columns < lengths_N[:, None] - 1)] = table[codes]
    ids_NT[:, 0] = vocabulary.begin_id
    ids_NT[np.arange(len(kept)), lengths_N - 1] = vocabulary.end_id
    return Encoded(ids_NT=ids_NT, lengths_N=lengths_N)
