"""The paper's claims (Kao & Lee, arXiv 2103.07162), and the comparisons of our trials that each of them rests on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Literal

from analysis.inits import OF_CHECKPOINTS
from analysis.pairs import BASELINE, OF_MAPPINGS, key
from analysis.select import Selection
from analysis.tables import phrase

PRETRAINED, REINITIALISED = "pretrained", "reinit-embeddings"
UNSEEN = "unused"  # the mapping to tokens that pre-training has not seen
SEEN = ("random", "frequent")  # the paper's two mappings to tokens that it has seen
AS_IT_IS = "identity"  # no mapping: a model that was pre-trained on text may well be better on text
FRACTION = "params.train_fraction"
PERMUTED, SHIFTED = "permutation", "shift 1000"

PAPER_MODELS = ("bert-base-uncased", "bert-base-chinese", "albert-base-v1", "roberta-base", "bert-large-uncased")
PAPER_TASKS = (
    *("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"),
    *("fluorescence", "localization", "stability"),
    *("h3", "h3k9ac", "h4", "splice"),
    "composer",
)

Asks = Literal["better", "no better", "level"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One thing that a claim says: that first is better than second, no better, or level with it."""

    name: str
    asks: Asks
    first: Selection
    second: Selection


@dataclass(frozen=True, kw_only=True)
class Case:
    """A claim in one scope.

    Attributes:
        subject: the selection whose task, model and settings are the scope.
        mapping: the scope's; where the sides differ in it, theirs.
        lacking: what the claim says besides, but has no trials for.
    """

    subject: Selection
    mapping: str
    comparisons: tuple[Comparison, ...]
    lacking: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper says.

    Attributes:
        text: in one sentence.
        source: where the paper says it.
        needs: the trials without which nothing can be said of it.
        cases: selections -> the claim in every scope that they have trials for.
    """

    text: str
    source: str
    needs: str
    cases: Callable[[Sequence[Selection]], list[Case]]


def mapping_text(selection: Selection) -> str:
    """The mapping, of shift with its distance: ``shift 1000``."""
    mapping = str(selection.config["mapping"])
    return f"{mapping} {selection.config.get('params.shift_by')}" if mapping == "shift" else mapping


def scope_text(case: Case, selections: Sequence[Selection]) -> str:
    """Task, model and mapping of a case; then what limits it, and what sets it apart from others of its task and model.

    Args:
        selections: all of them.
    """
    subject = case.subject
    task, model = _subject(subject)
    fraction, limit = subject.config.get(FRACTION), subject.config["max_train_examples"]
    words = [
        f"{task}, {model}, mapping {case.mapping}",
        "" if fraction is None else f"{100 * float(fraction):g} % of the training data",
        "" if limit is None else f"{limit} training examples",
        subject.data_note,
        "" if task in PAPER_TASKS else "not a task of the paper",
        "" if model in PAPER_MODELS else "not a model of the paper",
        *_apart(subject, [other for other in selections if _subject(other) == (task, model)]),
    ]
    return "; ".join(word for word in words if word)


def _subject(selection: Selection) -> tuple[str, str]:
    """Task and model without the folders that they are in."""
    return PurePath(selection.config["task"]).name, PurePath(selection.config["model"]).name


def _apart(subject: Selection, others: Sequence[Selection]) -> list[str]:
    """The settings that others have otherwise, and the data's digest where theirs differs."""
    said = (*OF_MAPPINGS, *OF_CHECKPOINTS, FRACTION, "max_train_examples")
    own = {name: value for name, value in subject.config.items() if name not in said and value is not None}
    differing = {
        name: value for name, value in own.items() if {other.config.get(name) for other in others} - {value, None}
    }
    several = len({other.data_digest for other in others}) > 1
    return [phrase(name, value) for name, value in differing.items()] + [f"data {subject.data_digest[:8]}"] * several


def _groups(selections: Sequence[Selection]) -> list[dict[str, Selection]]:
    """Init -> selection, for every set of trials that differ in nothing else."""
    groups: dict[object, dict[str, Selection]] = {}
    for selection in selections:
        groups.setdefault(key(selection, OF_CHECKPOINTS), {})[selection.init] = selection
    return list(groups.values())


def _better(first: Selection, second: Selection) -> Comparison:
    return Comparison(name=f"{first.init} - {second.init}", asks="better", first=first, second=second)


def _beats_scratch(selections: Sequence[Selection], *, part_of_data: bool) -> list[Case]:
    cases = []
    for group in _groups(selections):
        first, second = group.get(PRETRAINED), group.get(BASELINE)
        if first is None or second is None or first.config["mapping"] in (UNSEEN, AS_IT_IS):
            continue
        if (first.config.get(FRACTION) is not None) == part_of_data:
            cases.append(Case(subject=first, mapping=mapping_text(first), comparisons=(_better(first, second),)))
    return cases


def _lies_between(selections: Sequence[Selection]) -> list[Case]:
    cases = []
    for group in _groups(selections):
        first, middle, last = (group.get(init) for init in (PRETRAINED, REINITIALISED, BASELINE))
        if first is None or middle is None or last is None:
            continue
        if middle.config["mapping"] != UNSEEN and middle.config.get(FRACTION) is None:
            comparisons = (_better(first, middle), _better(middle, last))
            cases.append(Case(subject=middle, mapping=mapping_text(middle), comparisons=comparisons))
    return cases


def _falls_to_scratch(selections: Sequence[Selection]) -> list[Case]:
    cases = []
    for group in _groups(selections):
        unseen, scratch = group.get(PRETRAINED), group.get(BASELINE)
        if unseen is None or unseen.config["mapping"] != UNSEEN:
            continue
        comparisons, lacking = [], []
        if scratch is None:
            lacking.append(f"from {BASELINE}")
        else:
            name = f"{UNSEEN} - {BASELINE}"
            comparisons.append(Comparison(name=name, asks="no better", first=unseen, second=scratch))
        seen = [other for other in _across_mappings(unseen, selections) if other.config["mapping"] in SEEN]
        if not seen:
            lacking.append(f"under mapping {' or '.join(SEEN)}")
        for other in seen:
            name = f"{mapping_text(other)} - {UNSEEN}"
            comparisons.append(Comparison(name=name, asks="better", first=other, second=unseen))
        mapping = " and ".join([UNSEEN, *map(mapping_text, seen)])
        case = Case(subject=unseen, mapping=mapping, comparisons=tuple(comparisons), lacking=" and none ".join(lacking))
        cases.append(case)
    return cases


def _matches_shift(selections: Sequence[Selection]) -> list[Case]:
    cases = []
    for first in selections:
        if first.init != PRETRAINED or first.config["mapping"] != PERMUTED:
            continue
        for second in _across_mappings(first, selections):
            if mapping_text(second) == SHIFTED:
                name = f"{PERMUTED} - {SHIFTED}"
                comparison = Comparison(name=name, asks="level", first=first, second=second)
                cases.append(Case(subject=first, mapping=f"{PERMUTED} and {SHIFTED}", comparisons=(comparison,)))
    return cases


def _across_mappings(selection: Selection, selections: Sequence[Selection]) -> list[Selection]:
    """The selections that differ from one in nothing but the mapping."""
    own = key(selection, OF_MAPPINGS)
    return [
        other
        for other in selections
        if other is not selection and other.init == selection.init and key(other, OF_MAPPINGS) == own
    ]


CLAIMS = (
    Claim(
        text="A model that was pre-trained on text learns the task better than the same model from scratch.",
        source="v2, tables 3, 5 and 6; v1, table 2",
        needs="pretrained and scratch trials under the same mapping",
        cases=partial(_beats_scratch, part_of_data=False),
    ),
    Claim(
        text="With 1 % of the training data, too, the pre-trained model is better than the one from scratch.",
        source="v1, appendix table 1",
        needs="pretrained and scratch trials with a train_fraction",
        cases=partial(_beats_scratch, part_of_data=True),
    ),
    Claim(
        text="The pre-trained model with new word embeddings lies between the pre-trained one and scratch.",
        source="v2, tables 3, 5 and 6; v1, table 2",
        needs="pretrained, reinit-embeddings and scratch trials under the same mapping",
        cases=_lies_between,
    ),
    Claim(
        text="Mapped to tokens that pre-training has not used, the pre-trained model falls to scratch.",
        source="text; no figures",
        needs="pretrained trials under mapping unused",
        cases=_falls_to_scratch,
    ),
    Claim(
        text="Under a random permutation of its tokens the pre-trained model does as well as under a shift by 1,000.",
        source="v2, table 3; v1, appendix table 1",
        needs="pretrained trials under mapping permutation and under shift 1000",
        cases=_matches_shift,
    ),
)
