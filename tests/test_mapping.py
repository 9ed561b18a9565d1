"""Token mappings: which subword stands for a symbol."""

from pathlib import Path

import numpy as np
import pytest

from trainer.errors import UserError
from trainer.mapping import FIRST_ORDINARY_ID, MAPPINGS, Vocabulary, map_symbols, shift
from trainer.models import read_vocabulary

ARCHITECTURES = ("bert-base-uncased", "roberta-base", "albert-base-v1")


def test_shift_turns_the_papers_sentence_into_the_papers_example(real_models: Path) -> None:
    vocabulary = read_vocabulary(real_models / "bert-base-uncased")
    ids = np.array([vocabulary.tokens.index(w) for w in "his healthy sense of satire is light and fun . . .".split()])
    shifted = [vocabulary.tokens[i] for i in shift(ids, 1000, len(vocabulary.tokens))]
    assert shifted == "canadian franz ##me 1988 ##pia leader watch sports czech at at at".split()


def test_shift_wraps_around_the_vocabulary() -> None:
    assert shift(np.array([29_999, 30_521]), 1000, 30_522).tolist() == [477, 999]


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


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_too_small_a_vocabulary_is_refused_in_one_line(mapping: str) -> None:
    vocabulary = Vocabulary(tokens=("[PAD]", "a"), special_ids=frozenset({0}), begin_id=0, end_id=0, pad_id=0)
    with pytest.raises(UserError, match=f"mapping: '{mapping}' needs 4 ordinary tokens.*larger vocabulary"):
        map_symbols(mapping, vocabulary, "ACGT", seed=0)
