"""What trials begin from, in words: their init, and of a checkpoint the corpus that it was pre-trained on.

A checkpoint goes by its corpus where a trial of it has recorded that, and public checkpoints whose steps are
repositories of their own (``google/multiberts-seed_0-step_*k``) by the name that these share. Any other one is just
``checkpoint``, or ``checkpoint NAME`` where there are several. Two of the same name, such as two pre-training runs on
one corpus, are told apart by the part of their addresses that differs: they are never one row of a table or one line of
a figure.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from analysis.store import CORPUS_PARAM, UNLISTED

if TYPE_CHECKING:
    from analysis.select import Selection

INIT_ORDER = ("pretrained", "reinit-embeddings", "scratch")  # others follow, by name
FROM_CHECKPOINT = "checkpoint"
GENERATED = ("uniform", "flat", "nested")  # corpora, from no structure to most; others follow, by name

# Settings that only trials from checkpoints have: they do not keep them apart from those of other inits.
OF_CHECKPOINTS = (f"{UNLISTED}checkpoint", f"{UNLISTED}checkpoint_step", UNLISTED + CORPUS_PARAM)
CHECKPOINT, CHECKPOINT_STEP, CORPUS = OF_CHECKPOINTS

ANY_STEP = re.compile(r"[-_]?step[-_]?\*k?$")  # at the end of an address that stands for all steps
MAX_DIGITS = 16  # of a step; more are none
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class InitName:
    """An init, or a checkpoint, in words.

    Attributes:
        text: as a table's column ``init`` has it: ``scratch``, ``checkpoint (nested)``.
        series: where there is less room: ``scratch``, ``nested``.
    """

    text: str
    series: str


class _Origin(NamedTuple):
    """A checkpoint at any of its steps."""

    address: str
    corpus: str | None


def with_corpora(trials: pd.DataFrame, expected: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Says of every cell that begins from a checkpoint what any trial has recorded of that checkpoint's corpus.

    A cell that is missing has recorded nothing, and the cells that a sweep was to run do not name it. Where trials of a
    checkpoint disagree, since another one has taken its place, each keeps its own, and the newest speaks for the rest.
    """
    if CORPUS not in trials:  # then there is no checkpoint, or none whose corpus is known
        return trials, expected
    tagged = trials[trials[CORPUS].notna() & trials[CHECKPOINT].notna()].sort_values("start_time")
    corpora = dict(zip(tagged[CHECKPOINT], tagged[CORPUS], strict=True))

    def filled(frame: pd.DataFrame) -> pd.DataFrame:
        if CHECKPOINT not in frame:
            return frame
        own = frame[CORPUS] if CORPUS in frame else [None] * len(frame)
        found = [
            corpus if isinstance(corpus, str) else corpora.get(address)
            for corpus, address in zip(own, frame[CHECKPOINT], strict=True)
        ]
        return frame.assign(**{CORPUS: pd.Series(found, dtype="str", index=frame.index)})

    return filled(trials), filled(expected)


def step_of(config: Mapping[str, Any]) -> int | None:
    """The pre-training step that a trial began from; None where it names none."""
    step = str(config.get(CHECKPOINT_STEP) or "")
    return int(step) if step.isdecimal() and len(step) < MAX_DIGITS else None


def place(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where a checkpoint stands among others: by corpus, address and step."""
    corpus, step = config.get(CORPUS), step_of(config)
    return corpus is None, series_place(corpus or ""), str(config.get(CHECKPOINT) or ""), -1 if step is None else step


def series_place(series: str) -> tuple[int, str]:
    """Where a series stands among others: inits in the order of the tables, generated corpora, then others by name."""
    order = (*INIT_ORDER, *GENERATED)
    name = series.split(" (")[0]
    return order.index(name) if name in order else len(order), series


def init_names(selections: Sequence["Selection"]) -> list[InitName]:
    """What each selection began from, in words that tell any two apart."""
    origins = [_origin(selection) for selection in selections]
    names = _names(dict.fromkeys(origin for origin in origins if origin))
    return [
        names[origin] if origin else InitName(text=selection.init, series=selection.init)
        for selection, origin in zip(selections, origins, strict=True)
    ]


def _origin(selection: "Selection") -> _Origin | None:
    """The checkpoint that a selection's trials began from; None where they began from none."""
    address = selection.config.get(CHECKPOINT) if selection.init == FROM_CHECKPOINT else None
    return _Origin(address, selection.config.get(CORPUS)) if address else None


def _names(origins: Iterable[_Origin]) -> dict[_Origin, InitName]:
    alike: dict[str, list[_Origin]] = defaultdict(list)
    for origin in origins:
        alike[origin.corpus or ANY_STEP.sub("", PurePath(origin.address).name)].append(origin)
    are_several = sum(map(len, alike.values())) > 1
    names = {}
    for name, of_name in alike.items():
        for origin, apart in zip(of_name, _apart([origin.address for origin in of_name]), strict=True):
            is_known = origin.corpus is not None or ANY_STEP.search(origin.address) is not None
            series = f"{name} ({apart})" if apart else name
            text = f"{name}, {apart}" if apart else name
            # An init's own name would be taken for that init, and Matplotlib has no legend for what begins with "_".
            if not is_known or name in (*INIT_ORDER, FROM_CHECKPOINT) or name.startswith("_"):
                series = f"{FROM_CHECKPOINT} {series}"
            is_named = is_known or are_several
            names[origin] = InitName(
                text=f"{FROM_CHECKPOINT} ({text})" if is_named else FROM_CHECKPOINT,
                series=series if is_named else FROM_CHECKPOINT,
            )
    return names


def _apart(addresses: Sequence[str]) -> Sequence[str]:
    """The last part in which all addresses differ, run ids in 8 digits; all of them where there is no such part.

    Of a single address nothing is needed: an empty text.
    """
    if len(addresses) == 1:
        return [""]
    for parts in zip_longest(*(reversed(PurePath(address).parts) for address in addresses), fillvalue=""):
        short = [RUN_ID.sub(lambda found: found[0][:8], part) for part in parts]
        for words in (short, parts):
            if len({*words}) == len(words) and all(words):
                return words
    return addresses
