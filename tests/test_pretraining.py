"""The pre-training loop: what a step learns, that it can be interrupted anywhere, and what is kept."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import refusal
from trainer.logger import SilentLogger
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus
from trainer.pretraining.keep import save_model
from trainer.pretraining.pretraining import MASKS, DivergedError, Pretraining
from trainer.state_file import StateError


class Kept(SilentLogger):
    """Keeps every point."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {}

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        self.points.setdefault(name, []).extend(zip(steps, values, strict=True))


@pytest.fixture
def config(tiny_model: Path) -> PretrainConfig:
    return PretrainConfig(
        corpus="nested", model=str(tiny_model), num_steps=6, batch_size=8, max_length=16, learning_rate=1e-3
    )


def begin(config: PretrainConfig) -> Pretraining:
    corpus, folder = open_corpus(config)
    return Pretraining(config, corpus, folder, Kept(), device="cpu")


def trained(config: PretrainConfig) -> tuple[Pretraining, dict[str, list[tuple[int, float]]]]:
    pretraining = begin(config)
    list(pretraining)
    assert isinstance(pretraining.logger, Kept)
    return pretraining, pretraining.logger.points


def calm(folder: Path, to: Path, **more: object) -> Path:
    """The same architecture without dropout."""
    settings = json.loads((folder / "config.json").read_text())
    to.mkdir()
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt", ".model"):
            (to / path.name).write_bytes(path.read_bytes())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **more}
    (to / "config.json").write_text(json.dumps(settings))
    return to


def test_a_steps_loss_is_the_librarys_own(config: PretrainConfig, tiny_model: Path, tmp_path: Path) -> None:
    """transformers computes the scores of all tokens, ours those of the masked ones alone."""
    from transformers import BertForMaskedLM

    pretraining = begin(replace(config, model=str(calm(tiny_model, tmp_path / "calm"))))
    save_model(pretraining, tmp_path / "saved")
    library = BertForMaskedLM.from_pretrained(tmp_path / "saved")
    masked = pretraining.masker.mask(pretraining.corpus.batch(0), (0, MASKS, 0))
    labels = torch.full_like(masked.ids_BT, -100)
    labels[masked.rows_M, masked.columns_M] = masked.targets_M
    expected = library(input_ids=masked.ids_BT, labels=labels).loss.item()
    *_, _ = pretraining
    assert isinstance(pretraining.logger, Kept)
    step, loss = pretraining.logger.points["train/loss"][0]
    assert step == 1 and loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_an_interrupted_one_goes_on_bit_for_bit(config: PretrainConfig, tmp_path: Path, kept: int) -> None:
    config = replace(config, checkpoint_steps=(0, 2, 5))
    whole, points = trained(config)
    interrupted = begin(config)
    while next(interrupted).step < kept:
        pass
    interrupted.save(tmp_path / "state", {"note": "mine"})
    resumed = begin(config)
    resumed.restore(tmp_path / "state")
    steps = [stop.step for stop in resumed]
    assert steps == list(range(kept + 1, 7))
    assert isinstance(resumed.logger, Kept)
    for name in ("train/loss", "train/masked_accuracy", "valid/loss", "valid/masked_accuracy"):
        assert resumed.logger.points[name] == [point for point in points[name] if point[0] > kept], name
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, dict(resumed.model.named_parameters())[name]), name


def test_a_state_of_another_pretraining_is_refused(config: PretrainConfig, tmp_path: Path) -> None:
    begin(config).save(tmp_path / "state")
    for other in (replace(config, seed=1), replace(config, corpus="flat"), replace(config, learning_rate=1e-2)):
        with pytest.raises(StateError, match="of something else"):
            begin(other).restore(tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    content[-100] ^= 1
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        begin(config).restore(tmp_path / "state")


def test_a_model_that_was_moved_is_the_same(config: PretrainConfig, tiny_model: Path, tmp_path: Path) -> None:
    begin(config).save(tmp_path / "state")
    shutil.copytree(tiny_model, tmp_path / "moved")
    begin(replace(config, model=str(tmp_path / "moved"))).restore(tmp_path / "state")


def test_other_steps_to_keep_change_no_number(config: PretrainConfig) -> None:
    _, few = trained(replace(config, checkpoint_steps=()))
    _, many = trained(replace(config, checkpoint_steps=(0, 1, 3)))
    assert few["train/loss"] == many["train/loss"]


def test_gradients_that_are_added_up_are_those_of_the_whole_batch(
    config: PretrainConfig, tiny_model: Path, tmp_path: Path
) -> None:
    config = replace(config, model=str(calm(tiny_model, tmp_path / "calm")))
    _, whole = trained(config)
    _, parts = trained(replace(config, micro_batch_size=3))
    for (step, loss), (_, other) in zip(whole["train/loss"], parts["train/loss"], strict=True):
        assert loss == pytest.approx(other, rel=1e-5), step


def test_the_learning_rate_rises_and_falls_linearly(config: PretrainConfig) -> None:
    pretraining = begin(replace(config, num_steps=10, num_warmup_steps=4, learning_rate=1.0))
    rates = []
    for step in range(10):
        pretraining.step = step
        rates.append(pretraining._learning_rate())
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 0.5, 2 / 6, 1 / 6])


def test_biases_and_normalisation_do_not_decay(config: PretrainConfig) -> None:
    pretraining = begin(config)
    decayed, others = pretraining.optimizer.param_groups
    names = {id(parameter): name for name, parameter in pretraining.model.named_parameters()}
    assert decayed["weight_decay"] == 0.01 and others["weight_decay"] == 0
    assert {names[id(parameter)].rpartition(".")[2] for parameter in decayed["params"]} == {"weight"}
    assert all("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_it_learns_what_there_is_to_learn(config: PretrainConfig, tiny_model: Path, tmp_path: Path) -> None:
    """Of nested brackets half the masked tokens have their partner beside them; of uniform ones nothing is known."""
    model = calm(tiny_model, tmp_path / "calm", initializer_range=0.125, hidden_size=64)
    config = replace(
        config, model=str(model), num_kinds=8, num_steps=400, batch_size=32, max_length=8, learning_rate=4e-3
    )
    # A masked token that stayed is known: random ones are seldom of these 8 kinds.
    nothing_known = 0.9 * np.log(8)
    losses = {corpus: list(begin(replace(config, corpus=corpus)))[-1].held_out_loss for corpus in ("nested", "uniform")}
    assert losses["nested"] < nothing_known - 0.3
    assert nothing_known - 0.05 < losses["uniform"] < nothing_known + 0.2


def test_a_loss_that_is_no_number_ends_it(config: PretrainConfig) -> None:
    with pytest.raises(DivergedError, match="smaller learning_rate"):
        trained(replace(config, learning_rate=1e38, num_warmup_steps=0))


@pytest.mark.parametrize(
    ("name", "corpus"),
    [("bert-base-uncased", "nested"), ("roberta-base", "flat"), ("albert-base-v1", "nested")],
)
def test_a_checkpoint_of_each_architecture_fine_tunes(
    real_models: Path, dna_files: Path, tmp_path: Path, name: str, corpus: str
) -> None:
    from trainer.config import TrialConfig
    from trainer.trial import Trial

    small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    folder = calm(real_models / name, tmp_path / "model", **small)
    config = PretrainConfig(corpus=corpus, model=str(folder), num_steps=2, batch_size=4, max_length=16)
    pretraining = begin(config)
    list(pretraining)
    save_model(pretraining, tmp_path / "step-2")
    shared: dict[str, Any] = {"task": "splice", "num_epochs": 1, "max_train_examples": 32}
    for trial in (
        TrialConfig(model=str(tmp_path / "step-2"), init="pretrained", **shared),
        TrialConfig(model=str(folder), init="checkpoint", checkpoint=str(tmp_path / "step-2"), **shared),
    ):
        *_, report = Trial(trial, SilentLogger(), data_dir=dna_files)
        assert report.result is not None and report.result.outcome == "finished"


def test_what_is_kept_loads_and_says_what_it_is(config: PretrainConfig, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    pretraining, _ = trained(replace(config, size="tiny"))
    save_model(pretraining, tmp_path / "step-6")
    model, loading = AutoModelForMaskedLM.from_pretrained(tmp_path / "step-6", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (128, 2)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "step-6")) == 1100
    about = json.loads((tmp_path / "step-6/polymath.json").read_text())
    assert (about["corpus"], about["step"], about["num_tokens"]) == ("nested", 6, 6 * 8 * 16)
    assert not list(tmp_path.glob("*/*.bin"))


def test_the_untrained_model_is_step_0(config: PretrainConfig) -> None:
    first, *_ = begin(config)
    assert (first.step, first.is_kept) == (0, True)
    assert first.held_out_loss == pytest.approx(np.log(1100), abs=0.3)


@pytest.mark.parametrize("more", [{"batch_size": 1, "max_length": 4}, {"batch_size": 8, "micro_batch_size": 1}])
def test_sequences_without_a_masked_token_do_no_harm(config: PretrainConfig, more: dict[str, int]) -> None:
    config = replace(config, num_steps=60, learning_rate=1e-9, **more)  # type: ignore[arg-type]
    _, points = trained(config)
    losses = [loss for _, loss in points["train/loss"]]
    assert min(losses) > 5, "a step without one has no loss, and none of 0"
    assert (len(losses) < 60) == (more["batch_size"] == 1)


def test_other_architectures_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = calm(tiny_model, tmp_path / "electra", model_type="electra")
    message = refusal(lambda: begin(PretrainConfig(model=str(folder))))
    assert "unknown value 'electra'; allowed: bert, roberta, albert" in message
