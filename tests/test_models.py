"""Finding a model's files, and the inits; tests/test_architectures.py has them for every architecture."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT, refusal
from trainer import models
from trainer.architectures import max_tokens_of
from trainer.config import INITS
from trainer.errors import UserError
from trainer.models import build_model, find_model, read_vocabulary, word_embeddings_name

LAST_LAYER = "encoder.layer.1."


def state(folder: Path, init: str, seed: int = 0, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    model = build_model(folder, init=init, num_outputs=3, seed=seed, checkpoint=checkpoint or folder)
    return dict(model.state_dict())


def saved_as(folder: Path, source: Path, **changes: Any) -> Path:
    """A copy of a model folder with its weights saved anew; changes are save_pretrained's."""
    from transformers import BertModel

    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    BertModel.from_pretrained(source).save_pretrained(folder, **changes)
    return folder


def with_weights(folder: Path, source: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A copy of a model folder with other weights."""
    shutil.copytree(source, folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


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

    models._read_weights.cache_clear()
    state(tiny_model, init, seed=3)
    cold = torch.rand(4)
    state(tiny_model, init, seed=3)
    assert torch.equal(torch.rand(4), cold)


def test_half_precision_weights_are_trained_in_single_precision(tiny_model: Path, tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    folder = with_weights(tmp_path / "half", tiny_model, halves)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    for init in INITS:
        assert {tensor.dtype for tensor in state(folder, init).values() if tensor.is_floating_point()} == {
            torch.float32
        }


def test_real_weights_are_read_whole(real_models: Path) -> None:
    folder = find_model(str(real_models / "all-MiniLM-L6-v2"), needs_weights=True)
    ours, saved = state(folder, "pretrained"), load_file(folder / "model.safetensors")
    body = {name.removeprefix("bert.") for name in ours if name.startswith("bert.")}
    assert body == saved.keys() - {"embeddings.position_ids"}
    assert all(torch.equal(ours[f"bert.{name}"], saved[name].float()) for name in body)


def test_weights_under_the_layer_norms_old_names_are_read(tiny_model: Path, tmp_path: Path) -> None:
    """bert-base-uncased on the hub still has them."""
    old_names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(tiny_model / "model.safetensors")
    for new, old in old_names.items():
        weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    folder = with_weights(tmp_path / "old", tiny_model, weights)
    ours, expected = state(folder, "pretrained"), state(tiny_model, "pretrained")
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_weights_in_shards_are_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    folder = saved_as(tmp_path / "large", tiny_model, max_shard_size="50KB")
    assert len([*folder.glob("model-*.safetensors")]) > 2
    assert find_model(str(folder), needs_weights=True) == folder.resolve()
    ours, expected = state(folder, "pretrained"), state(tiny_model, "pretrained")
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_missing_shard_is_named_before_anything_starts(tiny_model: Path, tmp_path: Path) -> None:
    folder = saved_as(tmp_path / "large", tiny_model, max_shard_size="50KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    (folder / shards[1]).unlink()
    message = refusal(lambda: find_model(str(folder), needs_weights=True))
    assert f"lacks 1 of the {len(shards)} files with its weights (first {shards[1]})" in message
    (folder / "model.safetensors.index.json").write_text("{")
    assert "index.json cannot be read" in refusal(lambda: find_model(str(folder), needs_weights=True))


@pytest.mark.parametrize("init", ["pretrained", "reinit-embeddings"])
def test_no_weight_of_the_body_is_drawn_silently(tiny_model: Path, tmp_path: Path, init: str) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(LAST_LAYER)}
    folder = with_weights(tmp_path / "model", tiny_model, kept)
    message = refusal(lambda: state(folder, init))
    assert f"{len(weights) - len(kept)} weights are missing, first {LAST_LAYER}attention" in message


def test_no_layer_of_the_file_is_left_out_silently(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    third = {name.replace(LAST_LAYER, "encoder.layer.2."): weights[name].clone() for name in weights}
    folder = with_weights(tmp_path / "model", tiny_model, {**third, **weights})
    assert "16 weights belong to more layers, first encoder.layer.2." in refusal(lambda: state(folder, "pretrained"))


def test_init_checkpoint_has_its_weights_in_the_models_architecture(tiny_model: Path, tmp_path: Path) -> None:
    """The folder of a pre-training step needs nothing but weights; the classifier is the one of every init."""
    weights = {name: tensor + 1 for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    step = tmp_path / "step-7"
    step.mkdir()
    save_file(weights, step / "model.safetensors", metadata={"format": "pt"})
    ours, scratch = state(tiny_model, "checkpoint", 4, step), state(tiny_model, "scratch", 4)
    for name in ours:
        saved = weights.get(name.removeprefix("bert."), scratch[name])
        assert torch.equal(ours[name], saved), name
    assert not torch.equal(ours["bert.pooler.dense.weight"], scratch["bert.pooler.dense.weight"])


def test_a_checkpoint_of_another_architecture_is_refused_with_the_remedy(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = torch.zeros(900, 32)
    step = with_weights(tmp_path / "step-7", tiny_model, weights)
    message = refusal(lambda: state(tiny_model, "checkpoint", checkpoint=step))
    assert message == (
        f"checkpoint: the weights in {step} do not fit the architecture of {tiny_model} "
        "(bert.embeddings.word_embeddings.weight is (900, 32), not (1100, 32)); "
        "give model=the folder whose config they were trained with"
    )


def test_a_protein_bert_with_a_letter_for_each_token_is_a_bert_like_any_other(tmp_path: Path) -> None:
    """The form in which PLUS-TFM (arXiv 1912.05625) comes."""
    from transformers import BertConfig, BertForMaskedLM

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWYBOUXZ"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    config = BertConfig(vocab_size=len(tokens), hidden_size=32, num_attention_heads=2, intermediate_size=64)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    folder = find_model(str(tmp_path), needs_weights=True)
    vocabulary = read_vocabulary(folder)
    assert vocabulary.tokens == tuple(tokens)
    assert (vocabulary.begin_id, vocabulary.end_id, vocabulary.pad_id) == (2, 3, 0)
    assert max_tokens_of(folder) == 512
    saved = load_file(folder / "model.safetensors")
    ours = state(folder, "pretrained")
    body = [name for name in ours if name.startswith("bert.") and ".pooler." not in name]
    assert len(body) > 12 * 16 and all(torch.equal(ours[name], saved[name]) for name in body)


def test_a_model_is_found_without_importing_torch_or_transformers(tiny_model: Path) -> None:
    code = (
        "import sys; from trainer.architectures import max_tokens_of; from trainer.models import find_model;"
        f"print(max_tokens_of(find_model({str(tiny_model)!r}, needs_weights=True)), "
        "{'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "512 set()", done.stderr


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


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.pt",
        "model.ckpt",
        "bert_model.ckpt.index",
        "model.pkl",
        "flax_model.msgpack",
        "tf_model.h5",
    ],
)
def test_weights_that_are_not_safetensors_are_refused_with_the_remedy(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / name)
    (folder / "aaa_optimizer.pt").touch()
    message = refusal(lambda: find_model(str(folder), needs_weights=True))
    assert f"has its weights in {name}, and only safetensors are read" in message
    assert "load it with transformers on a machine that you trust" in message and "inits=scratch" in message
    assert find_model(str(folder), needs_weights=False) == folder.resolve(), "scratch needs none"


@pytest.mark.parametrize("content", [b"", b"not weights", None], ids=["empty", "garbage", "truncated"])
def test_broken_weights_are_refused_in_one_line(tiny_model: Path, tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2] if content is None else content)
    message = refusal(lambda: build_model(folder, init="pretrained", num_outputs=2, seed=0))
    assert message.startswith(f"model: the weights in {folder} cannot be read (SafetensorError")
    message = refusal(lambda: state(tiny_model, "checkpoint", checkpoint=folder))
    assert message.startswith(f"checkpoint: the weights in {folder} cannot be read (SafetensorError")


def test_a_mistyped_folder_suggests_its_neighbour(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'tiny-bert'"):
        find_model(str(tiny_model.parent / "tiny-bart"), needs_weights=True)


def test_a_model_that_cannot_be_fetched_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="model: 'no-such/model' is not in the local Hugging Face cache") as raised:
        find_model("no-such/model", needs_weights=True)
    assert "\n" not in str(raised.value)


def test_a_uri_is_left_to_those_who_have_a_tracking_store(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "runs:/0123abc/checkpoints/step-1000"
    message = refusal(lambda: find_model(uri, needs_weights=False))
    assert message == (
        f"model: '{uri}' needs a tracking store; use a sweep or `python -m sweeps.train`, which fetch it, or give a "
        "local folder"
    )
    monkeypatch.setattr(models, "_provided", {})
    models.provide_model(uri, tiny_model)
    assert find_model(uri, needs_weights=True) == tiny_model.resolve()


def test_a_name_on_the_hub_without_safetensors_is_told_in_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository as the hub's own cache keeps it, of which only configuration and tokenizer could be fetched."""
    from huggingface_hub import constants

    repository = tmp_path / "models--some--model"
    shutil.copytree(tiny_model, repository / "snapshots/0123", ignore=shutil.ignore_patterns("*.safetensors"))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(lambda: find_model("some/model", needs_weights=True))
    assert message.startswith("model: 'some/model' has no weights (model.safetensors); other weights are never")
    assert find_model("some/model", needs_weights=False).name == "0123"
