"""A tokenizer of a model's kind, trained on a text: the same one wherever and however often it is trained.

Left to itself the library ``tokenizers`` numbers some tokens in an order that every process draws anew. The numbers
decide between tokens that are equally frequent, so about one in a hundred tokens would be another one.
"""

import copy
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainer.pretraining.texts import Texts, batches, lines_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ = 200_000_000  # characters at most
DIGITS = 6  # of a Unigram's scores, which are sums in a random order
STEP = 0.0001  # between the scores that a Unigram gives to characters of too little worth
INSIDE = re.compile(r"(?<=\S)\S")  # BERT's normaliser sets Chinese characters apart
PUNCTUATION = "P"  # begins the names of Unicode's categories of it, which are words by themselves


def train_tokenizer(tokenizer: "PreTrainedTokenizerBase", texts: Texts, size: int) -> "PreTrainedTokenizerBase":
    """A tokenizer like another one, with as many tokens as asked for, where the text has them.

    Accents are kept, whatever the other one does: in many scripts they are vowels.

    Raises:
        UserError: when the text cannot be read.
        Exception: when a tokenizer of this kind cannot be trained.
    """
    tokenizer = _with_accents(tokenizer)
    inner = _inner_characters(tokenizer, texts)
    trained: Any = tokenizer.train_new_from_iterator(_lines(texts), size, new_special_tokens=inner, show_progress=False)
    return _settled(trained, {*inner})


def _with_accents(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """The tokenizer, BERT's or ALBERT's normaliser told to keep accents."""
    from tokenizers.normalizers import NFKD, BertNormalizer, Sequence, StripAccents

    tokenizer = copy.deepcopy(tokenizer)
    backend = tokenizer.backend_tokenizer
    steps: Any = backend.normalizer
    if isinstance(backend.normalizer, BertNormalizer):
        backend.normalizer.strip_accents = False
        tokenizer.init_kwargs["strip_accents"] = False
    elif isinstance(backend.normalizer, Sequence):
        backend.normalizer = Sequence([step for step in steps if not isinstance(step, (NFKD, StripAccents))])
        tokenizer.init_kwargs["keep_accents"] = True
    return tokenizer


def _inner_characters(tokenizer: "PreTrainedTokenizerBase", texts: Texts) -> list[str]:
    """The tokens of a WordPiece for single characters inside words, ``##a``; other kinds have none.

    These are what the library would number in a random order.
    """
    backend = tokenizer.backend_tokenizer
    prefix = getattr(backend.model, "continuing_subword_prefix", None)
    if not prefix:
        return []
    inside: set[str] = set()
    for lines in _lines(texts):
        text = "\n".join(lines)
        inside.update(INSIDE.findall(backend.normalizer.normalize_str(text) if backend.normalizer else text))
    return sorted(prefix + mark for mark in inside if unicodedata.category(mark)[0] != PUNCTUATION)


def _settled(trained: Any, inner: set[str]) -> "PreTrainedTokenizerBase":
    """The tokenizer with a Unigram's pieces in order, and what was numbered beforehand no longer special."""
    from tokenizers import Tokenizer

    state = json.loads(trained.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in inner]
    if state["model"]["type"] == "Unigram":
        added = {token["content"] for token in state["added_tokens"]}
        state["model"]["vocab"] = _in_order(state["model"]["vocab"], added)
    settings = dict(trained.init_kwargs)
    if inner:
        del settings["extra_special_tokens"]
    return type(trained)(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **settings)


def _in_order(pieces: list[tuple[str, float]], added: set[str]) -> list[tuple[str, float]]:
    """A Unigram's pieces and their scores: those that were not learned first, as they are, then by falling score.

    Characters of too little worth stand at the end of the scores, ``STEP`` apart in a random order; here all have the
    lowest.
    """
    first = [(piece, score) for piece, score in pieces if piece in added]
    learned = {piece: score for piece, score in pieces if piece not in added}
    lowest = min(learned.values(), default=0.0)
    low = lowest + STEP * sum(len(piece) == 1 for piece in learned)
    even = {p: round(lowest if len(p) == 1 and score < low else score, DIGITS) for p, score in learned.items()}
    return first + sorted(even.items(), key=lambda item: (-item[1], item[0]))


def _lines(texts: Texts) -> Iterator[list[str]]:
    """As many lines as are read, some thousand at a time."""
    num_characters = 0
    for batch in batches(lines_of(texts)):
        lines = [line for line in batch if line is not None]
        yield lines
        num_characters += sum(map(len, lines))
        if num_characters > READ:
            return
