"""Artificial languages: structure where there is to be some, none elsewhere, and the statistics that are stated.

Bounds are five standard deviations of what is drawn: one draw in two million is further off, and the seeds are fixed.
"""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from trainer.pretraining.artificial import LANGUAGES, MEAN_DISTANCE, flat_brackets, is_nested, nested_brackets, uniform

N, T, NUM_KINDS = 2000, 126, 50
SIGMAS = 5.0
RECIPES = {"flat": flat_brackets, "nested": nested_brackets}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_share(chosen: np.ndarray, expected: float) -> None:
    """A share of independent draws lies within its binomial bounds."""
    bound = SIGMAS * np.sqrt(expected * (1 - expected) / chosen.size)
    assert abs(chosen.mean() - expected) < bound, f"{chosen.mean()} is not {expected} ± {bound}"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("length", [2, 4, 50, T])
def test_every_bracket_has_one_partner_and_it_is_the_same_token(recipe: object, length: int) -> None:
    kinds_NT, partners_NT = recipe(rng(), N, length, NUM_KINDS)  # type: ignore[operator]
    positions_NT = np.broadcast_to(np.arange(length), (N, length))
    assert (np.sort(partners_NT) == positions_NT).all()
    assert (np.take_along_axis(partners_NT, partners_NT, axis=1) == positions_NT).all()
    assert (partners_NT != positions_NT).all()
    assert (np.take_along_axis(kinds_NT, partners_NT, axis=1) == kinds_NT).all()


def num_crossings(partners_T: np.ndarray) -> int:
    """Pairs that a pair's inside holds one bracket of, by a stack: what closes must be what opened last."""
    crossings, open_positions = 0, []
    for position, partner in enumerate(partners_T.tolist()):
        if partner > position:
            open_positions.append(position)
        else:
            crossings += len(open_positions) - 1 - open_positions.index(partner)
            open_positions.remove(partner)
    return crossings


def test_nested_brackets_never_cross_and_flat_ones_do() -> None:
    nested_NT, flat_NT = (recipe(rng(), 200, T, NUM_KINDS)[1] for recipe in (nested_brackets, flat_brackets))
    assert sum(map(num_crossings, nested_NT)) == 0
    assert min(map(num_crossings, flat_NT)) > 0


def test_a_stack_of_tokens_empties_on_nested_sequences_and_on_no_others() -> None:
    assert all(map(is_nested, nested_brackets(rng(), 200, T, NUM_KINDS)[0]))
    assert not any(map(is_nested, flat_brackets(rng(), 200, T, NUM_KINDS)[0]))
    assert not any(map(is_nested, uniform(rng(), 200, T, NUM_KINDS)))
    assert is_nested(np.array([1, 2, 2, 1, 3, 3]))
    assert not is_nested(np.array([1, 2, 1, 2]))
    assert not is_nested(np.array([1, 1, 1]))


def depths(partners_NT: np.ndarray) -> np.ndarray:
    """(N, T + 1) how many brackets are open before each position, and at the end."""
    steps_NT = np.where(partners_NT > np.arange(partners_NT.shape[1]), 1, -1)
    return np.pad(np.cumsum(steps_NT, axis=1), ((0, 0), (1, 0)))


def test_depth_begins_and_ends_at_0_and_never_falls_below() -> None:
    depth = depths(nested_brackets(rng(), N, T, NUM_KINDS)[1])
    assert (depth[:, [0, -1]] == 0).all()
    assert depth.min() == 0


def test_where_a_nested_bracket_may_open_or_close_it_opens_half_of_the_time() -> None:
    _, partners_NT = nested_brackets(rng(), N, T, NUM_KINDS)
    depth, positions_T = depths(partners_NT)[:, :-1], np.arange(T)
    is_free = (depth > 0) & (depth < T - positions_T)
    opens = partners_NT > positions_T
    assert_share(opens[is_free], 0.5)
    assert opens[depth == 0].all()
    assert not opens[depth == T - positions_T].any()


def test_half_of_the_nested_brackets_close_at_once_where_they_need_not() -> None:
    _, partners_NT = nested_brackets(rng(), N, T, NUM_KINDS)
    depth, positions_T = depths(partners_NT)[:, :-1], np.arange(T)
    need_not = (partners_NT > positions_T) & (depth + 1 < T - 1 - positions_T)
    assert_share((partners_NT - positions_T)[need_not] == 1, 0.5)


def test_flat_brackets_close_at_the_distance_that_is_stated() -> None:
    """Beyond what is taken, and before the end forces it, a partner's place has the geometric distribution.

    A bracket at p that draws the distance D closes at the first free place q >= p + D. Given that it did not close at
    the free place q' before q (or p itself, for the first), it closes at q with the probability of D <= q - p given
    D > q' - p: 1 - (1 - 1/8)^(q - q'), as the geometric distribution has no memory. Where q is the last free place, it
    must. What is left is a coin for each free place that a bracket passes or takes, by the gap before it.
    """
    _, partners_NT = flat_brackets(rng(), 400, T, NUM_KINDS)
    coins: dict[int, list[bool]] = {}
    for partners in partners_NT.tolist():
        is_free = np.ones(T, dtype=bool)
        for position, partner in enumerate(partners):
            if partner < position:
                continue
            is_free[[position, partner]] = False
            before = position
            later = np.flatnonzero(is_free[position:]) + position
            for place in [*later[later < partner].tolist(), partner]:
                if not len(later) or place > later[-1]:
                    break  # the last free one
                coins.setdefault(place - before, []).append(place == partner)
                before = place
    assert set(range(1, 6)) <= set(coins)
    for gap, tossed in coins.items():
        if len(tossed) > 100:
            assert_share(np.array(tossed), 1 - (1 - 1 / MEAN_DISTANCE) ** gap)


def test_distances_of_flat_brackets_are_as_the_docstring_says() -> None:
    _, partners_NT = flat_brackets(rng(), 4000, T, NUM_KINDS)
    distances = (partners_NT - np.arange(T))[partners_NT > np.arange(T)]
    assert distances.mean() == pytest.approx(8.0, abs=0.1)
    assert np.median(distances) == 6
    assert np.mean(distances == 1) == pytest.approx(0.09, abs=0.005)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_kinds_occur_equally_often(language: str) -> None:
    kinds_NT = LANGUAGES[language](rng(), N, T, NUM_KINDS)
    assert kinds_NT.shape == (N, T)
    counts = np.bincount(kinds_NT.ravel(), minlength=NUM_KINDS)
    assert len(counts) == NUM_KINDS
    # Brackets come in pairs, and only one of each was drawn.
    drawn = counts if language == "uniform" else counts // 2
    assert chisquare(drawn).pvalue > 1e-4


def test_uniform_tokens_say_nothing_of_each_other() -> None:
    kinds_NT = uniform(rng(), N, T, 10)
    for distance in (1, 2, 8):
        pairs = Counter(zip(kinds_NT[:, :-distance].flat, kinds_NT[:, distance:].flat, strict=True))
        assert len(pairs) == 100
        # Pairs overlap, so that this is not quite a chi-square; hence the wide bound.
        assert chisquare(list(pairs.values())).pvalue > 1e-4


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_draws_the_same_sequences_and_another_seed_others(language: str) -> None:
    first, again, other = (LANGUAGES[language](rng(seed), 10, T, NUM_KINDS) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any(axis=1).all()


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_kind_is_enough(language: str) -> None:
    assert not LANGUAGES[language](rng(), 5, T, 1).any()
