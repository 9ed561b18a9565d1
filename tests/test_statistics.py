"""Tests of significance, held against scipy, and the bootstrap, held against scoring every resample by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.bootstrap import SEED, WEIGHTED, bootstrap
from analysis.statistics import apart, better, detectable, holm, level, no_better, paired_test
from trainer.metrics import METRICS

SEEDS = 5
MARGIN = 0.025
COUNTED = ("accuracy", "f1", "matthews")


def by_seed(scores: np.ndarray) -> dict[int, float]:
    return {seed: float(score) for seed, score in enumerate(scores)}


def two_sides(seed: int, lead: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.8 + lead, 0.03, SEEDS), rng.normal(0.8, 0.03, SEEDS)


@pytest.mark.parametrize("seed", range(5))
def test_the_paired_test_is_scipys(seed: int) -> None:
    first, second = two_sides(seed)
    test, expected = paired_test(by_seed(first), by_seed(second)), stats.ttest_rel(first, second)
    assert test.n == SEEDS
    assert test.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert test.standard_error == pytest.approx(stats.sem(first - second))


def test_only_seeds_that_both_sides_have_are_paired() -> None:
    first, second = {0: 0.9, 1: 0.8, 2: 0.7, 7: 0.1}, {2: 0.6, 1: 0.75, 0: 0.84, 5: 0.9}
    assert paired_test(first, second) == paired_test({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.84, 1: 0.75, 2: 0.6})


def test_below_two_shared_seeds_nothing_is_tested() -> None:
    alone, none = paired_test({0: 0.9, 1: 0.5}, {0: 0.8}), paired_test({0: 0.9}, {1: 0.8})
    assert alone.n == 1 and alone.difference == pytest.approx(0.1)
    assert none.n == 0 and none.difference is None
    for test in (alone, none):
        assert (test.low, test.high, test.p_value, test.standard_error) == (None,) * 4


def test_equal_differences_have_no_spread_and_so_no_p_value() -> None:
    """0.87 - 0.86 and 0.29 - 0.28 differ in their last bits, which are no spread either."""
    assert 0.87 - 0.86 != 0.29 - 0.28
    test = paired_test({0: 0.87, 1: 0.29, 2: 0.31}, {0: 0.86, 1: 0.28, 2: 0.30})
    assert test.difference == pytest.approx(0.01)
    assert (test.low, test.high, test.p_value) == (None, None, None)
    assert detectable(test, 1) is None and level(test, MARGIN) is None


def test_identical_scores_have_a_p_value_of_one_and_are_not_shown_to_be_level() -> None:
    test = paired_test({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0})
    assert (test.difference, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert level(test, MARGIN) is None and no_better(test, MARGIN) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_stays_outside(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        paired_test({0: 0.9, 1: bad}, {0: 0.8, 1: 0.8})


@pytest.mark.parametrize("lead", [0.0, 0.02, -0.05])
def test_margins_are_tested_as_scipy_tests_a_mean(lead: float) -> None:
    first, second = two_sides(3, lead)
    test, differences = paired_test(by_seed(first), by_seed(second)), first - second
    below = stats.ttest_1samp(differences, MARGIN, alternative="less").pvalue
    above = stats.ttest_1samp(differences, -MARGIN, alternative="greater").pvalue
    assert no_better(test, MARGIN) == pytest.approx(below)
    assert level(test, MARGIN) == pytest.approx(max(below, above))


@pytest.mark.parametrize("num_tests", [1, 4])
def test_the_detectable_difference_is_just_significant_after_correction(num_tests: int) -> None:
    first, second = two_sides(1)
    least = detectable(paired_test(by_seed(first), by_seed(second)), num_tests)
    assert least is not None
    moved = by_seed(first - np.mean(first - second) + least)
    assert paired_test(moved, by_seed(second)).p_value == pytest.approx(0.05 / num_tests)


def test_holm_multiplies_step_by_step() -> None:
    """Four tests: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which must not fall below its forerunner's 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_does_not_count_what_could_not_be_tested() -> None:
    adjusted = holm([None, 0.01, None, 0.03])
    assert (adjusted[0], adjusted[2]) == (None, None)
    assert (adjusted[1], adjusted[3]) == pytest.approx((0.02, 0.03))
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    """Holm's own wording: from the smallest p up, reject while p <= alpha / (number left), and stop for good after."""
    rejected, left = set(), len(p_values)
    for place in np.argsort(p_values, kind="stable"):
        if p_values[place] * left > alpha:
            break
        rejected.add(int(place))
        left -= 1
    adjusted = holm(p_values)
    assert {place for place, value in enumerate(adjusted) if value is not None and value <= alpha} == rejected


def random_test_set(metric: str, num_examples: int, num_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and predictions (R, N) of six runs, right more often than not, with many ties among numbers."""
    rng = np.random.default_rng(num_examples)
    if metric in COUNTED:
        labels = rng.integers(num_classes, size=num_examples)
        guesses = rng.integers(num_classes, size=(6, num_examples))
        return labels, np.where(rng.random((6, num_examples)) < 0.5, labels, guesses)
    numbers = rng.normal(size=num_examples).round(1)
    return numbers, (numbers + rng.normal(size=(6, num_examples))).round(1)


def plain_score(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    return METRICS[metric](labels, np.eye(10)[predictions] if metric in COUNTED else predictions)


def test_every_metric_of_the_trainer_can_be_resampled() -> None:
    assert set(WEIGHTED) == set(METRICS)


@pytest.mark.parametrize(
    ("metric", "num_classes"), [*((metric, 2) for metric in METRICS), ("accuracy", 10), ("matthews", 10)]
)
def test_weighted_scores_are_the_trainers_on_any_resample(metric: str, num_classes: int) -> None:
    """An example with weight 3 counts as three equal ones; with weights of 1 the data is as it is."""
    labels, predictions = random_test_set(metric, 60, num_classes)
    resamples = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=20)
    weights = np.vstack([np.ones(60), resamples])
    scores = WEIGHTED[metric](labels, predictions, weights)
    for weights_N, scores_R in zip(weights, scores, strict=True):
        rows = np.repeat(np.arange(60), weights_N.astype(int))
        expected = [plain_score(metric, labels[rows], prediction[rows]) for prediction in predictions]
        assert scores_R == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("constant", ["labels", "predictions"])
def test_a_resample_in_which_all_are_alike_is_scored_as_the_trainer_does(metric: str, constant: str) -> None:
    labels, predictions = random_test_set(metric, 30)
    alike = labels if constant == "labels" else predictions[0]
    for value in np.unique(alike):
        rows = np.random.default_rng(0).choice(np.flatnonzero(alike == value), size=30)
        scores = WEIGHTED[metric](labels, predictions, np.bincount(rows, minlength=30)[None].astype(float))
        assert scores[0, 0] == pytest.approx(plain_score(metric, labels[rows], predictions[0, rows]), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_bootstrap_is_what_scoring_resample_by_resample_gives(metric: str) -> None:
    labels, predictions = random_test_set(metric, 60)
    result = bootstrap(metric, labels, predictions[:3], predictions[3:], num_resamples=100)
    resamples = np.random.default_rng(SEED).integers(60, size=(100, 60))
    differences = []
    for rows in [np.arange(60), *resamples]:
        scores = [plain_score(metric, labels[rows], prediction[rows]) for prediction in predictions]
        differences.append(np.mean(scores[:3]) - np.mean(scores[3:]))
    whole, resampled = differences[0], np.array(differences[1:])
    assert result.difference == pytest.approx(whole)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])))
    fewer = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
    assert result.p_value == pytest.approx(min(1.0, 2 * (fewer + 1) / 101))


def test_both_sides_and_all_seeds_are_scored_on_the_same_resampled_examples() -> None:
    """The first side is right wherever the second is, and once more: no resample can put the second ahead."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=100)
    second = np.where(rng.random((2, 100)) < 0.5, labels, 1 - labels)
    first = np.where(np.arange(100) < 10, labels, second)
    result = bootstrap("accuracy", labels, first, second)
    assert 0 < result.low < result.difference < result.high


def test_subsets_are_resampled_by_themselves_and_their_mean_is_scored() -> None:
    """A large subset where all is right, a small one where all is wrong: a half each, in every resample."""
    labels = np.zeros(100, dtype=int)
    subsets = np.array(["matched"] * 90 + ["mismatched"] * 10)
    first, second = np.where(subsets == "matched", 0, 1)[None], np.ones((1, 100), dtype=int)
    result = bootstrap("accuracy", labels, first, second, subsets)
    assert (result.difference, result.low, result.high) == pytest.approx((0.5, 0.5, 0.5))
    assert bootstrap("accuracy", labels, first, second).difference == pytest.approx(0.9)


def test_the_bootstraps_p_value_is_never_zero_and_one_without_any_difference() -> None:
    labels = np.zeros(50, dtype=int)
    right, wrong = np.zeros((1, 50), dtype=int), np.ones((1, 50), dtype=int)
    assert bootstrap("accuracy", labels, right, wrong).p_value == pytest.approx(2 / 1001)
    assert bootstrap("accuracy", labels, right, right).p_value == 1.0


def test_the_bootstrap_gives_the_same_numbers_every_time_and_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predictions = random_test_set("accuracy", 80)
    whole = bootstrap("accuracy", labels, predictions[:3], predictions[3:])
    monkeypatch.setattr("analysis.bootstrap.CHUNK", 80 * 7)
    assert bootstrap("accuracy", labels, predictions[:3], predictions[3:]) == whole


def test_beyond_a_margin_is_tested_against_the_margin_not_against_zero() -> None:
    """Surely above 0 by 2.7 points is not surely above 2.5."""
    above = dict(enumerate((0.51, 0.53, 0.545, 0.53, 0.52, 0.525)))
    test = paired_test(above, dict.fromkeys(above, 0.5))
    differences = np.array([*above.values()]) - 0.5
    assert test.p_value is not None and test.p_value < 0.01
    expected = stats.ttest_1samp(differences, 0.025, alternative="greater").pvalue
    assert better(test, 0.025) == pytest.approx(expected) and expected > 0.3
    assert apart(test, 0.025) == pytest.approx(2 * expected)
    mirrored = paired_test(dict.fromkeys(above, 0.5), above)
    assert apart(mirrored, 0.025) == pytest.approx(2 * expected) and (better(mirrored, 0.025) or 0) > 0.99
