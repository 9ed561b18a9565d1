"""The named grids: which values each axis of a sweep takes.

A grid is a function from the inits and seeds asked for to axes (name -> values); a sweep runs their product. The last
axis varies fastest, so a sweep that is still running already holds whole comparisons.
"""

from collections.abc import Callable, Sequence

from trainer.optimizers import OPTIMIZERS

Axes = dict[str, tuple[str | int | float, ...]]


def _log_spaced(first_exponent: float, last_exponent: float) -> list[float]:
    """Five powers of ten, evenly spaced in the exponent, to six significant digits."""
    step = (last_exponent - first_exponent) / 4
    return [float(f"{10 ** (first_exponent + step * point):.6g}") for point in range(5)]


# Appendix of arXiv 2103.07162: a coarse pass and a finer one inside it; they share a point, so 9 in all.
SEARCH_LEARNING_RATES = tuple(sorted({*_log_spaced(-4, -7), *_log_spaced(-5, -6)}, reverse=True))


def search(inits: Sequence[str], seeds: int) -> Axes:
    """The paper's grid search: 5 optimizers x 9 learning rates."""
    return {
        "seed": tuple(range(seeds)),
        "optimizer": tuple(OPTIMIZERS),
        "learning_rate": SEARCH_LEARNING_RATES,
        "init": tuple(inits),
    }


def compare(inits: Sequence[str], seeds: int) -> Axes:
    """The paper's comparison: Adam at 1e-5, the setting that its grid search chose."""
    return {"seed": tuple(range(seeds)), "optimizer": ("adam",), "learning_rate": (1e-5,), "init": tuple(inits)}


def quick(inits: Sequence[str], seeds: int) -> Axes:
    """A first look: Adam at two learning rates."""
    return {"seed": tuple(range(seeds)), "optimizer": ("adam",), "learning_rate": (3e-4, 1e-4), "init": tuple(inits)}


GRIDS: dict[str, Callable[[Sequence[str], int], Axes]] = {"quick": quick, "search": search, "compare": compare}
