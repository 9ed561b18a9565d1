"""What a model is trained to do: tell classes apart, or predict a number.

Shape suffixes: N examples, B batch, C classes (1 where a number is predicted).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from trainer.tasks.task import Dataset


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Cross-entropy over the classes; the loss is in nats."""

    num_outputs: int
    unit: str = "nats"

    def targets(self, labels_N: np.ndarray) -> np.ndarray:
        """(N,) int64: the class indices."""
        return labels_N

    def loss(self, logits_BC: torch.Tensor, targets_B: torch.Tensor) -> torch.Tensor:
        """Mean over the batch, a scalar."""
        return cross_entropy(logits_BC, targets_B)

    def predictions(self, logits_NC: torch.Tensor) -> np.ndarray:
        """(N, C) class probabilities."""
        return logits_NC.softmax(dim=1).numpy()


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Mean squared error of numbers brought to mean 0 and standard deviation 1 on the training examples.

    Attributes:
        mean, std: of the training labels; predictions are told on the labels' own scale.
    """

    mean: float
    std: float
    num_outputs: int = 1
    unit: str = "variance of the training labels"

    def targets(self, labels_N: np.ndarray) -> np.ndarray:
        """(N,) float32: the standardised numbers."""
        return ((labels_N - self.mean) / self.std).astype(np.float32)

    def loss(self, logits_BC: torch.Tensor, targets_B: torch.Tensor) -> torch.Tensor:
        """Mean over the batch, a scalar."""
        return mse_loss(logits_BC[:, 0], targets_B)

    def predictions(self, logits_NC: torch.Tensor) -> np.ndarray:
        """(N,) float64 on the labels' own scale."""
        return logits_NC[:, 0].double().numpy() * self.std + self.mean


Objective = Classification | Regression


def objective_of(dataset: Dataset) -> Objective:
    """The objective for a dataset, whose train split has the examples that are trained on, and no others."""
    if dataset.classes:
        return Classification(num_outputs=len(dataset.classes))
    labels_N = dataset.train.labels
    return Regression(mean=float(labels_N.mean()), std=float(labels_N.std()) or 1.0)
