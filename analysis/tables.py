"""The comparison: a line for every group and init, in numbers, and the sentences that belong under it.

``analysis.listing`` shows it as one list; ``analysis.grid_table`` lays lines out as rows and columns.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal

from analysis.inits import CHECKPOINT, CHECKPOINT_STEP, CORPUS, FROM_CHECKPOINT, init_names
from analysis.paper import FRACTION, PaperFigure, paper_figure, setting_of
from analysis.select import STATES, Selection, trouble
from analysis.sheet import NONE
from analysis.store import UNLISTED

if TYPE_CHECKING:
    from analysis.pairs import Pair

Split = Literal["test", "valid"]
SAID_BY_NAMES = ("task", "model", CHECKPOINT, CORPUS)
LIMIT = "max_train_examples"  # the setting whose None says something: all of them


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is said about one group and init. Scores are fractions; only the paper's figures are in percent.

    Attributes:
        model: the model's last path part, or all of it where that would name two models alike.
        init, series: what the trials began from, as :class:`analysis.inits.InitName` has it.
        split: whose scores these are.
        mean: over the seeds behind it; None where there are none, or one of them lacks its score.
        std: sample standard deviation (ddof 1); None below two seeds.
        difference: ours - the paper's, in percentage points.
        pair: how its test scores differ from scratch's; None where there is no such pair.
    """

    selection: Selection
    task: str
    model: str
    init: str
    series: str
    split: Split
    mean: float | None
    std: float | None
    paper: PaperFigure | None
    difference: float | None
    pair: "Pair | None" = None

    @property
    def trouble(self) -> str:
        """``1 missing, 2 diverged``; empty where every expected cell finished."""
        return trouble(self.selection.counts)

    @property
    def fields(self) -> dict[str, Any]:
        """What sets a group apart from others of its task and model, by name; without what plays no part in it."""
        rest = {
            name: value
            for name, value in self.selection.config.items()
            if name not in SAID_BY_NAMES and (value is not None or name == LIMIT)
        }
        if FRACTION in rest and rest.get(LIMIT) is None:
            rest.pop(LIMIT, None)  # "all" would be wrong beside it
        return {**rest, "data": self.selection.data_digest[:8]}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole table.

    Attributes:
        varying: fields that differ between groups of a same task: columns of their own.
        common: sentences on the fields that do not, for tables that have no place for them but underneath.
        notes: footnotes.
    """

    lines: tuple[Line, ...]
    varying: tuple[str, ...]
    common: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def incomplete(self) -> bool:
        return incomplete(self.lines)


def compare(
    selections: Iterable[Selection], pairs: "Iterable[Pair]" = (), pair_notes: Iterable[str] = ()
) -> Comparison:
    """Builds the table from what was selected.

    Args:
        pairs: the tests whose results stand beside it; pair_notes explain them.
    """
    from analysis.notes import common, explained, name_of  # which speak of lines

    lines = lines_of(list(selections), pairs=pairs)
    varying = differing(by_task(lines).values())
    notes = explained(lines, [name_of(line, lines, varying) for line in lines])
    return Comparison(
        lines=tuple(lines),
        varying=varying,
        common=tuple(common(by_task(lines), (*varying, "data"))),
        notes=(*notes, *pair_notes),
    )


def lines_of(
    selections: Sequence[Selection],
    *,
    split: Split = "test",
    sources: Sequence[tuple[str, str]] | None = None,
    pairs: "Iterable[Pair]" = (),
) -> list[Line]:
    """A line for each selection, with the paper's figure from the tables given, or from those of test scores."""
    inits = init_names(selections)
    models = _short_names({selection.config["model"] for selection in selections})
    tasks = _short_names({selection.config["task"] for selection in selections})
    paired = {id(pair.first): pair for pair in pairs}
    lines = []
    for selection, init in zip(selections, inits, strict=True):
        config = selection.config
        value, spread = mean_and_std([getattr(run, split) for run in selection.runs])
        figure = paper_figure(config["task"], selection.init, setting_of(config), config["model"], sources)
        if figure is not None and figure.metric != selection.metric:
            figure = None
        line = Line(
            selection=selection,
            task=tasks[config["task"]],
            model=models[config["model"]],
            init=init.text,
            series=init.series,
            split=split,
            mean=value,
            std=spread,
            paper=figure,
            difference=difference(value, figure),
            pair=paired.get(id(selection)),
        )
        lines.append(line)
    return lines


def mean_and_std(scores: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where a score is NaN or there are too few."""
    if not scores or any(map(math.isnan, scores)):
        return None, None
    return mean(scores), stdev(scores) if len(scores) > 1 else None


def difference(value: float | None, figure: PaperFigure | None) -> float | None:
    """Ours (a fraction) - the paper's, in percentage points."""
    return None if value is None or figure is None else 100 * value - figure.value


def incomplete(lines: Iterable[Line]) -> bool:
    """Whether any expected cell failed, diverged, is missing or still running."""
    return any(line.selection.counts[state] for line in lines for state in STATES if state != "finished")


def differing(groups: Iterable[Sequence[Line]]) -> tuple[str, ...]:
    """The fields in which lines of a same group differ.

    A param that is recorded only where it is not the default differs from its absence; a setting that plays no part in
    a model, such as a mapping of k-mer counts, or in an init, such as the step of a checkpoint, does not differ from
    others' values.
    """
    names: dict[str, None] = {}
    for lines in groups:
        for name in dict.fromkeys(name for line in lines for name in line.fields):
            values = {line.fields.get(name) for line in lines if name in line.fields or _has_default(line, name)}
            if len(values) > 1:
                names[name] = None
    return tuple(names)


def _has_default(line: Line, field: str) -> bool:
    """Whether a field that a line does not have stands for a default."""
    plays_a_part = field != CHECKPOINT_STEP or line.selection.init == FROM_CHECKPOINT
    return field.startswith(UNLISTED) and plays_a_part


def value_text(field: str, value: Any) -> str:
    """A setting's value in a cell."""
    return str(value) if value is not None else "all" if field == LIMIT else NONE


def phrase(field: str, value: Any) -> str:
    """A setting in words: ``20 epochs``, ``mapping random``."""
    text = value_text(field, value)
    match field:
        case "num_epochs":
            return f"{text} epochs"
        case "max_train_examples":
            return f"{text} train examples"
        case "params.train_fraction" if value is not None:
            return f"{100 * float(value):g}% of the train examples"
        case "params.checkpoint_step":
            return f"pre-training step {text}"
        case "params.separator":
            return f"separator {text!r}"
        case _:
            return f"{label(field)} {text}"


def label(field: str) -> str:
    """A field's name as a column's header."""
    return field.removeprefix(UNLISTED).replace("_", " ")


def _short_names(paths: set[str]) -> dict[str, str]:
    """Model, or own task -> its last path part, where that is not another one's too."""
    names = {path: PurePath(path).name for path in paths}
    return {path: name if list(names.values()).count(name) == 1 else path for path, name in names.items()}


def by_task(lines: Iterable[Line]) -> Mapping[str, list[Line]]:
    """The lines of each task, in their order."""
    tasks: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        tasks[line.task].append(line)
    return tasks
