"""What is left of a pre-training on disk: a folder ``step-N`` for every step that is kept, each a whole model."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import Corpus

if TYPE_CHECKING:
    from trainer.pretraining.pretraining import Pretraining

ABOUT = "polymath.json"  # what a model comes from, beside its weights
STATE = "state.safetensors"  # from which an interrupted pre-training goes on


def step_folder(step: int) -> str:
    """``step-1000``: where the model of a step lies."""
    return f"step-{step}"


def save_model(pretraining: "Pretraining", folder: Path) -> None:
    """Writes the model as it is: safetensors, config, tokenizer, and what it comes from.

    Raises:
        OSError: when the folder cannot be written.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    what = about(pretraining.config, pretraining.corpus, pretraining.step)
    with replaced(folder) as new:
        pretraining.model.model.save_pretrained(new)
        pretraining.tokenizer.save_pretrained(new)
        (new / ABOUT).write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")


def about(config: PretrainConfig, corpus: Corpus, step: int) -> dict[str, Any]:
    """What decides the model of a step, as it is written beside it."""
    settings = {**config.settings(), "corpus": config.corpus_name, "data_digest": corpus.digest}
    for name in ("model", "checkpoint_steps"):  # where things lay, and what else was kept, is not the model's
        del settings[name]
    return {**settings, "step": step, "num_tokens": step * config.batch_size * config.max_length}


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to be filled, which then takes the place of what is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield new
        new.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
