"""How predictions are scored, by name. Higher is better for every metric.

Each takes labels (N,) and class probabilities (N, C) and returns a number.
"""

from collections.abc import Callable

import numpy as np


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of examples whose most probable class is the label, from 0 to 1."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
}
