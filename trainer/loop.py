"""Training and evaluation over data that lies on the device.

Shape suffixes: B batch, T tokens, N examples, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from trainer.encoding import Encoded

EVALUATION_BATCH = 128


class Examples:
    """One split on the device: batches are gathers by row, trimmed to the batch's longest sequence."""

    def __init__(self, encoded: Encoded, labels: np.ndarray, device: torch.device) -> None:
        # torch indexes int16 but not uint16: the same 16 bits, read back as unsigned in `batch`.
        self.ids_NT = torch.from_numpy(encoded.ids_NT.view(np.int16)).to(device)
        self.lengths_N = torch.from_numpy(encoded.lengths_N)  # stays on the CPU, so trimming needs no device sync
        self.labels_N = torch.from_numpy(labels).to(device)
        self.device = device

    def __len__(self) -> int:
        return len(self.lengths_N)

    def batch(self, rows_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """ids (B, T) int64, mask (B, T) or None when nothing is padding, labels (B,), for row numbers on the CPU."""
        lengths_B = self.lengths_N[rows_B]
        longest = int(lengths_B.max())
        rows_B = rows_B.to(self.device)
        ids_BT = self.ids_NT[rows_B, :longest].long() & 0xFFFF
        mask_BT = None
        if int(lengths_B.min()) < longest:
            mask_BT = (torch.arange(longest) < lengths_B[:, None]).to(self.device)
        return ids_BT, mask_BT, self.labels_N[rows_B]


@dataclass(kw_only=True)
class Learner:
    """A model with what changes it from step to step."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device

    def logits(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
        """(B, C) float32; the forward pass runs in bfloat16 on a GPU, in float32 elsewhere."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            logits_BC = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits
        return logits_BC.float()


def train_epoch(learner: Learner, examples: Examples, order_N: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Trains on every example once, in the given order; yields each step's loss (a scalar on the device)."""
    learner.model.train()
    for rows_B in order_N.split(batch_size):
        ids_BT, mask_BT, labels_B = examples.batch(rows_B)
        loss = cross_entropy(learner.logits(ids_BT, mask_BT), labels_B)
        loss.backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.schedule.step()
        yield loss.detach()


@torch.inference_mode()
def predict(learner: Learner, examples: Examples) -> np.ndarray:
    """(N, C) class probabilities of every example, in order."""
    learner.model.eval()
    parts = []
    for rows_B in torch.arange(len(examples)).split(EVALUATION_BATCH):
        ids_BT, mask_BT, _ = examples.batch(rows_B)
        parts.append(learner.logits(ids_BT, mask_BT).softmax(dim=1))
    probabilities_NC: np.ndarray = torch.cat(parts).cpu().numpy()
    return probabilities_NC
