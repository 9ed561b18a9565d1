"""``python -m trainer.demo``: pre-trains a tiny BERT on nested brackets, without a word of text, for the demo.

The model is a BERT of 2 layers, width 64, 4 heads, no dropout, so small that it is initialised with N(0, 1/64): with
BERT's own N(0, 0.02^2), meant for a width of 768, it does not find the matching brackets within a minute. The other
inits of a trial start from the same distribution. Its vocabulary is laid out like BERT's: special and [unusedN] tokens
below id 1000, then 128 words ("aa", "ab", ...), which are the brackets.
"""

import itertools
import json
import math
import string
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.commandline import parse, run, setting
from trainer.config import positive
from trainer.encoding import NUM_SPECIAL
from trainer.errors import UserError
from trainer.logger import SilentLogger
from trainer.mapping import FIRST_ORDINARY_ID
from trainer.pretrain import line_of, make_folder
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus
from trainer.pretraining.keep import ABOUT, about, save_model
from trainer.tasks.demo import DEMO

SPECIAL_TOKENS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}  # ids as in bert-base-uncased
NUM_WORDS = 128
MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.125,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the demo's model goes, and how long it is trained.

    Raises:
        UserError: for a number that is out of range.
    """

    output: str = setting(".cache/demo-bert", help="folder that the model is saved to")
    num_steps: int = setting(2500, help="training steps", unit="steps")
    num_threads: int = setting(1, help="CPU threads; more than one gains little on so small a model", unit="threads")

    def __post_init__(self) -> None:
        positive("num_steps", self.num_steps)
        positive("num_threads", self.num_threads)
        if not self.output:
            raise UserError("output: '' is not allowed; give a folder")


def vocabulary() -> list[str]:
    """The tokens in id order: special and unused ones below 1000, then two-letter words."""
    unused = [SPECIAL_TOKENS.get(token_id, f"[unused{token_id}]") for token_id in range(FIRST_ORDINARY_ID)]
    words = ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2))
    return unused + list(itertools.islice(words, NUM_WORDS))


def write_architecture(folder: Path) -> None:
    """Writes the config and the tokenizer of a model that is yet to be trained."""
    from transformers import BertConfig, BertTokenizer

    tokens = vocabulary()
    BertConfig(vocab_size=len(tokens), **MODEL).save_pretrained(folder)
    BertTokenizer(vocab={token: token_id for token_id, token in enumerate(tokens)}).save_pretrained(folder)


def main(arguments: Sequence[str]) -> int:
    """Pre-trains the demo's model unless it is there already.

    Raises:
        UserError: when something else lies in its place, which is never overwritten.
    """
    settings = parse(
        Settings,
        arguments,
        program="python -m trainer.demo",
        description="Pre-train a tiny BERT on nested brackets, for the demo.",
    )
    folder = Path(settings.output).expanduser()
    with tempfile.TemporaryDirectory(prefix="polymath-demo-") as temporary:
        write_architecture(Path(temporary))
        config = PretrainConfig(
            corpus="nested",
            model=temporary,
            num_steps=settings.num_steps,
            batch_size=32,
            max_length=DEMO.max_length + NUM_SPECIAL,
            learning_rate=4e-3,
        )
        return _pretrain(config, folder, settings.num_threads)


def _pretrain(config: PretrainConfig, folder: Path, num_threads: int) -> int:
    corpus, model_folder = open_corpus(config)
    if folder.exists():
        if not _holds(folder, about(config, corpus, config.num_steps)):
            raise UserError(f"output: {folder} exists and holds something else; give another folder, or remove it")
        print(f"{folder} holds this model already")
        return 0

    from trainer.pretraining.pretraining import Pretraining

    pretraining = Pretraining(config, corpus, model_folder, SilentLogger(), num_threads=num_threads)
    make_folder(folder.parent)
    print(f"pre-training a tiny BERT on nested brackets; a guess has loss {math.log(NUM_WORDS):.3f}")
    for stop in pretraining:
        print(line_of(pretraining, stop), flush=True)
    save_model(pretraining, folder)
    print(f"saved {folder}")
    return 0


def _holds(folder: Path, wanted: Mapping[str, object]) -> bool:
    """Whether a folder holds a model of which this is said."""
    try:
        return bool(json.loads((folder / ABOUT).read_text(encoding="utf-8")) == wanted)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    run(main)
