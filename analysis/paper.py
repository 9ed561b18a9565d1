"""The paper's own figures: Kao & Lee, "Is BERT a Cross-Disciplinary Knowledge Learner?", arXiv 2103.07162.

``paper.csv`` holds the tables of both arXiv versions, a row a figure, scores in percent. Here they go by our words: a
*setting* is a mapping (of shift with its distance) or, of a model that is not compared by mapping, ``task-specific``.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePath
from statistics import mean
from typing import Any, NamedTuple

REFERENCE = "bert-base-uncased"  # the model with a figure for every task and init
RIVALS = ("plus-tfm", "hilbert-cnn", "kmer")  # models of other kinds, by their names or the names of their folders
TASK_SPECIFIC = "task-specific"  # the setting of the rivals
FRACTION = "params.train_fraction"
STOP_AT_LOSS = "params.stop_at_loss"

OUR_WORDS = {"random mapping": "random", "normal": "identity", "random shift": "permutation"}
RIVAL_INITS = {"plus-tfm": "pretrained", "hilbert-cnn": "scratch"}  # of the paper's rivals
PWCCA_SETTING = "PWCCA, last layer, not fine-tuned"
WITH_RANDOM, BOTH_RANDOM = "BERT - random", "random - random"  # pairs of models whose PWCCA is reported
HALVES = ("mnli-m", "mnli-mm")  # reported one by one; ours is their mean

# The tables by version and name.
V1_GLUE, V1_TEST, V1_VALID = ("v1", "appendix table 1"), ("v1", "table 2"), ("v1", "appendix table 2")
V2_GLUE, V2_TEST, V2_MEANS = ("v2", "table 3"), ("v2", "table 5"), ("v2", "table 6")
V2_VALID, V2_VALID_MEANS = ("v2", "table 7"), ("v2", "table 8")
V2_PWCCA = ("v2", "table 1")

# Our setting -> the tables that report test scores under it. GLUE's dev set is valid and test at once.
REPORTED = {
    "random": (V2_TEST, V2_MEANS),
    "frequent": (V1_TEST,),
    TASK_SPECIFIC: (V1_TEST,),
    "identity": (V2_GLUE, V1_GLUE),
    "shift 1000": (V2_GLUE, V1_GLUE),
    "permutation": (V2_GLUE, V1_GLUE),
    "shift 1000, 1% data": (V1_GLUE,),
}


class Spot(NamedTuple):
    """A figure's place in one of the paper's tables, in our words."""

    setting: str
    model: str
    init: str
    task: str


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A score in the paper, or a PWCCA.

    Attributes:
        value: in percent; of PWCCA from 0 to 1.
        std: over the paper's runs, in percentage points; None where the paper gives none.
        metric: what is scored, e.g. ``accuracy``.
        model: whose score it is.
        version, table: where it stands, e.g. ``v2``, ``table 5``.
    """

    value: float
    std: float | None
    metric: str
    model: str
    version: str
    table: str


@cache
def tables() -> dict[tuple[str, str], dict[Spot, PaperFigure]]:
    """(version, table) -> its figures, in the paper's order; MNLI's halves are one figure, their mean."""
    found: dict[tuple[str, str], dict[Spot, PaperFigure]] = {}
    with Path(__file__).with_name("paper.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            spot = Spot(
                setting=OUR_WORDS.get(row["setting"], row["setting"]),
                model=row["model"],
                init=RIVAL_INITS.get(row["model"], row["init"]),
                task=row["task"],
            )
            found.setdefault((row["version"], row["table"]), {})[spot] = PaperFigure(
                value=float(row["value"]),
                std=float(row["std"]) if row["std"] else None,
                metric=row["metric"],
                model=row["model"],
                version=row["version"],
                table=row["table"],
            )
    return {source: _halves_joined(figures) for source, figures in found.items()}


def _halves_joined(figures: dict[Spot, PaperFigure]) -> dict[Spot, PaperFigure]:
    joined = {}
    for spot, figure in figures.items():
        if spot.task == HALVES[0]:
            halves = [figures[spot._replace(task=half)].value for half in HALVES]
            joined[spot._replace(task="mnli")] = replace(figure, value=round(mean(halves), 2))
        elif spot.task not in HALVES:
            joined[spot] = figure
    return joined


def setting_of(config: Mapping[str, Any]) -> str:
    """What the paper would call a trial's setting, in our words, such as ``shift 1000, 1% data``.

    Where the paper has no such setting, as for special tokens that are kept, it is none of the paper's words either.
    """
    if PurePath(config["model"]).name in RIVALS:
        setting = TASK_SPECIFIC
    elif config["mapping"] == "shift":
        setting = f"shift {config.get('params.shift_by')}"
    else:
        setting = config["mapping"] or "no mapping"
    if config.get("params.keep_special_tokens") == "True":
        setting += ", special tokens kept"
    fraction = config.get(FRACTION)
    return setting if fraction is None else f"{setting}, {100 * float(fraction):g}% data"


def paper_figure(
    task: str, init: str, mapping: str, model: str, sources: Iterable[tuple[str, str]] | None = None
) -> PaperFigure | None:
    """The figure that a trial's score is to be held against.

    Args:
        mapping: our setting, as :func:`setting_of` gives it, e.g. ``random`` or ``shift 1000``.
        model: Hugging Face name or local folder; its last part is looked up in the paper, and where the paper has
            no figure for it, the figure is the reference model's (``PaperFigure.model`` says whose it is).
        sources: the tables to look in, by version and name; None: those that report test scores under the setting.

    Returns:
        None where the paper has none: an own task, or a setting under which it reports no score.
    """
    places = REPORTED.get(mapping, ()) if sources is None else tuple(sources)
    for name in (PurePath(model).name, REFERENCE):
        for source in places:
            if figure := tables()[source].get(Spot(mapping, name, init, task)):
                return figure
    return None


def rival_figure(task: str) -> PaperFigure | None:
    """The test score of the rival that the paper names for a task, the red line of its figures; None without one."""
    for model, init in RIVAL_INITS.items():
        if figure := tables()[V1_TEST].get(Spot(TASK_SPECIFIC, model, init, task)):
            return figure
    return None


def pwcca_figure(task: str, pair: str) -> PaperFigure | None:
    """The PWCCA of a pair of models, WITH_RANDOM or BOTH_RANDOM, on a task's sequences; None where there is none."""
    return tables()[V2_PWCCA].get(Spot(PWCCA_SETTING, pair, "", task))
