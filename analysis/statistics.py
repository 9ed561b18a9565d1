"""Tests of significance over training runs: paired by seed, against a margin, and corrected for many comparisons.

Scores are fractions, higher is better; a difference is the first side's score - the second's. What the examples of the
test set say is ``analysis.bootstrap``'s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ALPHA = 0.05  # level of every test; intervals are of 1 - ALPHA
ROUNDING = 1e-12  # scores that differ by less are equal


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two sides' scores over the seeds that they share.

    Attributes:
        n: how many seeds they share.
        difference: mean of first - second; None where no seed is shared.
        low, high: 95 % confidence interval of the difference; None where p_value is None.
        p_value: two-sided; None below two shared seeds, and where every seed differs by the same amount, since no
            spread can be estimated from such scores. Where both sides score the same with every seed it is 1.
    """

    n: int
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def standard_error(self) -> float | None:
        """Of the difference; None where no spread can be estimated."""
        if self.low is None or self.high is None or self.high - self.low < ROUNDING:
            return None
        return (self.high - self.low) / 2 / _t_quantile(1 - ALPHA / 2, self.n - 1)


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> PairedTest:
    """Student's t-test of paired samples, two-sided, over the seeds that both sides have.

    Args:
        first, second: seed -> score.

    Raises:
        ValueError: when a score is NaN or infinite; a run without a score has no place in a test.
    """
    seeds = sorted(first.keys() & second.keys())
    first_S, second_S = (np.array([side[seed] for seed in seeds], dtype=np.float64) for side in (first, second))
    if not np.isfinite([first_S, second_S]).all():
        raise ValueError(f"scores must be finite numbers: {dict(first)} and {dict(second)}")
    n, differences_S = len(seeds), first_S - second_S
    if n == 0:
        return PairedTest(n=0, difference=None, low=None, high=None, p_value=None)
    difference = float(differences_S.mean())
    if n > 1 and np.abs(differences_S).max() < ROUNDING:
        return PairedTest(n=n, difference=0.0, low=0.0, high=0.0, p_value=1.0)
    if n == 1 or np.ptp(differences_S) < ROUNDING:
        return PairedTest(n=n, difference=difference, low=None, high=None, p_value=None)
    error = float(differences_S.std(ddof=1)) / math.sqrt(n)
    reach = _t_quantile(1 - ALPHA / 2, n - 1) * error
    return PairedTest(
        n=n,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p_value=2 * _t_below(-abs(difference) / error, n - 1),
    )


def no_better(test: PairedTest, margin: float) -> float | None:
    """One-sided p-value of the first side's being better by a margin or more: small where it surely is not.

    None where no spread can be estimated.
    """
    error = test.standard_error
    if error is None or test.difference is None:
        return None
    return _t_below((test.difference - margin) / error, test.n - 1)


def level(test: PairedTest, margin: float) -> float | None:
    """p-value of two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15): small where the two sides
    surely differ by less than the margin, either way. None where no spread can be estimated.
    """
    above, error = no_better(test, margin), test.standard_error
    if above is None or error is None or test.difference is None:
        return None
    return max(above, _t_below(-(test.difference + margin) / error, test.n - 1))


def better(test: PairedTest, margin: float) -> float | None:
    """One-sided p-value of the first side's being better by at most a margin: small where it surely is better by more.

    None where no spread can be estimated.
    """
    p_value = no_better(test, margin)
    return None if p_value is None else 1 - p_value


def apart(test: PairedTest, margin: float) -> float | None:
    """Two-sided p-value of the two sides' differing by at most a margin: small where they surely differ by more.

    None where no spread can be estimated.
    """
    error = test.standard_error
    if error is None or test.difference is None:
        return None
    return min(1.0, 2 * _t_below((margin - abs(test.difference)) / error, test.n - 1))


def detectable(test: PairedTest, num_tests: int) -> float | None:
    """The difference from which on these seeds, spread as they are, would have been significant for certain.

    That is after Bonferroni's correction, which Holm's never falls behind. None where no spread can be estimated.

    Args:
        num_tests: how many p-values are corrected together.
    """
    error = test.standard_error
    return None if error is None else _t_quantile(1 - ALPHA / num_tests / 2, test.n - 1) * error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number by Holm's step-down method (1979, Scand. J. Statist. 6, 65-70).

    The k-th smallest of m becomes the largest of (m - i + 1) * p_i over i <= k, and at most 1. None stays None and is
    not counted.
    """
    known = sorted((p_value, place) for place, p_value in enumerate(p_values) if p_value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p_value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p_value))
        adjusted[place] = highest
    return adjusted


def _t_quantile(share: float, degrees: int) -> float:
    """Below which this share of Student's t distribution lies."""
    from scipy.special import stdtrit  # of scipy.stats.t too, which takes three times as long to import

    return float(stdtrit(degrees, share))


def _t_below(value: float, degrees: int) -> float:
    """The share of Student's t distribution below a value."""
    from scipy.special import stdtr

    return float(stdtr(degrees, value))
