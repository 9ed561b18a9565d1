"""Sequences to arrays of token ids: symbols in one vectorised pass without a tokenizer, text by the model's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.errors import UserError
from trainer.mapping import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_SPECIAL = 2  # begin and end token
TOKENIZED_AT_ONCE = 8192  # sentences; a tokenizer's own result takes 8 kB for each


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of N sequences, two bytes a token.

    Attributes:
        ids_NT: (N, T) uint16: begin token, mapped symbols, end token, then padding.
        lengths_N: (N,) int64, tokens in each row that are not padding.
        seconds_N: (N,) int64, where the second sentence of a pair starts; None where there are no pairs.
    """

    ids_NT: np.ndarray
    lengths_N: np.ndarray
    seconds_N: np.ndarray | None = None

    def mapped(self, table: np.ndarray) -> "Encoded":
        """Every token, padding too, replaced by what the (D,) table says; see :func:`trainer.mapping.map_tokens`."""
        ids_NT = table.astype(np.uint16)[self.ids_NT]
        return Encoded(ids_NT=ids_NT, lengths_N=self.lengths_N, seconds_N=self.seconds_N)


def encode(
    sequences: Sequence[str],
    symbols: str,
    token_ids: np.ndarray,
    vocabulary: Vocabulary,
    max_tokens: int,
    *,
    keeps_both_ends: bool = False,
) -> Encoded:
    """Replaces every symbol by its token and adds the vocabulary's begin and end tokens.

    Args:
        sequences: N strings over the symbols.
        symbols: the S symbols, a character each.
        token_ids: (S,) the token of each symbol.
        max_tokens: longest row, special tokens counted; a longer sequence is cut.
        keeps_both_ends: whether a sequence that is too long loses its middle, not its end.

    Raises:
        UserError: when the vocabulary's ids do not fit in 16 bits.
    """
    check_size(len(vocabulary.tokens))
    room = max_tokens - NUM_SPECIAL
    kept = cut(sequences, room, room // 2 if keeps_both_ends else 0)
    # One byte a symbol where the symbols allow it, else four.
    encoding, width = ("latin-1", np.uint8) if max(symbols) <= "\xff" else ("utf-32-le", np.uint32)
    places = np.frombuffer(symbols.encode(encoding), dtype=width)
    table = np.zeros(int(places.max()) + 1, dtype=np.uint16)
    table[places] = token_ids
    codes = np.frombuffer("".join(kept).encode(encoding), dtype=width)
    lengths_N = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept)) + NUM_SPECIAL
    return _padded(table[codes], lengths_N, vocabulary)


def cut(sequences: Sequence[str], room: int, tail: int) -> Sequence[str]:
    """The sequences with at most room symbols, the last tail of them from a cut one's end."""
    if max(map(len, sequences), default=0) <= room:
        return sequences
    head = room - tail
    return [text if len(text) <= room else text[:head] + text[len(text) - tail :] for text in sequences]


def _padded(ids: np.ndarray, lengths_N: np.ndarray, vocabulary: Vocabulary) -> Encoded:
    """Rows of the joined sequences' ids, between begin and end tokens."""
    columns = np.arange(lengths_N.max(initial=NUM_SPECIAL))
    ids_NT = np.full((len(lengths_N), len(columns)), vocabulary.pad_id, dtype=np.uint16)
    # Row-major order of this mask is the order of the joined symbols.
    ids_NT[(columns >= 1) & (columns < lengths_N[:, None] - 1)] = ids
    ids_NT[:, 0] = vocabulary.begin_id
    ids_NT[np.arange(len(lengths_N)), lengths_N - 1] = vocabulary.end_id
    return Encoded(ids_NT=ids_NT, lengths_N=lengths_N)


def encode_text(
    sentences: Sequence[str],
    seconds: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    vocabulary: Vocabulary,
    max_tokens: int,
) -> Encoded:
    """Tokenizes N sentences, or pairs of them, as the model's tokenizer does: with its own special tokens and template.

    Args:
        seconds: N second sentences, or none.
        max_tokens: longest row, special tokens counted; of a pair that is longer the longer sentence is cut first.

    Raises:
        UserError: when the vocabulary's ids do not fit in 16 bits.
    """
    check_size(len(vocabulary.tokens))
    rows: list[np.ndarray] = []
    starts: list[int] = []
    for first in range(0, len(sentences), TOKENIZED_AT_ONCE):
        part = slice(first, first + TOKENIZED_AT_ONCE)
        tokens = tokenizer(
            list(sentences[part]),
            list(seconds[part]) or None,
            truncation=True,
            max_length=max_tokens,
            return_attention_mask=False,
            return_token_type_ids=bool(seconds),
        )
        rows += [np.array(row, dtype=np.uint16) for row in tokens["input_ids"]]
        # Token type 1 begins after the zeros: in every template the types only rise.
        starts += [types.count(0) for types in tokens["token_type_ids"]] if seconds else []
    lengths_N = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    ids_NT = np.full((len(rows), lengths_N.max(initial=0)), vocabulary.pad_id, dtype=np.uint16)
    ids_NT[np.arange(ids_NT.shape[1]) < lengths_N[:, None]] = np.concatenate(rows)
    return Encoded(ids_NT=ids_NT, lengths_N=lengths_N, seconds_N=np.array(starts) if seconds else None)


def check_size(num_tokens: int) -> None:
    """Refuses a vocabulary whose ids do not fit in 16 bits."""
    if num_tokens > np.iinfo(np.uint16).max + 1:
        raise UserError(f"model: a vocabulary of {num_tokens} tokens is too large; at most 65536 fit")
