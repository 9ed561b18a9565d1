"""``python -m trainer.pretrain``: pre-trains a tiny BERT on nested brackets, without a word of text, for the demo.

Recipe: sequences of :func:`trainer.tasks.demo.nested_brackets` (32 tokens, 128 kinds of bracket, each one token)
between [CLS] and [SEP], drawn anew for every step; masked language modelling as in BERT (Devlin et al. 2019, arXiv
1810.04805): 15 % of the tokens are to be predicted, of which 80 % become [MASK], 10 % a random token, 10 % stay;
special tokens are never chosen. AdamW, linear warm-up over the first tenth of the steps, then linear decay to 0. The
model is a BERT of 2 layers, width 64, 4 heads, no dropout, so small that it is initialised with N(0, 1/64): with
BERT's own N(0, 0.02^2), meant for a width of 768, it does not find the matching brackets within a minute. The other
inits of a trial start from the same distribution.

The vocabulary is laid out like BERT's: special and [unusedN] tokens below id 1000, words ("aa", "ab", ...) from there.

Shape suffixes: B batch, T tokens, M masked tokens.
"""

import itertools
import json
import shutil
import string
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.commandline import parse, run, setting
from trainer.errors import UserError
from trainer.mapping import FIRST_ORDINARY_ID
from trainer.tasks.demo import DEMO, nested_brackets

if TYPE_CHECKING:
    import torch
    from transformers import BertForMaskedLM

SPECIAL_TOKENS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}  # ids as in bert-base-uncased
CLS_ID, SEP_ID, MASK_ID = 101, 102, 103
NUM_WORDS = 128
LENGTH = DEMO.max_length
MASK_SHARE = 0.15
SETTINGS_FILE = "polymath.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to pre-train, and where to put it.

    Raises:
        UserError: for a number that is out of range.
    """

    output: str = setting(".cache/demo-bert", help="folder that the model is saved to")
    num_steps: int = setting(2500, help="training steps", unit="steps")
    batch_size: int = setting(32, help="sequences in a training step", unit="sequences")
    learning_rate: float = setting(4e-3, help="peak learning rate, after a tenth of the steps", unit="per step")
    seed: int = setting(0, help="seeds weights, sequences and masks")
    num_threads: int = setting(1, help="CPU threads; more than one gains little on so small a model", unit="threads")

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "learning_rate", "num_threads"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name}: {getattr(self, name)} is not allowed; give a number above 0")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed: {self.seed} is not allowed; give a whole number from 0 to {2**32 - 1}")
        if not self.output:
            raise UserError("output: '' is not allowed; give a folder")

    def recorded(self) -> dict[str, object]:
        """What decides the weights, as it is written beside them."""
        chosen = {name: value for name, value in asdict(self).items() if name not in ("output", "num_threads")}
        return {"made_by": "trainer.pretrain", "length": LENGTH, "num_words": NUM_WORDS, **chosen}


def vocabulary() -> list[str]:
    """The tokens in id order: special and unused ones below 1000, then two-letter words."""
    unused = [SPECIAL_TOKENS.get(token_id, f"[unused{token_id}]") for token_id in range(FIRST_ORDINARY_ID)]
    words = ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2))
    return unused + list(itertools.islice(words, NUM_WORDS))


def draw_batch(rng: np.random.Generator, num_sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Input ids (B, T) with masked tokens, and targets (B, T): the true token where one is to be predicted, else -1."""
    kinds, _ = nested_brackets(rng, num_sequences, LENGTH, NUM_WORDS)
    ids_BT = np.pad(kinds + FIRST_ORDINARY_ID, ((0, 0), (1, 1)))
    ids_BT[:, 0], ids_BT[:, -1] = CLS_ID, SEP_ID
    chosen_BT = rng.random(ids_BT.shape) < MASK_SHARE
    chosen_BT[:, [0, -1]] = False
    chosen_BT[0, 1] |= not chosen_BT.any()  # a batch without a target has no loss
    targets_BT = np.where(chosen_BT, ids_BT, -1)
    fate_BT = rng.random(ids_BT.shape)
    random_BT = rng.integers(FIRST_ORDINARY_ID, FIRST_ORDINARY_ID + NUM_WORDS, size=ids_BT.shape)
    ids_BT = np.where(chosen_BT & (fate_BT < 0.8), MASK_ID, ids_BT)
    return np.where(chosen_BT & (fate_BT >= 0.9), random_BT, ids_BT), targets_BT


def build() -> "BertForMaskedLM":
    """A new tiny BERT; torch's generator draws its weights."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=FIRST_ORDINARY_ID + NUM_WORDS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.125,
    )
    return BertForMaskedLM(config)


def masked_loss(model: "BertForMaskedLM", ids_BT: "torch.Tensor", targets_BT: "torch.Tensor") -> "torch.Tensor":
    """Mean cross-entropy over the masked tokens, a scalar; only for them are the words' logits computed."""
    from torch.nn.functional import cross_entropy

    rows, columns = (targets_BT >= 0).nonzero(as_tuple=True)
    hidden_MH = model.bert(input_ids=ids_BT).last_hidden_state[rows, columns]
    loss: torch.Tensor = cross_entropy(model.cls(hidden_MH), targets_BT[rows, columns])
    return loss


def pretrain(settings: Settings) -> "BertForMaskedLM":
    """Trains a new model, equal for equal settings, and prints the loss ten times on the way."""
    import torch

    torch.set_num_threads(settings.num_threads)
    torch.manual_seed(settings.seed)
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))
    num_warmup = max(1, settings.num_steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / num_warmup, (settings.num_steps - step) / max(1, settings.num_steps - num_warmup)
        ),
    )
    rng = np.random.default_rng(settings.seed)
    losses: list[float] = []
    report_every = max(1, settings.num_steps // 10)
    for step in range(1, settings.num_steps + 1):
        ids_BT, targets_BT = (torch.from_numpy(array) for array in draw_batch(rng, settings.batch_size))
        loss = masked_loss(model, ids_BT, targets_BT)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
        if step % report_every == 0:
            print(f"step {step:>5} of {settings.num_steps}: loss {np.mean(losses[-report_every:]):.3f}", flush=True)
    return model


def save(model: "BertForMaskedLM", settings: Settings, folder: Path) -> None:
    """Writes model, tokenizer and settings to a new folder beside the wanted one, which it then replaces."""
    from transformers import BertTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        tokens = vocabulary()
        model.save_pretrained(temporary)
        BertTokenizer(vocab={token: token_id for token_id, token in enumerate(tokens)}).save_pretrained(temporary)
        (temporary / "vocab.txt").write_text("\n".join(tokens) + "\n")
        (temporary / SETTINGS_FILE).write_text(json.dumps(settings.recorded(), indent=2) + "\n")
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_done(settings: Settings, folder: Path) -> bool:
    """Whether the folder holds a model made with these very settings.

    Raises:
        UserError: when something else lies there, which is never overwritten.
    """
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / SETTINGS_FILE).read_text())
        if found["made_by"] == settings.recorded()["made_by"]:
            return bool(found == settings.recorded())
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"output: {folder} exists and was not made by trainer.pretrain; give another folder, or remove it")


def main(arguments: Sequence[str]) -> int:
    """Pre-trains the demo's model unless it is there already."""
    settings = parse(
        Settings,
        arguments,
        program="python -m trainer.pretrain",
        description="Pre-train a tiny BERT on nested brackets, for the demo.",
    )
    folder = Path(settings.output).expanduser()
    if is_done(settings, folder):
        print(f"{folder} holds this model already")
        return 0
    print(f"pre-training a tiny BERT on nested brackets; a guess has loss {np.log(NUM_WORDS):.3f}")
    started = time.perf_counter()
    save(pretrain(settings), settings, folder)
    print(f"saved {folder} after {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    run(main)
