"""How predictions are scored, by name. Higher is better for every metric.

Each takes labels (N,) and predictions: class probabilities (N, C), or (N,) where a number is predicted.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from trainer.tasks.task import Split

HAIR = 1e-6  # of a vote


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of examples whose most probable class is the label, from 0 to 1."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """F1 of class 1, the harmonic mean of its precision and recall, from 0 to 1; 0 where it is never found."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, probabilities.argmax(axis=1), zero_division=0))


def matthews(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Matthews correlation of predicted and true classes, from -1 to 1; 0 where only one class is predicted."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class; its score is 0
        return float(matthews_corrcoef(labels, probabilities.argmax(axis=1)))


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman's rank correlation, from -1 to 1; 0 where all predictions, or all labels, are the same."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predictions)


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson's correlation, from -1 to 1; 0 where all predictions, or all labels, are the same."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predictions)


def _correlation(of: Callable[..., tuple[float, float]], labels: np.ndarray, predictions: np.ndarray) -> float:
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nearly constant predictions, early in training
        return float(of(labels, predictions)[0])


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "spearman": spearman,
    "pearson": pearson,
}


def score(metrics: Sequence[str], split: Split, predictions: np.ndarray) -> dict[str, float]:
    """The metrics of a split's predictions, name -> value, in the order given.

    Where examples are segments of pieces, the pieces are scored (:func:`vote`) and ``segment_accuracy`` stands beside
    it. Where the split has subsets, each metric is the mean of theirs, which follow as ``<metric>_<subset>``.
    """
    if split.pieces is not None:
        labels, votes = vote(split.labels, predictions, split.pieces)
        pieces = {name: METRICS[name](labels, votes) for name in metrics}
        return {**pieces, "segment_accuracy": accuracy(split.labels, predictions)}
    if split.subsets:
        parts = {
            (name, subset): METRICS[name](split.labels[rows], predictions[rows])
            for name in metrics
            for subset, rows in split.subsets.items()
        }
        means = {name: float(np.mean([parts[name, subset] for subset in split.subsets])) for name in metrics}
        return {**means, **{f"{name}_{subset}": value for (name, subset), value in parts.items()}}
    return {name: METRICS[name](split.labels, predictions) for name in metrics}


def headline(scores: dict[str, float]) -> float:
    """The task's score: the first of a split's metrics."""
    return next(iter(scores.values()))


def named(split: str, scores: dict[str, float]) -> dict[str, float]:
    """Metrics under the names by which they are logged, with the headline one as the split's score."""
    return {f"{split}/score": headline(scores), **{f"{split}/{name}": value for name, value in scores.items()}}


def vote(labels: np.ndarray, probabilities: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces' labels (P,) and each class's share of a piece's segments (P, C), in the order of the pieces' numbers.

    Every segment has one vote, for its most probable class (arXiv 2103.07162, music composer classification). A tie
    goes to the class with the higher mean probability over the piece's segments, and after that to the first in order:
    for this, a hair of that probability, too little to outweigh a vote, is added to the shares.

    Args:
        labels: (N,) class indices of the segments.
        probabilities: (N, C).
        pieces: (N,) the number of each segment's piece.
    """
    _, first, piece_N, num_segments = np.unique(pieces, return_index=True, return_inverse=True, return_counts=True)
    votes = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(votes, (piece_N, probabilities.argmax(axis=1)), 1.0)
    means = np.zeros_like(votes)
    np.add.at(means, piece_N, probabilities)
    means /= num_segments[:, None]
    return labels[first], (votes + HAIR * means) / (num_segments + HAIR)[:, None]
