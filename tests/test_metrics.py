"""How predictions are scored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.metrics import METRICS, score, vote
from trainer.tasks.task import Split

LABELS = np.array([0, 1, 1, 0, 1])


def certain(*classes: int, num_classes: int = 2) -> np.ndarray:
    """Probabilities that put nearly everything on the given classes."""
    return np.eye(num_classes)[list(classes)] * 0.9 + 0.1 / num_classes


def split(labels: np.ndarray, **fields: object) -> Split:
    return Split(sequences=("A",) * len(labels), labels=labels, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "predicted", "value"),
    [
        ("accuracy", (0, 1, 0, 0, 1), 4 / 5),
        ("f1", (0, 1, 0, 0, 1), 2 * 2 / (2 * 2 + 1)),  # 2 found, 1 missed, none wrong
        ("f1", (0, 0, 0, 0, 0), 0.0),
        ("matthews", (0, 1, 0, 0, 1), (2 * 2 - 0 * 1) / np.sqrt(2 * 3 * 2 * 3)),
        ("matthews", (1, 1, 1, 1, 1), 0.0),
        ("matthews", (1, 0, 0, 1, 0), -1.0),
    ],
)
def test_classes_are_scored_as_textbooks_do(metric: str, predicted: tuple[int, ...], value: float) -> None:
    assert METRICS[metric](LABELS, certain(*predicted)) == pytest.approx(value)


def test_numbers_are_scored_by_rank_or_by_line() -> None:
    numbers = np.array([1.0, 2.0, 3.0, 4.0])
    curved = np.array([1.0, 10.0, 100.0, 1000.0])
    assert METRICS["spearman"](numbers, curved) == pytest.approx(1.0)
    assert METRICS["pearson"](numbers, curved) == pytest.approx(np.corrcoef(numbers, curved)[0, 1])
    assert METRICS["spearman"](numbers, -curved) == pytest.approx(-1.0)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize("constant", ["labels", "predictions"])
def test_a_constant_says_nothing_of_ranks_and_scores_zero(metric: str, constant: str) -> None:
    numbers, same = np.array([1.0, 2.0, 3.0]), np.full(3, 2.5)
    given_labels, predictions = (same, numbers) if constant == "labels" else (numbers, same)
    assert METRICS[metric](given_labels, predictions) == 0.0


def test_the_first_metric_comes_first() -> None:
    assert list(score(("f1", "accuracy"), split(LABELS), certain(*LABELS))) == ["f1", "accuracy"]


def test_a_piece_gets_the_class_of_most_of_its_segments() -> None:
    pieces = np.array([0, 0, 0, 1, 1])
    labels = np.array([1, 1, 1, 0, 0])
    predicted = certain(1, 0, 1, 0, 0)
    piece_labels, shares = vote(labels, predicted, pieces)
    assert piece_labels.tolist() == [1, 0]
    assert shares == pytest.approx(np.array([[1 / 3, 2 / 3], [1, 0]]), abs=1e-5)
    scores = score(("accuracy",), split(labels, pieces=pieces), predicted)
    assert scores == {"accuracy": 1.0, "segment_accuracy": 0.8}


def test_many_sure_segments_never_outweigh_more_unsure_ones() -> None:
    sure, unsure = [0.999, 0.001, 0.0], [0.0, 0.49, 0.51]
    _, shares = vote(np.zeros(5, dtype=int), np.array([sure, sure, unsure, unsure, unsure]), np.zeros(5, dtype=int))
    assert shares.argmax() == 2


def test_a_tie_goes_to_the_surer_class_and_then_to_the_first() -> None:
    pieces, labels = np.array([0, 0]), np.array([0, 0])
    surer = np.array([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0]])
    assert vote(labels, surer, pieces)[1].argmax() == 1
    alike = np.array([[0.25, 0.75, 0.0], [0.75, 0.25, 0.0]])
    assert vote(labels, alike, pieces)[1].argmax() == 0


@given(st.permutations(range(6)))
def test_the_order_of_segments_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    pieces, labels = np.array([4, 4, 7, 7, 7, 4]), np.array([0, 0, 1, 1, 1, 0])
    probabilities = rng.dirichlet(np.ones(3), size=6)
    expected_labels, expected = vote(labels, probabilities, pieces)
    got_labels, got = vote(labels[order], probabilities[order], pieces[order])
    assert got_labels.tolist() == expected_labels.tolist()
    assert got == pytest.approx(expected)


def test_subsets_are_scored_one_by_one_and_averaged() -> None:
    """The mean of MNLI's two halves, not the score of both together."""
    halves = {"matched": np.array([0, 1, 2, 3]), "mismatched": np.array([4])}
    scores = score(("accuracy",), split(LABELS, subsets=halves), certain(0, 1, 1, 0, 0))
    assert scores == {"accuracy": 0.5, "accuracy_matched": 1.0, "accuracy_mismatched": 0.0}
