"""What a trial trains: its examples as token ids and its model, of whichever kind the config names."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.architectures import Inputs, read_inputs
from trainer.checkpoints import find_checkpoint
from trainer.config import NEEDS_OWN_WEIGHTS, TrialConfig
from trainer.data import encode_dataset
from trainer.encoding import Encoded
from trainer.models import build_model, find_model
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    import torch


def assemble(
    config: TrialConfig,
    dataset: Dataset,
    num_outputs: int,
    data_dir: Path | None,
    model_folder: Path | None,
    checkpoint_folder: Path | None,
) -> "tuple[dict[str, Encoded], torch.nn.Module, Inputs]":
    """Every split as token ids, the model on the CPU, and what it takes.

    Args:
        dataset: the data with the training examples that are used.
        num_outputs: classes, or 1 where a number is predicted.
        data_dir, model_folder, checkpoint_folder: where things lie on this machine; None for what the config says.

    Raises:
        UserError: for a model or a checkpoint that cannot be read.
    """
    if config.model == "hilbert-cnn":
        from trainer.rivals.hilbert_cnn import build_hilbert_cnn, encode_kmers

        length = config.max_length or config.definition.max_length
        inputs = Inputs(max_tokens=length, token_types=False, first_position=0)
        return encode_kmers(dataset, length), build_hilbert_cnn(length, num_outputs, config.seed), inputs
    folder = model_folder or find_model(config.model, needs_weights=config.init in NEEDS_OWN_WEIGHTS)
    checkpoint = None
    if config.init == "checkpoint":
        checkpoint = checkpoint_folder or find_checkpoint(config.checkpoint or "", config.checkpoint_step)
    model = build_model(folder, init=config.init, num_outputs=num_outputs, seed=config.seed, checkpoint=checkpoint)
    return encode_dataset(config, data_dir, folder), model, read_inputs(model.config)


def save(model: "torch.nn.Module", folder: Path) -> None:
    """Writes the weights as safetensors, and of a language model its config beside them."""
    from safetensors.torch import save_file
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        model.save_pretrained(folder)
    else:
        save_file(model.state_dict(), folder / "model.safetensors")
