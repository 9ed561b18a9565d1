"""Trials of every family: pairs of sentences, numbers, pieces of music, a user's own file."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.midi_files import write_midi
from tests.test_trial import Memory, train, without_dropout
from trainer.config import TrialConfig
from trainer.data import encode_dataset, load_dataset
from trainer.models import build_model, read_tokenizer
from trainer.optimizers import build_optimizer
from trainer.trial import Trial


def rows(memory: Memory, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(memory.files[f"predictions/{name}"].decode())))


@pytest.mark.parametrize("task", ["mrpc", "stsb", "cola"])
def test_losses_on_text_equal_a_plain_loop_with_the_models_own_tokenizer(
    tiny_model: Path, task_files: Path, tmp_path: Path, task: str
) -> None:
    """Pairs, token types, padding and the standardised numbers of STS-B, as transformers itself does them."""
    tiny_model = without_dropout(tiny_model, tmp_path / "calm")
    result, _, _ = train(tiny_model, task_files, task=task, num_epochs=2, batch_size=8)
    config = result.config
    split = load_dataset(config.definition, task_files).train
    targets = torch.tensor(split.labels)
    if task == "stsb":
        targets = ((targets - targets.mean()) / targets.std(correction=0)).float()
    model = build_model(tiny_model, init="pretrained", num_outputs=1 if task == "stsb" else 2, seed=0)
    optimizer = build_optimizer("adam", model.parameters(), config.learning_rate)
    tokenizer, order = read_tokenizer(tiny_model), torch.Generator().manual_seed(0)
    num_steps, losses = 2 * math.ceil(len(split) / 8), list[float]()
    model.train()
    for _ in range(2):
        for batch in torch.randperm(len(split), generator=order).split(8):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - len(losses) / num_steps)
            firsts = [split.sequences[row] for row in batch]
            seconds = [split.seconds[row] for row in batch] if split.seconds else None
            inputs = tokenizer(firsts, seconds, truncation=True, max_length=128, padding=True, return_tensors="pt")
            loss = model(**inputs, labels=targets[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert result.losses == pytest.approx(losses, rel=1e-3)


def test_the_final_checkpoint_counts_on_glue_whose_dev_set_is_its_test_set(tiny_model: Path, task_files: Path) -> None:
    result, reports, memory = train(tiny_model, task_files, task="rte", num_epochs=5, patience=1, learning_rate=3e-3)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5], "patience plays no part"
    assert result.metrics["best_epoch"] == 5
    assert result.metrics["valid/score"] == reports[-1].valid_score == result.metrics["test/score"]
    assert len(rows(memory, "test.csv")) == 12


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("cola", ["matthews", "accuracy"]),
        ("sst2", ["accuracy"]),
        ("mrpc", ["f1", "accuracy"]),
        ("qqp", ["f1", "accuracy"]),
        ("stsb", ["spearman", "pearson"]),
        ("mnli", ["accuracy", "accuracy_matched", "accuracy_mismatched"]),
        ("qnli", ["accuracy"]),
        ("rte", ["accuracy"]),
        ("localization", ["accuracy"]),
        ("stability", ["spearman", "pearson"]),
        ("composer", ["accuracy", "segment_accuracy"]),
    ],
)
def test_each_task_logs_its_metrics_and_the_first_is_the_score(
    tiny_model_for_music: Path, task_files: Path, task: str, metrics: list[str]
) -> None:
    result, _, memory = train(tiny_model_for_music, task_files, task=task, num_epochs=1)
    for split in ("valid", "test"):
        logged = [name for name in result.metrics if name.startswith(f"{split}/")]
        assert logged == [f"{split}/score", *(f"{split}/{name}" for name in metrics)]
        assert result.metrics[f"{split}/score"] == result.metrics[f"{split}/{metrics[0]}"]
    assert memory.series["valid/score"][-1][1] == result.metrics["valid/score"]


def test_mnli_is_the_mean_of_matched_and_mismatched(tiny_model: Path, task_files: Path) -> None:
    result, _, memory = train(tiny_model, task_files, task="mnli", num_epochs=2)
    table, metrics = rows(memory, "test.csv"), result.metrics
    for subset in ("matched", "mismatched"):
        right = [row["label"] == row["prediction"] for row in table if row["subset"] == subset]
        assert len(right) == 12 and np.mean(right) == metrics[f"test/accuracy_{subset}"]
    assert metrics["test/score"] == (metrics["test/accuracy_matched"] + metrics["test/accuracy_mismatched"]) / 2


def test_numbers_are_standardised_on_the_training_examples_that_are_used(tiny_model: Path, task_files: Path) -> None:
    config = TrialConfig(task="stability", model=str(tiny_model), num_epochs=1, max_train_examples=10)
    trial = Trial(config, Memory(), data_dir=task_files, num_threads=1)
    labels = trial.dataset.train.labels
    objective = trial.objective
    assert (objective.mean, objective.std) == pytest.approx((labels[:10].mean(), labels[:10].std()))  # type: ignore[union-attr]
    targets = trial.examples["train"].targets_N[:10]
    assert (float(targets.mean()), float(targets.std(correction=0))) == pytest.approx((0, 1), abs=1e-5)


def test_numbers_are_predicted_and_scored_on_their_own_scale(tiny_model: Path, tmp_path: Path) -> None:
    """A model that has barely learned errs by as much as the labels spread, wherever they lie."""
    lines = [f"{'xy'[number % 2] * 5}{number:03},{5000 + number}" for number in range(100)]
    (tmp_path / "far.csv").write_text("\n".join(["sequence,label", *lines]))
    result, _, memory = train(tiny_model, tmp_path, task="far.csv", num_epochs=1)
    table = rows(memory, "test.csv")
    labels = np.array([float(row["label"]) for row in table])
    predictions = np.array([float(row["prediction"]) for row in table])
    assert labels.min() >= 5000 and np.abs(predictions - 5050).max() < 100
    assert np.corrcoef(labels, predictions)[0, 1] == pytest.approx(result.metrics["test/pearson"])


def test_a_planted_number_is_learned(tiny_model: Path, task_files: Path) -> None:
    settings = {"task": "stability", "num_epochs": 40, "patience": 40, "learning_rate": 1e-2, "seed": 5}
    result, _, _ = train(tiny_model, task_files, **settings)
    assert np.mean(result.losses[:4]) > 0.8 and np.mean(result.losses[-4:]) < 0.5
    # Of 20 examples each: one split's rank correlation alone says little.
    assert np.mean([result.metrics["valid/spearman"], result.metrics["test/spearman"]]) > 0.3


def test_predictions_say_which_line_of_the_users_file_they_are_of(tiny_model: Path, tmp_path: Path) -> None:
    lines = [f"{'xy'[number % 2] * 5}{number:03},{number}.5" for number in range(60)]
    (tmp_path / "own.csv").write_text("\n".join(["sequence,label", *lines]))
    _, _, memory = train(tiny_model, tmp_path, task="own.csv", num_epochs=1)
    found = rows(memory, "test.csv")
    assert len(found) == 3 and all(float(row["label"]) == int(row["example"]) + 0.5 for row in found)


def test_segments_name_their_piece_also_where_pieces_are_drawn(tiny_model_for_music: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        lowest = 30 if number % 2 else 70
        path = tmp_path / f"mine/{'low' if number % 2 else 'high'}/{number:02}.mid"
        write_midi(path, rng.integers(lowest, lowest + 9, 300).tolist())
    _, _, memory = train(tiny_model_for_music, tmp_path, task="./mine", num_epochs=1)
    pieces, segments = rows(memory, "test.csv"), rows(memory, "segments.csv")
    labels = {row["example"]: row["label"] for row in pieces}
    assert len(labels) == 2 and {row["piece"] for row in segments} == set(labels)
    assert all(row["label"] == labels[row["piece"]] for row in segments)


def test_pieces_of_music_are_decided_by_their_segments_votes(tiny_model_for_music: Path, task_files: Path) -> None:
    result, _, memory = train(
        tiny_model_for_music, task_files, task="composer", num_epochs=20, learning_rate=5e-3, seed=2
    )
    pieces, segments = rows(memory, "test.csv"), rows(memory, "segments.csv")
    assert len(pieces) == 3 < len(segments)
    for piece in pieces:
        votes = [row["prediction"] for row in segments if row["piece"] == piece["example"]]
        assert votes.count(piece["prediction"]) == max(map(votes.count, votes))
        assert {row["label"] for row in segments if row["piece"] == piece["example"]} == {piece["label"]}
    accuracy = {
        name: np.mean([row["label"] == row["prediction"] for row in table])
        for name, table in (("accuracy", pieces), ("segment_accuracy", segments))
    }
    assert {name: result.metrics[f"test/{name}"] for name in accuracy} == pytest.approx(accuracy)
    assert result.metrics["test/segment_accuracy"] > 0.6


def test_a_long_protein_keeps_both_ends_within_the_models_512_positions(tiny_model: Path, task_files: Path) -> None:
    config = TrialConfig(task="localization", model=str(tiny_model))
    dataset = load_dataset(config.definition, task_files)
    encoded = encode_dataset(config, task_files, tiny_model)["train"]
    longest = max(range(len(dataset.train)), key=lambda row: len(dataset.train.sequences[row]))
    sequence = dataset.train.sequences[longest]
    assert len(sequence) > 512 == encoded.lengths_N[longest] == encoded.ids_NT.shape[1]
    token = dict(zip(sequence[:255], encoded.ids_NT[longest, 1:256].tolist(), strict=True))
    assert [token[symbol] for symbol in sequence[-255:]] == encoded.ids_NT[longest, 256:511].tolist()


@pytest.mark.parametrize("task", ["mrpc", "h4"])
def test_only_the_training_examples_that_are_used_are_encoded(tiny_model: Path, task_files: Path, task: str) -> None:
    config = TrialConfig(task=task, model=str(tiny_model), max_train_examples=5)
    assert len(encode_dataset(config, task_files, tiny_model)["train"].lengths_N) == 5


def test_max_length_cuts_what_is_longer(tiny_model: Path, task_files: Path) -> None:
    for task, tokens in (("h4", 22), ("mrpc", 20)):
        config = TrialConfig(task=task, model=str(tiny_model), max_length=20)
        assert encode_dataset(config, task_files, tiny_model)["train"].ids_NT.shape[1] == tokens
        assert config.settings()["max_length"] == 20
    assert "max_length" not in TrialConfig(task="h4", max_length=500).settings()


@pytest.mark.parametrize("mapping", ["shift", "permutation"])
def test_a_text_under_a_mapping_is_another_text_to_the_model(tiny_model: Path, task_files: Path, mapping: str) -> None:
    def losses(**fields: Any) -> list[float]:
        return train(tiny_model, task_files, task="cola", num_epochs=1, **fields)[0].losses

    mapped = losses(mapping=mapping)
    assert len({tuple(mapped), tuple(losses()), tuple(losses(mapping=mapping, keep_special_tokens=True))}) == 3
    assert mapped == losses(mapping=mapping)


def shrunk(real_models: Path, folder: Path, model: str) -> Path:
    """The real vocabulary and special tokens of a model around a tiny body."""
    folder.mkdir()
    for path in (real_models / model).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config |= {"embedding_size": 16} if "albert" in model else {}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("model", ["roberta-base", "albert-base-v1", "bert-base-chinese"])
@pytest.mark.parametrize("task", ["mrpc", "composer", "localization"])
def test_every_architecture_learns_every_kind_of_task(
    real_models: Path, task_files: Path, tmp_path: Path, model: str, task: str
) -> None:
    folder = shrunk(real_models, tmp_path / model, model)
    result, _, _ = train(
        folder, task_files, task=task, init="scratch", num_epochs=1, max_train_examples=16, batch_size=8
    )
    assert result.outcome == "finished"


@pytest.mark.parametrize(("model", "first"), [("roberta-base", 2), ("bert-base-uncased", 0)])
def test_positions_count_up_whatever_a_text_is_mapped_to(
    real_models: Path, task_files: Path, tmp_path: Path, model: str, first: int
) -> None:
    """RoBERTa, left to itself, takes every token with its padding id for padding, and a mapping makes such tokens."""
    folder = shrunk(real_models, tmp_path / model, model)
    config = TrialConfig(task="cola", model=str(folder), init="scratch", mapping="permutation")
    trial = Trial(config, Memory(), data_dir=task_files, num_threads=1)
    seen: list[torch.Tensor] = []
    positions = trial.learner.model.get_submodule(
        f"{trial.learner.model.base_model_prefix}.embeddings.position_embeddings"
    )
    positions.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    examples = trial.examples["train"]
    trial.learner.logits(examples.batch(torch.arange(1))[0])
    length = int(examples.lengths_N[0])  # what fills a batch up comes after it
    assert seen[0][0, :length].tolist() == list(range(first, first + length))
