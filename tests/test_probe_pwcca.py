"""Tests of projection-weighted CCA and linear CKA, held against the formulas of the papers, written out over tokens."""

from collections.abc import Callable

import numpy as np
import pytest

from trainer.probes.pwcca import Basis, Similarity, basis, compare, correlations, noise_floor

SIZES = [(400, 5, 8), (400, 8, 5), (400, 6, 6), (20, 30, 12), (20, 12, 30), (20, 30, 25)]  # N, D of both sides
EXACT = 1e-10


def related(num_tokens: int, first_width: int, second_width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two sides that share some of what they say, each with neurons of unlike variance and a mean of its own."""
    rng = np.random.default_rng(seed)
    shared_N3 = rng.standard_normal((num_tokens, 3))

    def side(width: int) -> np.ndarray:
        own_ND = rng.standard_normal((num_tokens, width)) @ rng.standard_normal((width, width))
        return own_ND + 2 * shared_N3 @ rng.standard_normal((3, width)) + rng.normal(0, 5, width)

    return side(first_width), side(second_width)


def inverse_root(covariance_DD: np.ndarray) -> np.ndarray:
    """The inverse square root on the directions that the covariance has."""
    values_D, vectors_DD = np.linalg.eigh(covariance_DD)
    kept = values_D > 1e-10 * values_D.max()
    return (vectors_DD[:, kept] / np.sqrt(values_D[kept])) @ vectors_DD[:, kept].T


def textbook(first_ND: np.ndarray, second_ND: np.ndarray, ridge: float = 0.0) -> tuple[np.ndarray, float]:
    """Canonical correlations and PWCCA of Morcos et al., section 2: covariances, their inverse roots, vectors of N."""
    x_ND, y_ND = first_ND - first_ND.mean(axis=0), second_ND - second_ND.mean(axis=0)
    xx, xy, yy = (a.T @ b / (len(x_ND) - 1) for a, b in [(x_ND, x_ND), (x_ND, y_ND), (y_ND, y_ND)])
    xx_root = inverse_root(xx + ridge * np.abs(xx).max() * np.eye(len(xx)))
    yy_root = inverse_root(yy + ridge * np.abs(yy).max() * np.eye(len(yy)))
    left_DC, correlations_C, _ = np.linalg.svd(xx_root @ xy @ yy_root, full_matrices=False)
    num = min(np.linalg.matrix_rank(x_ND), np.linalg.matrix_rank(y_ND))
    variables_NC = x_ND @ xx_root @ left_DC[:, :num]
    weights_C = [sum(abs(variable_N @ neuron_N) for neuron_N in x_ND.T) for variable_N in variables_NC.T]
    return correlations_C[:num], np.average(correlations_C[:num], weights=weights_C)


def of_states(
    of: Callable[..., Similarity], first_ND: np.ndarray, second_ND: np.ndarray, **settings: float
) -> Similarity:
    return of(basis(first_ND), basis(second_ND), **settings)


@pytest.mark.parametrize("ridge", [0.0, 1e-4, 1.5e-3])
@pytest.mark.parametrize("sizes", SIZES)
def test_pwcca_is_the_textbooks(sizes: tuple[int, int, int], ridge: float) -> None:
    first_ND, second_ND = related(*sizes)
    expected, of_first = textbook(first_ND, second_ND, ridge)
    _, of_second = textbook(second_ND, first_ND, ridge)
    result = of_states(compare, first_ND, second_ND, ridge=ridge)
    np.testing.assert_allclose(correlations(basis(first_ND), basis(second_ND), ridge=ridge), expected, atol=EXACT)
    assert (result.pwcca, result.pwcca_of_second) == pytest.approx((of_first, of_second), abs=EXACT)


def test_each_side_weighs_by_its_own_neurons() -> None:
    """They share one neuron, which is 10 times as strong as the other on one side, and a tenth of it on the other."""
    centred_N3 = np.random.default_rng(0).standard_normal((100, 3))
    shared_N1, own_N1, others_N1 = np.split(np.linalg.qr(centred_N3 - centred_N3.mean(axis=0))[0], 3, axis=1)
    result = of_states(compare, np.hstack([10 * shared_N1, own_N1]), np.hstack([shared_N1, 10 * others_N1]))
    assert (result.pwcca, result.pwcca_of_second) == pytest.approx((10 / 11, 1 / 11))


@pytest.mark.parametrize("sizes", SIZES)
def test_cka_is_that_of_the_tokens_gram_matrices(sizes: tuple[int, int, int]) -> None:
    first_ND, second_ND = related(*sizes)
    num_tokens = len(first_ND)
    centring_NN = np.eye(num_tokens) - 1 / num_tokens

    def hsic(gram_NN: np.ndarray, other_NN: np.ndarray) -> float:  # Kornblith et al., equation 3
        return np.trace(gram_NN @ centring_NN @ other_NN @ centring_NN) / (num_tokens - 1) ** 2

    k_NN, l_NN = first_ND @ first_ND.T, second_ND @ second_ND.T
    expected = hsic(k_NN, l_NN) / np.sqrt(hsic(k_NN, k_NN) * hsic(l_NN, l_NN))
    for ridge in (0.0, 1e-2):
        assert of_states(compare, first_ND, second_ND, ridge=ridge).cka == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
@pytest.mark.parametrize(("num_tokens", "width"), [(500, 16), (30, 64)])
def test_states_are_like_themselves_whatever_invertible_map_they_went_through(
    num_tokens: int, width: int, condition: float
) -> None:
    states_ND, _ = related(num_tokens, width, 1)
    rng = np.random.default_rng(1)
    turn_DD, back_DD = (np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2))
    mapped_ND = states_ND @ (turn_DD * np.geomspace(1, condition, width)) @ back_DD + rng.normal(0, 10, width)
    result = of_states(compare, states_ND, mapped_ND)
    assert (result.pwcca, result.pwcca_of_second) == pytest.approx((1, 1), abs=EXACT)
    assert result.pwcca <= 1
    assert of_states(compare, states_ND, states_ND).cka == pytest.approx(1, abs=EXACT)
    if condition == 1:
        assert result.cka == pytest.approx(1, abs=EXACT), "CKA knows no rotation"
    elif num_tokens > width:
        assert result.cka < 0.9, "CKA knows other maps"


def test_where_a_sides_states_lie_does_not_matter() -> None:
    first_ND, second_ND = related(400, 5, 8)
    moved = of_states(compare, first_ND + np.arange(5) * 100, second_ND - 1000)
    here = of_states(compare, first_ND, second_ND)
    assert (moved.pwcca, moved.pwcca_of_second) == pytest.approx((here.pwcca, here.pwcca_of_second), abs=EXACT)
    assert moved.cka == pytest.approx(here.cka, abs=EXACT)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_sides_may_change_places(sizes: tuple[int, int, int]) -> None:
    first_ND, second_ND = related(*sizes)
    result = of_states(compare, first_ND, second_ND, ridge=1e-3)
    turned = of_states(compare, second_ND, first_ND, ridge=1e-3)
    assert (result.pwcca, result.pwcca_of_second) == pytest.approx((turned.pwcca_of_second, turned.pwcca), abs=EXACT)
    assert result.cka == pytest.approx(turned.cka, abs=EXACT)


def test_correlations_of_independent_states_are_those_of_random_subspaces() -> None:
    num_tokens, width = 5000, 64
    first_ND, second_ND = np.random.default_rng(0).standard_normal((2, num_tokens, width))
    found = correlations(basis(first_ND), basis(second_ND))
    share = width / (num_tokens - 1)
    assert np.mean(found**2) == pytest.approx(share, rel=0.05)
    assert np.mean(found) == pytest.approx(
        8 / (3 * np.pi) * np.sqrt(share), rel=0.03
    )  # a quarter circle, if it is small
    assert found[0] == pytest.approx(2 * np.sqrt(share * (1 - share)), rel=0.05)  # the edge of Wachter's law
    assert np.all(np.diff(found) <= 0)


def test_the_noise_floor_is_what_independent_states_of_the_same_sizes_give() -> None:
    first_ND, second_ND = related(5000, 64, 48)
    _, independent_ND = related(5000, 64, 48, seed=1)
    like = of_states(compare, first_ND, second_ND)
    floor = of_states(noise_floor, first_ND, second_ND)
    unlike = of_states(compare, first_ND, independent_ND)
    assert floor.pwcca == pytest.approx(unlike.pwcca, rel=0.05)
    assert floor.pwcca_of_second == pytest.approx(unlike.pwcca_of_second, rel=0.05)
    assert floor.pwcca < 0.15 < like.pwcca
    assert floor.cka < 0.05 < like.cka


def test_the_noise_floor_is_drawn_by_a_seed() -> None:
    sides = related(100, 5, 8)
    assert of_states(noise_floor, *sides, seed=1) == of_states(noise_floor, *sides, seed=1)
    assert of_states(noise_floor, *sides, seed=1) != of_states(noise_floor, *sides, seed=2)


@pytest.mark.parametrize("offset", [0, 100, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_that_say_nothing_new_are_no_dimensions(dtype: type, offset: int) -> None:
    both_ND: np.ndarray = np.hstack(related(2000, 6, 9)).astype(dtype)
    first_ND, second_ND = both_ND[:, :6], both_ND[:, 6:]
    sums_N2 = (
        first_ND[:, :2] + first_ND[:, 2:4] * dtype(3) - dtype(offset)
    )  # rounded to dtype, the further from zero the more
    constant_N2: np.ndarray = np.full((len(first_ND), 2), [1e3 / 3, 0.1], dtype=dtype)
    more_ND = np.hstack([first_ND, first_ND[:, :3], sums_N2, constant_N2])
    plain, more, second = basis(first_ND), basis(more_ND), basis(second_ND)
    assert (plain.num_dimensions, len(plain.values_K)) == (6, 6)
    assert (more.num_dimensions, len(more.values_K)) == (13, 6)
    tolerance = EXACT if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(correlations(more, second), correlations(plain, second), atol=tolerance)
    assert compare(more, second).pwcca_of_second == pytest.approx(compare(plain, second).pwcca_of_second, abs=tolerance)


def test_constant_columns_change_nothing_at_all() -> None:
    first_ND, second_ND = related(2000, 6, 9)
    widened_ND = np.hstack([first_ND, np.full((len(first_ND), 1), 1 / 3)])
    plain, widened = (of_states(compare, side_ND, second_ND) for side_ND in (first_ND, widened_ND))
    assert (plain.pwcca, plain.cka) == pytest.approx((widened.pwcca, widened.cka), abs=EXACT)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 12345.678])
@pytest.mark.parametrize("width", [1, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_that_are_all_the_same_are_like_nothing(dtype: type, width: int, value: float) -> None:
    constant = basis(np.full((1000, width), value, dtype=dtype))
    other = basis(related(1000, 5, 5)[0])
    assert len(constant.values_K) == 0
    for result in (compare(constant, other), compare(other, constant, ridge=1e-3), noise_floor(constant, constant)):
        assert np.isnan([result.pwcca, result.pwcca_of_second, result.cka]).all()


@pytest.mark.parametrize("sizes", [(400, 8), (8, 400), (12, 12)])
def test_a_basis_is_the_centred_states(sizes: tuple[int, int]) -> None:
    states_ND, _ = related(*sizes, 1)
    before_ND = states_ND.copy()
    found: Basis = basis(states_ND)
    np.testing.assert_allclose(
        (found.left_NK * found.values_K) @ found.right_KD, states_ND - states_ND.mean(axis=0), atol=1e-11
    )
    for orthonormal in (found.left_NK.T @ found.left_NK, found.right_KD @ found.right_KD.T):
        np.testing.assert_allclose(orthonormal, np.eye(min(sizes[0] - 1, sizes[1])), atol=1e-12)
    np.testing.assert_array_equal(states_ND, before_ND)


def test_whole_numbers_are_states_too() -> None:
    counts_ND = np.random.default_rng(0).integers(0, 9, (200, 4))
    assert of_states(compare, counts_ND, counts_ND.astype(np.float64)).pwcca == pytest.approx(1, abs=EXACT)


def test_states_that_are_no_numbers_and_tokens_that_do_not_match_are_refused() -> None:
    first_ND, second_ND = related(50, 4, 4)
    with pytest.raises(ValueError, match="size"):
        of_states(compare, first_ND, second_ND[:-1])
    first_ND[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        basis(first_ND)
