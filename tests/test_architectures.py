"""Every architecture through the one code path, and clear words for all others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import refusal
from trainer.architectures import ARCHITECTURES, max_tokens_of, read_inputs
from trainer.models import build_model, find_model, read_config, read_vocabulary, word_embeddings_name

MAX_TOKENS = 160  # more than ModernBERT's window of 128
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "and", "not"]
SENTENCES = ["the cat sat", "a dog ran on", "the dog and the cat sat on a mat", "the mat ran", "a cat", "a dog sat on"]
SECONDS = ["a cat ran and ran", "the mat", "a dog", "not a cat", "the dog sat on a cat", "on a mat"]
PRE_TRAINED_AS = ["Model", "ModelForMaskedLM", "ModelForSequenceClassification"]


def build_tokenizer(model_type: str) -> Any:
    """The architecture's own tokenizer, with its own special tokens and template, for a few words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [(f"▁{word}", -2.0) for word in WORDS]
    starts = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    bert = {token: place for place, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    match model_type:
        case "roberta":
            letters = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "<mask>"]
            return transformers.RobertaTokenizer(vocab={token: place for place, token in enumerate(letters)}, merges=[])
        case "xlm-roberta":
            return transformers.XLMRobertaTokenizer(vocab=starts)
        case "camembert":
            return transformers.CamembertTokenizer(vocab=starts, additional_special_tokens=[])
        case "albert":
            specials = [(token, 0.0) for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
            return transformers.AlbertTokenizer(vocab=[*specials, *pieces])
        case "modernbert":
            backend = Tokenizer(models.WordPiece(bert, unk_token="[UNK]"))
            backend.pre_tokenizer = pre_tokenizers.Whitespace()
            backend.post_processor = processors.TemplateProcessing(
                single="[CLS] $A [SEP]",
                pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
            )
            names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
            taken = ["input_ids", "attention_mask"]
            return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=taken, **names)
        case "electra" | "distilbert" | "bert":
            return transformers.BertTokenizer(vocab=bert)
    raise AssertionError(f"no tokenizer for {model_type}")


def build_config(model_type: str, tokenizer: Any) -> Any:
    """2 layers, 32 hidden units; ALBERT's and ELECTRA's embeddings are narrower, as the real ones' are."""
    from transformers import AutoConfig

    first = tokenizer.pad_token_id + 1 if ARCHITECTURES[model_type].counts_from_padding else 0
    more = {"albert": {"embedding_size": 16}, "electra": {"embedding_size": 16}, "distilbert": {"hidden_dim": 64}}
    return AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS + first,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        **more.get(model_type, {}),
    )


def write_model(folder: Path, model_type: str, kind: str = "Model") -> Path:
    """A tiny model whose weights are unlike a fresh draw, saved next to its tokenizer."""
    import transformers

    tokenizer = build_tokenizer(model_type)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    auto = getattr(transformers, f"Auto{kind}")
    model = auto.from_config(build_config(model_type, tokenizer))
    for parameter in model.parameters():
        parameter.data.mul_(3).add_(0.01)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("architectures") / request.param, request.param)


def build(folder: Path, init: str, seed: int = 0) -> torch.nn.Module:
    return build_model(folder, init=init, num_outputs=3, seed=seed)


def state(folder: Path, init: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(build(folder, init, seed).state_dict())


def test_scratch_is_the_architectures_own_initialisation(tiny: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(5)
    config = AutoConfig.from_pretrained(tiny, num_labels=3)
    expected = AutoModelForSequenceClassification.from_config(config).state_dict()
    ours = state(tiny, "scratch", seed=5)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_reinit_embeddings_draws_the_word_embeddings_of_scratch_and_nothing_else(tiny: Path) -> None:
    ours, pretrained, scratch = (state(tiny, init, 4) for init in ("reinit-embeddings", "pretrained", "scratch"))
    name = word_embeddings_name(build(tiny, "scratch"))
    assert {n for n in ours if not torch.equal(ours[n], pretrained[n])} == {name}
    assert torch.equal(ours[name], scratch[name])
    assert len(ours[name]) == len(read_vocabulary(tiny).tokens)


def test_the_embedding_of_padding_is_zero_and_stays_so_where_the_architecture_has_it_so(tiny: Path) -> None:
    model: Any = build(tiny, "reinit-embeddings")
    embeddings, padding = model.get_input_embeddings(), read_vocabulary(tiny).pad_id
    assert embeddings.padding_idx == padding, "its gradient is always zero"
    own = state(tiny, "scratch")[word_embeddings_name(model)][padding]
    assert torch.equal(embeddings.weight[padding], own)
    assert bool((own == 0).all()) == (model.config.model_type != "modernbert"), "ModernBERT draws it like the others"


@pytest.mark.parametrize("kind", PRE_TRAINED_AS)
def test_bodies_load_from_whatever_was_saved_around_them(tiny: Path, tmp_path: Path, kind: str) -> None:
    folder = write_model(tmp_path / "model", tiny.name, kind)
    model: Any = build(folder, "pretrained")
    body, ours, scratch = f"{model.base_model_prefix}.", dict(model.state_dict()), state(folder, "scratch")
    saved = {name.removeprefix(body): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    for name, tensor in ours.items():
        inner = name.removeprefix(body)
        is_saved = name.startswith(body) and inner in saved
        assert torch.equal(tensor, saved[inner] if is_saved else scratch[name]), name
        assert is_saved or not name.startswith(body) or inner.startswith("pooler."), f"{name} was drawn"


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_longest_sequence_is_learned_from_deterministically(
    tiny: Path, is_masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.randint(5, 15, (2, MAX_TOKENS), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    if is_masked:
        inputs["attention_mask"] = torch.arange(MAX_TOKENS) < torch.tensor([[MAX_TOKENS], [MAX_TOKENS - 40]])

    def gradients() -> list[torch.Tensor]:
        model: Any = build(tiny, "pretrained")
        logits = model.train()(**inputs).logits
        assert logits.dtype == torch.float32
        logits.square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(), gradients()
    finally:
        torch.use_deterministic_algorithms(False)
    assert first and all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_padding_changes_nothing(tiny: Path) -> None:
    """A row gives the same without a mask as it does beside a longer one, padded and masked."""
    model: Any = build(tiny, "pretrained").eval()
    padding = read_vocabulary(tiny).pad_id
    row = torch.randint(5, 15, (1, 100), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([row, torch.full((1, MAX_TOKENS - 100), padding)], dim=1)
    with torch.inference_mode():
        alone = model(input_ids=row).logits
        beside = model(input_ids=padded, attention_mask=torch.arange(MAX_TOKENS)[None] < 100).logits
    assert torch.allclose(alone, beside, atol=1e-5)


def test_the_longest_sequence_is_known_without_transformers(tiny: Path) -> None:
    assert max_tokens_of(tiny) == read_inputs(read_config(tiny, 1)).max_tokens == MAX_TOKENS


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_what_config_json_leaves_out_is_taken_as_transformers_takes_it(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    from transformers import AutoConfig

    assert max_tokens_of(tmp_path) == read_inputs(AutoConfig.for_model(model_type)).max_tokens


def test_token_types_are_not_given_to_an_architecture_that_has_none() -> None:
    """Whatever its config.json says: it may have been made from another model's."""
    from transformers import AutoConfig

    for model_type in ("distilbert", "modernbert"):
        assert not read_inputs(AutoConfig.for_model(model_type, type_vocab_size=2)).token_types
    assert not read_inputs(AutoConfig.for_model("roberta", type_vocab_size=1)).token_types
    assert read_inputs(AutoConfig.for_model("electra")).token_types


@pytest.mark.parametrize(
    ("model", "model_type"),
    [
        ("bert-base-uncased", "bert"),
        ("bert-base-chinese", "bert"),
        ("roberta-base", "roberta"),
        ("albert-base-v1", "albert"),
        ("all-MiniLM-L6-v2", "bert"),
    ],
)
def test_the_papers_models_are_known_and_take_512_tokens(real_models: Path, model: str, model_type: str) -> None:
    folder = find_model(str(real_models / model), needs_weights=model == "all-MiniLM-L6-v2")
    config = read_config(folder, 1)
    assert (config.model_type, max_tokens_of(folder), read_inputs(config).max_tokens) == (model_type, 512, 512)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"model_type": "gpt2"}', "unknown value 'gpt2'; allowed: bert, roberta, albert, electra, distilbert, modern"),
        ('{"model_type": "t5"}', "unknown value 't5'; allowed: bert"),
        ('{"model_type": "distillbert"}', "did you mean 'distilbert'?"),
        ('{"vocab_size": 100}', "config.json has no model_type; known are bert, roberta"),
        ('{"model_type": "bert", "is_decoder": true}', "only encoders can be trained"),
        ('["bert"]', "config.json holds no JSON object"),
        ('{"model_type"', "config.json cannot be read (JSONDecodeError"),
    ],
)
def test_other_architectures_are_refused_from_config_json_alone(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)
    message = refusal(lambda: find_model(str(tmp_path), needs_weights=True))
    assert message.startswith("model: ") and said in message


def test_a_config_json_that_lacks_a_number_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert "config.json cannot be read (TypeError" in refusal(lambda: max_tokens_of(folder))
