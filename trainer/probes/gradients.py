"""How far minibatches agree on where to go: the cosines of their gradients, all pairs of them.

arxiv.org/abs/2103.07162 (the later version), figure 11. Gradients are as large as the model, so only a few
are held at a time; the others are computed again when their turn comes, and the numbers are the same.

Shape suffixes: B batches, P parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

CHUNK = 2**16  # parameters; the sum of so many products in float32 is still good
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def gram(gradient: Callable[[int], np.ndarray], num_batches: int, num_held: int) -> np.ndarray:
    """(B, B) the inner products of all batches' gradients, in float64.

    Args:
        gradient: gives batch i's gradient (P,), float32 or float64, the same each time it is asked.
        num_held: gradients that may be held at a time, 2 or more. Where all fit, each is computed once; otherwise
            :func:`num_calls` says how many are computed in all.

    Raises:
        ValueError: where fewer than 2 may be held.
    """
    gram_BB = np.zeros((num_batches, num_batches))
    for start, stop in _blocks(num_batches, num_held):
        _fill(gram_BB, gradient, start, stop)
    return gram_BB


def num_calls(num_batches: int, num_held: int) -> int:
    """How many gradients :func:`gram` computes."""
    return sum(num_batches - start for start, _ in _blocks(num_batches, num_held))


def cosines(gram_BB: np.ndarray) -> np.ndarray:
    """(B (B - 1) / 2,) the cosines of all pairs i < j, pairs of the first batch first.

    Raises:
        ValueError: naming the first gradient that is zero or not finite.
    """
    squares_B = np.diag(gram_BB)
    if len(wrong := np.flatnonzero(~(np.isfinite(squares_B) & (squares_B > 0)))):
        raise ValueError(f"the gradient of batch {wrong[0]} is zero or not finite, and has no direction")
    norms_B = np.sqrt(squares_B)
    cosines_BB = gram_BB / norms_B / norms_B[:, None]
    return cosines_BB[np.triu_indices_from(cosines_BB, k=1)].clip(-1.0, 1.0)


def summary(cosines: np.ndarray) -> dict[str, Any]:
    """Mean, sample standard deviation (None for a single pair) and quantiles, 0 and 1 being the extremes."""
    num_pairs = len(cosines)
    return {
        "mean": float(cosines.mean()),
        "std": float(cosines.std(ddof=1)) if num_pairs > 1 else None,
        "quantiles": {str(share): float(np.quantile(cosines, share)) for share in QUANTILES},
        "num_batches": round((1 + np.sqrt(1 + 8 * num_pairs)) / 2),
        "num_pairs": num_pairs,
    }


def _blocks(num_batches: int, num_held: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 of the batches held together: all that are left if they fit, else with room for one more."""
    if num_held < 2:
        raise ValueError(f"num_held: {num_held} gradients make no pair; allowed: 2 or more")
    start = 0
    while start < num_batches:
        stop = num_batches if num_batches - start <= num_held else start + num_held - 1
        yield start, stop
        start = stop


def _fill(gram_BB: np.ndarray, gradient: Callable[[int], np.ndarray], start: int, stop: int) -> None:
    """The pairs within a block and of the block with all later batches; its gradients live no longer than this call."""
    held: list[np.ndarray] = []
    for batch in range(start, stop):
        held.append(gradient(batch))
        products = _products(held, held[-1])
        gram_BB[batch, start : batch + 1] = gram_BB[start : batch + 1, batch] = products
    for batch in range(stop, len(gram_BB)):
        products = _products(held, gradient(batch))  # never under a name: the last would live on beside the next
        gram_BB[batch, start:stop] = gram_BB[start:stop, batch] = products


def _products(held: Sequence[np.ndarray], other_P: np.ndarray) -> np.ndarray:
    """The inner product of each with the other: chunk by chunk in their own dtype, the chunks summed in float64."""
    totals = np.zeros(len(held))
    for start in range(0, len(other_P), CHUNK):
        chunk = other_P[start : start + CHUNK]
        totals += [np.dot(one_P[start : start + CHUNK], chunk) for one_P in held]
    return totals
