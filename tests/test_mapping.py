"""Token mappings: which subword stands for a symbol."""

from pathlib import Path

import numpy as np
import pytest

from trainer.errors import UserError
from trainer.mapping import FIRST_ORDINARY_ID, TEXT_MAPPINGS, Vocabulary, map_symbols, map_tokens
from trainer.models import read_vocabulary

ARCHITECTURES = ("bert-base-uncased", "roberta-base", "albert-base-v1")


def table(
    vocabulary: Vocabulary, mapping: str, *, seed: int = 0, shift_by: int = 1000, keep: bool = False
) -> np.ndarray:
    return map_tokens(mapping, vocabulary, seed=seed, shift_by=shift_by, keep_special_tokens=keep)


def test_shift_turns_the_papers_sentence_into_the_papers_example(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    ids = np.array([vocabulary.tokens.index(w) for w in "his healthy sense of satire is light and fun . . .".split()])
    shifted = [vocabulary.tokens[i] for i in table(vocabulary, "shift")[ids]]
    assert shifted == "canadian franz ##me 1988 ##pia leader watch sports czech at at at".split()


def test_shift_moves_every_id_special_or_not_around_the_vocabulary(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    mapped = table(vocabulary, "shift")
    assert mapped[[0, 101, 102, 29_999, 30_521]].tolist() == [1000, 1101, 1102, 477, 999]
    assert table(vocabulary, "shift", shift_by=-1)[[0, 1]].tolist() == [30_521, 0]


@pytest.mark.parametrize("model", [*ARCHITECTURES, "bert-base-chinese"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mapping", TEXT_MAPPINGS)
def test_no_two_tokens_of_a_text_become_the_same_one(real_models: Path, model: str, mapping: str, keep: bool) -> None:
    vocabulary = read_vocabulary(real_models / model)
    mapped = table(vocabulary, mapping, keep=keep)
    assert sorted(mapped) == list(range(len(vocabulary.tokens)))
    special = sorted(vocabulary.special_ids)
    if keep or mapping == "identity":
        assert mapped[special].tolist() == special
    moved = np.mean(mapped != np.arange(len(mapped)))
    assert moved == 0 if mapping == "identity" else moved > 0.99


def test_the_permutation_depends_on_the_seed_and_on_nothing_else(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    first, again = (table(vocabulary, "permutation", seed=3, shift_by=c) for c in (1, 2))
    assert first.tolist() == again.tolist()
    assert np.mean(first == table(vocabulary, "permutation", seed=4)) < 0.01


@pytest.mark.parametrize("model", [*ARCHITECTURES, "bert-base-chinese"])
@pytest.mark.parametrize("num_symbols", [4, 8, 128])
def test_random_draws_distinct_ordinary_tokens(real_models: Path, model: str, num_symbols: int) -> None:
    vocabulary = read_vocabulary(real_models / model)
    symbols = "".join(map(chr, range(num_symbols)))
    for seed in range(20):
        ids = map_symbols("random", vocabulary, symbols, seed)
        assert len(set(ids.tolist())) == num_symbols
        assert ids.min() >= FIRST_ORDINARY_ID and ids.max() < len(vocabulary.tokens)
        assert not vocabulary.special_ids.intersection(ids.tolist())
        assert not any("unused" in vocabulary.tokens[i] for i in ids)


def test_random_depends_on_the_seed_and_on_nothing_else(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    first, again = (map_symbols("random", vocabulary, "ACGT", 7).tolist() for _ in range(2))
    assert first == again
    assert len({tuple(map_symbols("random", vocabulary, "ACGT", seed)) for seed in range(6)}) == 6


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_frequent_takes_the_commonest_english_words(real_models: Path, model: str) -> None:
    vocabulary = read_vocabulary(real_models / model)
    ids = map_symbols("frequent", vocabulary, "ACGT", seed=0)
    words = {vocabulary.tokens[i].strip("Ġ▁").lower() for i in ids}
    assert words <= {"the", "of", "and", "to", "in", "for", "that"}
    assert ids.tolist() == map_symbols("frequent", vocabulary, "ACGT", seed=5).tolist()


def test_frequent_takes_the_commonest_characters_of_chinese(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-chinese")
    ids = map_symbols("frequent", vocabulary, "".join(map(chr, range(128))), seed=0)
    assert [vocabulary.tokens[i] for i in ids[:5]] == [*"的一是不了"] and len(set(ids.tolist())) == 128


def test_unused_takes_tokens_that_pre_training_never_saw(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    ids = map_symbols("unused", vocabulary, "".join(map(chr, range(128))), seed=0)
    assert len(set(ids.tolist())) == 128
    assert all(vocabulary.tokens[i].startswith("[unused") for i in ids)


def test_unused_is_refused_where_the_model_has_no_such_tokens(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "albert-base-v1")
    with pytest.raises(UserError, match=r"mapping: 'unused' needs 4 unused tokens.*too few; give mapping=random"):
        map_symbols("unused", vocabulary, "ACGT", seed=0)


@pytest.mark.parametrize("mapping", ["random", "frequent", "unused"])
def test_too_small_a_vocabulary_is_refused_in_one_line(mapping: str) -> None:
    vocabulary = Vocabulary(tokens=("[PAD]", "a"), special_ids=frozenset({0}), begin_id=0, end_id=0, pad_id=0)
    with pytest.raises(UserError, match=f"mapping: '{mapping}' needs 4 .*too few; give "):
        map_symbols(mapping, vocabulary, "ACGT", seed=0)


def letters(*tokens: str) -> Vocabulary:
    """A vocabulary like a protein model's: five special tokens, then its letters."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return Vocabulary(tokens=special + tokens, special_ids=frozenset(range(5)), begin_id=2, end_id=3, pad_id=0)


def test_identity_gives_each_symbol_the_token_of_its_own_letter(real_models: Path) -> None:
    assert map_symbols("identity", letters("C", "A", "T", "G"), "ACGT", seed=3).tolist() == [6, 5, 8, 7]
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    ids = map_symbols("identity", vocabulary, "ACGT", seed=0)
    assert [vocabulary.tokens[token_id] for token_id in ids] == ["a", "c", "g", "t"]


def test_identity_is_refused_where_a_symbol_has_no_token_or_shares_one() -> None:
    with pytest.raises(UserError, match=r"mapping: 'identity' .* none for 'X'; give mapping=random"):
        map_symbols("identity", letters("A"), "AX", seed=0)
    with pytest.raises(UserError, match="mapping: 'identity' needs upper case and lower case"):
        map_symbols("identity", letters("a"), "Aa", seed=0)
