"""Corpora as sequences of token ids: what a pre-training step reads.

A sequence is the begin token, ``content_length`` tokens and the end token, without padding. Which sequences a step
reads hangs on the seed and the step alone, so a pre-training can go on anywhere.

Shape suffixes: B sequences of a batch, V held-out sequences, T tokens, M tokens of a whole text.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from trainer.architectures import language_head_of, max_tokens_of
from trainer.errors import UserError
from trainer.mapping import Vocabulary
from trainer.models import find_model, read_tokenizer, read_vocabulary
from trainer.pretraining.artificial import LANGUAGES
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.texts import find_texts
from trainer.pretraining.tokens import tokenized, trained_tokenizer

MAX_HELD_OUT = 512  # sequences
HELD_OUT_SHARE = 0.05
AT_ONCE = 4096  # sequences that are generated together
LOOKED_AT = 1_000_000  # tokens, to see whether text and tokenizer go together
MAX_UNKNOWN = 0.1
TRAIN, HELD_OUT, KINDS = 1, 2, 3  # what is drawn of an artificial language, as part of a seed


class Corpus(Protocol):
    """What is learned."""

    @property
    def held_out_VT(self) -> np.ndarray:  # noqa: N802
        """(V, T) int64: sequences that are never trained on."""

    @property
    def about(self) -> str:
        """What there is, in a few words."""

    @property
    def digest(self) -> str:
        """Names the content."""

    def batch(self, step: int) -> np.ndarray:
        """(B, T) int64: the sequences of a step, counted from 0."""


def open_corpus(config: PretrainConfig) -> tuple[Corpus, Path]:
    """The corpus, and the folder with its tokenizer and the architecture's config.json.

    A text is tokenised here, unless it has been before.

    Raises:
        UserError: for a model that is not there or cannot be pre-trained, and for a corpus that is not there, cannot be
            read, is too small or does not go with the model's tokenizer.
    """
    model_folder = find_model(config.model, needs_weights=False)
    language_head_of(model_folder)
    taken = max_tokens_of(model_folder)
    if config.max_length > taken:
        raise UserError(f"max_length: {config.max_length} is not allowed; the model takes {taken} tokens")
    vocabulary = read_vocabulary(model_folder)
    if read_tokenizer(model_folder).mask_token is None:
        raise UserError(f"model: the tokenizer of {config.model!r} has no mask token; give another model")
    if config.is_generated:
        return Generated.of(config, vocabulary), model_folder
    texts = find_texts(config.corpus)
    folder = model_folder
    if config.vocabulary_size is not None:
        folder = trained_tokenizer(texts, model_folder, config.vocabulary_size)
    num_sequences = config.num_steps * config.batch_size + MAX_HELD_OUT
    tokens_M = tokenized(texts, folder, num_sequences * config.content_length)
    _check_known(config, folder, tokens_M[:LOOKED_AT])
    corpus = Text.of(config, read_vocabulary(folder), tokens_M, texts.digest)
    return corpus, folder


def _check_known(config: PretrainConfig, folder: Path, tokens_M: np.ndarray) -> None:
    """Refuses a text in a script that the tokenizer does not know."""
    unknown = float(np.mean(tokens_M == read_tokenizer(folder).unk_token_id)) if len(tokens_M) else 0.0
    if unknown > MAX_UNKNOWN:
        raise UserError(
            f"corpus: {unknown:.0%} of the tokens of {config.corpus!r} are unknown to the tokenizer of "
            f"{config.model!r}; give vocabulary_size, e.g. 30000, to train one on the text, or another model"
        )


@dataclass(frozen=True, kw_only=True)
class Generated:
    """An artificial language over some tokens of a vocabulary; every sequence is new."""

    config: PretrainConfig
    vocabulary: Vocabulary
    kinds: np.ndarray  # the token id of each kind
    held_out_VT: np.ndarray
    about: str
    digest: str

    @classmethod
    def of(cls, config: PretrainConfig, vocabulary: Vocabulary) -> "Generated":
        """Over the ordinary tokens, or as many of them as asked for, drawn by the seed.

        Raises:
            UserError: when there are fewer.
        """
        ordinary = vocabulary.ordinary_ids()
        num_kinds = config.num_kinds or len(ordinary)
        if not 1 <= num_kinds <= len(ordinary):
            raise UserError(
                f"num_kinds: {num_kinds} is not allowed, the vocabulary has {len(ordinary)} ordinary tokens, "
                "those from id 1000 on that are neither special nor unused; give fewer, or another model"
            )
        rng = np.random.default_rng([config.seed, KINDS])
        kinds = np.sort(rng.choice(ordinary, num_kinds, replace=False))
        num_held_out = min(MAX_HELD_OUT, max(1, config.num_steps * config.batch_size))
        drawn = _draw(config.corpus, config.seed, HELD_OUT, 0, config.content_length, num_kinds)
        digest = hashlib.sha256(f"{config.corpus} {config.seed} {kinds.tolist()}".encode()).hexdigest()[:16]
        return cls(
            config=config,
            vocabulary=vocabulary,
            kinds=kinds,
            held_out_VT=_with_ends(kinds[drawn[:num_held_out]], vocabulary),
            about=f"generated over {num_kinds:,} tokens",
            digest=digest,
        )

    def batch(self, step: int) -> np.ndarray:
        numbers_B = np.arange(self.config.batch_size) + step * self.config.batch_size
        parts = []
        for block in range(numbers_B[0] // AT_ONCE, numbers_B[-1] // AT_ONCE + 1):
            drawn = _draw(
                self.config.corpus, self.config.seed, TRAIN, block, self.config.content_length, len(self.kinds)
            )
            parts.append(drawn[numbers_B[numbers_B // AT_ONCE == block] % AT_ONCE])
        return _with_ends(self.kinds[np.concatenate(parts)], self.vocabulary)


@lru_cache(maxsize=2)
def _draw(language: str, seed: int, stream: int, block: int, length: int, num_kinds: int) -> np.ndarray:
    """(AT_ONCE, length) kinds of tokens: a block of a stream."""
    rng = np.random.default_rng([seed, stream, block])
    return LANGUAGES[language](rng, AT_ONCE, length, num_kinds)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text cut into full sequences, read in random order, each epoch in another one.

    Every twentieth sequence, at most 512 in all and evenly spread, is held out.
    """

    config: PretrainConfig
    vocabulary: Vocabulary
    tokens_M: np.ndarray
    train: np.ndarray  # numbers of the sequences that are trained on
    held_out_VT: np.ndarray
    about: str
    digest: str

    @classmethod
    def of(cls, config: PretrainConfig, vocabulary: Vocabulary, tokens_M: np.ndarray, digest: str) -> "Text":
        """Cuts a tokenised text.

        Raises:
            UserError: when it does not make two sequences.
        """
        length = config.content_length
        num_sequences = len(tokens_M) // length
        if num_sequences < 2:
            what = f"{len(tokens_M):,} tokens" if len(tokens_M) else "no text"
            raise UserError(
                f"corpus: {config.corpus!r} has {what}, and two sequences of {length} tokens are needed; give more "
                "text, or a smaller max_length"
            )
        num_held_out = min(MAX_HELD_OUT, max(1, round(HELD_OUT_SHARE * num_sequences)))
        held_out = np.linspace(0, num_sequences - 1, num_held_out).astype(np.int64)
        train = np.setdiff1d(np.arange(num_sequences), held_out)
        held_out_VT = _with_ends(_cut(tokens_M, held_out, length), vocabulary)
        return cls(
            config=config,
            vocabulary=vocabulary,
            tokens_M=tokens_M,
            train=train,
            held_out_VT=held_out_VT,
            about=f"{len(tokens_M):,} tokens, {len(train):,} sequences to train on and {num_held_out:,} held out",
            digest=digest,
        )

    def batch(self, step: int) -> np.ndarray:
        numbers_B = np.arange(self.config.batch_size) + step * self.config.batch_size
        epochs_B, places_B = np.divmod(numbers_B, len(self.train))
        chosen_B = np.empty_like(numbers_B)
        for epoch in np.unique(epochs_B):
            order = _order(self.config.seed, int(epoch), len(self.train))
            chosen_B[epochs_B == epoch] = order[places_B[epochs_B == epoch]]
        return _with_ends(_cut(self.tokens_M, self.train[chosen_B], self.config.content_length), self.vocabulary)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, number: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(number)


def _cut(tokens_M: np.ndarray, numbers_B: np.ndarray, length: int) -> np.ndarray:
    places_BT = numbers_B[:, None] * length + np.arange(length)
    return np.asarray(tokens_M[places_BT], dtype=np.int64)


def _with_ends(content: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The same between begin and end token."""
    ids_BT = np.pad(content, ((0, 0), (1, 1)))
    ids_BT[:, 0], ids_BT[:, -1] = vocabulary.begin_id, vocabulary.end_id
    return ids_BT
