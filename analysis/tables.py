"""The comparison: a line for every group and init, in numbers, and the sentences that belong under it.

``analysis.render`` turns it into Markdown, CSV, LaTeX and the terminal's table.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from statistics import mean, stdev
from typing import Any

from analysis.paper import PaperFigure, paper_figure
from analysis.select import STATES, Selection
from analysis.store import UNLISTED

NONE = "-"  # in a cell: there is nothing to show
SHOWN_CELLS = 4  # cells that a footnote names; compare.csv names them all


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is said about one group and init. Scores are fractions; only the paper's figures are in percent.

    Attributes:
        model: the model's last path part, or all of it where that would name two models alike.
        test_mean: over the seeds behind it; None where there are none, or one of them lacks its test score.
        test_std: sample standard deviation (ddof 1); None below two seeds.
        difference: ours - the paper's, in percentage points.
    """

    selection: Selection
    task: str
    model: str
    test_mean: float | None
    test_std: float | None
    paper: PaperFigure | None
    difference: float | None

    @property
    def trouble(self) -> str:
        """``1 missing, 2 diverged``; empty where every expected cell finished."""
        counts = self.selection.counts
        return ", ".join(f"{counts[state]} {state}" for state in reversed(STATES[1:]) if counts[state])

    @property
    def fields(self) -> dict[str, Any]:
        """What sets a group apart from others of its task and model, by name."""
        rest = {
            name: value
            for name, value in self.selection.config.items()
            if name not in ("task", "model") and not (name.startswith(UNLISTED) and value is None)
        }
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
        """Whether any expected cell failed, is missing or still running."""
        return any(line.selection.counts[state] for line in self.lines for state in ("failed", "missing", "running"))


def compare(selections: Iterable[Selection]) -> Comparison:
    """Builds the table from what was selected."""
    chosen = list(selections)
    models = _short_names({selection.config["model"] for selection in chosen})
    tasks = _short_names({selection.config["task"] for selection in chosen})
    lines = [
        _line(selection, tasks[selection.config["task"]], models[selection.config["model"]]) for selection in chosen
    ]
    varying = _varying(lines)
    return Comparison(
        lines=tuple(lines), varying=varying, common=tuple(_common(lines, varying)), notes=tuple(_notes(lines, varying))
    )


def value_text(field: str, value: Any) -> str:
    """A setting's value in a cell."""
    return str(value) if value is not None else "all" if field == "max_train_examples" else NONE


def phrase(field: str, value: Any) -> str:
    """A setting in words: ``20 epochs``, ``mapping random``."""
    text = value_text(field, value)
    match field:
        case "num_epochs":
            return f"{text} epochs"
        case "max_train_examples":
            return f"{text} train examples"
        case "params.separator":
            return f"separator {text!r}"
        case _:
            return f"{field.removeprefix(UNLISTED).replace('_', ' ')} {text}"


def _short_names(paths: set[str]) -> dict[str, str]:
    """Model, or own task -> its last path part, where that is not another one's too."""
    names = {path: PurePath(path).name for path in paths}
    return {path: name if list(names.values()).count(name) == 1 else path for path, name in names.items()}


def _line(selection: Selection, task: str, model: str) -> Line:
    config, scores = selection.config, selection.test_scores
    complete = bool(scores) and not any(map(math.isnan, scores))
    mapping = config["mapping"]
    if mapping == "shift":
        mapping = f"shift {config.get(UNLISTED + 'shift_by')}"
    figure = paper_figure(config["task"], selection.init, mapping, config["model"])
    kept = config.get(UNLISTED + "keep_special_tokens") == "True"  # the paper's are mapped too
    if figure is not None and (figure.metric != selection.metric or kept):
        figure = None
    test_mean = mean(scores) if complete else None
    return Line(
        selection=selection,
        task=task,
        model=model,
        test_mean=test_mean,
        test_std=stdev(scores) if complete and len(scores) > 1 else None,
        paper=figure,
        difference=None if figure is None or test_mean is None else 100 * test_mean - figure.value,
    )


def _by_task(lines: Iterable[Line]) -> dict[str, list[Line]]:
    tasks: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        tasks[line.task].append(line)
    return tasks


def _varying(lines: list[Line]) -> tuple[str, ...]:
    names = dict.fromkeys(name for line in lines for name in line.fields)
    tasks = _by_task(lines).values()
    return tuple(name for name in names if any(len({line.fields.get(name) for line in task}) > 1 for task in tasks))


def _common(lines: list[Line], varying: tuple[str, ...]) -> list[str]:
    """``h4, splice: mapping random, batch size 32, ...`` for every set of tasks that agree."""
    agreeing: dict[str, list[str]] = defaultdict(list)
    for task, of_task in _by_task(lines).items():
        fields = {name: value for name, value in of_task[0].fields.items() if name not in (*varying, "data")}
        agreeing[", ".join(phrase(name, value) for name, value in fields.items())].append(task)
    return [f"{', '.join(tasks)}: {text}." for text, tasks in agreeing.items()]


def _notes(lines: list[Line], varying: tuple[str, ...]) -> list[str]:
    notes = [
        "Scores in percent: mean ± sample standard deviation over seeds; n: finished of expected seeds. The setting "
        "with the best mean valid score is shown; test is read after that choice.",
        *_paper_notes(lines),
    ]
    for task, of_task in _by_task(lines).items():
        notes += _data_notes(task, of_task)
    for line in lines:
        notes += _choice_notes(line, _name(line, lines, varying))
    if any(line.task == "demo" for line in lines):
        notes.append(
            "demo: a toy. Its data is generated and its tiny BERT was pre-trained for a moment: it says nothing about "
            "real models."
        )
    return notes


def _name(line: Line, lines: list[Line], varying: tuple[str, ...]) -> str:
    """A line's name in a footnote: task and init, and as much else as sets its group apart."""
    of_task = [other for other in lines if other.task == line.task]
    apart = [line.model] if len({other.model for other in of_task}) > 1 else []
    apart += [
        phrase(name, line.fields.get(name))
        for name in varying
        if name in line.fields and len({other.fields.get(name) for other in of_task}) > 1
    ]
    return f"{line.task} {line.selection.init}" + (f" ({', '.join(apart)})" if apart else "")


def _paper_notes(lines: list[Line]) -> list[str]:
    """Where the paper's figures stand, and whose they are where the paper does not have our model's."""
    figures = [(line, line.paper) for line in lines if line.paper is not None]
    if not figures:
        return []
    tables = dict.fromkeys(f"{figure.version}, {figure.table}" for _, figure in figures)
    notes = [
        f"paper: test scores of arXiv 2103.07162 {' and '.join(tables)}; difference: ours - the paper's, in "
        "percentage points."
    ]
    borrowed: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for line, figure in figures:
        if PurePath(line.model).name != figure.model:
            borrowed[line.model, figure.model][line.selection.init] = None
    for (model, reference), inits in borrowed.items():
        notes.append(f"The paper has no {model} ({', '.join(inits)}): {reference}'s figures stand beside it.")
    return notes


def _data_notes(task: str, lines: list[Line]) -> list[str]:
    """What the data or its size keeps the numbers from saying."""
    several = len({line.selection.data_digest for line in lines}) > 1
    said = {f"{task} (data {line.fields['data']})" if several else task: line.selection.data_note for line in lines}
    remark = "not comparable with the paper's figures"
    notes = []
    for subject, note in said.items():
        if note.endswith("subset"):
            notes.append(f"{subject}: {note} of the data: {remark}.")
        elif note:
            notes.append(f"{subject}: {note}.")
    limits = dict.fromkeys(line.fields["max_train_examples"] for line in lines if line.paper is not None)
    return notes + [f"{task}: trained on {limit} examples only: {remark}." for limit in limits if limit is not None]


def _choice_notes(line: Line, name: str) -> list[str]:
    """What a reader must know of how the line's setting was chosen, and which cells are not behind it."""
    selection, notes = line.selection, []
    chosen = selection.chosen
    if chosen is not None and chosen.finished < chosen.expected:
        notes.append(
            f"{name}: no setting finished all of its seeds; chosen among those with the most, "
            f"{chosen.finished} of {chosen.expected}."
        )
    elif chosen is not None and selection.considered < selection.settings:
        notes.append(
            f"{name}: chosen among {selection.considered} of {selection.settings} settings; the others have fewer "
            "finished seeds."
        )
    if chosen is not None and line.test_mean is None:
        notes.append(f"{name}: a finished trial lacks its test score.")
    for state, cells in selection.unfinished.items():
        if cells:
            more = f" and {len(cells) - SHOWN_CELLS} more (compare.csv lists them)" if len(cells) > SHOWN_CELLS else ""
            notes.append(f"{name}, {state}: {', '.join(cells[:SHOWN_CELLS])}{more}.")
    return notes
