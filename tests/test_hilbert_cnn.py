"""Hilbert-CNN: its curve, its image, its size, and that it learns."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import refusal
from trainer.config import TrialConfig
from trainer.logger import SilentLogger
from trainer.rivals import RIVALS, check_rival
from trainer.rivals.hilbert_cnn import (
    EMPTY,
    BatchNorm,
    HilbertCnn,
    build_hilbert_cnn,
    convolution,
    encode_kmers,
    hilbert_curve,
    image_places,
)
from trainer.tasks import TASKS
from trainer.tasks.own import Own
from trainer.tasks.task import Dataset, Split
from trainer.trial import Trial

KMERS = ["".join(letters) for letters in product("ACGT", repeat=4)]


def dataset_of(*sequences: str, symbols: str = "ACGTN", symbol_names: tuple[str, ...] = ()) -> Dataset:
    split = Split(sequences=sequences, labels=np.zeros(len(sequences), dtype=np.int64))
    return Dataset(
        symbols=symbols,
        symbol_names=symbol_names,
        classes=("no", "yes"),
        train=split,
        valid=split,
        test=split,
        split="",
        note="",
        source="",
    )


def place_of(side: int, row: int, column: int) -> int:
    """When a Hilbert curve comes to a cell: the textbook's loop over bits (en.wikipedia.org/wiki/Hilbert_curve)."""
    place, size = 0, side // 2
    while size:
        far_row, far_column = int(row & size > 0), int(column & size > 0)
        place += size * size * ((3 * far_row) ^ far_column)
        if not far_column:
            if far_row:
                row, column = side - 1 - row, side - 1 - column
            row, column = column, row
        size //= 2
    return place


@pytest.mark.parametrize("order", range(7))
def test_the_curve_visits_each_cell_once_and_goes_from_neighbour_to_neighbour(order: int) -> None:
    curve = hilbert_curve(order)
    assert curve.shape == (4**order, 2)
    assert {tuple(cell) for cell in curve.tolist()} == set(product(range(2**order), repeat=2))
    assert (np.abs(np.diff(curve, axis=0)).sum(axis=1) == 1).all()
    assert [place_of(2**order, row, column) for row, column in curve.tolist()] == list(range(4**order))


def test_the_first_orders_of_the_curve_look_as_hilbert_drew_them() -> None:
    assert image_places(4).tolist() == [[0, 1], [3, 2]]
    assert image_places(16).tolist() == [[0, 3, 4, 5], [1, 2, 7, 6], [14, 13, 8, 9], [15, 12, 11, 10]]


@pytest.mark.parametrize(
    ("num_kmers", "shape"), [(1, (1, 1)), (2, (1, 2)), (57, (8, 8)), (64, (8, 8)), (65, (8, 16)), (497, (16, 32))]
)
def test_the_image_is_the_smallest_square_or_half_square_that_holds_the_sequence(
    num_kmers: int, shape: tuple[int, int]
) -> None:
    places = image_places(num_kmers)
    assert places.shape == shape
    assert sorted(places.ravel()) == list(range(math.prod(shape)))


def test_kmers_are_numbered_in_order_whatever_the_lengths() -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice([*"ACGT"], size=length)) for length in (30, 4, 11, 3, 1, 25)]
    encoded = encode_kmers(dataset_of(*sequences), 25)["valid"]
    assert encoded.ids_NT.dtype == np.uint16
    assert encoded.lengths_N.tolist() == [22, 1, 8, 0, 0, 22]
    for ids, length, sequence in zip(encoded.ids_NT, encoded.lengths_N, sequences, strict=True):
        assert [KMERS[number] for number in ids[:length]] == [sequence[start : start + 4] for start in range(length)]
        assert (ids[length:] == EMPTY).all()


def test_sequences_that_are_all_too_short_have_no_kmers() -> None:
    assert encode_kmers(dataset_of("AC", "G"), 60)["train"].ids_NT.shape == (2, 0)
    assert encode_kmers(dataset_of("ACGTACGT"), 3)["train"].lengths_N.tolist() == [0]


@pytest.mark.parametrize("code", "NRDY")
def test_a_kmer_with_an_ambiguity_code_is_an_empty_pixel_and_the_others_stay(code: str) -> None:
    (ids,) = encode_kmers(dataset_of(f"ACGTA{code}ACGTA"), 60)["train"].ids_NT
    expected = [KMERS.index("ACGT"), KMERS.index("CGTA"), *[EMPTY] * 4, KMERS.index("ACGT"), KMERS.index("CGTA")]
    assert ids.tolist() == expected


def test_rna_and_small_letters_read_as_dna() -> None:
    dna, rna = encode_kmers(dataset_of("ACGTTGCA", "acguugca"), 60)["train"].ids_NT
    assert (dna == rna).all()


def test_the_image_is_one_hot_along_the_curve_and_empty_elsewhere() -> None:
    sequences = ["ACGTTNACGGATTACAGATTACA", "GATTACA"]
    encoded = encode_kmers(dataset_of(*sequences), 40)["train"]
    network = build_hilbert_cnn(40, 2, seed=0)
    expected = np.zeros((2, 256, 8, 8), dtype=np.float32)
    for number, sequence in enumerate(sequences):
        for row, column in product(range(8), repeat=2):
            kmer = sequence[place_of(8, row, column) :][:4]
            if kmer in KMERS:
                expected[number, KMERS.index(kmer), row, column] = 1
    image = network.image(torch.from_numpy(encoded.ids_NT.astype(np.int64)))
    assert expected.sum() == 23 - 3 - 4 + 4
    assert (image.numpy() == expected).all()


@pytest.mark.parametrize("size", range(1, 9))
def test_a_convolution_keeps_the_size_of_the_image(size: int) -> None:
    assert convolution(size, 3, 5)(torch.zeros(2, 3, 8, 4)).shape == (2, 5, 8, 4)


def test_it_has_the_parameters_that_are_told_of_it() -> None:
    network = build_hilbert_cnn(500, 2, seed=0)
    total = sum(parameter.numel() for parameter in network.parameters())
    scales = sum(p.numel() for part in network.modules() if isinstance(part, BatchNorm) for p in part.parameters())
    assert total == 963_460
    assert total - scales == 961_924
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def logits(network: HilbertCnn, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(input_ids=ids, attention_mask=mask).logits


def test_trimming_a_batch_and_what_lies_behind_the_mask_do_not_change_logits() -> None:
    network = build_hilbert_cnn(60, 3, seed=0)
    ids = torch.from_numpy(encode_kmers(dataset_of("ACGGATTACA" * 2, "GATTACA"), 60)["train"].ids_NT.astype(np.int64))
    mask = torch.arange(57) < torch.tensor([17, 4])[:, None]
    padded = torch.nn.functional.pad(ids, (0, 40), value=EMPTY)
    spoiled = torch.where(mask, padded, 7)
    expected = logits(network, ids)
    assert expected.shape == (2, 3)
    assert torch.equal(logits(network, padded), expected)
    assert torch.equal(logits(network, spoiled, mask), expected)
    assert not torch.equal(logits(network, spoiled), expected)
    assert torch.allclose(logits(network, ids[1:, :4]), expected[1:], atol=1e-6)


def test_the_seed_draws_the_weights() -> None:
    first, same, other = (build_hilbert_cnn(60, 3, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["layers.1.1.weight"], other["layers.1.1.weight"])


def train(dna_files: Path, **fields: Any) -> tuple[float, list[float]]:
    """The test score and the losses of a trial on generated splice junctions."""
    settings: dict[str, Any] = {"model": "hilbert-cnn", "init": "scratch", "learning_rate": 1e-3, "num_epochs": 6}
    config = TrialConfig(task="splice", **settings | fields)
    *_, report = Trial(config, SilentLogger(), data_dir=dna_files, num_threads=1)
    assert report.result is not None
    return report.result.metrics["test/score"], report.result.losses


def test_it_learns_and_trains_the_same_twice(dna_files: Path) -> None:
    test_score, losses = train(dna_files)
    assert test_score >= 0.9
    assert np.mean(losses[-6:]) < 0.5 * losses[0]
    assert train(dna_files) == (test_score, losses)


def test_a_last_batch_of_one_example_is_trained_on(dna_files: Path) -> None:
    _, losses = train(dna_files, num_epochs=2, max_train_examples=33, batch_size=32)
    assert len(losses) == 4
    assert np.isfinite(losses).all()


def test_a_length_without_a_kmer_is_refused() -> None:
    message = refusal(lambda: build_hilbert_cnn(3, 2, seed=0))
    assert "max_length: 3 is not allowed" in message
    assert "4 or more" in message


def test_it_takes_dna_and_own_sequences_of_dna_only() -> None:
    own = Own(path="my.csv")
    for symbols in ("ACGT", "ACGTDNRS", "acgt", "ACGU", "ACG"):
        check_rival("hilbert-cnn", own, dataset_of("ACGT", symbols=symbols))
    check_rival("hilbert-cnn", TASKS["h3"], dataset_of("ACGT"))
    with_words = dataset_of("\ue000\ue001", symbols="\ue000\ue001", symbol_names=("A", "C"))
    assert "separator" in refusal(lambda: check_rival("hilbert-cnn", own, with_words))
    assert "'E'" in refusal(lambda: check_rival("hilbert-cnn", own, dataset_of("A", symbols="ACDEFGHIKLMNPQRSTVWY")))
    assert "fewer than 3" in refusal(lambda: check_rival("hilbert-cnn", own, dataset_of("A", symbols="ABCD")))
    assert "no protein task" in refusal(lambda: check_rival("hilbert-cnn", TASKS["stability"], dataset_of("A")))


def test_what_plays_no_part_in_it_is_a_setting_of_trials() -> None:
    fields = {*TrialConfig.__dataclass_fields__}
    for rival in RIVALS.values():
        assert rival.idle <= fields
        assert {"init", "seed"}.isdisjoint(rival.idle)
