"""How differently two models attend: heads matched layer by layer, on one example at a time.

Which head is which means nothing across models, so the heads of a layer are matched one to one such that the L1
distances of their attention maps sum to the least (the Hungarian algorithm), and the mean distance of the matched heads
is what counts: arxiv.org/abs/2103.07162 (the later version), figure 5.

Shape suffixes: E examples, L layers, H heads, Q queries, K keys.
"""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def distances(first_HQK: np.ndarray, second_HQK: np.ndarray) -> np.ndarray:
    """(heads of the first, heads of the second) the L1 distance of every two maps, summed over queries and keys.

    Raises:
        ValueError: where the maps of the two models differ in size.
    """
    if first_HQK.shape[1:] != second_HQK.shape[1:]:
        raise ValueError(f"attention maps of {first_HQK.shape[1:]} and {second_HQK.shape[1:]} cannot be compared")
    return cdist(first_HQK.reshape(len(first_HQK), -1), second_HQK.reshape(len(second_HQK), -1), "cityblock")


def matched(cost_HH: np.ndarray) -> float:
    """The mean cost of the heads matched at the least cost."""
    return float(cost_HH[linear_sum_assignment(cost_HH)].mean())


def matched_distances(first_LHQK: np.ndarray, second_LHQK: np.ndarray) -> np.ndarray:
    """(L,) each layer's mean distance of matched heads on one example, per query token.

    That is from 0 to 2 where a query's attention sums to 1, whatever the length of the example. Leave padding out.

    Raises:
        ValueError: where the numbers of layers, or the sizes of the maps, differ.
    """
    layers = zip(first_LHQK, second_LHQK, strict=True)
    return np.array([matched(distances(*maps)) / maps[0].shape[1] for maps in layers])


def summary(distances_EL: np.ndarray) -> dict[str, Any]:
    """Mean and sample standard deviation of each layer over examples; None for that of a single example."""
    num_examples, num_layers = distances_EL.shape
    return {
        "mean": distances_EL.mean(axis=0).tolist(),
        "std": distances_EL.std(axis=0, ddof=1).tolist() if num_examples > 1 else [None] * num_layers,
        "num_examples": num_examples,
    }
