"""Which tokens are to be predicted: 15 % of them, of which 80 % become [MASK], 10 % a random token, 10 % stay.

Shape suffixes: B sequences, T tokens, M masked tokens.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASKED_SHARE = 0.15
UNMASKED = -100  # the collator's mark


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A batch with masks.

    Attributes:
        ids_BT: what the model sees.
        rows_M, columns_M: where the tokens are that it is to predict.
        targets_M: what they are.
    """

    ids_BT: torch.Tensor
    rows_M: torch.Tensor
    columns_M: torch.Tensor
    targets_M: torch.Tensor

    def part(self, first: int, end: int) -> "Masked":
        """The sequences from one to before another."""
        inside = (self.rows_M >= first) & (self.rows_M < end)
        return Masked(
            ids_BT=self.ids_BT[first:end],
            rows_M=self.rows_M[inside] - first,
            columns_M=self.columns_M[inside],
            targets_M=self.targets_M[inside],
        )

    def to(self, device: torch.device) -> "tuple[torch.Tensor, ...]":
        """What the model takes, on its device."""
        tensors = self.ids_BT, self.rows_M, self.columns_M, self.targets_M
        return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


class Masker:
    """Draws masks; special tokens are never chosen (Devlin et al. 2019, arXiv 1810.04805, section 3.1)."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        from transformers import DataCollatorForLanguageModeling

        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE)
        self._special = torch.tensor(tokenizer.all_special_ids)

    def mask(self, ids_BT: np.ndarray, draw: tuple[int, ...]) -> Masked:
        """Masks sequences; equal for equal numbers in ``draw``."""
        ids = torch.tensor(ids_BT)  # a copy: the collator writes into what it is given
        seed = int(np.random.SeedSequence(draw).generate_state(1, np.uint64)[0] >> 1)
        self._collator.generator = torch.Generator().manual_seed(seed)
        masked_BT, labels_BT = self._collator.torch_mask_tokens(ids, torch.isin(ids, self._special))
        rows_M, columns_M = (labels_BT != UNMASKED).nonzero(as_tuple=True)
        targets_M = labels_BT[rows_M, columns_M]
        return Masked(ids_BT=masked_BT, rows_M=rows_M, columns_M=columns_M, targets_M=targets_M)
