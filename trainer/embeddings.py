"""Word embeddings cut to the tokens that a trial's data has: DNA needs 6 of BERT's 30,522 rows.

A row that no token asks for has a zero gradient, and none of our optimizers, which decay no weights, moves it. So a
trial computes the same without it. A saved model has all rows.

Shape suffixes: D tokens of the vocabulary, U tokens that are used, H units.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.encoding import Encoded
from trainer.models import word_embeddings_name

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MAX_TOKENS = np.iinfo(np.uint16).max + 1


def used_tokens(splits: Iterable[Encoded]) -> np.ndarray:
    """(U,) the token ids that occur in any split, padding too, in rising order."""
    is_used_D = np.zeros(MAX_TOKENS, dtype=bool)
    for split in splits:
        is_used_D[split.ids_NT] = True
    return np.flatnonzero(is_used_D)


def renumbered(splits: Mapping[str, Encoded], used_U: np.ndarray) -> dict[str, Encoded]:
    """The splits with each token's place in used_U for its id; one split under two names stays one."""
    place_D = np.zeros(MAX_TOKENS, dtype=np.uint16)
    place_D[used_U] = np.arange(len(used_U))
    distinct = {id(split): split for split in splits.values()}
    mapped = {key: split.mapped(place_D) for key, split in distinct.items()}
    return {name: mapped[id(split)] for name, split in splits.items()}


def cut(model: "PreTrainedModel", used_U: np.ndarray) -> None:
    """Leaves the rows of the used tokens only, in that order; padding's row stays frozen where it is."""
    import torch

    whole: Any = model.get_input_embeddings()
    rows_UH = whole.weight.detach()[torch.from_numpy(used_U)]
    padding = used_U.tolist().index(whole.padding_idx) if whole.padding_idx in used_U else None
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows_UH, freeze=False, padding_idx=padding))


def put_back(weights: Mapping[str, "torch.Tensor"], used_U: np.ndarray, model: "PreTrainedModel") -> None:
    """Gives a whole model the weights of one that was cut, the rows of the used tokens in their places."""
    import torch

    name = word_embeddings_name(model)
    rows_DH = model.state_dict()[name].clone()
    rows_DH[torch.from_numpy(used_U)] = weights[name].cpu()
    model.load_state_dict({**weights, name: rows_DH})
