"""What a user can get wrong when pre-training: one clear line each, before anything is trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import refusal, run_module
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus
from trainer.pretraining.sizes import SIZES

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"corpus": ""}, "corpus: '' is not allowed"),
    ({"model": ""}, "model: '' is not allowed"),
    ({"size": "smal"}, "did you mean 'small'?"),
    ({"num_steps": 0}, "num_steps: 0 is not allowed"),
    ({"batch_size": -1}, "batch_size: -1 is not allowed"),
    ({"micro_batch_size": 0}, "micro_batch_size: 0 is not allowed"),
    ({"learning_rate": float("nan")}, "learning_rate: nan is not allowed"),
    ({"weight_decay": 2.0}, "weight_decay: 2.0 is not allowed; give a number from 0 to 1"),
    ({"seed": -1}, "seed: -1 is not allowed"),
    ({"max_length": 3}, "max_length: 3 is not allowed; give 4 tokens or more"),
    ({"max_length": 9}, "max_length: 9 is not allowed, brackets come in pairs; give an even number"),
    ({"corpus": "flat", "max_length": 9}, "brackets come in pairs"),
    ({"num_warmup_steps": 10_001}, "num_warmup_steps: 10001 is not allowed; give 0 to num_steps, 10000"),
    ({"checkpoint_steps": ("0", "all")}, "checkpoint_steps: '0,all' is not allowed; give whole numbers with commas"),
    ({"checkpoint_steps": (10_001,)}, "checkpoint_steps: 10001 is not allowed; give steps from 0 to num_steps, 10000"),
    ({"checkpoint_steps": ("-1",)}, "checkpoint_steps: -1 is not allowed"),
    ({"vocabulary_size": 5000}, "'nested' has no text that a tokenizer could be trained on"),
    ({"num_kinds": 0}, "num_kinds: 0 is not allowed"),
    ({"corpus": "my.txt", "num_kinds": 5}, "num_kinds: for generated corpora (uniform, flat, nested) alone"),
    ({"corpus": "my.txt", "vocabulary_size": 99}, "vocabulary_size: 99 is not allowed; give 100 tokens or more"),
]


@pytest.mark.parametrize(("settings", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_setting_that_is_not_allowed_is_one_line_with_the_remedy(settings: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: PretrainConfig(**settings))


def test_what_is_left_out_is_filled_in() -> None:
    config = PretrainConfig(num_steps=55)
    assert (config.num_warmup_steps, config.kept_steps) == (6, (0, 55))
    assert PretrainConfig(num_steps=55, checkpoint_steps=(20, 5)).kept_steps == (5, 20, 55)
    assert PretrainConfig(num_steps=55, checkpoint_steps=("0", "5")).kept_steps == (0, 5, 55)  # type: ignore[arg-type]
    assert PretrainConfig(corpus="uniform", max_length=9).content_length == 7


def test_only_what_plays_a_part_is_recorded() -> None:
    idle = {"size", "vocabulary_size", "num_kinds", "micro_batch_size"}
    recorded = PretrainConfig().settings()
    assert not idle & {*recorded}
    assert recorded["checkpoint_steps"] == (0, 10_000)
    assert PretrainConfig(size="tiny", num_kinds=3).settings()["num_kinds"] == 3


def test_the_sizes_are_those_of_the_published_models() -> None:
    shapes = {name: (size.num_layers, size.hidden_size, size.settings()) for name, size in SIZES.items()}
    assert [shape[:2] for shape in shapes.values()] == [
        (2, 128),
        (4, 256),
        (4, 512),
        (8, 512),
        (12, 768),
        (24, 1024),
    ]
    base = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    assert shapes["base"][2] == base


def changed_copy(model: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a model folder whose config.json says something else."""
    shutil.copytree(model, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def config(model: Path, **settings: Any) -> PretrainConfig:
    return PretrainConfig(model=str(model), **{"num_steps": 2, "max_length": 8, "batch_size": 2, **settings})


def test_more_kinds_than_the_vocabulary_has_are_refused(tiny_model: Path) -> None:
    assert open_corpus(config(tiny_model, num_kinds=100))
    message = refusal(lambda: open_corpus(config(tiny_model, num_kinds=101)))
    assert "num_kinds: 101 is not allowed, the vocabulary has 100 ordinary tokens" in message
    assert "give fewer, or another model" in message


def test_longer_sequences_than_the_model_takes_are_refused(tiny_model: Path) -> None:
    assert open_corpus(config(tiny_model, max_length=512))
    message = refusal(lambda: open_corpus(config(tiny_model, max_length=514)))
    assert message == "max_length: 514 is not allowed; the model takes 512 tokens"


@pytest.mark.parametrize("name", ["distilbert", "electra", "modernbert"])
def test_an_architecture_that_cannot_be_pretrained_is_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = changed_copy(tiny_model, tmp_path / "model", model_type=name)
    message = refusal(lambda: open_corpus(config(folder)))
    assert f"to be pre-trained: unknown value {name!r}; allowed: bert, roberta, albert" in message


def test_a_tokenizer_without_a_mask_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed_copy(tiny_model, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mask_token": None}))
    assert "has no mask token; give another model" in refusal(lambda: open_corpus(config(folder)))


@pytest.mark.parametrize("more", [{}, {"vocabulary_size": 100}])
def test_a_cache_that_cannot_be_written_is_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, int]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "a.txt").write_text("abc " * 100)
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "file/cache"))
    message = refusal(lambda: open_corpus(config(tiny_model, corpus=str(tmp_path / "a.txt"), **more)))
    assert message.startswith("POLYMATH_DATA: ")
    assert "cannot be written" in message
    assert "set it to a folder with room" in message


def test_the_command_ends_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"na\xefve")
    wrong = {"corpus": str(tmp_path / "a.txt"), "model": str(tiny_model), "output": str(tmp_path / "out")}
    options = [word for name, value in wrong.items() for word in (f"--{name}", value)]
    ended = run_module("trainer.pretrain", *options, POLYMATH_DATA=str(tmp_path / "cache"))
    assert ended.returncode == 2
    assert ended.stderr == f"error: corpus: {tmp_path}/a.txt, line 1: not UTF-8; convert the file\n"
    assert not (tmp_path / "out").exists()
