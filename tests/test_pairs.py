"""Pairs: which selections are held against each other, over which seeds and test examples; and logged predictions."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis.bootstrap import bootstrap
from analysis.pairs import Pair, pair_columns, pair_notes, pair_record, pair_up
from analysis.predictions import PATH, Predictions, parse, read_predictions
from analysis.statistics import paired_test
from tests.recorder import BASE, Recorder, selections
from trainer.artifacts import predictions
from trainer.metrics import METRICS
from trainer.tasks.task import Dataset, Split

TEST_SCORES = {"pretrained": (0.90, 0.92, 0.91), "reinit-embeddings": (0.88, 0.90, 0.86), "scratch": (0.80, 0.84, 0.79)}
LABELS = np.array([0, 1, 1, 0, 2, 1, 0, 2])


def dataset(labels: np.ndarray, classes: tuple[str, ...] = (), **fields: object) -> Dataset:
    test = Split(sequences=("A",) * len(labels), labels=labels, **fields)  # type: ignore[arg-type]
    facts = {"symbols": "A", "split": "", "note": "", "source": ""}
    return Dataset(classes=classes, train=test, valid=test, test=test, **facts)  # type: ignore[arg-type]


def table(predicted: np.ndarray, labels: np.ndarray = LABELS, num_classes: int = 3, **fields: object) -> str:
    """test.csv as a trial writes it, of predicted classes."""
    names = tuple(f"class{number}" for number in range(num_classes))
    return predictions(dataset(labels, names, **fields), np.eye(num_classes)[predicted])["test.csv"].decode()


def read_all(run_id: str) -> Predictions | None:
    return read_predictions(MlflowClient(), run_id)


def nothing(run_id: str) -> None:
    return None


def record(experiment: str, **settings: object) -> list[str]:
    """A sweep of three inits and seeds with TEST_SCORES; its runs' ids, by init and seed."""
    recorder = Recorder(experiment, base={**BASE, **settings}, inits=tuple(TEST_SCORES), seeds=3)
    return [
        recorder.trial("finished", (0.9, score), init=init, seed=seed)
        for init, scores in TEST_SCORES.items()
        for seed, score in enumerate(scores)
    ]


def seeds_of(init: str) -> dict[int, float]:
    return dict(enumerate(TEST_SCORES[init]))


@pytest.mark.parametrize("classes", [("no", "yes", "may, be"), ("NA", "", "nan"), ("1", "01", "1.0")])
def test_classes_are_read_back_by_their_place_whatever_they_are_called(classes: tuple[str, ...]) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=8)
    content = predictions(dataset(LABELS, classes), probabilities)["test.csv"].decode()
    read = parse(content)
    assert read.labels_N.tolist() == LABELS.tolist()
    assert read.predicted_N.tolist() == probabilities.argmax(axis=1).tolist()
    assert read.examples_N.tolist() == list(range(8)) and read.subsets_N is None


def test_numbers_are_read_back_with_every_digit() -> None:
    labels, numbers = np.random.default_rng(0).normal(size=(2, 8))
    read = parse(predictions(dataset(labels), numbers)["test.csv"].decode())
    assert read.labels_N.tolist() == labels.tolist() and read.predicted_N.tolist() == numbers.tolist()


def test_subsets_and_the_votes_of_pieces_are_read_back() -> None:
    halves = {"matched": np.arange(4), "mismatched": np.arange(4, 8)}
    with_subsets = parse(table(LABELS, subsets=halves))
    assert with_subsets.subsets_N is not None
    assert with_subsets.subsets_N.tolist() == ["matched"] * 4 + ["mismatched"] * 4
    of_pieces = np.array([5, 5, 5, 7, 7, 7, 7, 7])
    pieces = parse(table(np.array([2, 2, 0, 1, 1, 0, 0, 1]), labels=np.repeat([2, 0], (3, 5)), pieces=of_pieces))
    assert pieces.examples_N.tolist() == [5, 7]
    assert pieces.labels_N.tolist() == [2, 0] and pieces.predicted_N.tolist() == [2, 1]


@pytest.mark.parametrize(
    "damaged",
    [
        table(LABELS)[:-3],
        table(LABELS).replace("class1,class1", "class1,class9", 1),
        table(LABELS).replace("label", "lable"),
        table(LABELS).splitlines(keepends=True)[0],
        "",
        "example,label,prediction\n0,0.5,nan\n",
        "example,label,prediction\n0,0.5\n",
        "example,label,prediction\none,0.5,0.5\n",
        "example,label,prediction\n0,0.5,0.5\n0,1,2,3,4\n",
    ],
)
def test_damaged_predictions_are_none_at_all(experiment: str, damaged: str) -> None:
    run_id = Recorder(experiment).trial("finished", (0.9, 0.9))
    MlflowClient().log_text(run_id, damaged, PATH)
    assert read_all(run_id) is None


def test_bytes_that_are_no_text_and_a_missing_file_are_none_at_all(experiment: str, tmp_path: Path) -> None:
    recorder = Recorder(experiment, seeds=2)
    absent, unreadable = (recorder.trial("finished", (0.9, 0.9), seed=seed) for seed in (0, 1))
    (tmp_path / "test.csv").write_bytes(b"\xff\xfe\x00\n")
    MlflowClient().log_artifact(unreadable, str(tmp_path / "test.csv"), "predictions")
    assert read_all(absent) is None and read_all(unreadable) is None


def test_a_runs_predictions_are_read_once(experiment: str) -> None:
    client, run_id = MlflowClient(), Recorder(experiment).trial("finished", (0.9, 0.9))
    client.log_text(run_id, table(LABELS), PATH)
    first = read_predictions(client, run_id)
    assert first is not None and read_predictions(client, run_id) is first


def test_each_other_init_is_paired_with_scratch_by_seed(experiment: str) -> None:
    record(experiment)
    pairs = pair_up(selections(experiment), nothing)
    assert [(pair.first.init, pair.second.init) for pair in pairs] == [
        ("pretrained", "scratch"),
        ("reinit-embeddings", "scratch"),
    ]
    for pair in pairs:
        assert pair.test == paired_test(seeds_of(pair.first.init), seeds_of("scratch"))
        assert pair.bootstrap is None


def test_trials_with_other_settings_or_data_are_not_held_against_each_other(experiment: str) -> None:
    Recorder(experiment, inits=("pretrained",)).all_trials((0.9, 0.9))
    Recorder(experiment, inits=("scratch",), digest="other").all_trials((0.9, 0.8))
    Recorder(experiment, base={**BASE, "num_epochs": 3}, inits=("scratch",)).all_trials((0.9, 0.8))
    assert pair_up(selections(experiment), nothing) == []


def test_a_checkpoint_is_held_against_the_scratch_trials_that_know_of_no_checkpoint(experiment: str) -> None:
    Recorder(experiment, inits=("scratch",)).all_trials((0.9, 0.8))
    for step in (100, 200):
        base = {**BASE, "checkpoint": "/models/own", "checkpoint_step": step}
        Recorder(experiment, base=base, inits=("checkpoint",)).all_trials((0.9, 0.8 + step / 10_000))
    pairs = pair_up(selections(experiment), nothing)
    assert [pair.first.config["params.checkpoint_step"] for pair in pairs] == ["100", "200"]
    assert [pair.test.difference for pair in pairs] == pytest.approx([0.01, 0.02])


def test_only_seeds_that_finished_with_a_test_score_on_both_sides_count(experiment: str) -> None:
    recorder = Recorder(experiment, inits=("pretrained", "scratch"), seeds=4)
    for seed in range(4):
        recorder.trial("finished", (0.9, 0.9 + seed / 100), init="pretrained", seed=seed)
    recorder.trial("finished", (0.9, 0.8), init="scratch", seed=1)
    recorder.trial("finished", (0.9, 0.7), init="scratch", seed=2)
    recorder.trial("diverged", init="scratch", seed=0)
    recorder.trial("finished", (0.9, float("nan")), init="scratch", seed=3)
    (pair,) = pair_up(selections(experiment), nothing)
    assert pair.test == paired_test({1: 0.91, 2: 0.92}, {1: 0.8, 2: 0.7})


def test_holm_corrects_over_the_pairs_that_ask_the_same(experiment: str) -> None:
    """Two tasks and three inits: two tests of pretrained, two of reinit-embeddings; unused tokens are another thing."""
    for settings in ({}, {"task": "h3"}, {"mapping": "unused"}, {"train_fraction": 0.01}):
        record(experiment, **settings)
    pairs = pair_up(selections(experiment), nothing)
    assert len(pairs) == 8
    for pair in pairs:
        usual = pair.first.config["mapping"] == "random" and pair.first.config["params.train_fraction"] is None
        assert pair.test.p_value is not None
        assert pair.p_adjusted == pytest.approx(pair.test.p_value * (2 if usual else 1))
    assert "2 of pretrained against scratch; " in " ".join(pair_notes(pairs))


def log_predictions(run_ids: list[str], labels: np.ndarray = LABELS) -> np.ndarray:
    """Random predictions for each of the runs, (R, N)."""
    predicted = np.random.default_rng(0).integers(3, size=(len(run_ids), len(labels)))
    for run_id, predicted_N in zip(run_ids, predicted, strict=True):
        MlflowClient().log_text(run_id, table(predicted_N, labels), PATH)
    return predicted


def test_the_bootstrap_is_of_the_logged_predictions_of_both_sides(experiment: str) -> None:
    predicted = log_predictions(record(experiment))
    pretrained, reinitialised = pair_up(selections(experiment), read_all)
    assert pretrained.bootstrap == bootstrap("accuracy", LABELS, predicted[:3], predicted[6:])
    assert reinitialised.bootstrap == bootstrap("accuracy", LABELS, predicted[3:6], predicted[6:])
    scores = [METRICS["accuracy"](LABELS, np.eye(3)[one]) for one in predicted]
    assert pretrained.bootstrap.difference == pytest.approx(np.mean(scores[:3]) - np.mean(scores[6:]))


@pytest.mark.parametrize("spoiled", [table(LABELS[:7], LABELS[:7]), table(LABELS, (LABELS + 1) % 3), "damaged"])
def test_there_is_no_bootstrap_where_one_runs_predictions_are_of_something_else(experiment: str, spoiled: str) -> None:
    run_ids = record(experiment)
    log_predictions(run_ids)
    MlflowClient().log_text(run_ids[1], spoiled, PATH)
    pairs = pair_up(selections(experiment), read_all)
    assert [pair.bootstrap is None for pair in pairs] == [True, False]
    assert pair_notes(pairs)[-1].startswith("No bootstrap for 1 of 2 pairs")


@pytest.fixture
def pair(experiment: str) -> Pair:
    """Differences of 10, 8 and 12 points: mean 10, standard error 2 / sqrt(3), t = 8.66 with 2 degrees of freedom."""
    record(experiment)
    return pair_up(selections(experiment), nothing)[0]


def test_the_columns_show_percentage_points(pair: Pair) -> None:
    assert pair_columns(pair) == {
        "vs scratch": "+10.0 [+5.0, +15.0]",
        "shared seeds": "3",
        "p": "0.013",
        "Holm p": "0.013",
        "bootstrap p": "-",
    }
    assert list(pair_columns(None)) == list(pair_columns(pair)) and set(pair_columns(None).values()) == {"-"}


def test_the_record_holds_the_numbers_as_fractions(pair: Pair) -> None:
    record = pair_record(pair)
    assert record["vs_scratch_num_seeds"] == 3
    assert record["vs_scratch_difference"] == pytest.approx(0.1)
    assert record["vs_scratch_p"] == pytest.approx(0.013, abs=5e-4)
    assert list(pair_record(None)) == list(record) and set(pair_record(None).values()) == {None}
