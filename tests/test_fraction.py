"""Training on a share of the data until the loss is low: which examples, for how long, and what is recorded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import refusal
from tests.test_trial import Memory
from trainer.config import Report, TrialConfig
from trainer.data import encode_dataset, load_dataset, stratified_rows, training_part
from trainer.trial import Trial


@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    fraction=st.floats(0.001, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_of_every_class_there_are_as_many_as_its_share_says_give_or_take_one(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = stratified_rows(labels, fraction, seed)
    assert len(rows) == len(set(rows.tolist())) == max(1, round(len(labels) * fraction))
    drawn = np.bincount(labels[rows], minlength=len(counts))
    expected = np.array(counts) * len(rows) / len(labels)
    assert np.all(np.abs(drawn - expected) < 1 + 1e-9)


def test_of_numbers_the_sample_has_every_quantile() -> None:
    labels = np.random.default_rng(0).standard_normal(10_000)
    drawn = labels[stratified_rows(labels, 0.01, seed=5)]
    shares = (0.1, 0.25, 0.5, 0.75, 0.9)
    assert np.quantile(drawn, shares) == pytest.approx(np.quantile(labels, shares), abs=0.05)


def test_the_seed_decides_which_examples_and_any_of_a_class_may_be_drawn() -> None:
    labels = np.repeat([0, 1], 100)
    drawn = [frozenset(stratified_rows(labels, 0.1, seed).tolist()) for seed in range(60)]
    assert drawn[0] == frozenset(stratified_rows(labels, 0.1, 0).tolist())
    assert len(set(drawn)) == 60 and len(frozenset.union(*drawn)) > 195


def test_only_the_drawn_examples_are_encoded_and_valid_and_test_stay_whole(dna_files: Path, tiny_model: Path) -> None:
    config = TrialConfig(task="splice", model=str(tiny_model), train_fraction=0.1, seed=3)
    whole = load_dataset(config.definition, dna_files)
    part = training_part(whole, config)
    encoded = encode_dataset(config, dna_files, tiny_model)
    assert len(part.train) == len(encoded["train"].lengths_N) == 18 and set(part.train.labels) == {0, 1, 2}
    assert part.valid is whole.valid and part.test is whole.test
    assert len(encoded["valid"].lengths_N) == len(whole.valid)
    everything = encode_dataset(TrialConfig(task="splice", model=str(tiny_model), seed=3), dna_files, tiny_model)
    rows = [whole.train.sequences.index(sequence) for sequence in part.train.sequences]
    assert np.array_equal(encoded["train"].ids_NT, everything["train"].ids_NT[rows])


def train(tiny_model: Path, data_dir: Path, **fields: Any) -> tuple[list[Report], Memory]:
    settings: dict[str, Any] = {"task": "splice", "model": str(tiny_model), "learning_rate": 3e-3}
    memory = Memory()
    return list(Trial(TrialConfig(**settings | fields), memory, data_dir=data_dir, num_threads=1)), memory


def test_training_goes_on_until_an_epochs_mean_loss_is_below_what_was_asked(dna_files: Path, tiny_model: Path) -> None:
    reports, memory = train(tiny_model, dna_files, train_fraction=0.3, stop_at_loss=0.3, patience=1, batch_size=16)
    losses = [value for _, value in memory.series["train/loss"]]
    epochs = np.array(losses).reshape(-1, 4).mean(axis=1)
    assert epochs[-1] < 0.3 and np.all(epochs[:-1] >= 0.3) and len(epochs) == reports[-1].epoch > 3
    assert memory.tags["stopped_by"] == "loss"
    assert memory.told["stop_at_loss"] == 0.3 and "patience" not in memory.told, "which plays no part"


def test_a_loss_that_is_not_reached_ends_with_the_epochs_and_says_so(dna_files: Path, tiny_model: Path) -> None:
    reports, memory = train(tiny_model, dna_files, stop_at_loss=1e-9, num_epochs=2)
    assert reports[-1].epoch == 2 and memory.tags["stopped_by"] == "num_epochs"


def test_patience_ends_a_trial_and_says_so(dna_files: Path, tiny_model: Path) -> None:
    reports, memory = train(tiny_model, dna_files, learning_rate=1e-12, patience=2)
    assert reports[-1].epoch == 3 and memory.tags["stopped_by"] == "patience"


def test_few_examples_are_not_evaluated_after_each_of_their_epochs(task_files: Path, tiny_model: Path) -> None:
    """12 dev examples, 2 to train on: an evaluation costs as much as two epochs."""
    reports, _ = train(
        tiny_model, task_files, task="mrpc", train_fraction=0.1, stop_at_loss=1e-9, num_epochs=7, learning_rate=1e-5
    )
    assert [report.epoch for report in reports] == [2, 4, 6, 7]


def test_numbers_are_standardised_on_the_drawn_examples_only(task_files: Path, tiny_model: Path) -> None:
    config = TrialConfig(task="stability", model=str(tiny_model), train_fraction=0.5, num_epochs=1, seed=4)
    trial = Trial(config, Memory(), data_dir=task_files)
    part = training_part(load_dataset(config.definition, task_files), config)
    whole = load_dataset(config.definition, task_files)
    targets = trial.examples["train"].targets_N.numpy()
    assert targets.mean() == pytest.approx(0, abs=1e-5) and targets.std() == pytest.approx(1, abs=1e-5)
    assert trial.objective.mean == part.train.labels.mean() != whole.train.labels.mean()  # type: ignore[union-attr]


def test_the_tested_model_is_scored_on_its_training_examples_where_a_selection_needs_it(
    dna_files: Path, tiny_model: Path
) -> None:
    config = TrialConfig(task="splice", model=str(tiny_model), num_epochs=2, learning_rate=3e-3, max_train_examples=60)
    memory, silent = Memory(), Memory()
    scored = list(Trial(config, memory, data_dir=dna_files, scores_train=True))[-1].result
    plain = list(Trial(config, silent, data_dir=dna_files))[-1].result
    assert scored is not None and plain is not None
    assert 0 < scored.metrics["train/score"] == scored.metrics["train/accuracy"] <= 1
    assert memory.series["train/score"][0][1] * 60 == pytest.approx(round(memory.series["train/score"][0][1] * 60))
    assert "train/score" not in plain.metrics and scored.losses == plain.losses
    assert {name: scored.metrics[name] for name in plain.metrics if "second" not in name} == {
        name: value for name, value in plain.metrics.items() if "second" not in name
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"train_fraction": 0.0}, "train_fraction: 0.0 is not allowed"),
        ({"train_fraction": 1.1}, "train_fraction: 1.1 is not allowed; give at most 1"),
        ({"train_fraction": 0.5, "max_train_examples": 5}, "train_fraction: give this or max_train_examples, not both"),
        ({"stop_at_loss": float("nan")}, "stop_at_loss: nan is not allowed"),
    ],
)
def test_a_wrong_share_or_threshold_is_one_line(fields: dict[str, Any], said: str) -> None:
    assert refusal(lambda: TrialConfig(**fields)).startswith(said)
