"""How far a model keeps lengths: the singular values of its Jacobian, all 1 where it is an isometry.

The Jacobian is that of the last layer's first token with respect to the input word embeddings: arxiv.org/abs/2103.07162
(the later version), figure 10.

Shape suffixes: E examples, O outputs, I inputs.
"""

from typing import Any

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

EDGES_LOG10 = np.linspace(-8, 4, 241).round(2)  # 20 bins a decade
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def singular_values(jacobian_OI: np.ndarray) -> np.ndarray:
    """(min(O, I),) the singular values of one example's Jacobian, falling, in float64.

    The Jacobian is first brought to a triangle with the same singular values, of O x O where it is wide.

    Raises:
        ValueError: where an entry is nan or infinite.
    """
    jacobian_OI = np.array(jacobian_OI, dtype=np.float64, order="C")
    with threadpool_limits(1):  # on a busy machine several are slower than one
        _, triangle_OO = scipy.linalg.qr(jacobian_OI.T, mode="raw", overwrite_a=True)
        return scipy.linalg.svdvals(triangle_OO)


def summary(values_EO: np.ndarray) -> dict[str, Any]:
    """A histogram of the singular values of all examples on a log10 axis, and their quantiles.

    Zeros are counted apart and play no other part. They are the values up to O * eps of float32 * the largest one of
    the same example, which are nothing but the rounding of a float32 pass. After a last LayerNorm there are two in each
    example, as it fixes the mean of its output and, but for its epsilon, the variance.

    Returns:
        ``edges_log10`` and ``counts`` of the bins from the first to the last that is not empty (what lies beyond 1e-8
        and 1e4 is in the outermost), ``num_values`` with zeros, ``num_zero``, ``quantiles``, ``mean_log10``, and
        ``std_log10`` (sample standard deviation; None for a single value).

    Raises:
        ValueError: where all values are zero.
    """
    rounding = values_EO.shape[1] * np.finfo(np.float32).eps
    values = values_EO[values_EO > rounding * values_EO.max(axis=1, keepdims=True)]
    if not len(values):
        raise ValueError("all singular values are zero: the output does not depend on the input")
    logs = np.log10(values)
    counts, _ = np.histogram(logs.clip(EDGES_LOG10[0], EDGES_LOG10[-1]), EDGES_LOG10)
    first, last = np.flatnonzero(counts)[[0, -1]]
    return {
        "edges_log10": EDGES_LOG10[first : last + 2].tolist(),
        "counts": counts[first : last + 1].tolist(),
        "num_values": values_EO.size,
        "num_zero": values_EO.size - len(values),
        "quantiles": {str(share): float(np.quantile(values, share)) for share in QUANTILES},
        "mean_log10": float(logs.mean()),
        "std_log10": float(logs.std(ddof=1)) if len(logs) > 1 else None,
        "num_examples": len(values_EO),
    }
