"""What the models of a probe read: the same examples of a task, as each one's token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.architectures import vocabulary_size_of
from trainer.data import check_mapping, encode_examples, load_dataset, usable_length
from trainer.encoding import Encoded, check_size
from trainer.errors import UserError
from trainer.models import read_config
from trainer.probes.config import OF_PAIRS, ProbeConfig
from trainer.probes.models import Model
from trainer.tasks.task import Dataset, Split

if TYPE_CHECKING:
    from trainer.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A probe's examples.

    Attributes:
        encoded: for each model, in their order.
        labels_N: as the dataset has them.
        objective: what the models would be trained to do.
        max_length: how much of a sequence is used, in symbols, of text in tokens.
    """

    encoded: tuple[Encoded, ...]
    labels_N: np.ndarray
    objective: "Objective"
    max_length: int

    @property
    def num_tokens(self) -> int:
        """How many tokens the first model reads."""
        return int(self.encoded[0].lengths_N.sum())


def read_inputs(config: ProbeConfig, models: Sequence[Model], data_dir: Path | None) -> tuple[Inputs, Dataset]:
    """Draws a probe's examples and encodes them for each model; also returns the data as a whole.

    Raises:
        UserError: when there are too few, a model cannot read them, or models that are to be compared would not read
            them token by token alike.
    """
    dataset = load_dataset(config.definition, data_dir)
    subject = config.subject(config.models[0])
    for folder in {model.folder for model in models}:
        check_size(vocabulary_size_of(folder))
        check_mapping(subject, dataset, folder)
    # All read as much as the one that takes least, unless that is less than what was asked for.
    length = min(usable_length(subject, model.folder) for model in models)
    subject = replace(subject, max_length=length)
    chosen = _drawn(config, getattr(dataset, config.split or ""))
    by_folder = {
        folder: encode_examples(subject, chosen, dataset.symbols, folder)
        for folder in dict.fromkeys(model.folder for model in models)
    }
    if config.kind == "attention":
        _check_heads(models)
    if config.kind in OF_PAIRS:
        _check_alike(config, models, [by_folder[model.folder] for model in models])
    from trainer.objectives import objective_of

    encoded = tuple(by_folder[model.folder] for model in models)
    inputs = Inputs(encoded=encoded, labels_N=chosen.labels, objective=objective_of(dataset), max_length=length)
    return inputs, dataset


def _check_heads(models: Sequence[Model]) -> None:
    """Refuses models whose attention maps cannot be compared head by head.

    Raises:
        UserError: naming the first that differs.
    """
    settings = [read_config(model.folder, 1) for model in models]
    sizes = [f"{one.num_hidden_layers} layers of {one.num_attention_heads} heads" for one in settings]
    for model, size in zip(models, sizes, strict=True):
        if size != sizes[0]:
            raise UserError(
                f"models: {model.label!r} has {size} and {models[0].label!r} {sizes[0]}, and attention matches them "
                "head by head; give models of one size"
            )


def _drawn(config: ProbeConfig, split: Split) -> Split:
    """As many examples as asked for, drawn by seed without repetition."""
    wanted = config.num_drawn
    if wanted > len(split):
        if config.kind == "gradients":
            asked = f"num_batches: {config.num_batches} minibatches of {config.batch_size} take {wanted} examples, and"
            remedy = "give fewer, or a smaller batch_size"
        else:
            asked, remedy = f"num_examples: {wanted} asked for, but", f"give at most {len(split)}"
            remedy += "" if config.split == "train" else ", or split=train"
        raise UserError(f"{asked} {config.split} of {config.task} has {len(split)}; {remedy}")
    rows = np.random.default_rng(config.seed).permutation(len(split))[:wanted]
    return split.take(rows)


def _check_alike(config: ProbeConfig, models: Sequence[Model], encoded: Sequence[Encoded]) -> None:
    """Refuses models that would not read the examples token by token alike.

    Of symbols each becomes one token in every model, so that position by position the same is read, as where the paper
    compares BERT with a protein model. Of text the tokens themselves must be the same.

    Raises:
        UserError: naming the first model that differs.
    """
    first = encoded[0]
    for model, other in zip(models, encoded, strict=True):
        is_alike = np.array_equal(first.lengths_N, other.lengths_N)
        if is_alike and config.definition.is_text:
            is_alike = np.array_equal(first.ids_NT, other.ids_NT)
        if not is_alike:
            raise UserError(
                f"models: {model.label!r} splits {config.task} into other tokens than {models[0].label!r}, and "
                f"{config.kind} compares token by token; give models with one tokenizer"
            )
