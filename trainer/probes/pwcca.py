"""How alike the states of two layers are: projection-weighted CCA, and linear CKA beside it.

PWCCA is written from section 2 of Morcos, Raghu & Bengio 2018, arxiv.org/abs/1806.05759; CKA from section 3 of
Kornblith et al. 2019, arxiv.org/abs/1905.00414. Each layer is decomposed once (:func:`basis`); every pair of layers
then costs one product (K, N) @ (N, K), and the rest is work on K x K matrices.

Shape suffixes: N tokens, D dimensions, K dimensions that are kept, C = min(K of both sides) canonical correlations.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits


@dataclass(frozen=True, kw_only=True)
class Basis:
    """One layer's centred states, left_NK * values_K @ right_KD, without the directions in which they do not vary.

    Attributes:
        left_NK: orthonormal columns, float64.
        values_K: singular values, falling, all above 0.
        right_KD: orthonormal rows.
    """

    left_NK: np.ndarray
    values_K: np.ndarray
    right_KD: np.ndarray

    @property
    def num_dimensions(self) -> int:
        """D, the width of the layer, kept or not."""
        return self.right_KD.shape[1]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """From 0 to 1; nan where one side's states are all the same.

    Attributes:
        pwcca: weighted by the first side's neurons, as in the paper.
        pwcca_of_second: weighted by the second side's.
        cka: linear CKA, of the states as they are, whatever the ridge.
    """

    pwcca: float
    pwcca_of_second: float
    cka: float


class _Canonical(NamedTuple):
    """What comparing two bases needs: the SVD left_KC * correlations_C @ right_CK of the shrunk overlap."""

    overlap_KK: np.ndarray
    left_KC: np.ndarray
    correlations_C: np.ndarray
    right_CK: np.ndarray


def basis(states_ND: np.ndarray) -> Basis:
    """Decomposes one layer's states, centred with their own mean, in float64.

    Dropped are the directions whose singular value is no more than D * eps * the largest one of the states before
    centring, with eps that of the states' own dtype (float64's for what is no float): the rounding of numbers that are
    all far from zero is as large as they are, and CCA would take it for a direction as good as any. The largest
    singular value is taken from its upper bound, the root of the centred one squared plus N * |mean|^2.

    Raises:
        ValueError: where a state is nan or infinite.
    """
    num_tokens, num_dimensions = states_ND.shape
    centred_ND = states_ND.astype(np.float64, order="F")  # as LAPACK wants it
    mean_D = centred_ND.mean(axis=0)
    centred_ND -= mean_D
    centred_ND -= centred_ND.mean(axis=0)  # the rounding of the mean itself, which would be a direction of its own
    # The threads of a decomposition wait for each other so often that on a busy machine several are slower than one.
    with threadpool_limits(1):
        orthonormal_ND, triangle_DD = scipy.linalg.qr(centred_ND, mode="economic", overwrite_a=True)
        rotation_DD, values_D, right_DD = scipy.linalg.svd(triangle_DD, full_matrices=False)
    left_ND = orthonormal_ND @ rotation_DD
    dtype = states_ND.dtype if np.issubdtype(states_ND.dtype, np.floating) else np.float64
    largest = np.hypot(values_D.max(initial=0.0), np.sqrt(num_tokens) * np.linalg.norm(mean_D))
    kept = np.count_nonzero(values_D > num_dimensions * np.finfo(dtype).eps * largest)
    return Basis(left_NK=left_ND[:, :kept], values_K=values_D[:kept], right_KD=right_DD[:kept])


def correlations(first: Basis, second: Basis, *, ridge: float = 0.0) -> np.ndarray:
    """(C,) the canonical correlations, falling, from 0 to 1; for the ridge see :func:`compare`."""
    return _canonical(first, second, ridge).correlations_C


def compare(first: Basis, second: Basis, *, ridge: float = 0.0) -> Similarity:
    """PWCCA and CKA of two layers' states on the same tokens.

    Args:
        ridge: added to the diagonal of each side's covariance matrix before it is inverted, as a multiple of that
            matrix's largest absolute entry, as the epsilon of the published SVCCA code is
            (github.com/google/svcca). Canonical variables are then a little shorter than 1.

    Raises:
        ValueError: where the two sides have different numbers of tokens.
    """
    overlap_KK, left_KC, correlations_C, right_CK = _canonical(first, second, ridge)
    if not len(correlations_C):
        return Similarity(pwcca=np.nan, pwcca_of_second=np.nan, cka=np.nan)
    # Of X'Y = V1 s1 (U1'U2) s2 V2', and of X'X and Y'Y alike, rotations leave the Frobenius norm as it is.
    shared = np.sum((first.values_K[:, None] * overlap_KK * second.values_K) ** 2)
    own = np.linalg.norm(first.values_K**2) * np.linalg.norm(second.values_K**2)
    return Similarity(
        pwcca=_weighted(correlations_C, first, left_KC, ridge),
        pwcca_of_second=_weighted(correlations_C, second, right_CK.T, ridge),
        cka=float(shared / own),
    )


def noise_floor(first: Basis, second: Basis, *, ridge: float = 0.0, seed: int = 0) -> Similarity:
    """The same after putting the second side's tokens in random order: what is left when nothing is shared."""
    order_N = np.random.default_rng(seed).permutation(len(second.left_NK))
    return compare(first, replace(second, left_NK=second.left_NK[order_N]), ridge=ridge)


def _canonical(first: Basis, second: Basis, ridge: float) -> _Canonical:
    overlap_KK = first.left_NK.T @ second.left_NK
    shrunk_KK = _shrinkage(first, ridge)[:, None] * overlap_KK * _shrinkage(second, ridge)
    with threadpool_limits(1):  # as in basis
        left_KC, correlations_C, right_CK = scipy.linalg.svd(shrunk_KK, full_matrices=False)
    return _Canonical(overlap_KK, left_KC, correlations_C.clip(0.0, 1.0), right_CK)


def _shrinkage(side: Basis, ridge: float) -> np.ndarray:
    """(K,) s / sqrt(s^2 + r): what a ridge leaves of the directions' length, 1 without one.

    The largest absolute entry of a covariance matrix is on its diagonal, the largest variance of a neuron. Here it is
    N - 1 times that, as s^2 is.
    """
    largest = np.max(side.values_K**2 @ side.right_KD**2, initial=0.0)
    return side.values_K / np.sqrt(side.values_K**2 + ridge * largest)


def _weighted(correlations_C: np.ndarray, side: Basis, variables_KC: np.ndarray, ridge: float) -> float:
    """The mean correlation, each weighted by how much of the side's neurons its canonical variable h accounts for.

    The weight is the sum over neurons x of |<h, x>|. Of h = U d w and x = U s v' the tokens cancel, as U'U = 1.
    """
    projections_CD = (variables_KC.T * (_shrinkage(side, ridge) * side.values_K)) @ side.right_KD
    return float(np.average(correlations_C, weights=np.abs(projections_CD).sum(axis=1)))
