"""Sequences to token ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.encoding import encode
from trainer.errors import UserError
from trainer.mapping import Vocabulary

SYMBOLS = "ACGTÿ"
IDS = np.array([1000, 2000, 3000, 4000, 65535])


def vocabulary(size: int = 65536) -> Vocabulary:
    return Vocabulary(tokens=("x",) * size, special_ids=frozenset(), begin_id=101, end_id=102, pad_id=7)


@given(st.lists(st.text(SYMBOLS, max_size=12), min_size=1), st.integers(3, 14))
def test_one_pass_over_all_gives_what_a_loop_over_each_gives(sequences: list[str], max_tokens: int) -> None:
    encoded = encode(sequences, SYMBOLS, IDS, vocabulary(), max_tokens)
    longest = max(len(s[: max_tokens - 2]) for s in sequences) + 2
    for row, sequence in enumerate(sequences):
        ids = [101, *(IDS[SYMBOLS.index(symbol)] for symbol in sequence[: max_tokens - 2]), 102]
        assert encoded.lengths_N[row] == len(ids) <= max_tokens
        assert encoded.ids_NT[row].tolist() == ids + [7] * (longest - len(ids))


def test_a_token_takes_two_bytes() -> None:
    assert encode(["ACGT"] * 10, SYMBOLS, IDS, vocabulary(), 60).ids_NT.nbytes == 10 * 6 * 2


def test_a_vocabulary_beyond_16_bits_is_refused() -> None:
    with pytest.raises(UserError, match="model: a vocabulary of 65537 tokens is too large"):
        encode(["A"], SYMBOLS, IDS, vocabulary(65537), 60)
