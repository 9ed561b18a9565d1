"""The paper's tables with our runs in them: rows are (setting, model, init), columns are tasks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from analysis import paper
from analysis.grid_table import PAIR_NOTE, Mean, Place, Words, grid_sheet
from analysis.inits import INIT_ORDER
from analysis.layouts import PaperLayout
from analysis.notes import common, explained, name_of
from analysis.pairs import Pair, pair_notes
from analysis.paper import FRACTION, PaperFigure, setting_of
from analysis.select import Selection
from analysis.sheet import Sheet
from analysis.tables import Line, by_task, differing, lines_of

ROW_NAMES = ("setting", "model", "init")
IN_SETTING = ("mapping", "params.shift_by", "params.keep_special_tokens", FRACTION)  # a row's setting says it
GLUE = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
PROTEIN = ("localization", "stability", "fluorescence")
DNA = ("h3", "h4", "h3k9ac", "splice")
MEANS = {  # the paper's mean over GLUE counts both halves of MNLI
    "average": {task: 2 if task == "mnli" else 1 for task in GLUE},
    "protein": dict.fromkeys(PROTEIN, 1),
    "dna": dict.fromkeys(DNA, 1),
}
COLUMNS = (*GLUE, "average", *PROTEIN, "protein", *DNA, "dna", "composer")


def columns_of(layout: PaperLayout) -> list[str]:
    """The columns of the layout's tables: tasks and means over tasks."""
    named = {spot.task for source in layout.sources for spot in paper.tables()[source]}
    return [name for name in COLUMNS if name in named]


def tasks_of(layout: PaperLayout) -> set[str]:
    """The tasks that play a part in it."""
    columns = columns_of(layout)
    return {task for name in columns for task in MEANS.get(name, [name])}


def shown(layout: PaperLayout, selections: Iterable[Selection]) -> list[Selection]:
    """Those of the selections that have a place in the layout."""
    tasks = tasks_of(layout)
    return [
        selection
        for selection in selections
        if selection.config["task"] in tasks
        and (not layout.only_fraction or selection.config.get(FRACTION) is not None)
    ]


def paper_sheet(
    layout: PaperLayout,
    selections: Sequence[Selection],
    pairs: Sequence[Pair],
    *,
    tasks: Sequence[str] | None,
    left_out: Sequence[str],
) -> Sheet:
    """One of the paper's tables.

    Args:
        selections: those :func:`shown`.
        pairs: their test scores against scratch; left out where the layout is of valid scores.
        tasks: those asked for; None: all.
        left_out: tasks that have trials but no place in it.
    """
    paired = pairs if layout.split == "test" else ()
    lines = lines_of(selections, split=layout.split, sources=layout.sources, pairs=paired)
    columns = [name for name in columns_of(layout) if tasks is None or {*MEANS.get(name, [name])} <= {*tasks}]
    places = _places(layout, lines, columns)
    means = {name: Mean(weights=MEANS[name], paper=_means(layout, places, name)) for name in columns if name in MEANS}
    tables = ", ".join(f"{version} {table}" for version, table in layout.sources)
    return grid_sheet(
        f"{layout.title} (arXiv 2103.07162, {tables})",
        ROW_NAMES,
        columns,
        places,
        means=means,
        notes=_notes(lines, paired, means, left_out),
    )


def _places(layout: PaperLayout, lines: Iterable[Line], columns: Sequence[str]) -> list[Place]:
    """Ours, and the paper's where we have none, in the order of the rows."""
    ours = [
        Place(
            row=(setting_of(line.selection.config), _model(line), line.init),
            column=line.task,
            metric=line.selection.metric,
            line=line,
            paper=line.paper,
        )
        for line in lines
    ]
    taken = {(place.row, place.column) for place in ours}
    theirs = [
        Place(row=spot[:3], column=spot.task, metric=figure.metric, line=None, paper=figure)
        for source in layout.sources
        for spot, figure in paper.tables()[source].items()
        if spot.setting in layout.settings and spot.task in columns and spot.task not in MEANS
    ]
    places = [*ours, *(place for place in theirs if (place.row, place.column) not in taken)]
    return sorted(places, key=lambda place: _order(layout, place.row))


def _model(line: Line) -> str:
    """A model of the paper's by its name there, wherever its folder is."""
    name = PurePath(line.selection.config["model"]).name
    known = name in paper.RIVALS or any(spot.model == name for figures in paper.tables().values() for spot in figures)
    return name if known else line.model


def _order(layout: PaperLayout, row: Words) -> tuple[object, ...]:
    """The paper's settings, models and inits first, in its order; then ours, by name."""
    models = list(dict.fromkeys(spot.model for source in layout.sources for spot in paper.tables()[source]))
    known = (layout.settings, models, INIT_ORDER)
    return tuple(
        (order.index(word) if word in order else len(order), word) for order, word in zip(known, row, strict=True)
    )


def _means(layout: PaperLayout, places: Iterable[Place], name: str) -> dict[Words, PaperFigure]:
    """The paper's means for every row; for models that it does not have, the reference model's."""
    rows = dict.fromkeys(place.row for place in places)
    found = {row: paper.paper_figure(name, row[2], row[0], row[1], layout.sources) for row in rows}
    return {row: figure for row, figure in found.items() if figure is not None}


def _notes(
    lines: Sequence[Line], pairs: Sequence[Pair], means: Mapping[str, Mean], left_out: Sequence[str]
) -> list[str]:
    tasks = by_task(lines)
    varying = differing(tasks.values())
    notes = common(tasks, (*varying, "data"))
    if lines:
        notes += explained(lines, [name_of(line, lines, varying) for line in lines])
    else:
        notes.append("None of our trials has a place in this table.")
    notes.append(
        "Setting: the mapping. The paper's normal is identity, its random mapping random, and its random shift "
        "permutation. Where there is no n, the paper's figure stands alone: we ran no such trial."
    )
    for name, mean in means.items():
        twice = "; mnli counts twice, as its two halves do in the paper" if mean.weights.get("mnli") else ""
        notes.append(f"{name}: the mean over {', '.join(mean.weights)}, seed by seed, where all are there{twice}.")
    if left_out:
        notes.append(f"Not in this table, since the paper's has no such column: {', '.join(left_out)}.")
    return [*notes, *pair_notes(pairs), *([PAIR_NOTE] if pairs else [])]
