"""The optimizers of the paper's grid search, by name.

Each entry is where the class lives; it is imported when a trial asks for it. All run with their library's
default settings (no weight decay), as in the paper's appendix.
"""

import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

OPTIMIZERS = {
    "adam": "torch.optim:Adam",
    "adagrad": "torch.optim:Adagrad",
    "adamax": "torch.optim:Adamax",
    "radam": "torch.optim:RAdam",
    "novograd": "pytorch_optimizer.optimizer.novograd:NovoGrad",
}

HAVE_FUSED = frozenset({"adam", "adagrad"})  # a step in one pass over the parameters; the same numbers up to rounding


def build_optimizer(
    name: str, parameters: "Iterable[torch.nn.Parameter]", learning_rate: float
) -> "torch.optim.Optimizer":
    """Returns the named optimizer over the parameters."""
    options = {"fused": True} if name in HAVE_FUSED else {}
    optimizer: torch.optim.Optimizer = pkgutil.resolve_name(OPTIMIZERS[name])(parameters, lr=learning_rate, **options)
    return optimizer
