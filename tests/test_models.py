"""Finding a model's files, and the three inits."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.config import INITS
from trainer.errors import UserError
from trainer.models import build_model, find_model, read_vocabulary, word_embeddings_name


def state(folder: Path, init: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(build_model(folder, init=init, num_outputs=3, seed=seed).state_dict())


def test_scratch_is_the_architectures_own_initialisation(tiny_model: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(5)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=3)
    expected = AutoModelForSequenceClassification.from_config(config).state_dict()
    ours = state(tiny_model, "scratch", seed=5)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_pretrained_has_the_files_weights_and_a_new_classifier(tiny_model: Path) -> None:
    saved = load_file(tiny_model / "model.safetensors")
    ours, scratch = state(tiny_model, "pretrained"), state(tiny_model, "scratch")
    assert all(torch.equal(ours[f"bert.{name}"], tensor) for name, tensor in saved.items())
    new = ours.keys() - {f"bert.{name}" for name in saved}
    assert new == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(ours[name], scratch[name]) for name in new)


def test_reinit_embeddings_differs_from_pretrained_in_the_word_embeddings_alone(tiny_model: Path) -> None:
    ours, pretrained, scratch = (state(tiny_model, init) for init in ("reinit-embeddings", "pretrained", "scratch"))
    name = word_embeddings_name(build_model(tiny_model, init="scratch", num_outputs=3, seed=0))
    assert {n for n in ours if not torch.equal(ours[n], pretrained[n])} == {name}
    assert torch.equal(ours[name], scratch[name]), "drawn as scratch draws them"


@pytest.mark.parametrize("init", INITS)
def test_a_warm_process_builds_what_a_cold_one_does(tiny_model: Path, init: str) -> None:
    """Cached weights must not shift the random numbers that dropout draws later."""
    from trainer import models

    models._pretrained_weights.cache_clear()
    build_model(tiny_model, init=init, num_outputs=2, seed=3)
    cold = torch.rand(4)
    build_model(tiny_model, init=init, num_outputs=2, seed=3)
    assert torch.equal(torch.rand(4), cold)


def test_half_precision_weights_are_trained_in_single_precision(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_model, folder)
    halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    for init in INITS:
        assert {tensor.dtype for tensor in state(folder, init).values() if tensor.is_floating_point()} == {
            torch.float32
        }


@pytest.mark.parametrize("model", ["bert-base-uncased", "roberta-base", "albert-base-v1"])
def test_real_vocabularies_are_read_whole(real_models: Path, model: str) -> None:
    sizes = {"bert-base-uncased": 30522, "roberta-base": 50265, "albert-base-v1": 30000}
    ends = {"bert-base-uncased": (101, 102, 0), "roberta-base": (0, 2, 1), "albert-base-v1": (2, 3, 0)}
    vocabulary = read_vocabulary(real_models / model)
    assert len(vocabulary.tokens) == sizes[model]
    assert (vocabulary.begin_id, vocabulary.end_id, vocabulary.pad_id) == ends[model]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", r"no weights \(model.safetensors\).*inits=scratch"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_folder_without_its_files_is_refused(tiny_model: Path, tmp_path: Path, missing: str, said: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for name in [missing, "vocab.txt"] if missing == "tokenizer.json" else [missing]:
        (folder / name).unlink()
    with pytest.raises(UserError, match=said):
        find_model(str(folder), needs_weights=True)


def test_pickled_weights_are_refused_with_the_remedy(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are not read: convert them with save_pretrained"):
        find_model(str(folder), needs_weights=True)
    assert find_model(str(folder), needs_weights=False) == folder


def test_truncated_weights_are_refused_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match=r"model: the weights in .* cannot be read") as raised:
        build_model(folder, init="pretrained", num_outputs=2, seed=0)
    assert "\n" not in str(raised.value)


def test_a_mistyped_folder_suggests_its_neighbour(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'tiny-bert'"):
        find_model(str(tiny_model.parent / "tiny-bart"), needs_weights=True)


def test_a_model_that_cannot_be_fetched_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="model: 'no-such/model' is not in the local Hugging Face cache") as raised:
        find_model("no-such/model", needs_weights=True)
    assert "\n" not in str(raised.value)
