"""One pre-training: a config trained once, as an iterator that yields at every step where the model is kept or tested.

All that is drawn (sequences, masks, dropout) hangs on the seed and the step alone. So a pre-training goes on from the
weights and the optimizer's state of any step with the very losses of one that was never interrupted, and several
processes that share a step's sequences learn what one would.

Shape suffixes: B sequences of a step, T tokens.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from trainer.digests import folder_digest
from trainer.kernels import quicken
from trainer.logger import Logger
from trainer.models import read_tokenizer
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import Corpus
from trainer.pretraining.group import Group
from trainer.pretraining.masks import Masked, Masker
from trainer.pretraining.model import build, decayed
from trainer.state_file import State, StateError, part, read_state, under, write_state
from trainer.version import PRETRAINING_NUMBERS

BETAS = (0.9, 0.98)  # of RoBERTa (arXiv 1907.11692, section 3.1)
MAX_NORM = 1.0  # of a step's gradient, as of BERT
NUM_REPORTS = 1000  # of the loss, in all
NUM_TESTS = 20  # on held-out text, beside those where the model is kept
TESTED_AT_ONCE = 64  # sequences
ALONE = Group()
MASKS, DROPOUT, HELD_OUT_MASKS = 1, 2, 3  # what is drawn, as part of a seed


class DivergedError(ArithmeticError):
    """The loss is no longer a number."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A step at which the training paused.

    Attributes:
        is_kept: whether the model of this step is to be kept.
        held_out_loss: mean over the masked tokens of held-out sequences, in nats.
        masked_accuracy: share of these tokens that the model predicts right.
    """

    step: int
    is_kept: bool
    held_out_loss: float
    masked_accuracy: float


class Pretraining(Iterator[Stop]):
    """Trains a new masked language model; in bfloat16 on a GPU, in float32 elsewhere.

    Args:
        folder: with config.json and tokenizer.
        logger: of the first process; others give one that is silent.
        device: as torch names it; None for a GPU where there is one.
        num_threads: of the processor.

    Attributes:
        step: steps taken.
        seconds: that this process has trained.
    """

    def __init__(
        self,
        config: PretrainConfig,
        corpus: Corpus,
        folder: Path,
        logger: Logger,
        *,
        device: str | None = None,
        num_threads: int = 1,
        group: Group = ALONE,
    ) -> None:
        self.config, self.corpus, self.folder, self.logger, self.group = config, corpus, folder, logger, group
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.set_num_threads(num_threads)
        self.tokenizer = read_tokenizer(folder)
        self.masker = Masker(self.tokenizer)
        model = build(config, folder)
        if self.device.type == "cpu":
            quicken(model)
        self.model = model.to(self.device)
        self.learner = group.wrapped(self.model)
        self.optimizer = torch.optim.AdamW(
            decayed(self.model, config.weight_decay), lr=config.learning_rate, betas=BETAS, fused=True
        )
        self.step, self.seconds = 0, 0.0
        self._has_begun = False
        every = max(1, config.num_steps // NUM_TESTS)
        self._stops = sorted({*config.kept_steps, *range(every, config.num_steps + 1, every)})

    def __next__(self) -> Stop:
        """Trains until the next stop; before the first, a new one only tests what it has if step 0 is to be kept."""
        due = [step for step in self._stops if step > self.step or (step == self.step == 0 and not self._has_begun)]
        if not due:
            raise StopIteration
        self._has_begun = True
        while self.step < due[0]:
            self._train(min(due[0], self.step + max(1, self.config.num_steps // NUM_REPORTS)))
        loss, accuracy = self.test()
        self._log({"valid/loss": loss, "valid/masked_accuracy": accuracy})
        is_kept = self.step in self.config.kept_steps
        return Stop(step=self.step, is_kept=is_kept, held_out_loss=loss, masked_accuracy=accuracy)

    def _train(self, end: int) -> None:
        """Takes the steps until one, and logs the means over their masked tokens.

        Raises:
            DivergedError: when a loss is no longer a number.
        """
        started, first = time.perf_counter(), self.step
        self.learner.train()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # of the losses, and of what is predicted right
        num_masked = 0
        while self.step < end:
            masked = self._masked(self.step)
            loss, num_right = self._take_step(masked, max(1, len(masked.targets_M)))
            sums += torch.stack([loss.double(), num_right.double()])
            num_masked += len(masked.targets_M)
            self.step += 1
        self.group.add_up(sums)
        loss_sum, right_sum = sums.tolist()  # waits for the device
        if not math.isfinite(loss_sum):
            raise DivergedError(f"the loss was no number after step {first}; give a smaller learning_rate")
        seconds = time.perf_counter() - started
        self.seconds += seconds
        num_tokens = (end - first) * self.config.batch_size * self.config.max_length
        self._log({"tokens_per_second": num_tokens / seconds})
        if num_masked:
            self._log({"train/loss": loss_sum / num_masked, "train/masked_accuracy": right_sum / num_masked})

    def _take_step(self, masked: Masked, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step over this process's share of the sequences.

        Args:
            number: masked tokens of all processes together: so the gradient is that of their mean.

        Returns:
            The sum of its tokens' losses, and how many it predicts right.
        """
        group, size = self.group, self.config.micro_batch_size or self.config.batch_size
        torch.manual_seed(self._seed(DROPOUT, self.step, group.rank))
        losses, rights = [], []
        bounds = range(0, self.config.batch_size, size)
        for first in bounds:
            end = min(first + size, self.config.batch_size)
            share = masked.part(*(first + (end - first) * rank // group.size for rank in (group.rank, group.rank + 1)))
            is_last = first == bounds[-1]
            with nullcontext() if is_last else group.without_exchange(self.learner):
                loss, right = self._forward(share)
                (loss * (group.size / number)).backward()  # the group takes the mean of the gradients
            losses.append(loss.detach())
            rights.append(right)
        clip_grad_norm_(self.model.parameters(), MAX_NORM)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self._learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum(), torch.stack(rights).sum()

    def _forward(self, masked: Masked) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            loss, right = self.learner(*masked.to(self.device))
        return loss, right

    def _masked(self, step: int) -> Masked:
        return self.masker.mask(self.corpus.batch(step), (self.config.seed, MASKS, step))

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Loss and masked accuracy on the held-out sequences, always under the same masks."""
        self.model.eval()
        masked = self.masker.mask(self.corpus.held_out_VT, (self.config.seed, HELD_OUT_MASKS))
        sums = np.zeros(2)
        for first in range(0, len(masked.ids_BT), TESTED_AT_ONCE):
            share = masked.part(first, min(first + TESTED_AT_ONCE, len(masked.ids_BT)))
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
                loss, right = self.model(*share.to(self.device))
            sums += [loss.item(), right.item()]
        loss_mean, accuracy = sums / max(1, len(masked.targets_M))
        return float(loss_mean), float(accuracy)

    def _learning_rate(self) -> float:
        """Of the step that is taken: linear warm-up, then linear decay to 0."""
        peak, num_steps = self.config.learning_rate, self.config.num_steps
        num_warmup = self.config.num_warmup_steps or 0
        if self.step < num_warmup:
            return peak * (self.step + 1) / num_warmup
        return peak * (num_steps - self.step) / max(1, num_steps - num_warmup)

    def _seed(self, *draw: int) -> int:
        words = np.random.SeedSequence([self.config.seed, *draw]).generate_state(1, np.uint64)
        return int(words[0] >> np.uint64(1))

    def _log(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.logger.metrics(name, [value], [self.step])

    def save(self, path: Path, notes: Mapping[str, str] = {}) -> None:
        """Writes all from which it can go on into a safetensors file, and the caller's texts.

        Raises:
            OSError: when the file cannot be written.
        """
        state: State = {**self._identity(), "step": self.step}
        state |= under("weights", dict(self.model.named_parameters()))
        for index, kept in self.optimizer.state_dict()["state"].items():
            state |= under(f"optimizer/{index}", kept)
        write_state(path, state, notes)

    def restore(self, path: Path) -> None:
        """Goes on as the pre-training of the same config that was saved would have.

        Raises:
            StateError: when the file is damaged or another one's; this one, which must be new, then is as it was.
            OSError: when the file cannot be read.
        """
        saved = read_state(path, self._identity())
        weights = part(saved, "weights")
        own = dict(self.model.named_parameters())
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in own.items()}:
            raise StateError(f"{path}: the weights are of another model")
        kept: dict[int, dict[str, Any]] = {}
        for name, value in part(saved, "optimizer").items():
            index, _, key = name.partition("/")
            kept.setdefault(int(index), {})[key] = value
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        self.step, self._has_begun = saved["step"], True

    def _identity(self) -> State:
        common = {"numbers": PRETRAINING_NUMBERS, "data": self.corpus.digest}
        common["model"] = folder_digest(self.folder, weights=False)
        # Not what else is kept, nor where corpus and model lie: their contents count.
        apart = dict.fromkeys(("checkpoint_steps", "corpus", "model"))
        return common | under("config", self.config.settings() | apart)
