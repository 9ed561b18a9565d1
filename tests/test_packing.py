"""How sequences lie in a batch without padding, and what that must not change."""

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_architectures import MAX_TOKENS, write_model
from tests.test_fast_path import begin
from trainer import packing
from trainer.architectures import ARCHITECTURES, read_inputs
from trainer.loop import Examples, predict
from trainer.models import build_model
from trainer.packing import pack


def test_predictions_do_not_depend_on_the_batch_they_were_made_in(
    tiny_model: Path, task_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import loop

    trial, _ = begin(tiny_model, task_files, task="localization", learning_rate=1e-3)
    next(trial)
    examples = trial.examples["valid"]
    together = predict(trial.learner, examples)
    for size in (1, 7):
        monkeypatch.setitem(loop.EVALUATION_BATCH, "cpu", size)
        np.testing.assert_allclose(predict(trial.learner, examples), together, atol=1e-6)
    assert np.ptp(together, axis=0).max() > 1e-3, "or any order of them would pass"


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_packed_sequences_see_as_far_as_those_of_a_rectangle(tmp_path: Path, model_type: str) -> None:
    """Tighter than losses can be: one token too few in ModernBERT's window moves the logits by a thousandth."""
    folder = write_model(tmp_path / model_type, model_type)
    plain, fast = (build_model(folder, init="pretrained", num_outputs=2, seed=0).eval() for _ in range(2))
    takes = read_inputs(plain.config)
    packing.prepare(fast, takes)
    lengths = np.array([MAX_TOKENS, MAX_TOKENS - 2, 100])
    ids = torch.randint(5, 15, (3, MAX_TOKENS), generator=torch.Generator().manual_seed(0))
    packed, mask = pack(lengths), torch.arange(MAX_TOKENS) < torch.tensor(lengths)[:, None]
    place = packed.place_P[None] + takes.first_position
    with torch.inference_mode():
        ours = fast(input_ids=ids[packed.sequence_P, packed.place_P][None], position_ids=place, packing=packed).logits
        theirs = plain(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [[62] * 32, [90, 89, 80, 79, 78, 31, 30, 12, 11, 3], [512] * 5 + [40] * 9, [7]])
def test_every_token_has_its_place_and_little_is_filled(lengths: list[int]) -> None:
    packed = pack(np.array(lengths))
    row = list(zip(packed.sequence_P.tolist(), packed.place_P.tolist(), strict=True))
    real = [(sequence, place) for sequence, length in enumerate(lengths) for place in range(length)]
    assert set(real) <= set(row)
    assert [row[first] for first in packed.first_B] == [(sequence, 0) for sequence in range(len(lengths))]
    in_groups = sum(group.num_sequences * group.length for group in packed.groups)
    assert len(row) == in_groups + packed.num_filling
    assert in_groups - len(real) <= packing.MAX_FILL * len(packed.groups)
    assert len(row) % packing.ROUND == 0 or len(set(lengths)) == 1
    assert sum(group.num_sequences for group in packed.groups) == len(lengths)


def test_the_numbers_of_tokens_in_mixed_batches_are_few(tiny_model: Path, task_files: Path) -> None:
    """oneDNN keeps a program for each, of half a megabyte and more."""
    rng = np.random.default_rng(0)
    batches = [np.sort(rng.integers(20, 512, size))[::-1] for size in (1, 32) for _ in range(300)]
    tokens = [len(pack(lengths).place_P) for lengths in batches]
    assert len(set(tokens)) < 30
    filled = [len(pack(lengths).place_P) / lengths.sum() for lengths in batches if len(lengths) > 1]
    assert np.mean(filled) < 1.1 and max(filled) < 1.15
    trial, _ = begin(tiny_model, task_files, task="localization")
    single: Any = trial.examples["train"].batch(torch.tensor([0]))[0]
    assert trial.examples["train"].is_mixed and single["input_ids"].shape[1] % packing.ROUND == 0


def test_where_all_lengths_are_equal_nothing_is_filled(tiny_model: Path, dna_files: Path) -> None:
    examples: Examples = begin(tiny_model, dna_files)[0].examples["train"]
    length = int(examples.lengths_N[0])
    inputs: Any = examples.batch(torch.arange(7))[0]
    assert not examples.is_mixed and inputs["input_ids"].shape[1] == 7 * length


@pytest.mark.parametrize("window", [1, 3])
def test_what_fills_may_lie_beyond_every_tokens_sight(window: int) -> None:
    packed = pack(np.array([20, 14, 13]))
    states = [torch.randn(2, len(packed.place_P), 8, requires_grad=True) for _ in range(3)]
    query, key, value = states
    packing.attend(query, key, value, packed, scaling=0.3, dropout=0.1, window=window).sum().backward()
    assert all(state.grad is not None and state.grad.isfinite().all() for state in states)


def test_a_model_that_is_to_save_memory_trains_the_same(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "saving")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"gradient_checkpointing": True}))
    usual, saving = (list(begin(model, dna_files)[0])[-1].result for model in (tiny_model, folder))
    assert usual is not None and saving is not None and usual.losses == saving.losses


def test_a_config_that_was_edited_is_read_again(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "edited")
    begin(folder, dna_files)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    trial, _ = begin(folder, dna_files)
    assert isinstance(trial.learner.model.base_model.encoder.layer[0].intermediate.intermediate_act_fn, torch.nn.ReLU)  # type: ignore[union-attr, index]


def test_a_trial_that_is_over_leaves_no_model_behind(tiny_model: Path, dna_files: Path) -> None:
    model: Any = build_model(tiny_model, init="scratch", num_outputs=2, seed=0)
    packing.prepare(model, read_inputs(model.config))
    seen = weakref.ref(model.base_model.encoder.layer[-1])
    gc.disable()
    try:
        del model
        assert seen() is None, "no collection is needed for it"
    finally:
        gc.enable()
