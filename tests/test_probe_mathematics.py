"""Tests of what the probes compute from arrays: attention maps, Jacobians, gradients, changes of outputs."""

import itertools
import json
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from trainer.probes import attention, gradients, isometry, perturbation

MODULES = ("pwcca", "attention", "isometry", "gradients", "perturbation")


def test_the_mathematics_needs_no_model() -> None:
    imports = ", ".join(f"trainer.probes.{name}" for name in MODULES)
    code = f"import sys, {imports}; print(*{{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def recordable(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary as it is read back from JSON, which knows no numpy, nan or infinity."""
    return json.loads(json.dumps(summary, allow_nan=False))


# Attention


def maps(seed: int, num_heads: int = 4, num_tokens: int = 7, num_layers: int = 3) -> np.ndarray:
    """(L, H, Q, K) attention maps in float32, whose rows sum to 1."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(num_tokens), (num_layers, num_heads, num_tokens)).astype(np.float32)


def test_heads_in_another_order_are_the_same_heads() -> None:
    first_LHQK = maps(0)
    np.testing.assert_array_equal(attention.matched_distances(first_LHQK, first_LHQK[:, [2, 0, 3, 1]]), np.zeros(3))


def test_distances_are_the_sums_of_absolute_differences() -> None:
    first_HQK, second_HQK = maps(0)[0], maps(1, num_heads=5)[0]
    expected = [[np.abs(one.astype(float) - other).sum() for other in second_HQK] for one in first_HQK]
    cost_HH = attention.distances(first_HQK, second_HQK)
    assert cost_HH.dtype == np.float64
    np.testing.assert_allclose(cost_HH, expected, rtol=1e-12)


@pytest.mark.parametrize("num_tokens", [1, 7, 40])
def test_no_other_matching_of_heads_is_nearer(num_tokens: int) -> None:
    first_LHQK, second_LHQK = maps(0, num_tokens=num_tokens), maps(1, num_tokens=num_tokens)
    nearest = [
        min(
            np.mean([np.abs(first[i].astype(float) - second[j]).sum() / num_tokens for i, j in enumerate(order)])
            for order in itertools.permutations(range(4))
        )
        for first, second in zip(first_LHQK, second_LHQK, strict=True)
    ]
    np.testing.assert_allclose(attention.matched_distances(first_LHQK, second_LHQK), nearest, rtol=1e-12)


def test_the_cost_is_that_of_the_example_whose_heads_were_matched() -> None:
    straight, crossed = np.array([[0.0, 3.0], [3.0, 1.0]]), np.array([[9.0, 1.0], [2.0, 9.0]])
    assert attention.matched(straight) == 0.5  # with the other's matching it would be 3
    assert attention.matched(crossed) == 1.5  # and 9


def test_each_example_has_its_own_matching() -> None:
    """Heads whose order differs from example to example: any matching but an example's own leaves a distance."""
    examples = [(maps(seed), maps(seed)[:, order]) for seed, order in enumerate([[0, 1, 2, 3], [3, 2, 1, 0]])]
    for first_LHQK, second_LHQK in examples:
        assert attention.matched_distances(first_LHQK, second_LHQK).sum() == 0
    mixed_up = np.diagonal(attention.distances(examples[1][0][0], examples[1][1][0]))  # by the first one's matching
    assert mixed_up.mean() > 1


@pytest.mark.parametrize("num_tokens", [2, 50])
def test_a_distance_is_from_0_to_2_whatever_the_length(num_tokens: int) -> None:
    first_HQK, second_HQK = np.zeros((2, 3, num_tokens, num_tokens))
    first_HQK[:, :, 0], second_HQK[:, :, -1] = 1, 1
    np.testing.assert_allclose(attention.matched_distances(first_HQK[None], second_HQK[None]), [2])


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(7, 7\) and \(8, 8\)"):
        attention.matched_distances(maps(0, num_tokens=7), maps(0, num_tokens=8))
    with pytest.raises(ValueError, match="zip"):
        attention.matched_distances(maps(0), maps(0, num_layers=2))


def test_attention_is_summed_up_layer_by_layer() -> None:
    summary = recordable(attention.summary(np.array([[0.5, 1.0], [1.5, 1.0], [1.0, 1.0]])))
    assert summary == {"mean": [1.0, 1.0], "std": [0.5, 0.0], "num_examples": 3}
    assert recordable(attention.summary(np.array([[0.5, 1.0]])))["std"] == [None, None]


# Isometry


def with_spectrum(values: np.ndarray, num_outputs: int, num_inputs: int) -> np.ndarray:
    """A random matrix (O, I) of these singular values."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((size, len(values))))[0] for size in (num_outputs, num_inputs))
    return (left * values) @ right.T


@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(8, 300), (300, 8), (8, 8)])
def test_singular_values_are_the_jacobians(num_outputs: int, num_inputs: int) -> None:
    known = np.geomspace(1e3, 1e-5, 8)
    jacobian_OI = with_spectrum(known, num_outputs, num_inputs)
    before_OI = jacobian_OI.copy()
    found = isometry.singular_values(jacobian_OI)
    np.testing.assert_allclose(found, known, rtol=1e-6)
    np.testing.assert_array_equal(jacobian_OI, before_OI)
    np.testing.assert_allclose(isometry.singular_values(-3 * jacobian_OI), 3 * found, rtol=1e-6)


def test_an_isometrys_singular_values_are_all_one() -> None:
    jacobian_OI = np.linalg.qr(np.random.default_rng(0).standard_normal((500, 20)))[0].T
    values = isometry.singular_values(jacobian_OI)
    np.testing.assert_allclose(values, np.ones(20), rtol=1e-12)
    summary = recordable(isometry.summary(values[None]))
    assert summary["quantiles"] == pytest.approx(dict.fromkeys(["0.05", "0.25", "0.5", "0.75", "0.95"], 1.0))
    assert (summary["mean_log10"], summary["std_log10"]) == pytest.approx((0, 0), abs=1e-12)
    assert (summary["num_values"], summary["num_zero"], summary["num_examples"]) == (20, 0, 1)


def test_float32_jacobians_are_decomposed_in_float64() -> None:
    values = isometry.singular_values(with_spectrum(np.array([1.0, 0.5]), 2, 100).astype(np.float32))
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, [1.0, 0.5], rtol=1e-6)


def test_the_histogram_holds_every_value_in_its_bin() -> None:
    values_EO = 10.0 ** np.array([[0.02, -1.03], [0.03, 0.12]])
    summary = recordable(isometry.summary(values_EO))
    edges, counts = summary["edges_log10"], summary["counts"]
    assert (edges[0], edges[-1], len(edges)) == (-1.05, 0.15, len(counts) + 1)
    np.testing.assert_allclose(np.diff(edges), 0.05)
    filled = {edge: count for edge, count in zip(edges, counts, strict=False) if count}
    assert filled == {-1.05: 1, 0.0: 2, 0.1: 1}


def test_values_off_the_axis_are_in_its_outermost_bins() -> None:
    summary = recordable(isometry.summary(np.array([[1e-12], [1e7]])))
    assert (summary["edges_log10"][0], summary["edges_log10"][-1]) == (-8, 4)
    assert (summary["counts"][0], summary["counts"][-1], sum(summary["counts"])) == (1, 1, 2)
    assert summary["mean_log10"] == pytest.approx(-2.5)


def test_zeros_are_counted_and_play_no_other_part() -> None:
    """Up to rounding, which is that of each example, however large the others are."""
    values_EO = np.array([[1.0, 0.1, 0.0, 1e-8], [1e-3, 1e-4, 1e-11, 0.0]])
    summary, plain = recordable(isometry.summary(values_EO)), recordable(isometry.summary(values_EO[:, :2]))
    assert (summary.pop("num_values"), summary.pop("num_zero")) == (8, 4)
    assert (plain.pop("num_values"), plain.pop("num_zero")) == (4, 0)
    assert summary == plain
    assert summary["quantiles"]["0.5"] == pytest.approx((1e-3 + 0.1) / 2)
    assert (summary["mean_log10"], summary["std_log10"]) == pytest.approx((-2, np.std([0, -1, -3, -4], ddof=1)))


def test_a_jacobian_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="does not depend"):
        isometry.summary(np.zeros((2, 3)))


# Gradients


class Gradients:
    """Batches' gradients, which counts how many were asked for and how many of them live at a time."""

    def __init__(self, num_batches: int) -> None:
        self.rows_BP = np.random.default_rng(0).standard_normal((num_batches, 50))
        self.num_calls, self.num_alive, self.most_alive = 0, 0, 0

    def __call__(self, batch: int) -> np.ndarray:
        gradient_P = self.rows_BP[batch].copy()
        self.num_calls, self.num_alive = self.num_calls + 1, self.num_alive + 1
        self.most_alive = max(self.most_alive, self.num_alive)
        weakref.finalize(gradient_P, self.died)
        return gradient_P

    def died(self) -> None:
        self.num_alive -= 1


@pytest.mark.parametrize(
    ("num_batches", "num_held"), [(batches, held) for batches in (1, 2, 7, 8) for held in range(2, batches + 2)]
)
def test_the_gram_matrix_is_the_same_however_few_gradients_are_held(num_batches: int, num_held: int) -> None:
    gradient = Gradients(num_batches)
    gram_BB = gradients.gram(gradient, num_batches, num_held)
    np.testing.assert_allclose(gram_BB, gradient.rows_BP @ gradient.rows_BP.T, rtol=1e-12)
    np.testing.assert_array_equal(gram_BB, gram_BB.T)
    assert gradient.most_alive <= num_held
    assert gradient.num_calls == gradients.num_calls(num_batches, num_held)
    if num_held >= num_batches:
        assert gradient.num_calls == num_batches, "where all fit, each is computed once"


def test_holding_more_gradients_saves_computing_them() -> None:
    assert [gradients.num_calls(32, num_held) for num_held in (2, 9, 17, 32)] == [527, 80, 48, 32]


def test_one_gradient_makes_no_pair() -> None:
    with pytest.raises(ValueError, match="num_held"):
        gradients.gram(Gradients(3), 3, 1)


def test_products_of_millions_of_float32_numbers_are_exact_to_float32() -> None:
    """Summed in float32 alone, as many products of one sign lose digits, and so do their small differences."""
    rng = np.random.default_rng(0)
    rows_BP = (rng.standard_normal((2, 5_000_001)) + 0.5).astype(np.float32)
    exact = np.einsum("ip,jp->ij", rows_BP, rows_BP, dtype=np.float64)
    found = gradients.gram(lambda batch: rows_BP[batch], 2, 2)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert abs(np.dot(rows_BP[0], rows_BP[1]) / exact[0, 1] - 1) > 2 * np.abs(found / exact - 1).max()


def test_cosines_are_of_all_pairs_once() -> None:
    rows_BP = np.random.default_rng(0).standard_normal((5, 3))
    unit_BP = rows_BP / np.linalg.norm(rows_BP, axis=1, keepdims=True)
    expected = [unit_BP[i] @ unit_BP[j] for i, j in itertools.combinations(range(5), 2)]
    np.testing.assert_allclose(gradients.cosines(rows_BP @ rows_BP.T), expected, rtol=1e-12)


def test_cosines_of_the_same_and_the_opposite_direction_are_1_and_minus_1() -> None:
    rows_BP = np.array([[0.1, 0.7], [0.3, 2.1], [-0.1, -0.7]])
    cosines = gradients.cosines(rows_BP @ rows_BP.T)
    np.testing.assert_allclose(cosines, [1, -1, -1])
    assert np.abs(cosines).max() <= 1


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_gradient_without_direction_is_named(value: float) -> None:
    gram_BB = np.eye(4)
    gram_BB[2, 2] = value
    with pytest.raises(ValueError, match="batch 2"):
        gradients.cosines(gram_BB)


@pytest.mark.parametrize("num_batches", [2, 3, 8, 33])
def test_gradients_are_summed_up(num_batches: int) -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, num_batches * (num_batches - 1) // 2)
    summary = recordable(gradients.summary(cosines))
    assert (summary["num_batches"], summary["num_pairs"]) == (num_batches, len(cosines))
    assert summary["mean"] == pytest.approx(cosines.mean())
    assert summary["std"] == (pytest.approx(cosines.std(ddof=1)) if num_batches > 2 else None)
    assert list(summary["quantiles"]) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]
    assert (summary["quantiles"]["0"], summary["quantiles"]["1"]) == (cosines.min(), cosines.max())
    assert summary["quantiles"]["0.5"] == pytest.approx(np.median(cosines))


# Perturbation


def test_a_change_is_the_length_of_the_difference() -> None:
    clean_EH, noisy_EH = np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[4.0, 5.0], [2.0, 2.0]])
    np.testing.assert_array_equal(perturbation.changes(clean_EH, noisy_EH), [5, 0])


def test_changes_of_float32_outputs_are_taken_in_float64() -> None:
    clean_EH = np.full((1, 4), 1e-30, dtype=np.float32)
    changes = perturbation.changes(clean_EH, -clean_EH)  # whose squares are nothing in float32
    assert changes.dtype == np.float64
    np.testing.assert_allclose(changes, [4e-30], rtol=1e-6)


def test_the_last_batch_may_be_smaller() -> None:
    np.testing.assert_array_equal(perturbation.batch_means(np.array([1.0, 3, 5, 7, 9]), 2), [2, 6, 9])
    np.testing.assert_array_equal(perturbation.batch_means(np.array([1.0, 3, 5, 7]), 2), [2, 6])


def test_changes_are_summed_up_over_draws_and_batches_of_each_noise() -> None:
    values = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[1e-8]])]
    assert recordable(perturbation.summary(values, [1e-2, 1e-8])) == {
        "noise_stds": [1e-2, 1e-8],
        "mean": [3.0, 1e-8],
        "std": [pytest.approx(np.std([1, 2, 3, 6], ddof=1)), None],
        "num_values": [4, 1],
    }
    with pytest.raises(ValueError, match="1 sets of values for 2"):
        perturbation.summary(values[:1], [1e-2, 1e-8])
