"""How far a little noise on all parameters moves a model's output, as the L2 norm of the change.

arxiv.org/abs/2103.07162 (the later version), figures 12 and 13.

Shape suffixes: E examples, H hidden units.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def changes(clean_EH: np.ndarray, noisy_EH: np.ndarray) -> np.ndarray:
    """(E,) the L2 norm of each example's change, in float64."""
    return np.linalg.norm(noisy_EH.astype(np.float64) - clean_EH, axis=1)


def batch_means(changes_E: np.ndarray, batch_size: int) -> np.ndarray:
    """(number of batches,) the mean of each batch of examples in order; the last may have fewer."""
    return np.array([changes_E[start : start + batch_size].mean() for start in range(0, len(changes_E), batch_size)])


def summary(values: Sequence[np.ndarray], noise_stds: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (None for a single value) over all draws and batches of each noise.

    Args:
        values: for each standard deviation of the noise, (draws, batches).
        noise_stds: the standard deviations, in the same order.

    Raises:
        ValueError: where there are not as many of the one as of the other.
    """
    if len(values) != len(noise_stds):
        raise ValueError(f"{len(values)} sets of values for {len(noise_stds)} standard deviations of the noise")
    return {
        "noise_stds": [float(std) for std in noise_stds],
        "mean": [float(drawn.mean()) for drawn in values],
        "std": [float(drawn.std(ddof=1)) if drawn.size > 1 else None for drawn in values],
        "num_values": [drawn.size for drawn in values],
    }
