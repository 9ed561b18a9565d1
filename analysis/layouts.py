"""The layouts: how what was selected is laid out, by name.

A paper's layout holds one or more of its score tables: rows are (setting, model, init), columns are tasks. Any other
one is given as ``rows x columns``, by the names of params: ``init,mapping x task``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import paper
from trainer.errors import UserError, near

if TYPE_CHECKING:
    from analysis.tables import Split

AUTO, SEARCH, VERDICT, CORPORA = "auto", "search", "verdict", "corpora"
CROSS = " x "  # between rows and columns


@dataclass(frozen=True, kw_only=True)
class PaperLayout:
    """Some of the paper's tables, one above the other.

    Attributes:
        sources: their versions and names.
        settings: the settings that they report, in the order of the rows.
        split: whose scores they are; of GLUE, whose dev set is valid and test at once, the test ones.
        only_fraction: whether trials on a part of the training data are its subject.
    """

    title: str
    sources: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]
    split: "Split" = "test"
    only_fraction: bool = False


GLUE_SETTINGS = ("identity", "shift 1000", "permutation")
FRACTION_SETTING = "shift 1000, 1% data"

PAPER_LAYOUTS = {
    "table1": PaperLayout(title="GLUE", sources=(paper.V2_GLUE,), settings=GLUE_SETTINGS),
    "table2": PaperLayout(
        title="Protein, DNA and music, test scores",
        sources=(paper.V1_TEST, paper.V2_TEST, paper.V2_MEANS),
        settings=(paper.TASK_SPECIFIC, "frequent", "random"),
    ),
    "appendix-glue": PaperLayout(
        title="GLUE, dev set", sources=(paper.V1_GLUE,), settings=("shift 1000", "permutation", "identity")
    ),
    "validation": PaperLayout(
        title="Protein, DNA and music, valid scores",
        sources=(paper.V1_VALID, paper.V2_VALID, paper.V2_VALID_MEANS),
        settings=("frequent", "random"),
        split="valid",
    ),
    "fraction": PaperLayout(
        title="GLUE with a part of the training data",
        sources=(paper.V1_GLUE,),
        settings=(FRACTION_SETTING,),
        only_fraction=True,
    ),
    "v1-table2": PaperLayout(
        title="Protein, DNA and music, test scores",
        sources=(paper.V1_TEST,),
        settings=(paper.TASK_SPECIFIC, "frequent"),
    ),
    "v1-appendix-table1": PaperLayout(
        title="GLUE, dev set",
        sources=(paper.V1_GLUE,),
        settings=("shift 1000", "permutation", FRACTION_SETTING, "identity"),
    ),
    "v1-appendix-table2": PaperLayout(
        title="Protein, DNA and music, valid scores",
        sources=(paper.V1_VALID,),
        settings=("frequent",),
        split="valid",
    ),
    "v2-table3": PaperLayout(title="GLUE", sources=(paper.V2_GLUE,), settings=GLUE_SETTINGS),
    "v2-table5": PaperLayout(title="Protein and DNA, test scores", sources=(paper.V2_TEST,), settings=("random",)),
    "v2-table6": PaperLayout(
        title="Means over tasks, and music, test scores", sources=(paper.V2_MEANS,), settings=("random",)
    ),
    "v2-table7": PaperLayout(
        title="Protein and DNA, valid scores", sources=(paper.V2_VALID,), settings=("random",), split="valid"
    ),
    "v2-table8": PaperLayout(
        title="Means over tasks, and music, valid scores",
        sources=(paper.V2_VALID_MEANS,),
        settings=("random",),
        split="valid",
    ),
}
PROBES = ("pwcca", "attention", "isometry", "gradients", "perturbation")  # of probes, by their kind; others of trials
LAYOUTS = (AUTO, *PAPER_LAYOUTS, SEARCH, CORPORA, VERDICT, *PROBES)
CHOSEN_AMONG = ("optimizer", "learning_rate", "seed")  # params that a selection chooses among, or averages over


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Rows x columns, each by the names of one or more params."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Those of CHOSEN_AMONG that are rows or columns: trials that differ in them are told apart."""
        return tuple(name for name in CHOSEN_AMONG if name in (*self.rows, *self.columns))


def parse_layout(text: str) -> str | Cross:
    """A layout's name, or rows and columns; names of params are checked where the trials' params are known.

    Raises:
        UserError: when it is neither.
    """
    if text in LAYOUTS:
        return text
    words = f" {text} ".split(CROSS)
    if len(words) != 2:
        raise UserError(
            f"layout: unknown value {text!r}; allowed: {', '.join(LAYOUTS)}, or rows x columns by param name, e.g. "
            f"'init,mapping x task'{near(text, LAYOUTS)}"
        )
    rows, columns = (tuple(name.strip() for name in side.split(",") if name.strip()) for side in words)
    if not rows or not columns:
        raise UserError(f"layout: {text!r} has no {'rows' if not rows else 'columns'}; give e.g. 'init x task'")
    twice = {name for name in rows + columns if (rows + columns).count(name) > 1}
    if twice:
        raise UserError(f"layout: {text!r} names {', '.join(sorted(twice))} twice; give each param once")
    return Cross(rows=rows, columns=columns)


def check_fields(cross: Cross, params: Sequence[str]) -> None:
    """Refuses what is neither a param of the trials' nor ``data``, the identity of their data.

    Raises:
        UserError: naming the first such, and the nearest that there is.
    """
    allowed = [*params, "data"]
    for name in (*cross.rows, *cross.columns):
        if name not in allowed:
            raise UserError(f"layout: unknown param {name!r}; allowed: {', '.join(allowed)}{near(name, allowed)}")
