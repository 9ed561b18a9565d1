"""The paired bootstrap over test examples: does a difference hold for other examples of the same kind?

Both sides and all seeds are scored on the SAME resampled examples (Efron & Tibshirani 1993, "An Introduction to the
Bootstrap"; Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation", W04-3250). It knows nothing
of what another training run would have scored: that is the paired test's question.

A resample is not a list of examples but how often each one is in it. Of such weights every metric is a weighted sum or
two, for many resamples and runs at once. Shapes: N examples, R runs, B resamples, S seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.statistics import ALPHA, ROUNDING

NUM_RESAMPLES = 1000
SEED = 0
CHUNK = 2_000_000  # weights held at once: 16 MB
FLAT = 1e-12  # a variance below this share of the mean square is none


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """The difference of two sides' scores over resampled test examples.

    Attributes:
        difference: on the examples as they are: mean over seeds of first - second, a fraction.
        low, high: 95 % percentile interval.
        p_value: two-sided: twice the smaller share of resamples on either side of 0, counting the examples as they are
            as one resample more (Davison & Hinkley 1997), so that it is never 0: at least 2 / (num_resamples + 1).
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_examples: int
    num_resamples: int


def bootstrap(
    metric: str,
    labels_N: np.ndarray,
    first_SN: np.ndarray,
    second_SN: np.ndarray,
    subsets_N: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Bootstrap:
    """Resamples the test examples, with replacement, and scores both sides on each resample. The seed is fixed.

    Args:
        metric: a key of WEIGHTED.
        labels_N: class indices, or numbers.
        first_SN, second_SN: each seed's predictions, of the labels' kind.
        subsets_N: the subset of each example, where each is scored by itself and the score is their mean; they are
            resampled by themselves.
    """
    predictions_RN = np.concatenate([first_SN, second_SN])
    subsets = [np.arange(len(labels_N))]
    if subsets_N is not None:
        subsets = [np.flatnonzero(subsets_N == name) for name in np.unique(subsets_N)]
    rng = np.random.default_rng(SEED)
    differences_B, difference = np.zeros(num_resamples), 0.0
    for rows in subsets:
        labels, predictions = labels_N[rows], predictions_RN[:, rows]
        size = max(1, CHUNK // len(rows))
        for start in range(0, num_resamples, size):
            chunk = slice(start, min(start + size, num_resamples))
            scores_BR = WEIGHTED[metric](labels, predictions, _weights(rng, chunk.stop - chunk.start, len(rows)))
            differences_B[chunk] += _difference(scores_BR, len(first_SN)) / len(subsets)
        whole = WEIGHTED[metric](labels, predictions, np.ones((1, len(rows))))
        difference += float(_difference(whole, len(first_SN))[0]) / len(subsets)
    low, high = np.quantile(differences_B, [ALPHA / 2, 1 - ALPHA / 2])
    below, above = (int(np.sum(side)) for side in (differences_B <= ROUNDING, differences_B >= -ROUNDING))
    return Bootstrap(
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (min(below, above) + 1) / (num_resamples + 1)),
        num_examples=len(labels_N),
        num_resamples=num_resamples,
    )


def _weights(rng: np.random.Generator, num_resamples: int, num_examples: int) -> np.ndarray:
    """(B, N) how often each example is in each resample; the sum of each is N."""
    drawn_BN = rng.integers(num_examples, size=(num_resamples, num_examples))
    drawn_BN += np.arange(num_resamples)[:, None] * num_examples
    counts = np.bincount(drawn_BN.ravel(), minlength=drawn_BN.size)
    return counts.reshape(num_resamples, num_examples).astype(np.float64)


def _difference(scores_BR: np.ndarray, num_first: int) -> np.ndarray:
    """(B,) mean over seeds of first - second."""
    return scores_BR[:, :num_first].mean(axis=1) - scores_BR[:, num_first:].mean(axis=1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient; 0 where the denominator is 0, as the metrics have it."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _accuracy(labels_N: np.ndarray, predictions_RN: np.ndarray, weights_BN: np.ndarray) -> np.ndarray:
    return weights_BN @ (predictions_RN == labels_N).T / len(labels_N)


def _f1(labels_N: np.ndarray, predictions_RN: np.ndarray, weights_BN: np.ndarray) -> np.ndarray:
    found_RN, true_N = predictions_RN == 1, labels_N == 1
    hits_BR = weights_BN @ (found_RN & true_N).T
    return _ratio(2 * hits_BR, weights_BN @ found_RN.T + (weights_BN @ true_N)[:, None])


def _matthews(labels_N: np.ndarray, predictions_RN: np.ndarray, weights_BN: np.ndarray) -> np.ndarray:
    """Of any number of classes (Gorodkin 2004, Comput. Biol. Chem. 28): a correlation of class indicators."""
    size = float(len(labels_N))
    together_BR = size * (weights_BN @ (predictions_RN == labels_N).T)
    found_BR, true_BR = np.full_like(together_BR, size**2), np.full_like(together_BR, size**2)
    for label in np.union1d(labels_N, predictions_RN):
        of_found_BR = weights_BN @ (predictions_RN == label).T
        of_true_B1 = (weights_BN @ (labels_N == label))[:, None]
        together_BR -= of_found_BR * of_true_B1
        found_BR -= of_found_BR**2
        true_BR -= of_true_B1**2
    return _ratio(together_BR, np.sqrt(found_BR * true_BR))


def _pearson(labels_N: np.ndarray, predictions_RN: np.ndarray, weights_BN: np.ndarray) -> np.ndarray:
    labels_N, predictions_RN = _centred(labels_N), _centred(predictions_RN)
    size = len(labels_N)
    true_B1, true_squares_B1 = ((weights_BN @ values_N / size)[:, None] for values_N in (labels_N, labels_N**2))
    found_BR, found_squares_BR = (weights_BN @ values_RN.T / size for values_RN in (predictions_RN, predictions_RN**2))
    together_BR = weights_BN @ (labels_N * predictions_RN).T / size - true_B1 * found_BR
    return _ratio(together_BR, np.sqrt(_variance(true_squares_B1, true_B1) * _variance(found_squares_BR, found_BR)))


def _centred(values: np.ndarray) -> np.ndarray:
    """Moved so that the mean over the last axis is 0: sums of squares lose no digits then."""
    return values - values.mean(axis=-1, keepdims=True)


def _variance(mean_square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    variance = mean_square - mean**2
    return np.where(variance > FLAT * mean_square, variance, 0.0)


def _spearman(labels_N: np.ndarray, predictions_RN: np.ndarray, weights_BN: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the ranks within each resample, equal values sharing their mean rank."""
    true_codes_N = _codes(labels_N)
    found_codes_RN = [_codes(values_N) for values_N in predictions_RN]
    scores_BR = np.zeros((len(weights_BN), len(predictions_RN)))
    for scores_R, weights_N in zip(scores_BR, weights_BN, strict=True):
        true_N = _ranks(true_codes_N, weights_N)
        weighted_N = weights_N * true_N
        true_square = weighted_N @ true_N
        for run, codes_N in enumerate(found_codes_RN):
            found_N = _ranks(codes_N, weights_N)
            spread = true_square * ((weights_N * found_N) @ found_N)
            scores_R[run] = weighted_N @ found_N / np.sqrt(spread) if spread > 0 else 0.0
    return scores_BR


def _codes(values_N: np.ndarray) -> np.ndarray:
    """(N,) the place of each value among the different ones, from the smallest up."""
    return np.unique(values_N, return_inverse=True)[1]


def _ranks(codes_N: np.ndarray, weights_N: np.ndarray) -> np.ndarray:
    """(N,) each value's mean rank in the resample, less the mean of all ranks."""
    sizes = np.bincount(codes_N, weights_N)
    return (np.cumsum(sizes) - (sizes + weights_N.sum()) / 2)[codes_N]


# Metric -> (labels (N,), predictions (R, N), weights (B, N)) -> scores (B, R); with all weights 1 the same as in
# trainer.metrics.
WEIGHTED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "spearman": _spearman,
    "pearson": _pearson,
}
