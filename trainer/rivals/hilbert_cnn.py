"""Hilbert-CNN: a convolutional network that reads DNA as an image, its 4-mers laid out along a Hilbert curve.

After Yin, Balvert, Zambrano, Schönhuth and Bohte, "An image representation based convolutional network for DNA
classification", ICLR 2018 (arxiv.org/abs/1806.04931); sizes, layers and initialisation are those of the authors' code
(github.com/Doulrs/Hilbert-CNN). For 500 nt and 2 classes it has 963,460 parameters: 961,924 weights and biases (Kao &
Lee, arxiv.org/abs/2103.07162, count 961 k) and 1,536 scales and shifts of batch normalisation.

Where it differs from the authors' code, and why:

- A 4-mer with an ambiguity code (N, D, R, ...) is an empty pixel, as behind the sequence's end: which of the 256 it is
  is not known. Their code takes the letters of one sequence for the alphabet and stops at any other.
- Their second block of five has no reader in the graph, its weights are never trained. It is left out.
- Their dropout is built with training=False and does nothing, while an L2 penalty (7.5e-4 of half the squared weights)
  is part of their loss. Here optimizers run without penalties, for every model alike, and dropout of 0.5 is on.
- Batch statistics are averaged with momentum 0.1 and epsilon 1e-5, not 0.65 and 1e-3: batches here are of 32 examples,
  not of 300. A batch that is a single value, which has no variance, is normalised by the average of the earlier ones.

Shape suffixes: N examples, B batch, T 4-mers, H and W the image, P places on the curve, C channels or classes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import batch_norm, pad

from trainer.encoding import Encoded
from trainer.errors import UserError
from trainer.tasks.task import Dataset, Split

KMER_LENGTH = 4
NUM_KMERS = 4**KMER_LENGTH
EMPTY = NUM_KMERS  # the id of what is not one of the 256: behind the end, or with an ambiguity code
CODE_OF = {"A": 0, "C": 1, "G": 2, "T": 3, "U": 3}  # a base as a digit of the 4-mer's number

NUM_STEM_CHANNELS = 64
NUM_CHANNELS = 32
NUM_BOTTLENECK_CHANNELS = 4
NUM_POOLINGS = 4
DENSE_WIDTHS = (100, 50)
DROPOUT = 0.5


def encode_kmers(dataset: Dataset, max_length: int) -> dict[str, Encoded]:
    """The numbers of the overlapping 4-mers of every sequence: AAAA is 0, AAAC is 1, ..., TTTT is 255.

    U counts as T, small letters as capitals. A 4-mer with any other letter is EMPTY, and so is the padding. A sequence
    of fewer than 4 letters has no 4-mer.

    Args:
        max_length: letters of a sequence that are used, from its start.

    Returns:
        train, valid and test, with ids_NT for T = the longest sequence's letters - 3.
    """
    return {name: _encode_split(getattr(dataset, name), max_length) for name in ("train", "valid", "test")}


def _encode_split(split: Split, max_length: int) -> Encoded:
    sequences = [sequence[:max_length] for sequence in split.sequences]
    codes = np.full(128, EMPTY, dtype=np.uint16)
    for base, code in CODE_OF.items():
        codes[[ord(base), ord(base.lower())]] = code
    lengths_N = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    columns = np.arange(max(lengths_N.max(initial=0), KMER_LENGTH - 1))
    letters_NT = np.full((len(sequences), len(columns)), EMPTY, dtype=np.uint16)
    # Row-major order of this mask is the order of the joined letters.
    letters_NT[columns < lengths_N[:, None]] = codes[np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)]
    num_kmers = len(columns) - KMER_LENGTH + 1
    ids_NT = np.zeros((len(sequences), num_kmers), dtype=np.uint16)
    for place in range(KMER_LENGTH):
        ids_NT = ids_NT * 4 + letters_NT[:, place : place + num_kmers]
    return Encoded(ids_NT=np.minimum(ids_NT, EMPTY), lengths_N=np.maximum(lengths_N - KMER_LENGTH + 1, 0))


def hilbert_curve(order: int) -> np.ndarray:
    """The cells of a square in the order in which Hilbert's curve visits them (Math. Ann. 38, 1891).

    Each cell is visited once and is a neighbour of the one before. The curve starts at the top left, ends at the bottom
    left, and has seen the whole top half when it is half through.

    Returns:
        (4**order, 2) row and column of each place on the curve, in a square of 2**order cells a side.
    """
    curve_P2 = np.zeros((1, 2), dtype=np.int64)
    for side in 2 ** np.arange(order):
        turned_P2 = curve_P2[:, ::-1]
        top_right, bottom_right = curve_P2 + np.array([0, side]), curve_P2 + side
        bottom_left = np.array([2 * side - 1, side - 1]) - turned_P2
        curve_P2 = np.concatenate([turned_P2, top_right, bottom_right, bottom_left])
    return curve_P2


def image_places(num_kmers: int) -> np.ndarray:
    """(H, W) the place on the curve of each pixel, of the smallest square or half square that holds so many 4-mers."""
    num_bits = math.ceil(math.log2(max(num_kmers, 1)))
    cells_P2 = hilbert_curve((num_bits + 1) // 2)[: 2**num_bits]
    places_HW = np.empty(cells_P2.max(axis=0) + 1, dtype=np.int64)
    places_HW[tuple(cells_P2.T)] = np.arange(len(cells_P2))
    return places_HW


class Output(NamedTuple):
    """What the network says of a batch."""

    logits: torch.Tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can be trained on a single value a channel, too: by the running statistics."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.numel() > self.num_features:
            return super().forward(input)
        return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def convolution(size: int, num_in: int, num_out: int) -> nn.Module:
    """A convolution without bias that keeps the image's size; an even kernel reaches further down and right."""
    before, after = (size - 1) // 2, size // 2
    layer = nn.Conv2d(num_in, num_out, size, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / 9 / (size**2 * num_out)))
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), layer) if size > 1 else layer


def dense(num_in: int, num_out: int) -> nn.Linear:
    """A dense layer that keeps the variance of its input."""
    layer = nn.Linear(num_in, num_out)
    nn.init.uniform_(layer.weight, -math.sqrt(3 / num_in), math.sqrt(3 / num_in))
    nn.init.zeros_(layer.bias)
    return layer


def pooling() -> nn.AvgPool2d:
    """Means of 2 x 2 pixels; of what there is, where a side is odd."""
    return nn.AvgPool2d(2, ceil_mode=True)


class Residual(nn.Module):
    """Two convolutions through a bottleneck, added to their input."""

    def __init__(self, sizes: tuple[int, int], num_in: int, num_out: int) -> None:
        super().__init__()
        first, second = sizes
        self.change = nn.Sequential(
            convolution(first, num_in, NUM_BOTTLENECK_CHANNELS),
            BatchNorm(NUM_BOTTLENECK_CHANNELS),
            nn.ELU(),
            convolution(second, NUM_BOTTLENECK_CHANNELS, num_out),
            BatchNorm(num_out),
        )
        self.shortcut = nn.Identity() if num_in == num_out else convolution(1, num_in, num_out)
        self.activation = nn.Sequential(BatchNorm(num_out), nn.ELU())

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same size."""
        return self.activation(self.shortcut(image_BCHW) + self.change(image_BCHW))


class Block(nn.Module):
    """The paper's computational block: two residual paths of different reach and a shortcut, added and mixed."""

    def __init__(self, sizes: tuple[int, int, int, int], num_in: int, num_out: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(Residual(pair, num_in, num_out) for pair in (sizes[:2], sizes[2:]))
        self.shortcut = nn.Identity() if num_in == num_out else convolution(1, num_in, num_out)
        self.mix = nn.Sequential(convolution(1, num_out, num_out), BatchNorm(num_out), nn.ELU())

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same size."""
        near, far = (path(image_BCHW) for path in self.paths)
        return self.mix(near + far + self.shortcut(image_BCHW))


class HilbertCnn(nn.Module):
    """The network, from 4-mer numbers to logits; :func:`build_hilbert_cnn` draws one by seed."""

    place_HW: torch.Tensor
    pixels: torch.Tensor

    def __init__(self, num_kmers: int, num_outputs: int) -> None:
        super().__init__()
        place_HW = image_places(num_kmers)
        self.register_buffer("place_HW", torch.from_numpy(place_HW), persistent=False)
        self.register_buffer("pixels", torch.eye(NUM_KMERS + 1)[:, :NUM_KMERS], persistent=False)  # EMPTY: all zeros
        self.layers = nn.Sequential(
            convolution(7, NUM_KMERS, NUM_STEM_CHANNELS),
            convolution(5, NUM_STEM_CHANNELS, NUM_STEM_CHANNELS),
            BatchNorm(NUM_STEM_CHANNELS),
            nn.ELU(),
            pooling(),
            Block((8, 4, 4, 3), NUM_STEM_CHANNELS, NUM_CHANNELS),
            pooling(),
            Block((2, 4, 4, 3), NUM_CHANNELS, NUM_CHANNELS),
            Block((2, 2, 2, 2), NUM_CHANNELS, NUM_CHANNELS),
            Block((3, 2, 2, 3), NUM_CHANNELS, NUM_CHANNELS),
            pooling(),
            BatchNorm(NUM_CHANNELS),
            nn.ELU(),
            pooling(),
            nn.Flatten(),
        )
        num_features = NUM_CHANNELS * math.prod(math.ceil(side / 2**NUM_POOLINGS) for side in place_HW.shape)
        for width in DENSE_WIDTHS:
            self.layers.extend([nn.Dropout(DROPOUT), dense(num_features, width), nn.ELU()])
            num_features = width
        self.layers.extend([nn.Dropout(DROPOUT), dense(num_features, num_outputs)])

    def image(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """(B, 256, H, W) one-hot pixels along the curve, zeros where there is no 4-mer."""
        ids_BP = pad(ids_BT, (0, self.place_HW.numel() - ids_BT.shape[1]), value=EMPTY)
        return self.pixels[ids_BP[:, self.place_HW]].permute(0, 3, 1, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Output:
        """Logits (B, C).

        Args:
            input_ids: (B, T) int64, 4-mer numbers or EMPTY; T may be less than the longest that the network takes.
            attention_mask: (B, T) bool, False where an id is padding; None where nothing is.
        """
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(~attention_mask, EMPTY)
        return Output(self.layers(self.image(input_ids)))


def build_hilbert_cnn(max_length: int, num_outputs: int, seed: int) -> HilbertCnn:
    """A new network in float32 on the CPU.

    Args:
        max_length: longest sequence, in letters.
        num_outputs: classes, or 1 where a number is predicted.
        seed: draws the weights, and dropout afterwards.

    Raises:
        UserError: when a sequence of max_length letters has no 4-mer.
    """
    if max_length < KMER_LENGTH:
        raise UserError(
            f"max_length: {max_length} is not allowed; model=hilbert-cnn reads {KMER_LENGTH} symbols at a time, "
            f"give {KMER_LENGTH} or more"
        )
    torch.manual_seed(seed)
    return HilbertCnn(max_length - KMER_LENGTH + 1, num_outputs)
