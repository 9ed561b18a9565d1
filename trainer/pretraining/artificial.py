"""Artificial languages: sequences without a word of text, drawn by a recipe.

``uniform`` has no structure at all; in ``flat`` and ``nested`` every token has a partner, the same token once more, so
what a model learns of them can only be structure. After the parentheses of Papadimitriou & Jurafsky 2020 (arXiv
2004.14601) and the artificial datasets of Chiang & Lee 2020 (arXiv 2012.11995); the kinds of brackets, all equally
frequent, and the distributions of depth and distance are our own, and stated with each.

Shape suffixes: N sequences, T tokens.
"""

from collections.abc import Callable

import numpy as np

OPEN_PROBABILITY = 0.5
MEAN_DISTANCE = 8.0  # of flat brackets, in tokens

Language = Callable[[np.random.Generator, int, int, int], np.ndarray]


def uniform(rng: np.random.Generator, num_sequences: int, length: int, num_kinds: int) -> np.ndarray:
    """Draws every token uniformly and by itself: kinds (N, T) from 0 to num_kinds - 1."""
    return rng.integers(num_kinds, size=(num_sequences, length))


def nested_brackets(
    rng: np.random.Generator, num_sequences: int, length: int, num_kinds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws well-nested sequences of brackets, in which a bracket closes with the very token that opened it.

    At each position a bracket of a uniformly drawn kind opens with probability 0.5, or else the most recent open one
    closes. Where none is open one must open; where the open ones fill the rest of the sequence one must close. So the
    depth is a random walk with as many steps up as down, reflected at 0, that ends at 0; a sequence is made of nests
    within nests, and about half of all brackets close at the very next position.

    Args:
        length: T, an even number.

    Returns:
        kinds (N, T) from 0 to num_kinds - 1, and partners (N, T): the position of each position's other bracket.
    """
    kinds_NT = rng.integers(num_kinds, size=(num_sequences, length))
    wants_open_NT = rng.random((num_sequences, length)) < OPEN_PROBABILITY
    partners_NT = np.empty((num_sequences, length), dtype=np.int64)
    open_positions_NT = np.zeros((num_sequences, length), dtype=np.int64)  # a stack for each sequence
    depth_N = np.zeros(num_sequences, dtype=np.int64)
    for position in range(length):
        opens_N = (wants_open_NT[:, position] | (depth_N == 0)) & (depth_N < length - position)
        rows = np.flatnonzero(opens_N)
        open_positions_NT[rows, depth_N[rows]] = position
        depth_N[rows] += 1
        rows = np.flatnonzero(~opens_N)
        depth_N[rows] -= 1
        opening = open_positions_NT[rows, depth_N[rows]]
        kinds_NT[rows, position] = kinds_NT[rows, opening]
        partners_NT[rows, position], partners_NT[rows, opening] = opening, position
    return kinds_NT, partners_NT


def flat_brackets(
    rng: np.random.Generator, num_sequences: int, length: int, num_kinds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws sequences of brackets that match in pairs and may cross.

    From left to right, at each position that is not taken yet a bracket of a uniformly drawn kind opens, and draws a
    distance from the geometric distribution with mean 8 (1, 2, ...). Its partner, the same token, takes the first free
    position at that distance or beyond it; where there is none, the last free one. What is taken lengthens distances
    and the end shortens them: in sequences of 126 tokens their mean is 8.0, their median 6, and 9 % of them are 1.

    Args:
        length: T, an even number.

    Returns:
        kinds (N, T) from 0 to num_kinds - 1, and partners (N, T): the position of each position's other bracket.
    """
    kinds_NT = rng.integers(num_kinds, size=(num_sequences, length))
    distances_NT = rng.geometric(1 / MEAN_DISTANCE, size=(num_sequences, length))
    partners_NT = np.empty((num_sequences, length), dtype=np.int64)
    is_free = np.ones((num_sequences, length + 1), dtype=bool)  # the last column, beyond the end, is never taken
    for position in range(length - 1):
        rows = np.flatnonzero(is_free[:, position])
        is_free[rows, position] = False
        closing = np.minimum(position + distances_NT[rows, position], length)
        _walk(closing, is_free, rows, 1)
        closing[closing == length] = length - 1
        _walk(closing, is_free, rows, -1)
        is_free[rows, closing] = False
        kinds_NT[rows, closing] = kinds_NT[rows, position]
        partners_NT[rows, position], partners_NT[rows, closing] = closing, position
    return kinds_NT, partners_NT


def _walk(places: np.ndarray, is_free: np.ndarray, rows: np.ndarray, step: int) -> None:
    """Moves each row's place on, step by step, until it is free."""
    taken = np.flatnonzero(~is_free[rows, places])
    while len(taken):
        places[taken] += step
        taken = taken[~is_free[rows[taken], places[taken]]]


def is_nested(kinds_T: np.ndarray) -> bool:
    """Whether brackets that close with the token that opened them are well nested: whether a stack ends empty."""
    open_kinds: list[int] = []
    for kind in kinds_T.tolist():
        if open_kinds and open_kinds[-1] == kind:
            open_kinds.pop()
        else:
            open_kinds.append(kind)
    return not open_kinds


LANGUAGES: dict[str, Language] = {
    "uniform": uniform,
    "flat": lambda *what: flat_brackets(*what)[0],
    "nested": lambda *what: nested_brackets(*what)[0],
}
