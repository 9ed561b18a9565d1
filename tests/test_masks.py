"""Masks: which tokens are chosen, what becomes of them, and what is never touched.

Bounds are five standard deviations of a binomial draw; the seeds are fixed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from trainer.models import read_tokenizer
from trainer.pretraining.masks import MASKED_SHARE, Masked, Masker

MODELS = ("bert-base-uncased", "bert-base-chinese", "roberta-base", "albert-base-v1")
SIGMAS = 5.0
B, T = 400, 128


def assert_share(number: int, of: int, expected: float) -> None:
    bound = SIGMAS * np.sqrt(expected * (1 - expected) / of)
    assert abs(number / of - expected) < bound, f"{number / of} is not {expected} ± {bound}"


class Sequences:
    """Sequences of a tokenizer: ordinary tokens between begin and end, now and then the end of a document, padding."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = read_tokenizer(folder)
        rng = np.random.default_rng(0)
        special = self.tokenizer.all_special_ids
        ordinary = np.setdiff1d(np.arange(len(self.tokenizer)), special)
        self.ids_BT = rng.choice(ordinary, size=(B, T))
        self.ids_BT[rng.random((B, T)) < 0.02] = self.tokenizer.sep_token_id
        self.ids_BT[:, 0], self.ids_BT[:, -9] = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        self.ids_BT[:, -8:] = self.tokenizer.pad_token_id
        self.is_special_BT = np.isin(self.ids_BT, special)
        self.masker = Masker(self.tokenizer)

    def masked(self, *draw: int) -> Masked:
        return self.masker.mask(self.ids_BT, draw or (0,))

    def chosen(self, masked: Masked) -> np.ndarray:
        chosen_BT = np.zeros((B, T), dtype=bool)
        chosen_BT[masked.rows_M, masked.columns_M] = True
        return chosen_BT


@pytest.fixture(params=MODELS)
def sequences(request: pytest.FixtureRequest, real_models: Path) -> Sequences:
    return Sequences(real_models / request.param)


@pytest.fixture
def tiny(tiny_model: Path) -> Sequences:
    return Sequences(tiny_model)


def test_15_percent_of_the_ordinary_tokens_are_chosen_and_no_special_one(sequences: Sequences) -> None:
    chosen_BT = sequences.chosen(sequences.masked())
    assert not (chosen_BT & sequences.is_special_BT).any()
    assert_share(chosen_BT.sum(), (~sequences.is_special_BT).sum(), MASKED_SHARE)
    assert MASKED_SHARE == 0.15


def test_what_is_not_chosen_stays_and_what_is_chosen_is_known(sequences: Sequences) -> None:
    masked = sequences.masked()
    chosen_BT = sequences.chosen(masked)
    assert chosen_BT.sum() == len(masked.targets_M)
    assert (masked.ids_BT.numpy()[~chosen_BT] == sequences.ids_BT[~chosen_BT]).all()
    assert (masked.targets_M.numpy() == sequences.ids_BT[masked.rows_M, masked.columns_M]).all()


def test_of_the_chosen_80_percent_are_hidden_10_are_random_and_10_stay(sequences: Sequences) -> None:
    masked = sequences.masked()
    seen_M = masked.ids_BT[masked.rows_M, masked.columns_M]
    num_chosen, num_tokens = len(seen_M), len(sequences.tokenizer)
    is_hidden_M, is_same_M = seen_M == sequences.tokenizer.mask_token_id, seen_M == masked.targets_M
    # A random token is any of the vocabulary's, now and then the mask or the very same one.
    assert_share(int(is_hidden_M.sum()), num_chosen, 0.8 + 0.1 / num_tokens)
    assert_share(int(is_same_M.sum()), num_chosen, 0.1 + 0.1 / num_tokens)
    assert_share(int((~is_hidden_M & ~is_same_M).sum()), num_chosen, 0.1 * (1 - 2 / num_tokens))


def test_random_tokens_are_uniform_over_the_whole_vocabulary(tiny: Sequences) -> None:
    num_tokens, num_parts = len(tiny.tokenizer), 11
    counts = np.zeros(num_tokens)
    for draw in range(5):
        masked = tiny.masked(draw)
        seen_M = masked.ids_BT[masked.rows_M, masked.columns_M]
        is_random_M = (seen_M != masked.targets_M) & (seen_M != tiny.tokenizer.mask_token_id)
        counts += np.bincount(seen_M[is_random_M], minlength=num_tokens)
    assert chisquare(counts.reshape(num_parts, -1).sum(axis=1)).pvalue > 1e-4


def test_equal_numbers_draw_equal_masks_and_any_other_number_others(tiny: Sequences) -> None:
    first, again = tiny.masked(7, 1, 20), tiny.masked(7, 1, 20)
    for name in ("ids_BT", "rows_M", "columns_M", "targets_M"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    chosen_BT = tiny.chosen(first)
    for other in ((8, 1, 20), (7, 2, 20), (7, 1, 21)):
        both = tiny.chosen(tiny.masked(*other)) & chosen_BT
        assert_share(both.sum(), (~tiny.is_special_BT).sum(), MASKED_SHARE**2)


def test_a_draw_neither_hangs_on_other_random_numbers_nor_changes_them(tiny: Sequences) -> None:
    torch.manual_seed(1)
    first, drawn = tiny.masked(), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first.ids_BT, tiny.masked().ids_BT)


def test_the_callers_array_is_left_alone(tiny: Sequences) -> None:
    before = tiny.ids_BT.copy()
    masked = tiny.masked()
    assert (tiny.ids_BT == before).all()
    assert (masked.ids_BT.numpy() != before).any()
    tiny.ids_BT.flags.writeable = False
    tiny.masked()  # nor need it be one that can be written


@pytest.mark.parametrize("size", [1, 7, B])
def test_parts_hold_every_sequence_and_every_masked_token_once(tiny: Sequences, size: int) -> None:
    whole = tiny.masked()
    parts = [whole.part(first, min(first + size, B)) for first in range(0, B, size)]
    assert torch.equal(torch.cat([part.ids_BT for part in parts]), whole.ids_BT)
    assert torch.equal(torch.cat([part.targets_M for part in parts]), whole.targets_M)
    assert torch.equal(torch.cat([part.columns_M for part in parts]), whole.columns_M)
    rows_M = [part.rows_M + first for part, first in zip(parts, range(0, B, size), strict=True)]
    assert torch.equal(torch.cat(rows_M), whole.rows_M)
    for part, first in zip(parts, range(0, B, size), strict=True):
        assert (part.targets_M.numpy() == tiny.ids_BT[first:][part.rows_M, part.columns_M]).all()


def test_a_part_without_sequences_is_empty(tiny: Sequences) -> None:
    part = tiny.masked().part(3, 3)
    assert [len(part.ids_BT), len(part.rows_M), len(part.columns_M), len(part.targets_M)] == [0, 0, 0, 0]
