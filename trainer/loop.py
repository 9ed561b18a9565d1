"""Training and evaluation over data that lies on the device.

Shape suffixes: B batch, T tokens, N examples, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from trainer.architectures import Inputs
from trainer.encoding import Encoded
from trainer.objectives import Objective

EVALUATION_BATCH = 128


class Examples:
    """One split on the device: batches are gathers by row, trimmed to the batch's longest sequence."""

    def __init__(self, encoded: Encoded, targets_N: np.ndarray, device: torch.device) -> None:
        # torch indexes int16 but not uint16: the same 16 bits, read back as unsigned in `batch`.
        self.ids_NT = torch.from_numpy(encoded.ids_NT.view(np.int16)).to(device)
        self.lengths_N = torch.from_numpy(encoded.lengths_N)  # stays on the CPU, so trimming needs no device sync
        self.seconds_N = None if encoded.seconds_N is None else torch.from_numpy(encoded.seconds_N)
        self.targets_N = torch.from_numpy(targets_N).to(device)
        self.device = device

    def __len__(self) -> int:
        return len(self.lengths_N)

    def batch(self, rows_B: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What the model takes, by name, each (B, T), and the targets (B,), for row numbers on the CPU.

        There is no mask where nothing is padding, and there are token types only for pairs of sentences.
        """
        lengths_B = self.lengths_N[rows_B]
        longest = int(lengths_B.max())
        place_T = torch.arange(longest)
        rows_on_device_B = rows_B.to(self.device)
        inputs = {"input_ids": self.ids_NT[rows_on_device_B, :longest].long() & 0xFFFF}
        if int(lengths_B.min()) < longest:
            inputs["attention_mask"] = (place_T < lengths_B[:, None]).to(self.device)
        if self.seconds_N is not None:
            is_second_BT = (place_T >= self.seconds_N[rows_B][:, None]) & (place_T < lengths_B[:, None])
            inputs["token_type_ids"] = is_second_BT.long().to(self.device)
        return inputs, self.targets_N[rows_on_device_B]


@dataclass(kw_only=True)
class Learner:
    """A model with what it is trained to do and what changes it from step to step."""

    model: torch.nn.Module
    takes: Inputs
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, C) float32; the forward pass runs in bfloat16 on a GPU, in float32 elsewhere."""
        ids_BT = inputs["input_ids"]
        given = dict(inputs)
        if not self.takes.token_types:
            given.pop("token_type_ids", None)
        if self.takes.first_position:
            positions_T = torch.arange(ids_BT.shape[1], device=ids_BT.device) + self.takes.first_position
            given["position_ids"] = positions_T.expand_as(ids_BT)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            logits_BC: torch.Tensor = self.model(**given).logits
        return logits_BC.float()


def train_epoch(learner: Learner, examples: Examples, order_N: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Trains on every example once, in the given order; yields each step's loss (a scalar on the device)."""
    learner.model.train()
    for rows_B in order_N.split(batch_size):
        inputs, targets_B = examples.batch(rows_B)
        loss = learner.objective.loss(learner.logits(inputs), targets_B)
        loss.backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.schedule.step()
        yield loss.detach()


@torch.inference_mode()
def predict(learner: Learner, examples: Examples) -> np.ndarray:
    """What the objective makes of every example, in order: (N, C) class probabilities, or (N,) numbers."""
    learner.model.eval()
    parts = []
    for rows_B in torch.arange(len(examples)).split(EVALUATION_BATCH):
        inputs, _ = examples.batch(rows_B)
        parts.append(learner.logits(inputs))
    return learner.objective.predictions(torch.cat(parts).cpu())
