"""A masked language model, and its loss over the masked tokens alone.

Shape suffixes: B sequences, T tokens, M masked tokens, H hidden units, V tokens of the vocabulary.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, pad

from trainer.architectures import language_head_of, read_inputs
from trainer.errors import UserError, first_line
from trainer.models import read_config
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.sizes import SIZES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUND = 64  # masked tokens; their number is filled up to a multiple
IGNORED = -100  # as a target


def build(config: PretrainConfig, folder: Path) -> "MaskedLanguageModel":
    """A new model with the architecture of a folder, in the size asked for; the seed draws its weights.

    Raises:
        UserError: for an architecture or a size that cannot be built.
    """
    from transformers import AutoModelForMaskedLM

    head = language_head_of(folder)
    settings = read_config(folder, 1)
    for name, value in SIZES[config.size].settings().items() if config.size else ():
        setattr(settings, name, value)
    torch.manual_seed(config.seed)
    try:
        model: PreTrainedModel = AutoModelForMaskedLM.from_config(settings, dtype=torch.float32)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"model: {config.model!r} cannot be built ({first_line(error)}); give another config") from None
    return MaskedLanguageModel(model, head, read_inputs(settings).first_position)


class MaskedLanguageModel(torch.nn.Module):
    """Only for masked tokens are the scores of all the vocabulary's tokens computed: a seventh of the work.

    Args:
        head: see :class:`trainer.architectures.Architecture`.
        first_position: see :class:`trainer.architectures.Inputs`.
    """

    def __init__(self, model: "PreTrainedModel", head: str, first_position: int) -> None:
        super().__init__()
        self.model = model
        self._head, self._first_position = head, first_position

    def forward(
        self, ids_BT: torch.Tensor, rows_M: torch.Tensor, columns_M: torch.Tensor, targets_M: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the masked tokens' cross-entropies in nats, and how many of them are predicted right."""
        # oneDNN makes a program, and keeps it, for each number of rows that it has not seen yet.
        num_filling = -len(targets_M) % ROUND if len(targets_M) else ROUND
        rows_M, columns_M = (pad(places_M, (0, num_filling)) for places_M in (rows_M, columns_M))
        targets_M = pad(targets_M, (0, num_filling), value=IGNORED)
        inputs = {"input_ids": ids_BT}
        if self._first_position:
            places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
            inputs["position_ids"] = (places_T + self._first_position).expand_as(ids_BT)
        body: Any = self.model.base_model
        hidden_MH = body(**inputs).last_hidden_state[rows_M, columns_M]
        scores_MV = self.model.get_submodule(self._head)(hidden_MH)
        loss = cross_entropy(scores_MV, targets_M, reduction="sum", ignore_index=IGNORED)
        return loss, (scores_MV.detach().argmax(dim=-1) == targets_M).sum()


def decayed(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters in two groups, for an optimizer: matrices decay, biases and normalisation do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
