"""One trial: its protocol, its determinism, and what it tells its logger."""

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import run_module
from trainer.config import Report, TrialConfig, TrialResult
from trainer.errors import UserError
from trainer.trial import Trial


class Memory:
    """A logger that keeps everything."""

    def __init__(self) -> None:
        self.told: dict[str, object] = {}
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.tags: dict[str, str] = {}
        self.files: dict[str, bytes] = {}

    def params(self, values: Mapping[str, object]) -> None:
        self.told.update(values)

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        self.series.setdefault(name, []).extend(zip(steps, values, strict=True))

    def tag(self, name: str, value: str) -> None:
        self.tags[name] = value

    def artifact(self, name: str, content: bytes) -> None:
        self.files[name] = content


def train(tiny_model: Path, dna_files: Path, **fields: Any) -> tuple[TrialResult, list[Report], Memory]:
    settings: dict[str, Any] = {"task": "splice", "model": str(tiny_model), "num_epochs": 2, "learning_rate": 1e-3}
    memory = Memory()
    reports = list(Trial(TrialConfig(**settings | fields), memory, data_dir=dna_files, num_threads=1))
    assert reports[-1].result is not None
    return reports[-1].result, reports, memory


def without_dropout(model: Path, folder: Path) -> Path:
    """A copy of a model whose config.json says so, for comparisons to the last digits."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config | rates))
    return folder


GOLDEN = [
    1.097418,
    1.106907,
    1.114969,
    1.067319,
    1.155655,
    1.078132,
    1.03738,
    1.121595,
    1.15495,
    1.139873,
    1.034561,
    0.957103,
    1.023487,
    0.974256,
    0.9081,
    0.894289,
    0.851749,
    0.802224,
]


def test_golden_losses(tiny_model: Path, dna_files: Path) -> None:
    """The same config and seed give these losses on any machine, up to the last digits of its arithmetic."""
    result, _, _ = train(tiny_model, dna_files, learning_rate=1e-2, num_epochs=3)
    assert result.losses == pytest.approx(GOLDEN, rel=1e-3)


def test_the_same_config_gives_the_same_losses_to_the_last_bit(tiny_model: Path, dna_files: Path) -> None:
    """Also after other trials in the same process, and in a process of its own."""
    first, _, _ = train(tiny_model, dna_files)
    train(tiny_model, dna_files, seed=1, init="scratch")
    again, _, _ = train(tiny_model, dna_files)
    assert again.losses == first.losses
    assert again.metrics["test/score"] == first.metrics["test/score"]
    script = (
        "from pathlib import Path; from tests.test_trial import train; "
        f"print(train(Path({str(tiny_model)!r}), Path({str(dna_files)!r}))[0].losses)"
    )
    alone = run_module("timeit", "-n1", "-r1", script)
    assert alone.stdout.splitlines()[0] == str(first.losses), alone.stderr


def test_seeds_differ(tiny_model: Path, dna_files: Path) -> None:
    assert train(tiny_model, dna_files, seed=0)[0].losses != train(tiny_model, dna_files, seed=1)[0].losses


def test_a_planted_pattern_is_learned(tiny_model: Path, dna_files: Path) -> None:
    result, _, _ = train(tiny_model, dna_files, num_epochs=12, patience=12, learning_rate=3e-3, init="scratch")
    assert np.mean(result.losses[:6]) > 1.0 and np.mean(result.losses[-6:]) < 0.7
    assert result.metrics["valid/score"] > 0.8


def test_the_best_checkpoint_is_tested_not_the_last(tiny_model: Path, dna_files: Path) -> None:
    """The test predictions are those of a trial that stops at the best epoch of the same schedule."""
    result, reports, memory = train(tiny_model, dna_files, num_epochs=6, patience=6, learning_rate=3e-3, seed=2)
    scores = [report.valid_score for report in reports]
    best = scores.index(max(scores)) + 1
    assert result.metrics["best_epoch"] == best
    assert result.metrics["valid/score"] == max(scores)

    trial = Trial(result.config, Memory(), data_dir=dna_files, num_threads=1)
    for _ in range(best):
        next(trial)
    labels, probabilities = trial.dataset.test.labels, trial._evaluate("test")[1]
    assert result.metrics["test/score"] == np.mean(probabilities.argmax(axis=1) == labels)
    rows = list(csv.DictReader(io.StringIO(memory.files["predictions/test.csv"].decode())))
    assert [float(row["probability_EI"]) for row in rows] == pytest.approx(probabilities[:, 0].tolist(), rel=1e-4)


def test_training_stops_after_patience_evaluations_without_a_better_score(tiny_model: Path, dna_files: Path) -> None:
    _, reports, _ = train(tiny_model, dna_files, num_epochs=20, patience=2, learning_rate=1e-12)
    assert [report.epoch for report in reports] == [1, 2, 3]


def test_nan_ends_the_trial_early_as_diverged(tiny_model: Path, dna_files: Path) -> None:
    result, reports, memory = train(tiny_model, dna_files, learning_rate=1e30, num_epochs=10)
    assert result.outcome == "diverged" and "test/score" not in result.metrics
    assert len(reports) == 1 and math.isnan(reports[0].valid_score)
    assert all(math.isfinite(loss) for _, loss in memory.series["train/loss"])
    assert memory.tags["diverged_after_step"] == str(len(memory.series["train/loss"]))


def test_every_loss_is_told_once_in_order(tiny_model: Path, dna_files: Path) -> None:
    result, _, memory = train(tiny_model, dna_files, batch_size=3)
    assert memory.series["train/loss"] == list(enumerate(result.losses, start=1))
    assert len(result.losses) == 2 * math.ceil(180 / 3)


def test_what_is_recorded(tiny_model: Path, dna_files: Path) -> None:
    result, _, memory = train(tiny_model, dna_files, max_train_examples=64)
    config = json.loads(memory.files["config.json"])
    assert memory.told == config and config["max_train_examples"] == 64 and config["num_epochs"] == 2
    assert len(result.losses) == 4
    rows = list(csv.DictReader(io.StringIO(memory.files["predictions/test.csv"].decode())))
    accuracy = np.mean([row["label"] == row["prediction"] for row in rows])
    assert len(rows) == 10 and accuracy == result.metrics["test/score"] == result.metrics["test/accuracy"]
    assert memory.files["loss.png"].startswith(b"\x89PNG")
    assert memory.series["valid/score"][-1][1] == result.metrics["valid/score"]


def test_the_tested_model_is_kept_where_asked(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    config = TrialConfig(task="splice", model=str(tiny_model), num_epochs=1)
    memory = Memory()
    trial = Trial(config, memory, data_dir=dna_files, num_threads=1, save_model=True)
    list(trial)
    for name, content in memory.files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    ours = trial.learner.model.state_dict()
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert loaded.keys() == ours.keys() and len(loaded[embeddings]) == 1100
    assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded.items() if name != embeddings)


def test_a_trial_uses_exactly_the_threads_it_is_given(tiny_model: Path, dna_files: Path) -> None:
    for threads in (2, 1):
        Trial(TrialConfig(task="splice", model=str(tiny_model)), Memory(), data_dir=dna_files, num_threads=threads)
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task", "spilce", "task: unknown value 'spilce'; allowed: .*; did you mean 'splice'"),
        ("init", "pretrain", "init: unknown value 'pretrain'.*did you mean 'pretrained'"),
        ("optimizer", "adamw", "optimizer: unknown value 'adamw'.*did you mean 'adam"),
        ("mapping", "rando", "mapping: .*did you mean 'random'"),
        ("learning_rate", 0.0, "learning_rate: 0.0 is not allowed; give a number above 0"),
        ("learning_rate", math.nan, "learning_rate: nan is not allowed"),
        ("learning_rate", 1e39, "learning_rate: 1e\\+39 is not allowed; give at most 1e\\+38"),
        ("batch_size", 10**23, "batch_size: 10+ is not allowed; give at most"),
        ("labels", "classes", "labels: this is for your own files, and 'splice' is none; leave it out"),
        ("separator", "-", "separator: this is for your own files"),
        ("labels", "klasses", "labels: unknown value 'klasses'; .*did you mean 'classes'"),
        ("num_epochs", -1, "num_epochs: -1 is not allowed"),
        ("batch_size", 0, "batch_size: 0 is not allowed"),
        ("seed", -1, "seed: -1 is not allowed"),
        ("max_train_examples", 0, "max_train_examples: 0 is not allowed"),
    ],
)
def test_a_wrong_config_is_refused_on_construction(field: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        TrialConfig(**{"task": "splice", field: value})
