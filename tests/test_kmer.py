"""The k-mer rival: what it counts, how it chooses, and what it tells its logger."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import refusal
from trainer.config import Report, TrialConfig
from trainer.metrics import headline, score
from trainer.rivals import check_rival, kmer
from trainer.rivals.kmer import PENALTIES, Choice, KmerTrial, choose
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset, Split


class Memory:
    """A logger that keeps everything."""

    def __init__(self) -> None:
        self.told: dict[str, object] = {}
        self.values: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.files: dict[str, bytes] = {}

    def params(self, values: Mapping[str, object]) -> None:
        self.told.update(values)

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        (self.values[name],) = values

    def tag(self, name: str, value: str) -> None:
        self.tags[name] = value

    def artifact(self, name: str, content: bytes) -> None:
        self.files[name] = content


def config_of(task: str, **fields: Any) -> TrialConfig:
    return TrialConfig(task=task, model="kmer", init="scratch", **fields)


def train(dataset: Dataset, config: TrialConfig, **options: Any) -> tuple[Report, Memory]:
    memory = Memory()
    (report,) = KmerTrial(config, memory, dataset, config.definition.metrics_for(dataset), **options)
    return report, memory


def numbers(num_train: int = 120, seed: int = 0) -> Dataset:
    """Proteins whose label is how often AC occurs in them, and some noise."""
    rng = np.random.default_rng(seed)

    def split(num_examples: int) -> Split:
        sequences = tuple("".join(rng.choice([*"ACDE"], size=rng.integers(5, 50))) for _ in range(num_examples))
        counts = np.array([sequence.count("AC") for sequence in sequences], dtype=np.float64)
        return Split(sequences=sequences, labels=counts + 0.1 * rng.normal(size=num_examples))

    train, valid, test = split(num_train), split(30), split(30)
    return Dataset(symbols="ACDE", classes=(), train=train, valid=valid, test=test, split="", note="", source="")


def plain_pipeline(choice: Choice, *, is_classification: bool) -> Any:
    """The same model, in scikit-learn's own words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    counter = CountVectorizer(analyzer="char", lowercase=False, ngram_range=(1, choice.max_length), dtype=np.float64)
    model = LogisticRegression(C=1 / choice.penalty) if is_classification else Ridge(alpha=choice.penalty)
    return make_pipeline(counter, MaxAbsScaler(), model)


def test_classes_are_predicted_as_by_a_plain_pipeline(splice_dataset: Dataset) -> None:
    train, test = splice_dataset.train, splice_dataset.test
    choice = choose(train, splice_dataset.valid, 3, ("accuracy",))
    expected = plain_pipeline(choice, is_classification=True).fit(train.sequences, train.labels)
    np.testing.assert_allclose(
        choice.predict(test.sequences), expected.predict_proba(test.sequences), rtol=0.01, atol=1e-3
    )


def test_numbers_are_predicted_as_by_a_plain_pipeline() -> None:
    dataset = numbers()
    choice = choose(dataset.train, dataset.valid, 0, ("spearman", "pearson"))
    expected = plain_pipeline(choice, is_classification=False).fit(dataset.train.sequences, dataset.train.labels)
    predictions = choice.predict(dataset.test.sequences)
    np.testing.assert_allclose(predictions, expected.predict(dataset.test.sequences), rtol=0.01, atol=0.01)
    assert np.corrcoef(predictions, dataset.test.labels)[0, 1] > 0.9


def test_the_chosen_model_has_the_best_valid_score_and_is_the_simplest_of_these() -> None:
    dataset = numbers()
    chosen = choose(dataset.train, dataset.valid, 0, ("spearman",))
    candidates = []
    for max_length in range(1, kmer.MAX_KMER_LENGTH + 1):
        for penalty in PENALTIES:
            choice = replace(chosen, max_length=max_length, penalty=penalty)
            model = plain_pipeline(choice, is_classification=False).fit(dataset.train.sequences, dataset.train.labels)
            scores = score(("spearman",), dataset.valid, model.predict(dataset.valid.sequences))
            candidates.append((headline(scores), max_length, penalty))
    best, max_length, penalty = max(candidates, key=lambda candidate: candidate[0])
    assert (chosen.max_length, chosen.penalty) == (max_length, penalty)
    assert headline(chosen.valid_scores) == pytest.approx(best, abs=1e-6)
    assert chosen.num_fits == len(candidates)
    constant = replace(dataset.valid, labels=np.zeros(len(dataset.valid)))
    simplest = choose(dataset.train, constant, 0, ("spearman",))
    assert (simplest.max_length, simplest.penalty) == (1, max(PENALTIES))


def test_the_choice_never_reads_test(splice_dataset: Dataset) -> None:
    test = splice_dataset.test
    shuffled = replace(splice_dataset, test=replace(test, labels=(test.labels + 1) % 3))
    (before, told), (after, told_after) = (train(d, config_of("splice")) for d in (splice_dataset, shuffled))
    assert before.result is not None and after.result is not None
    assert told.tags == told_after.tags
    assert before.valid_score == after.valid_score
    assert before.result.metrics["test/score"] > after.result.metrics["test/score"]


def test_it_learns_and_tells_its_logger_as_any_trial_does(splice_dataset: Dataset) -> None:
    config = config_of("splice", seed=3)
    report, memory = train(splice_dataset, config)
    result = report.result
    assert result is not None and result.outcome == "finished" and result.losses == []
    assert result.metrics["test/score"] >= 0.9
    assert memory.values == result.metrics
    scores = {f"{split}/{name}" for split in ("valid", "test") for name in ("score", "accuracy")}
    assert set(result.metrics) == {*scores, "examples_per_second"}
    assert memory.told == config.settings()
    assert memory.told["model"] == "kmer" and memory.told["seed"] == 3 and memory.told["init"] == "scratch"
    assert {"learning_rate", "optimizer", "mapping", "num_epochs"}.isdisjoint(memory.told)
    assert json.loads(memory.files["config.json"]) == config.settings()
    assert memory.files["predictions/test.csv"].count(b"\n") == 1 + len(splice_dataset.test)
    assert set(memory.tags) == {"hardware", "kmer_max_length", "kmer_penalty"}
    assert memory.tags["kmer_penalty"].startswith("C=")


def test_train_is_scored_where_that_is_asked(splice_dataset: Dataset) -> None:
    report, _ = train(splice_dataset, config_of("splice"), scores_train=True)
    assert report.result is not None
    assert report.result.metrics["train/score"] >= 0.9


def test_a_trial_is_the_same_twice_and_its_seed_does_not_matter(splice_dataset: Dataset) -> None:
    (_, first), (_, second) = (train(splice_dataset, config_of("splice", seed=seed)) for seed in (0, 1))
    assert first.files["predictions/test.csv"] == second.files["predictions/test.csv"]


def test_numbers_are_scored_and_recorded() -> None:
    report, memory = train(numbers(), config_of("stability"))
    assert report.result is not None
    assert report.valid_score == memory.values["valid/spearman"] > 0.8
    assert memory.tags["kmer_penalty"].startswith("alpha=")
    assert memory.files["predictions/test.csv"].startswith(b"example,label,prediction\n")


def test_segments_vote_on_their_piece(task_files: Path, pitch_cache: Path) -> None:
    task = TASKS["composer"]
    dataset = task.load(task_files)
    report, memory = train(dataset, config_of("composer"))
    assert report.result is not None
    assert {"test/accuracy", "test/segment_accuracy"} <= set(report.result.metrics)
    assert memory.files["predictions/test.csv"].count(b"\n") == 1 + dataset.test.num_pieces
    assert memory.files["predictions/segments.csv"].count(b"\n") == 1 + len(dataset.test)


def test_a_long_sequence_is_cut_as_language_models_see_it() -> None:
    dataset = numbers()
    ends = tuple(f"{text[:2]}{'E' * 20}{text[-2:]}" for text in dataset.train.sequences)
    spoiled = replace(dataset, train=replace(dataset.train, sequences=ends))
    short = replace(dataset, train=replace(dataset.train, sequences=tuple(text[:2] + text[-2:] for text in ends)))
    cut = kmer.cut_to_length(spoiled.train, TASKS["localization"], 4)
    assert TASKS["localization"].keeps_both_ends
    assert cut.sequences == short.train.sequences
    assert kmer.cut_to_length(spoiled.train, TASKS["stability"], 3).sequences == tuple(text[:3] for text in ends)
    (_, first), (_, second) = (train(d, config_of("stability", max_length=2)) for d in (spoiled, short))
    assert first.files["predictions/test.csv"] == second.files["predictions/test.csv"]


def test_blanks_in_a_row_are_symbols_as_any_others() -> None:
    """Some pitches are blanks."""
    assert kmer.kmers(2, "\t\t  A") == ["\t\t", "\t ", "  ", " A"]
    labels = np.arange(40) % 2
    split = Split(sequences=tuple("\t\t\tA" if label else "\t\tA" for label in labels), labels=labels)
    assert choose(split, split, 2, ("accuracy",)).valid_scores == {"accuracy": 1.0}


def test_sequences_shorter_than_a_kmer_are_learned_from_and_predicted() -> None:
    labels = np.arange(20) % 2
    split = Split(sequences=tuple("CA" if label else "G" for label in labels), labels=labels)
    choice = choose(split, split, 2, ("accuracy",))
    assert choice.num_fits == 2 * len(PENALTIES)
    assert choice.predict(["G", "CA", "T", "CACA"]).argmax(axis=1)[:2].tolist() == [0, 1]


def test_a_class_without_training_examples_is_never_predicted(splice_dataset: Dataset) -> None:
    train = splice_dataset.train
    for kept in ([0, 2], [1]):
        part = train.take(np.flatnonzero(np.isin(train.labels, kept)))
        predictions = choose(part, splice_dataset.valid, 3, ("accuracy",)).predict(splice_dataset.test.sequences)
        assert predictions.shape == (len(splice_dataset.test), 3)
        np.testing.assert_allclose(predictions.sum(axis=1), 1)
        assert (np.delete(predictions, kept, axis=1) == 0).all()


def test_numbers_that_are_all_the_same_are_predicted_as_such() -> None:
    train = replace(numbers().train, labels=np.full(120, 2.5))
    choice = choose(train, train, 0, ("spearman",))
    np.testing.assert_allclose(choice.predict(["ACDE", "A"]), 2.5)


def test_kmers_get_no_longer_than_their_number_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = numbers()
    monkeypatch.setattr(kmer, "MAX_FEATURES", 4 + 16)
    assert choose(dataset.train, dataset.valid, 0, ("spearman",)).num_fits == 2 * len(PENALTIES)
    monkeypatch.setattr(kmer, "MAX_FEATURES", 3)
    assert choose(dataset.train, dataset.valid, 0, ("spearman",)).max_length == 1


def test_a_fit_that_takes_too_long_is_used_as_it_is(splice_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of it: a warning is an error here."""
    monkeypatch.setattr(kmer, "MAX_ITERATIONS", 2)
    choice = choose(splice_dataset.train, splice_dataset.valid, 3, ("accuracy",))
    assert choice.predict(splice_dataset.test.sequences).shape == (len(splice_dataset.test), 3)


def test_text_is_refused(splice_dataset: Dataset) -> None:
    assert "takes no text task" in refusal(lambda: check_rival("kmer", TASKS["mrpc"], splice_dataset))
    for task in TASKS.values():
        if not task.is_text:
            check_rival("kmer", task, splice_dataset)
