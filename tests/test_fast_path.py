"""Whatever makes a trial fast leaves its numbers as they are: those of a plain loop over a plain transformers model.

The plain loop has the whole vocabulary, rectangular batches with an attention mask, and optimizers that go from
parameter to parameter. Dropout is off where losses are compared, since its masks are drawn in another order.
"""

import csv
import io
import json
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_architectures import write_model
from tests.test_trial import Memory, without_dropout
from trainer import kernels, packing
from trainer.architectures import ARCHITECTURES, read_inputs
from trainer.config import INITS, TrialConfig
from trainer.data import encode_dataset
from trainer.embeddings import used_tokens
from trainer.loop import predict
from trainer.models import build_model, read_vocabulary
from trainer.optimizers import OPTIMIZERS
from trainer.packing import pack
from trainer.trial import Trial

PLAIN: dict[str, dict[str, Any]] = {
    "adam": {"fused": False},
    "adagrad": {"fused": False},
    "adamax": {"foreach": False},
    "radam": {"foreach": False},
}
RATES = {"adam": 1e-3, "adagrad": 1e-2, "adamax": 2e-3, "radam": 1e-2, "novograd": 3e-2}


@pytest.fixture(scope="module")
def calm_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout."""
    return without_dropout(tiny_model, tmp_path_factory.mktemp("calm") / "tiny-bert")


def begin(model: Path, data_dir: Path, **fields: Any) -> tuple[Trial, Memory]:
    usual: dict[str, Any] = {"task": "splice", "model": str(model), "num_epochs": 1, "batch_size": 8}
    memory = Memory()
    return Trial(TrialConfig(**usual | fields), memory, data_dir=data_dir, num_threads=1, save_model=True), memory


def reference(trial: Trial, data_dir: Path) -> tuple[list[float], np.ndarray]:
    """The losses of a plain loop, and its logits (N, C) on the test examples."""
    config, folder = trial.config, Path(trial.config.model)
    checkpoint = Path(config.checkpoint) if config.checkpoint else None
    outputs = trial.objective.num_outputs
    model: Any = build_model(
        folder, init=config.init, num_outputs=outputs, seed=config.seed, checkpoint=checkpoint
    ).train()
    takes, splits = read_inputs(model.config), encode_dataset(config, data_dir, folder)

    def logits(split: str, rows: np.ndarray) -> torch.Tensor:
        encoded = splits[split]
        ids = torch.tensor(encoded.ids_NT[rows].astype(np.int64))
        place = torch.arange(ids.shape[1])
        lengths = torch.tensor(encoded.lengths_N[rows])[:, None]
        inputs = {"input_ids": ids, "attention_mask": place < lengths}
        inputs["position_ids"] = (place + takes.first_position).expand_as(ids)
        if encoded.seconds_N is not None and takes.token_types:
            inputs["token_type_ids"] = (
                (place >= torch.tensor(encoded.seconds_N[rows])[:, None]) & (place < lengths)
            ).long()
        found: torch.Tensor = model(**inputs).logits
        return found

    kind: Any = pkgutil.resolve_name(OPTIMIZERS[config.optimizer])
    optimizer = kind(model.parameters(), lr=config.learning_rate, **PLAIN.get(config.optimizer, {}))
    targets = torch.tensor(trial.objective.targets(trial.dataset.train.labels))
    order, losses = torch.Generator().manual_seed(config.seed), list[float]()
    num_steps = (config.num_epochs or 0) * math.ceil(len(targets) / config.batch_size)
    for _ in range(config.num_epochs or 0):
        for rows in torch.randperm(len(targets), generator=order).split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - len(losses) / num_steps)
            loss = trial.objective.loss(logits("train", rows.numpy()), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        last = logits("test", np.arange(len(splits["test"].lengths_N)))
    return losses, trial.objective.predictions(last)


def check_equal(trial: Trial, data_dir: Path) -> None:
    """Runs a trial and compares all its numbers with the plain loop's."""
    expected, predictions = reference(trial, data_dir)
    *_, last = trial
    assert last.result is not None and len(expected) >= 3
    np.testing.assert_allclose(last.result.losses, expected, rtol=3e-5)
    np.testing.assert_allclose(predict(trial.learner, trial.examples["test"]), predictions, rtol=3e-4, atol=3e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_gives_the_numbers_of_a_plain_loop_on_equal_lengths(
    calm_model: Path, dna_files: Path, optimizer: str
) -> None:
    trial, _ = begin(calm_model, dna_files, optimizer=optimizer, learning_rate=RATES[optimizer], max_train_examples=60)
    assert trial.examples["train"].lengths_N.unique().tolist() == [62] and trial.examples["train"].is_packed
    check_equal(trial, dna_files)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_gives_the_numbers_of_a_plain_loop_on_mixed_lengths(
    calm_model: Path, task_files: Path, optimizer: str
) -> None:
    fields = {"task": "localization", "optimizer": optimizer, "learning_rate": RATES[optimizer] / 4}
    trial, _ = begin(calm_model, task_files, max_train_examples=32, **fields)
    assert len(trial.examples["train"].lengths_N.unique()) > 20
    check_equal(trial, task_files)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("task", ["mrpc", "stability"])
def test_every_init_gives_the_numbers_of_a_plain_loop_on_pairs_and_numbers(
    calm_model: Path, task_files: Path, task: str, init: str
) -> None:
    checkpoint = str(calm_model) if init == "checkpoint" else None
    fields: dict[str, Any] = {"task": task, "init": init, "checkpoint": checkpoint, "learning_rate": 1e-3, "seed": 3}
    trial, _ = begin(calm_model, task_files, **fields)
    check_equal(trial, task_files)


@pytest.mark.parametrize("mapping", ["shift", "permutation"])
def test_a_mapping_that_moves_special_tokens_gives_the_numbers_of_a_plain_loop(
    calm_model: Path, task_files: Path, mapping: str
) -> None:
    trial, _ = begin(calm_model, task_files, task="mrpc", mapping=mapping, learning_rate=1e-3, num_epochs=2)
    check_equal(trial, task_files)


def test_the_embedding_of_padding_stays_frozen_also_where_a_word_has_its_id(calm_model: Path, task_files: Path) -> None:
    """As transformers has it, zero: here every t becomes [PAD]."""
    to_padding = len(read_vocabulary(calm_model).tokens) - read_vocabulary(calm_model).tokens.index("t")
    fields = {"task": "mrpc", "mapping": "shift", "shift_by": to_padding, "learning_rate": 1e-2, "num_epochs": 3}
    trial, _ = begin(calm_model, task_files, **fields)
    assert trial.assembly.used_U is not None and trial.assembly.used_U[0] == 0
    assert (trial.examples["train"].ids_NT[:, 1:5] == 0).any(), "it is no padding there"
    check_equal(trial, task_files)
    assert not trial.learner.model.get_input_embeddings().weight[0].any()  # type: ignore[operator]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_gives_the_numbers_of_a_plain_loop_in_a_trial(
    tmp_path: Path, task_files: Path, model_type: str
) -> None:
    """Factorised embeddings, positions that begin after padding, local attention, frozen padding; on pairs of texts."""
    folder = write_model(tmp_path / model_type, model_type)
    config = json.loads((folder / "config.json").read_text())
    rates = {name: 0.0 for name in config if "dropout" in name and config[name]}
    (folder / "config.json").write_text(json.dumps(config | rates))
    fields = {"task": "rte", "mapping": "permutation", "learning_rate": 1e-3, "num_epochs": 2}
    trial, _ = begin(folder, task_files, **fields)
    assert trial.examples["train"].is_packed
    check_equal(trial, task_files)


# The vocabulary


@pytest.mark.parametrize("init", ["pretrained", "scratch"])
def test_a_saved_model_has_every_row_and_predicts_what_the_trial_did(
    tiny_model: Path, task_files: Path, tmp_path: Path, init: str
) -> None:
    from transformers import AutoModelForSequenceClassification

    trial, memory = begin(tiny_model, task_files, task="mrpc", init=init, learning_rate=3e-3, num_epochs=3)
    list(trial)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(memory.files[f"model/{name}"])
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    encoded = encode_dataset(trial.config, task_files, tiny_model)["test"]
    place = torch.arange(encoded.ids_NT.shape[1])
    real = place < torch.tensor(encoded.lengths_N)[:, None]
    second = (place >= torch.tensor(encoded.seconds_N)[:, None]) & real
    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor(encoded.ids_NT.astype(np.int64)), "attention_mask": real}
        logits = loaded(**inputs, token_type_ids=second.long()).logits
    rows = list(csv.DictReader(io.StringIO(memory.files["predictions/test.csv"].decode())))
    found = [[float(value) for name, value in row.items() if name.startswith("probability_")] for row in rows]
    np.testing.assert_allclose(found, logits.softmax(dim=1).numpy(), atol=1e-5)

    name = "bert.embeddings.word_embeddings.weight"
    before: Any = build_model(tiny_model, init=init, num_outputs=2, seed=0).state_dict()[name]
    changed = (loaded.state_dict()[name] != before).any(dim=1).nonzero().flatten()
    used = set(used_tokens(encode_dataset(trial.config, task_files, tiny_model).values()).tolist())
    assert set(changed.tolist()) < used and len(changed) > 10, "only rows of the data have learned"
    assert len(trial.learner.model.get_input_embeddings().weight) == len(used) < 100  # type: ignore[operator]


@pytest.mark.parametrize("init", ["pretrained", "scratch"])
def test_a_second_trial_begins_with_the_weights_and_random_numbers_of_the_first(
    tiny_model: Path, dna_files: Path, init: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is a copy of one that is kept; the first one's training has not touched that."""
    from trainer import assembly

    monkeypatch.setattr(assembly, "_kept", {})

    def losses(**fields: Any) -> list[float]:
        trial, _ = begin(tiny_model, dna_files, init=init, learning_rate=1e-2, **fields)
        result = list(trial)[-1].result
        assert result is not None
        return result.losses

    first = losses()
    assert losses() == first and len(assembly._kept) == 1
    assert losses(seed=1) != first and len(assembly._kept) == 2
    (size, _) = (assembly._num_bytes(model) for model, _ in assembly._kept.values())
    monkeypatch.setattr(assembly, "MAX_KEPT", size)
    losses(seed=2)
    assert len(assembly._kept) == 1, "the oldest ones give way"
    monkeypatch.setattr(assembly, "MAX_KEPT", size - 1)
    assert losses() == first and len(assembly._kept) == 1, "too large to be kept, it is the same"


# Dropout


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert"])
def test_dropout_acts_wherever_it_does_in_a_plain_model(
    tmp_path: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a dropout that only scales, and so draws nothing, the logits in training are those of the plain model."""

    def scale(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return values * (1 + p) if training else values

    monkeypatch.setattr(torch.nn.functional, "dropout", scale)
    monkeypatch.setattr(kernels, "dropout", scale)
    monkeypatch.setattr(packing, "drop", scale)
    folder = write_model(tmp_path / model_type, model_type)

    def build() -> Any:
        model: Any = build_model(folder, init="pretrained", num_outputs=2, seed=0).train()
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.1
        return model

    plain, fast = build(), build()
    plain.set_attn_implementation("eager")
    packing.prepare(fast, read_inputs(fast.config))
    lengths = np.array([30, 21, 20, 4])
    ids = torch.randint(5, 15, (4, 30), generator=torch.Generator().manual_seed(0))
    packed = pack(lengths)
    place = packed.place_P[None]
    ours = fast(input_ids=ids[packed.sequence_P, packed.place_P][None], position_ids=place, packing=packed).logits
    mask = torch.arange(30) < torch.tensor(lengths)[:, None]
    torch.testing.assert_close(ours, plain(input_ids=ids, attention_mask=mask).logits, rtol=1e-4, atol=1e-5)


def test_a_prepared_model_has_the_fast_layers(tiny_model: Path, dna_files: Path) -> None:
    """Or all these comparisons compare torch with itself."""
    trial, _ = begin(tiny_model, dna_files)
    kinds: set[Callable[..., object]] = {type(part) for part in trial.learner.model.modules()}
    assert kernels.Dropout in kinds and torch.nn.Dropout not in kinds
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert kernels.Linear in kinds and torch.nn.Linear not in kinds
