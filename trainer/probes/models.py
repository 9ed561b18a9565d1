"""The models that a probe looks into: what a list of names stands for, and how each is built."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.checkpoints import SINGLE_FILE, URI
from trainer.errors import UserError
from trainer.models import build_model, find_model
from trainer.probes.config import ProbeConfig, is_scratch, scratch_seed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


MAX_LABEL = 60  # characters
RUN_URI = re.compile(r"runs:/+([0-9a-f]{8})")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model before it is built.

    Attributes:
        label: what it is called in tables and figures; no two of a probe are alike.
        folder: with its config and tokenizer, and its weights unless it is new.
        is_new: whether all weights are drawn anew.
        seed: of new weights; of a model that has its own the classifier's, where it has none that fits.
    """

    label: str
    folder: Path
    is_new: bool
    seed: int

    def build(self, num_outputs: int) -> "PreTrainedModel":
        """A sequence classifier on the CPU in float32, in evaluation mode.

        Its classifier is the saved one where there is one of as many outputs, else drawn by seed.

        Raises:
            UserError: when its weights cannot be read.
        """
        init = "scratch" if self.is_new else "pretrained"
        model = build_model(self.folder, init=init, num_outputs=num_outputs, seed=self.seed)
        if not self.is_new:
            model.load_state_dict(dict(_classifier(model, self.folder)), strict=False)
        return model.eval()


def _classifier(model: "PreTrainedModel", folder: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """The saved weights around a model's body, if they are of its own form: all of them, or none."""
    from safetensors import safe_open

    body = f"{model.base_model_prefix}."
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith(body)}
    files = [folder / SINGLE_FILE] if (folder / SINGLE_FILE).is_file() else sorted(folder.glob("model-*.safetensors"))
    found: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as weights:
            names = wanted.keys() & set(weights.keys())
            found |= {name: weights.get_tensor(name) for name in names}
    if {name: tensor.shape for name, tensor in found.items()} == wanted:
        yield from found.items()


def find_models(config: ProbeConfig, labels: Mapping[str, str] = {}) -> list[Model]:
    """The models of a probe's list, in its order.

    Args:
        labels: what to call some of the list's entries; others go by their folder's name, new ones by their seed.

    Raises:
        UserError: for a model that is not there, or ``scratch`` without an architecture.
    """
    architecture = config.architecture or next((name for name in config.models if not is_scratch(name)), None)
    if architecture is None:
        raise UserError("architecture: not given, and models has scratch alone; give the model that it is built like")
    found = [_find(name, architecture, config) for name in config.models]
    for place, one in enumerate(found):
        if one in found[:place]:
            first, second = config.models[found.index(one)], config.models[place]
            raise UserError(f"models: {second!r} is the same as {first!r}; give each once")
    names = _labels([labels.get(name) or _label(name) for name in config.models], config.models)
    return [replace(one, label=label) for one, label in zip(found, names, strict=True)]


def _find(name: str, architecture: str, config: ProbeConfig) -> Model:
    if not is_scratch(name):
        with named_models():
            return Model(label="", folder=find_model(name, needs_weights=True), is_new=False, seed=config.seed)
    with named_models("architecture" if config.architecture else "models"):
        folder = find_model(architecture, needs_weights=False)
    return Model(label="", folder=folder, is_new=True, seed=scratch_seed(name))


@contextmanager
def named_models(parameter: str = "models") -> Iterator[None]:
    """Inside the block a mistake in a ``model`` is told as one in the parameter that the user has given."""
    try:
        yield
    except UserError as error:
        raise UserError(re.sub("^model:", f"{parameter}:", str(error))) from None


def _label(name: str) -> str:
    if is_scratch(name):
        return f"scratch seed {scratch_seed(name)}"
    return displayed(name if URI.match(name) else Path(name).expanduser().resolve().name) or name


def displayed(text: str) -> str:
    """A text as it may be shown: without what a terminal would obey, and not too long."""
    return "".join(mark if mark.isprintable() else " " for mark in text)[:MAX_LABEL].strip()


def _labels(short: Sequence[str], whole: Sequence[str]) -> list[str]:
    """The short names; those that are alike with what tells them apart: a run's id, a folder's path, or their place."""
    apart = []
    for name, long in zip(short, whole, strict=True):
        run = RUN_URI.match(long)
        told = f"{name} {run[1]}" if run else displayed(long)
        apart.append(name if short.count(name) == 1 else told)
    return [f"{name} ({number})" if apart.count(name) > 1 else name for number, name in enumerate(apart, 1)]
