"""Small models and examples for tests of the probes, and the plain transformers models to hold them against."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.test_architectures import build_tokenizer, write_model
from trainer.encoding import Encoded
from trainer.objectives import Classification, Objective
from trainer.probes.config import ProbeConfig
from trainer.probes.inputs import read_inputs
from trainer.probes.models import Model, find_models
from trainer.probes.passes import Passes
from trainer.probes.probe import Measured, measure, parts_of

LENGTHS = (9, 12, 5, 12)  # mixed, and the longest comes neither first nor once
LABELS_N = np.array([0, 2, 1, 1])
CLASSES = Classification(num_outputs=3)


def written(folder: Path, model_type: str, kind: str = "Model") -> Path:
    """A tiny model of an architecture in a new folder of its own."""
    (folder / model_type).mkdir(parents=True)
    return write_model(folder / model_type, model_type, kind)


def model_of(folder: Path, *, is_new: bool = False, seed: int = 0) -> Model:
    return Model(label=folder.name, folder=folder, is_new=is_new, seed=seed)


def examples(folder: Path, lengths: Sequence[int] = LENGTHS, *, has_pairs: bool = False) -> Encoded:
    """Ordinary tokens of a model of :func:`written`, with its own padding."""
    lengths_N = np.array(lengths)
    is_real_NT = np.arange(lengths_N.max()) < lengths_N[:, None]
    padding = build_tokenizer(folder.name).pad_token_id
    ids_NT = np.where(is_real_NT, np.random.default_rng(0).integers(5, 14, is_real_NT.shape), padding)
    return Encoded(
        ids_NT=ids_NT.astype(np.uint16), lengths_N=lengths_N, seconds_N=lengths_N // 2 if has_pairs else None
    )


def passes(folder: Path, encoded: Encoded, *, objective: Objective = CLASSES, **how: Any) -> Passes:
    return Passes(model_of(folder), encoded, LABELS_N[: len(encoded.lengths_N)], objective, **how)


def plain(folder: Path, num_outputs: int = 3, dtype: torch.dtype = torch.float32, attention: str | None = None) -> Any:
    """transformers' own classifier with the very weights and all word embeddings, without dropout."""
    net: Any = model_of(folder).build(num_outputs)
    if attention:
        net.set_attn_implementation(attention)
    return net.to(dtype)


def plain_inputs(encoded: Encoded) -> dict[str, torch.Tensor]:
    """A padded batch of all examples as transformers takes it; positions are left to the model."""
    place_T = np.arange(encoded.ids_NT.shape[1])
    is_real_NT = place_T < encoded.lengths_N[:, None]
    inputs = {"input_ids": encoded.ids_NT.astype(np.int64), "attention_mask": is_real_NT}
    if encoded.seconds_N is not None:
        inputs["token_type_ids"] = ((place_T >= encoded.seconds_N[:, None]) & is_real_NT).astype(np.int64)
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def alone(encoded: Encoded, row: int) -> Encoded:
    """One example without padding."""
    length = encoded.lengths_N[row]
    return Encoded(ids_NT=encoded.ids_NT[row : row + 1, :length], lengths_N=encoded.lengths_N[row : row + 1])


def probed(data_dir: Path, labels: Mapping[str, str] = {}, **settings: Any) -> list[Measured]:
    """A whole probe in this process, of splice with few examples unless settings say otherwise."""
    few: dict[str, Any] = {"task": "splice", "num_examples": 6, "batch_size": 4, "num_batches": 5, "split": "train"}
    config = ProbeConfig(**few | settings)
    models = find_models(config, labels)
    inputs, _ = read_inputs(config, models, data_dir)
    return [measure(config, part, lambda done, total: None) for part in parts_of(config, models, inputs)]
