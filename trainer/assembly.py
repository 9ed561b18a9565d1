"""What a trial trains: its examples as token ids and its model, of whichever kind the config names."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.architectures import Inputs, read_inputs
from trainer.checkpoints import find_checkpoint
from trainer.config import NEEDS_OWN_WEIGHTS, TrialConfig
from trainer.data import encode_dataset
from trainer.digests import model_files
from trainer.embeddings import cut, put_back, renumbered, used_tokens
from trainer.encoding import Encoded
from trainer.models import build_model, find_model, read_config
from trainer.pretraining.keep import ABOUT
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    import torch

# Bytes of models that are kept for the process's next trials; a larger one is built soon, beside its training.
MAX_KEPT = 16_000_000


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a trial trains.

    Attributes:
        encoded: every split as token ids; of a language model, numbered as the rows of its word embeddings.
        model: on the CPU; a language model has word embeddings for the tokens of ``encoded`` alone.
        takes: what the model takes.
        used_U: (U,) the ids that these tokens have in the whole vocabulary; None of a model without one.
        build: makes the model as it was before training, with all its word embeddings.
        folder: where its config and tokenizer lie; None of a model without.
    """

    encoded: dict[str, Encoded]
    model: "torch.nn.Module"
    takes: Inputs
    used_U: np.ndarray | None
    build: "Callable[[], torch.nn.Module]"
    folder: Path | None = None

    def save(self, folder: Path) -> None:
        """Writes the weights as safetensors; of a language model all word embeddings, its config and its tokenizer."""
        import torch
        from safetensors.torch import save_file

        weights = self.model.state_dict()
        if self.used_U is None:
            save_file(weights, folder / "model.safetensors")
            return
        with torch.random.fork_rng(devices=[]):  # to build it anew draws numbers
            whole: Any = self.build()
        put_back(weights, self.used_U, whole)
        whole.save_pretrained(folder)
        for path in model_files(self.folder, weights=False) if self.folder else ():
            if path.name not in ("config.json", ABOUT):  # its tokenizer: the folder is a whole model
                shutil.copy(path, folder)


def assemble(
    config: TrialConfig,
    dataset: Dataset,
    num_outputs: int,
    data_dir: Path | None,
    model_folder: Path | None,
    checkpoint_folder: Path | None,
) -> Assembly:
    """Puts together what a trial trains; torch's generator is then as the seed and the new weights leave it.

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
        takes = Inputs(max_tokens=length, token_types=False, first_position=0)
        build = partial(build_hilbert_cnn, length, num_outputs, config.seed)
        encoded = encode_kmers(dataset, length)
        return Assembly(encoded=encoded, model=build(), takes=takes, used_U=None, build=build)
    folder = model_folder or find_model(config.model, needs_weights=config.init in NEEDS_OWN_WEIGHTS)
    checkpoint = None
    if config.init == "checkpoint":
        checkpoint = checkpoint_folder or find_checkpoint(config.checkpoint or "", config.checkpoint_step)
    settings = read_config(folder, num_outputs)
    what: dict[str, Any] = {"init": config.init, "num_outputs": num_outputs, "seed": config.seed}
    whole_encoded = encode_dataset(config, data_dir, folder)
    used_U = used_tokens(whole_encoded.values())
    return Assembly(
        encoded=renumbered(whole_encoded, used_U),
        model=_cut_model(folder, used_U, settings.to_json_string(), checkpoint=checkpoint, **what),
        takes=read_inputs(settings),
        used_U=used_U,
        build=partial(build_model, folder, checkpoint=checkpoint, **what),
        folder=folder,
    )


# Models as they are before training, with the state of torch's generator after they were drawn; the oldest first.
_kept: dict[tuple[object, ...], "tuple[torch.nn.Module, torch.Tensor]"] = {}


def _cut_model(folder: Path, used_U: np.ndarray, settings: str, **what: Any) -> Any:
    """A new model with the word embeddings of the used tokens alone; built once a process, as far as memory allows.

    The trials of a sweep that differ in optimizer or learning rate begin with the same weights.

    Args:
        settings: the text of the folder's config, which may have changed since.
        what: for :func:`trainer.models.build_model`.
    """
    import torch

    key = (folder, settings, used_U.tobytes(), *what.values())
    if key not in _kept:
        new = build_model(folder, **what)
        cut(new, used_U)
        num_bytes = _num_bytes(new)
        if num_bytes > MAX_KEPT:
            return new
        while sum(_num_bytes(model) for model, _ in _kept.values()) + num_bytes > MAX_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = new, torch.get_rng_state()
    kept, random_state = _kept[key]
    torch.manual_seed(what["seed"])  # of a GPU's generator, too
    torch.set_rng_state(random_state)
    return copy.deepcopy(kept)


def _num_bytes(model: "torch.nn.Module") -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())
