"""What a probe may be asked, what becomes of it, and the one line for everything else."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from sweeps import recorded
from sweeps.probe import Settings, fetch_models
from tests.conftest import refusal
from tests.probe_models import probed
from trainer.commandline import parse
from trainer.models import find_model
from trainer.probes.config import IDLE, KINDS, ProbeConfig
from trainer.probes.inputs import Inputs, read_inputs
from trainer.probes.models import find_models

BOTH = ("some/model", "scratch:1")


def config(**settings: Any) -> ProbeConfig:
    return ProbeConfig(**{"kind": "pwcca", "models": BOTH, "task": "splice"} | settings)


def inputs_of(data_dir: Path, models: Sequence[Path | str], labels: Mapping[str, str] = {}, **settings: Any) -> Inputs:
    """What the models would read."""
    asked = config(**{"models": tuple(map(str, models)), "num_examples": 8} | settings)
    return read_inputs(asked, find_models(asked, labels), data_dir)[0]


def copied(model: Path, folder: Path, **settings: object) -> Path:
    """A model under another config."""
    shutil.copytree(model, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


# -- mistakes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"kind": "pwca"},
            "kind: unknown value 'pwca'; allowed: pwcca, attention, isometry, gradients, perturbation; "
            "did you mean 'pwcca'?",
        ),
        ({"models": ("some/model",)}, "models: some/model given, and pwcca needs two or more: it compares pairs"),
        (
            {"models": ("some/model",), "kind": "attention"},
            "models: some/model given, and attention needs two or more: it compares pairs",
        ),
        ({"models": (), "kind": "isometry"}, "models: none given, and isometry needs one or more"),
        (
            {"models": ("some/model", "hilbert-cnn")},
            "models: 'hilbert-cnn' is not allowed, it is no language model and has nothing to probe",
        ),
        ({"architecture": "hilbert-cnn"}, "architecture: 'hilbert-cnn' is not allowed"),
        ({"models": ("a/b", "c/d", "a/b")}, "models: 'a/b' is there twice; give each once"),
        ({"models": ("scratch:1", "scratch:1")}, "models: 'scratch:1' is there twice; give each once"),
        ({"models": ("scratch", "scratch:0")}, "models: 'scratch:0' is there twice; give each once"),
        *(
            (
                {"models": ("some/model", f"scratch:{seed}")},
                f"models: 'scratch:{seed}' has no seed that is a whole number from 0 to 4294967295",
            )
            for seed in ("abc", "", "-1", "1.5", "4294967296", "²", "9" * 5000)
        ),
        ({"num_examples": 0}, "num_examples: 0 is not allowed; give a number above 0"),
        ({"num_draws": -1}, "num_draws: -1 is not allowed; give a number above 0"),
        ({"batch_size": 2**40}, "batch_size: 1099511627776 is not allowed; give at most 2.14748e+09"),
        ({"kind": "gradients", "num_batches": 1}, "num_batches: 1 is not allowed, pairs are compared; give 2 or more"),
        (
            {"noise_stds": ("1e-2", "few")},
            "noise_stds: '1e-2,few' is not allowed; give numbers above 0, comma-separated",
        ),
        ({"noise_stds": ()}, "noise_stds: '' is not allowed; give numbers above 0, comma-separated"),
        ({"noise_stds": ("1e-2", "0.01")}, "noise_stds: 1e-2,0.01 names one of them twice; give each once"),
        ({"noise_stds": ("0",)}, "noise_stds: 0.0 is not allowed; give a number above 0"),
        ({"noise_stds": ("-1",)}, "noise_stds: -1.0 is not allowed; give a number above 0"),
        ({"noise_stds": ("nan",)}, "noise_stds: nan is not allowed; give a number above 0"),
        ({"noise_stds": ("inf",)}, "noise_stds: inf is not allowed; give at most 1e+06"),
        ({"ridge": -1e-3}, "ridge: -0.001 is not allowed; give a number from 0 to 1"),
        ({"ridge": float("nan")}, "ridge: nan is not allowed; give a number from 0 to 1"),
        ({"split": "dev"}, "split: unknown value 'dev'; allowed: train, valid, test"),
        ({"split": ""}, "split: unknown value ''; allowed: train, valid, test"),
        ({"task": "splise"}, "task: unknown value 'splise'; allowed: "),
        ({"mapping": "shift"}, "mapping: "),
        ({"separator": "-"}, "separator: this is for your own files, and 'splice' is none; leave it out"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"max_length": 0}, "max_length: 0 is not allowed"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_in_a_setting_is_one_line(given: dict[str, Any], said: str) -> None:
    assert refusal(lambda: config(**given)).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--kind pwcca", "models: nothing given; give --models VALUE"),
        ("--models a/b,c/d", "kind: nothing given; give --kind VALUE"),
        ("--kind isometry --models a/b --noise-stds 1e-2;1e-4", "noise_stds: '1e-2;1e-4' is not allowed"),
        ("--kind isometry --models a/b --num-workers 0", "num_workers: 0 is not allowed"),
        ("--kind isometry --models a/b --num-examples few", "num_examples: 'few' is not a whole number"),
        ("--kind isometry --models a/b --dropout on", "dropout: 'on' is not allowed; give true or false"),
        ("--kind isometry --model a/b", "unknown option '--model'; allowed: --kind, --models,"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments: str, said: str) -> None:
    assert refusal(lambda: parse(Settings, arguments.split(), program="", description="")).startswith(said)


def test_scratch_alone_has_no_architecture(tiny_model: Path) -> None:
    alone = {"kind": "isometry", "models": ("scratch", "scratch:1")}
    assert refusal(lambda: find_models(config(**alone))) == (
        "architecture: not given, and models has scratch alone; give the model that it is built like"
    )
    found = find_models(config(**alone, architecture=str(tiny_model)))
    assert [(model.folder, model.is_new, model.seed) for model in found] == [
        (tiny_model, True, 0),
        (tiny_model, True, 1),
    ]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, tiny_model: Path) -> None:
    missing = str(tmp_path / "tiny-brt")
    message = refusal(lambda: find_models(config(models=(str(tiny_model), missing))))
    assert message.startswith(f"models: there is no folder {missing!r}")
    (tmp_path / "tiny-bert").mkdir()
    message = refusal(lambda: find_models(config(models=(missing, "scratch"))))
    assert "did you mean 'tiny-bert'?" in message


def test_weights_are_needed_unless_all_are_drawn(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "no-weights")
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refusal(lambda: find_models(config(models=(str(folder), "scratch"))))
    (new,) = find_models(config(kind="isometry", models=("scratch:3",), architecture=str(folder)))
    assert (new.folder, new.is_new, new.seed) == (folder, True, 3)


def test_too_few_examples_are_one_line(tiny_model: Path, dna_files: Path) -> None:
    models = (tiny_model, "scratch")
    message = refusal(lambda: inputs_of(dna_files, models, num_examples=500))
    assert message == ("num_examples: 500 asked for, but valid of splice has 10; give at most 10, or split=train")
    message = refusal(lambda: inputs_of(dna_files, models, num_examples=500, split="train"))
    assert message.startswith("num_examples: 500 asked for, but train of splice has 180; give at most 180")
    assert "split=train" not in message, "that is what was asked"
    message = refusal(lambda: inputs_of(dna_files, models, kind="gradients"))
    assert message == (
        "num_batches: 32 minibatches of 32 take 1024 examples, and train of splice has 180; give fewer, or a smaller "
        "batch_size"
    )


# -- what goes together


@pytest.fixture
def other_letters(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a tokenizer that has the letters in another order: as many tokens, but others."""
    return with_words(tiny_model, tmp_path / "other-letters", lambda words: words[:1000] + words[:999:-1])


@pytest.fixture
def no_letters(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a tokenizer that knows no letter, so that every word is one unknown token."""
    unknown = [f"word-{place}" for place in range(100)]
    return with_words(tiny_model, tmp_path / "no-letters", lambda words: words[:1000] + unknown)


def with_words(model: Path, folder: Path, change: Any) -> Path:
    from transformers import BertTokenizer

    words = (model / "vocab.txt").read_text().split()
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*token*", "vocab.txt"))
    BertTokenizer(vocab={word: place for place, word in enumerate(change(words))}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["pwcca", "attention"])
def test_a_text_is_compared_under_one_tokenizer_alone(
    kind: str, tiny_model: Path, other_letters: Path, no_letters: Path, glue_forms: Path
) -> None:
    for other in (other_letters, no_letters):
        message = refusal(partial(inputs_of, glue_forms, (tiny_model, other), task="mrpc", kind=kind))
        said = f"models: {other.name!r} splits mrpc into other tokens than 'tiny-bert', and {kind} compares token by"
        assert message == f"{said} token; give models with one tokenizer"
    inputs_of(glue_forms, (tiny_model, other_letters), task="mrpc", kind="isometry")  # which compares none


def test_a_larger_vocabulary_that_reads_a_text_alike_is_compared(
    tiny_model: Path, tiny_model_for_music: Path, glue_forms: Path
) -> None:
    one, other = inputs_of(glue_forms, (tiny_model, tiny_model_for_music), task="mrpc").encoded
    np.testing.assert_array_equal(one.ids_NT, other.ids_NT)
    assert one.seconds_N is not None


def test_symbols_are_compared_position_by_position_whatever_the_vocabularies(
    tiny_model: Path, tiny_model_for_music: Path, dna_files: Path
) -> None:
    inputs = inputs_of(dna_files, (tiny_model, tiny_model_for_music), task="h4")
    one, other = inputs.encoded
    np.testing.assert_array_equal(one.lengths_N, other.lengths_N)
    assert not np.array_equal(one.ids_NT, other.ids_NT), "each has its own random tokens"
    for row, length in enumerate(one.lengths_N):
        pairs = {*zip(one.ids_NT[row, :length].tolist(), other.ids_NT[row, :length].tolist(), strict=True)}
        assert len(pairs) == len({left for left, _ in pairs}) == 6, "one token for each symbol, and two special ones"
    assert inputs.num_tokens == one.lengths_N.sum() and len(inputs.labels_N) == 8


def test_all_models_read_as_much_as_the_one_that_takes_least(tiny_model: Path, tmp_path: Path, dna_files: Path) -> None:
    short = copied(tiny_model, tmp_path / "short", max_position_embeddings=40)
    for models in ((tiny_model, short), (short, tiny_model)):
        assert [encoded.ids_NT.shape[1] for encoded in inputs_of(dna_files, models).encoded] == [40, 40]
    assert inputs_of(dna_files, (tiny_model, short), max_length=20).encoded[0].ids_NT.shape[1] == 22
    message = refusal(lambda: inputs_of(dna_files, (tiny_model, short), max_length=50))
    assert message.startswith("max_length: 50 is not allowed; the model takes 40 tokens, 38 symbols between")


def test_heads_are_matched_among_models_of_one_size(tiny_model: Path, tmp_path: Path, dna_files: Path) -> None:
    many = copied(tiny_model, tmp_path / "many", num_attention_heads=4)
    message = refusal(lambda: probed(dna_files, kind="attention", models=(str(tiny_model), str(many))))
    assert message == (
        "models: 'many' has 2 layers of 4 heads and 'tiny-bert' 2 layers of 2 heads, and attention matches them head "
        "by head; give models of one size"
    )
    (alike,) = probed(dna_files, kind="pwcca", models=(str(tiny_model), str(many)))
    assert 0 < alike.result["pwcca"][2][2] < 1


# -- what is drawn


def test_examples_are_drawn_by_seed_and_are_the_same_for_every_model(tiny_model: Path, dna_files: Path) -> None:
    def ids(seed: int, **settings: Any) -> np.ndarray:
        inputs = inputs_of(dna_files, (tiny_model, "scratch"), seed=seed, split="train", mapping="unused", **settings)
        one, other = inputs.encoded
        np.testing.assert_array_equal(one.ids_NT, other.ids_NT)
        return one.ids_NT

    first = ids(0)
    np.testing.assert_array_equal(ids(0), first)
    assert not np.array_equal(ids(1), first)
    assert len({row.tobytes() for row in ids(0, num_examples=180)}) == 180, "none twice"
    np.testing.assert_array_equal(ids(0, num_examples=20)[:8], first, "more examples keep the first ones")


def test_labels_stay_with_their_examples(tiny_model: Path, dna_files: Path) -> None:
    """The letter that is frequent in a sequence tells its class."""
    inputs = inputs_of(dna_files, (tiny_model, "scratch"), split="train", num_examples=60)
    often: dict[int, set[int]] = {label: set() for label in range(3)}
    for ids_T, label in zip(inputs.encoded[0].ids_NT, inputs.labels_N, strict=True):
        often[int(label)].add(int(np.bincount(ids_T).argmax()))
    assert [len(tokens) for tokens in often.values()] == [1, 1, 1] and len(set.union(*often.values())) == 3
    assert inputs.objective.num_outputs == 3


# -- what models are called


def test_models_go_by_their_folder_and_by_their_whole_name_where_that_is_not_enough(
    tiny_model: Path, tiny_model_for_music: Path
) -> None:
    assert tiny_model.name == tiny_model_for_music.name
    labels = [model.label for model in find_models(config(models=(str(tiny_model), "scratch", "scratch:7")))]
    assert labels == ["tiny-bert", "scratch seed 0", "scratch seed 7"]
    models = (str(tiny_model), str(tiny_model_for_music), "scratch")
    labels = [model.label for model in find_models(config(models=models))]
    assert labels == [str(tiny_model), str(tiny_model_for_music), "scratch seed 0"]
    told = {models[0]: "fine-tuned scratch seed 0", models[1]: "fine-tuned scratch seed 0"}
    labels = [model.label for model in find_models(config(models=models), told)]
    assert labels == [*models[:2], "scratch seed 0"]


def test_labels_are_printable_and_named_also_of_the_folder_that_one_is_in(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = copied(tiny_model, tmp_path / "\x1b[31mred\nline")
    for model in find_models(config(models=(str(odd), "scratch"))):
        assert model.label.isprintable() and model.label
    monkeypatch.chdir(tiny_model)
    (here,) = find_models(config(kind="isometry", models=(".",)))
    assert here.folder == tiny_model and here.label.strip(".")


@pytest.mark.parametrize(
    ("tags", "params", "path", "label"),
    [
        ({recorded.KIND: "trial"}, {"init": "scratch", "seed": "3"}, "model", "fine-tuned scratch seed 3"),
        (
            {recorded.KIND: "trial", recorded.CORPUS: "nested"},
            {"init": "checkpoint", "seed": "0"},
            "model",
            "fine-tuned checkpoint nested seed 0",
        ),
        ({recorded.KIND: "pretrain", recorded.CORPUS: "nested"}, {}, "checkpoints/step-2", "nested step-2"),
        ({recorded.KIND: "trial"}, {"init": "\x1b[31m\n" + "x" * 200}, "model", None),
        ({}, {}, "some folder/[red]", "[red] {}"),  # and the run's id
    ],
)
def test_models_of_a_store_go_by_what_their_run_says(
    tags: dict[str, str],
    params: dict[str, str],
    path: str,
    label: str | None,
    tiny_model: Path,
    store: MlflowClient,
    experiment: str,
    tracking_uri: str,
) -> None:
    run = store.create_run(experiment, tags=tags)
    for name, value in {"task": "splice", "mapping": "random", **params}.items():
        store.log_param(run.info.run_id, name, value)
    store.log_artifacts(run.info.run_id, str(tiny_model), path)
    uri = f"runs:/{run.info.run_id}/{path}"
    asked = config(models=(uri, "scratch"), mapping="frequent")
    labels = fetch_models(asked, tracking_uri)
    assert labels.keys() == {uri}
    assert labels[uri].isprintable() and 0 < len(labels[uri]) <= 60
    assert label is None or labels[uri] == label.format(run.info.run_id[:8])
    assert find_model(uri, needs_weights=True).is_dir()
    assert find_models(asked, labels)[0].label == labels[uri]


def test_a_run_that_is_not_there_is_one_line(experiment: str, tracking_uri: str) -> None:
    uri = f"runs:/{'0' * 32}/model"
    message = refusal(lambda: fetch_models(config(models=(uri, "scratch")), tracking_uri))
    assert message.startswith(f"models: {uri!r} cannot be read (")


# -- what is recorded


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_settings_are_those_that_play_a_part(kind: str) -> None:
    settings = config(kind=kind).settings()
    idle = {name for name, kinds in IDLE.items() if kind not in kinds}
    assert idle and settings.keys() == {field.name for field in fields(ProbeConfig)} - idle - {
        *("separator", "labels", "shift_by", "keep_special_tokens")
    }
    assert settings["kind"] == kind and settings["models"] == BOTH and settings["max_length"] == 60
    assert settings["mapping"] == "random" and settings["split"] == ("train" if kind == "gradients" else "valid")
    assert settings.get("num_examples") == {"gradients": None, "isometry": 10}.get(kind, 100)


def test_settings_of_a_texts_mapping_are_recorded_where_they_play_a_part() -> None:
    plain, shifted = config(task="mrpc").settings(), config(task="mrpc", mapping="shift").settings()
    assert plain["mapping"] == "identity" and not {"shift_by", "keep_special_tokens"} & plain.keys()
    assert shifted["shift_by"] == 1000 and shifted["keep_special_tokens"] is False


def test_numbers_are_read_as_numbers_and_rounding_apart_recorded_as_given() -> None:
    given = ["--kind", "perturbation", "--models", "a/b, scratch:2", "--noise-stds", "1e-2, 0.5", "--task", "splice"]
    settings = parse(Settings, given, program="", description="")
    assert settings.models == ("a/b", "scratch:2") and settings.noise_stds == (0.01, 0.5)
    assert settings.config == ProbeConfig(
        kind="perturbation", models=("a/b", "scratch:2"), noise_stds=(0.01, 0.5), task="splice"
    )


def test_the_same_model_under_two_spellings_is_one(tiny_model: Path) -> None:
    said = refusal(lambda: find_models(config(models=(str(tiny_model), f"{tiny_model}/", "scratch"))))
    assert said == f"models: '{tiny_model}/' is the same as '{tiny_model}'; give each once"


def test_models_that_would_be_called_alike_are_told_apart(tiny_model: Path, tmp_path: Path) -> None:
    other = copied(tiny_model, tmp_path / tiny_model.name)
    first, second = find_models(config(models=(str(tiny_model), str(other))))
    assert first.label != second.label and max(len(first.label), len(second.label)) <= 64
    names = dict.fromkeys((str(tiny_model), str(other)), "fine-tuned scratch seed 0")
    first, second = find_models(config(models=tuple(names)), names)
    assert first.label != second.label


def test_a_wrong_architecture_is_told_as_one() -> None:
    said = refusal(lambda: find_models(config(models=("scratch", "scratch:1"), architecture="/nope/x")))
    assert said.startswith("architecture: there is no folder '/nope/x'")
