"""The paper's own figures: Kao & Lee, "Is BERT a Cross-Disciplinary Knowledge Learner?", arXiv 2103.07162.

``paper.csv`` holds the tables of both arXiv versions, a row a figure, in percent.
"""

import csv
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePath

REFERENCE = "bert-base-uncased"  # the model with a figure for every task and init

# Our mapping -> the version of the paper that reports scores under it, and that version's name for it.
REPORTED = {
    "random": ("v2", "random mapping"),
    "frequent": ("v1", "frequent"),
    "identity": ("v2", "normal"),
    "shift 1000": ("v2", "shift 1000"),
    "permutation": ("v2", "permutation"),
}
DEV_IS_TEST = "table 3"  # of version 2: GLUE, scored on its dev set
HALVES = ("mnli-m", "mnli-mm")  # reported one by one; ours is their mean


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A test score in the paper.

    Attributes:
        value: in percent.
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
def _test_figures() -> dict[tuple[str, ...], PaperFigure]:
    """(version, setting, task, init, model) -> the figure, for every test score in the file."""
    with Path(__file__).with_name("paper.csv").open(newline="", encoding="utf-8") as file:
        figures: dict[tuple[str, ...], PaperFigure] = {
            (row["version"], row["setting"], row["task"], row["init"], row["model"]): PaperFigure(
                value=float(row["value"]),
                std=float(row["std"]) if row["std"] else None,
                metric=row["metric"],
                model=row["model"],
                version=row["version"],
                table=row["table"],
            )
            for row in csv.DictReader(file)
            if row["split"] == "test" or (row["version"], row["table"]) == ("v2", DEV_IS_TEST)
        }
    first, second = HALVES
    for (version, setting, task, *who), figure in list(figures.items()):
        if task == first:
            value = (figure.value + figures[version, setting, second, *who].value) / 2
            figures[version, setting, "mnli", *who] = replace(figure, value=round(value, 2))
    return figures


def paper_figure(task: str, init: str, mapping: str, model: str) -> PaperFigure | None:
    """The figure that a trial's test score is to be held against.

    Args:
        mapping: ours; of shift with its distance, e.g. ``shift 1000``.
        model: Hugging Face name or local folder; its last part is looked up in the paper, and where the paper has
            no figure for it, the figure is the reference model's (``PaperFigure.model`` says whose it is).

    Returns:
        None where the paper has none: an own task, or a mapping under which it reports no test score.
    """
    if mapping not in REPORTED:
        return None
    figures = _test_figures()
    own = figures.get((*REPORTED[mapping], task, init, PurePath(model).name))
    return own or figures.get((*REPORTED[mapping], task, init, REFERENCE))
