"""Sequences to token ids."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import encoding
from trainer.encoding import encode, encode_text
from trainer.errors import UserError
from trainer.mapping import Vocabulary, map_tokens
from trainer.models import read_tokenizer, read_vocabulary

SYMBOLS = "ACGTÿ"
IDS = np.array([1000, 2000, 3000, 4000, 65535])
PAIRS = (["The cat sat.", "It is raining cats and dogs today."], ["A dog?", "Yes."])


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


@given(st.text(SYMBOLS, max_size=14), st.integers(3, 14))
def test_where_both_ends_are_kept_the_middle_goes(sequence: str, max_tokens: int) -> None:
    room = max_tokens - 2
    both = sequence[: room - room // 2] + sequence[len(sequence) - room // 2 :]
    kept = sequence if len(sequence) <= room else both
    encoded = encode([sequence], SYMBOLS, IDS, vocabulary(), max_tokens, keeps_both_ends=True)
    assert encoded.ids_NT.tolist() == encode([kept], SYMBOLS, IDS, vocabulary(), 99).ids_NT.tolist()


@pytest.mark.parametrize("symbols", ["\x00\x7f", "ಕನಡ", "a😀\U0010ffff", "\ue000\ue001"])
def test_a_symbol_may_be_any_character(symbols: str) -> None:
    ids = np.arange(len(symbols)) + 1000
    encoded = encode([symbols, symbols[::-1]], symbols, ids, vocabulary(), 99)
    assert encoded.ids_NT[:, 1:-1].tolist() == [ids.tolist(), ids.tolist()[::-1]]


def test_a_token_takes_two_bytes() -> None:
    assert encode(["ACGT"] * 10, SYMBOLS, IDS, vocabulary(), 60).ids_NT.nbytes == 10 * 6 * 2


def test_a_vocabulary_beyond_16_bits_is_refused() -> None:
    with pytest.raises(UserError, match="model: a vocabulary of 65537 tokens is too large"):
        encode(["A"], SYMBOLS, IDS, vocabulary(65537), 60)


@pytest.mark.parametrize("model", ["bert-base-uncased", "bert-base-chinese", "roberta-base", "albert-base-v1"])
@pytest.mark.parametrize("max_tokens", [128, 9])
def test_text_is_what_the_models_own_tokenizer_makes_of_it(real_models: Path, model: str, max_tokens: int) -> None:
    """Ids, pair template and token types, row by row, truncation included."""
    folder = real_models / model
    tokenizer = read_tokenizer(folder)
    encoded = encode_text(*PAIRS, tokenizer, read_vocabulary(folder), max_tokens)
    assert encoded.seconds_N is not None
    for row, (first, second) in enumerate(zip(*PAIRS, strict=True)):
        own = tokenizer(first, second, truncation=True, max_length=max_tokens, return_token_type_ids=True)
        length = len(own["input_ids"])
        assert encoded.lengths_N[row] == length <= max_tokens
        assert encoded.ids_NT[row, :length].tolist() == own["input_ids"]
        assert set(encoded.ids_NT[row, length:].tolist()) <= {tokenizer.pad_token_id}
        types = (np.arange(length) >= encoded.seconds_N[row]).astype(int)
        assert types.tolist() == own["token_type_ids"]


def test_single_sentences_have_no_second_part(real_models: Path) -> None:
    folder = real_models / "bert-base-uncased"
    encoded = encode_text(PAIRS[0], (), read_tokenizer(folder), read_vocabulary(folder), 128)
    assert encoded.seconds_N is None
    assert encoded.ids_NT[0, :2].tolist() == [101, 1996]


@pytest.mark.parametrize("keep", [False, True])
def test_a_mapping_takes_every_token_special_and_padding_too_unless_these_are_kept(
    real_models: Path, keep: bool
) -> None:
    folder = real_models / "bert-base-uncased"
    tokens = read_vocabulary(folder)
    encoded = encode_text(PAIRS[0], (), read_tokenizer(folder), tokens, 128)
    table = map_tokens("shift", tokens, seed=0, shift_by=1000, keep_special_tokens=keep)
    mapped = encoded.mapped(table)
    assert mapped.ids_NT.dtype == np.uint16 and mapped.lengths_N is encoded.lengths_N
    assert mapped.ids_NT[0, 0] == (101 if keep else 1101)
    assert mapped.ids_NT[0, -1] == (0 if keep else 1000), "the shorter row ends in padding"
    assert mapped.ids_NT[0, 1] == 1996 + 1000


def test_albert_splits_text_as_its_sentencepiece_model_does(real_models: Path) -> None:
    """Its brackets, quotes, dots and pounds are ordinary tokens: nothing is split off before them."""
    folder = real_models / "albert-base-v1"
    vocabulary = read_vocabulary(folder)
    encoded = encode_text(['He paid £5 (3.5 %) - "yes".'], (), read_tokenizer(folder), vocabulary, 128)
    tokens = [vocabulary.tokens[i] for i in encoded.ids_NT[0]]
    expected = '[CLS] ▁he ▁paid ▁ £ 5 ▁ ( 3 . 5 ▁ % ) ▁ - ▁ " yes " . [SEP]'.split()
    assert tokens == expected
    assert sorted(vocabulary.special_ids) == [0, 1, 2, 3, 4]


def test_text_is_the_same_whether_tokenized_at_once_or_in_parts(
    real_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real_models / "bert-base-uncased"
    tokenizer, tokens = read_tokenizer(folder), read_vocabulary(folder)
    whole = encode_text(*PAIRS, tokenizer, tokens, 128)
    monkeypatch.setattr(encoding, "TOKENIZED_AT_ONCE", 1)
    parts = encode_text(*PAIRS, tokenizer, tokens, 128)
    assert parts.ids_NT.tolist() == whole.ids_NT.tolist() and parts.lengths_N.tolist() == whole.lengths_N.tolist()
    assert parts.seconds_N is not None and whole.seconds_N is not None
    assert parts.seconds_N.tolist() == whole.seconds_N.tolist()
