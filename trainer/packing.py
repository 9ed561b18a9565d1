"""Sequences of mixed lengths one after another, without the padding that a rectangular batch needs.

A batch of B sequences is one row of P tokens. All that a model does token by token runs over it as it is; attention
runs over groups of sequences of about the same length. The longest sequence comes first. A group's shorter sequences
are filled up to its longest one, as far as this costs less than a group more, and the row is filled up to a round
number of tokens, because oneDNN makes a program, and keeps it, for each number of rows that it has not seen yet. No
token attends to what fills, and it has no part in the result or in a gradient.

Shape suffixes: B sequences, P tokens of the row, H hidden units, and in attention G sequences of a group,
A heads, Q queries and L tokens of a sequence, D units of a head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from trainer.architectures import Inputs
from trainer.kernels import dropout as drop
from trainer.kernels import quicken

# These decide where dropout's random numbers go: to change one is to raise trainer.version.NUMBERS.
MAX_FILL = 8  # tokens that fill a group: about what the steps of one group more cost
MAX_SCORES = 2**17  # of a group, per head: what the processor's cache holds
ROUND = 64  # tokens, or an eighth of the power of two below their number

ATTENTION = "polymath_packed"  # the name under which transformers knows ours


@dataclass(frozen=True, kw_only=True)
class Group:
    """Sequences that lie one after another, all filled up to the length of the longest.

    Attributes:
        is_real_GL: what is no filling; None where nothing is.
    """

    num_sequences: int
    length: int
    is_real_GL: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How B sequences lie in one row of P tokens.

    Attributes:
        sequence_P, place_P: which sequence a token is of, and its place there. What fills the row repeats a token.
        first_B: where each sequence's first token lies.
        num_filling: tokens at the row's end that belong to no group.
    """

    groups: tuple[Group, ...]
    sequence_P: torch.Tensor
    place_P: torch.Tensor
    first_B: torch.Tensor
    num_filling: int


def pack(lengths_B: np.ndarray, *, is_mixed: bool = True) -> Packing:
    """Lays out sequences of these lengths, the longest first.

    Args:
        is_mixed: whether other batches have other lengths; else each has the same number of tokens anyway.
    """
    groups = tuple(_groups(lengths_B))
    filled_B = np.repeat([group.length for group in groups], [group.num_sequences for group in groups])
    first_B = np.cumsum(filled_B) - filled_B
    num_tokens = int(filled_B.sum())
    num_filling = -num_tokens % max(ROUND, 2 ** (num_tokens.bit_length() - 1) // 8) if is_mixed else 0
    sequence_P = np.pad(np.repeat(np.arange(len(filled_B)), filled_B), (0, num_filling))
    place_P = np.pad(np.arange(num_tokens) - np.repeat(first_B, filled_B), (0, num_filling))
    return Packing(
        groups=groups,
        sequence_P=torch.from_numpy(sequence_P),
        place_P=torch.from_numpy(place_P),
        first_B=torch.from_numpy(first_B),
        num_filling=num_filling,
    )


def _groups(lengths_B: np.ndarray) -> Iterator[Group]:
    start = 0
    while start < len(lengths_B):
        length = int(lengths_B[start])
        num_allowed = max(1, MAX_SCORES // length**2)
        candidates = lengths_B[start : start + num_allowed]
        fill = np.cumsum(length - candidates)
        lengths_G = candidates[fill <= MAX_FILL]
        is_real_GL = None
        if lengths_G[-1] < length:
            is_real_GL = torch.from_numpy(np.arange(length) < lengths_G[:, None])
        yield Group(num_sequences=len(lengths_G), length=length, is_real_GL=is_real_GL)
        start += len(lengths_G)


def attend(
    query_AQD: torch.Tensor,
    key_APD: torch.Tensor,
    value_APD: torch.Tensor,
    packing: Packing,
    *,
    scaling: float,
    dropout: float,
    window: int | None = None,
) -> torch.Tensor:
    """What each query takes from its own sequence: (Q, A, D).

    Args:
        query_AQD: of all P tokens, or of the B first ones alone.
        dropout: share of the attention weights that are dropped.
        window: how far apart tokens must be not to see each other; None where all do.
    """
    is_of_all = query_AQD.shape[1] == key_APD.shape[1]
    filling = (packing.num_filling,) if packing.num_filling else ()
    lengths = [group.num_sequences * group.length for group in packing.groups]
    num_queries = [*lengths, *filling] if is_of_all else [group.num_sequences for group in packing.groups]
    keys, values = (tensor.split([*lengths, *filling], dim=1) for tensor in (key_APD, value_APD))
    results = []
    # zip ends before the filling, which has no group
    for group, *parts in zip(packing.groups, query_AQD.split(num_queries, dim=1), keys, values, strict=False):
        query, key, value = (part.unflatten(1, (group.num_sequences, -1)).transpose(0, 1) for part in parts)
        mask = _mask(group, query.shape[2], window)
        attended_GAQD = _attend(query, key, value, mask, scaling, dropout)
        results.append(attended_GAQD.transpose(1, 2).flatten(0, 1))
    if is_of_all and filling:
        results.append(results[0].new_zeros(packing.num_filling, *results[0].shape[1:]))
    return torch.cat(results) if len(results) > 1 else results[0]


def _mask(group: Group, num_queries: int, window: int | None) -> torch.Tensor | None:
    """(G or 1, 1, Q or 1, L) bool: which tokens are seen; None where all are."""
    mask = None if group.is_real_GL is None else group.is_real_GL[:, None, None, :]
    if window is None or window >= group.length:
        return mask
    place_L = torch.arange(group.length)
    is_near_QL = (place_L[:num_queries, None] - place_L).abs() < window
    return is_near_QL[None, None] if mask is None else mask & is_near_QL


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Attention as torch computes it, (G, A, Q, D); with dropout too, for which torch has no fast way on a CPU."""
    if not dropout:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    scores = (query * scaling) @ key.transpose(2, 3)
    if mask is not None:
        # Not infinity: what fills may be too far from all tokens to see any, and softmax would make that NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return drop(scores.softmax(dim=3), dropout) @ value


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    packing: Packing,
    scaling: float,
    dropout: float,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """:func:`attend` as transformers' attention layers call it, with (1, A, P, D), and what they expect back."""
    states = query.squeeze(0), key.squeeze(0), value.squeeze(0)
    return attend(*states, packing, scaling=scaling, dropout=dropout, window=sliding_window)[None], None


def keep_first_tokens(module: torch.nn.Module, args: object, kwargs: dict[str, Any], output: Any) -> Any:
    """A hook after which an encoder's output (1, P, H) has the B sequences' first tokens alone: (B, 1, H)."""
    if isinstance(output, torch.Tensor):
        return output[0, kwargs["packing"].first_B][:, None]
    output.last_hidden_state = output.last_hidden_state[0, kwargs["packing"].first_B][:, None]
    return output


def bert_layer_for_first_tokens(layer: Any, hidden_1PH: torch.Tensor, *_: None, packing: Packing, **__: object) -> Any:
    """What BERT's layer makes of the first tokens, (B, 1, H): all that a classifier reads of the last layer.

    The other tokens serve as keys and values only. Three quarters and more of the layer's work fall away.
    """
    attention = layer.attention.self
    first_1BH = hidden_1PH[:, packing.first_B]
    states = attention.query(first_1BH), attention.key(hidden_1PH), attention.value(hidden_1PH)
    heads = attention.num_attention_heads
    query, key, value = (state.squeeze(0).unflatten(1, (heads, -1)).transpose(0, 1) for state in states)
    dropout = attention.dropout.p if layer.training else 0.0
    attended_BAD = attend(query, key, value, packing, scaling=attention.scaling, dropout=dropout)
    hidden_1BH = layer.attention.output(attended_BAD.flatten(1)[None], first_1BH)
    return layer.feed_forward_chunk(hidden_1BH).transpose(0, 1)


def prepare(model: Any, takes: Inputs) -> None:
    """Makes transformers' model on the CPU take batches as one row of tokens, with their :class:`Packing`, alone."""
    from transformers import AttentionInterface

    quicken(model)
    AttentionInterface.register(ATTENTION, packed_attention)
    model.set_attn_implementation(ATTENTION)
    encoder = model.base_model.get_submodule(takes.encoder)
    last = encoder[-1] if isinstance(encoder, torch.nn.ModuleList) else encoder
    if takes.has_bert_layers:  # by its class: with a method of its own the layer would be a cycle, and stay in memory
        last.__class__ = type("FirstTokensLayer", (type(last),), {"forward": bert_layer_for_first_tokens})
    else:
        last.register_forward_hook(keep_first_tokens, with_kwargs=True)
