"""Training and evaluation over data that lies on the device.

Shape suffixes: B batch, T tokens, N examples, C classes.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.architectures import Inputs
from trainer.encoding import Encoded
from trainer.objectives import Objective
from trainer.packing import pack

# Without it cuBLAS is not deterministic, and torch refuses it; read when CUDA starts (docs.nvidia.com/cuda/cublas).
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

EVALUATION_BATCH = {"cpu": 64, "cuda": 128}  # examples; what more of them need no longer fits a processor's cache


class Examples:
    """One split on the device: batches are gathers by row.

    Args:
        is_packed: whether a batch is one row of sequences without padding; else a rectangle, trimmed to its longest.
    """

    def __init__(
        self, encoded: Encoded, targets_N: np.ndarray, device: torch.device, *, is_packed: bool = False
    ) -> None:
        # torch indexes int16 but not uint16: the same 16 bits, read back as unsigned in `batch`.
        self.ids_NT = torch.from_numpy(encoded.ids_NT.view(np.int16)).to(device)
        self.lengths_N = torch.from_numpy(encoded.lengths_N)  # stays on the CPU, so trimming needs no device sync
        self.seconds_N = None if encoded.seconds_N is None else torch.from_numpy(encoded.seconds_N)
        self.targets_N = torch.from_numpy(targets_N).to(device)
        self.device = device
        self.is_packed = is_packed
        self.is_mixed = len(self) > 0 and bool(self.lengths_N.min() < self.lengths_N.max())

    def __len__(self) -> int:
        return len(self.lengths_N)

    def longest_first(self, rows_B: torch.Tensor) -> torch.Tensor:
        """The rows in falling order of length; those of the same length stay in their order."""
        return rows_B[self.lengths_N[rows_B].argsort(descending=True, stable=True)]

    def batch(self, rows_B: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
        """What the model takes, by name, and the targets (B,), for row numbers on the CPU.

        In a packed batch the longest sequence comes first.
        """
        rows_B = self.longest_first(rows_B) if self.is_packed else rows_B
        inputs = self._packed(rows_B) if self.is_packed else self._padded(rows_B)
        return inputs, self.targets_N[rows_B.to(self.device)]

    def _padded(self, rows_B: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, T) each; no mask where nothing is padding, and token types only for pairs of sentences."""
        lengths_B = self.lengths_N[rows_B]
        longest = int(lengths_B.max())
        place_T = torch.arange(longest)
        inputs = {"input_ids": self.ids_NT[rows_B.to(self.device), :longest].long() & 0xFFFF}
        if int(lengths_B.min()) < longest:
            inputs["attention_mask"] = (place_T < lengths_B[:, None]).to(self.device)
        if self.seconds_N is not None:
            is_second_BT = (place_T >= self.seconds_N[rows_B][:, None]) & (place_T < lengths_B[:, None])
            inputs["token_type_ids"] = is_second_BT.long().to(self.device)
        return inputs

    def _packed(self, rows_B: torch.Tensor) -> dict[str, Any]:
        """(1, P) each, and how the sequences lie in them."""
        packing = pack(self.lengths_N[rows_B].numpy(), is_mixed=self.is_mixed)
        row_P, place_P = rows_B[packing.sequence_P], packing.place_P
        inputs = {"input_ids": self.ids_NT[row_P, place_P].long() & 0xFFFF, "position_ids": place_P}
        if self.seconds_N is not None:
            inputs["token_type_ids"] = (place_P >= self.seconds_N[row_P]).long()
        return {name: values_P[None] for name, values_P in inputs.items()} | {"packing": packing}


def taken(takes: Inputs, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a model takes of a batch's inputs, with the positions of those that do not count from 0."""
    given = dict(inputs)
    if not takes.token_types:
        given.pop("token_type_ids", None)
    if takes.first_position:
        ids_BT = inputs["input_ids"]
        places_BT = inputs.get("position_ids", torch.arange(ids_BT.shape[1], device=ids_BT.device))
        given["position_ids"] = (places_BT + takes.first_position).expand_as(ids_BT)
    return given


@dataclass(kw_only=True)
class Learner:
    """A model with what it is trained to do and what changes it from step to step."""

    model: torch.nn.Module
    takes: Inputs
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device

    def logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """(B, C) float32; the forward pass runs in bfloat16 on a GPU, in float32 elsewhere."""
        given = taken(self.takes, inputs)
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
    order_N = examples.longest_first(torch.arange(len(examples)))
    batches = order_N.split(EVALUATION_BATCH[learner.device.type])
    parts = [learner.logits(examples.batch(rows_B)[0]) for rows_B in batches]
    sorted_NC = torch.cat(parts).cpu()
    logits_NC = torch.empty_like(sorted_NC)
    logits_NC[order_N] = sorted_NC
    return learner.objective.predictions(logits_NC)
