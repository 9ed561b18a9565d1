"""Lines laid out as rows and columns: in each place ours, the paper's figure and the difference.

A cell has several lines, whose names stand in the column ``what``. Where more than one of our groups falls into the
same place, each gets a row of its own, with what sets them apart in the column ``with``: they are never averaged.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.listing import figure_text, percent
from analysis.pairs import p_text, points
from analysis.paper import PaperFigure
from analysis.records import figure_record, line_record
from analysis.select import STATES
from analysis.sheet import NONE, Column, Sheet
from analysis.tables import Line, difference, differing, incomplete, mean_and_std, phrase

TROUBLE = tuple(reversed(STATES[1:]))
WHAT = ("ours", "n", "paper", "difference", "vs scratch", "Holm p", *TROUBLE)  # a cell's lines, in order
PAIR_NOTE = "The CSV file has each pair's interval, p and bootstrap p."

Words = tuple[str, ...]
Cell = dict[str, str]  # the name of a line -> its text


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place in the grid: a line of ours, or a figure of the paper's that we have no line for.

    Attributes:
        row: what names its row, a word for each of the grid's row names.
        metric: what is scored.
    """

    row: Words
    column: str
    metric: str
    line: Line | None
    paper: PaperFigure | None


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A column that holds the mean over others, seed by seed, where all of them are there.

    Attributes:
        weights: column, shown or not -> its weight in the mean.
        paper: the paper's means by the words that name a row.
    """

    weights: Mapping[str, int]
    paper: Mapping[Words, PaperFigure]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What names a row, what sets it apart from others of that name, and its places by column."""

    words: Words
    apart: str
    places: Mapping[str, Place]


def grid_sheet(
    title: str,
    row_names: Words,
    columns: Sequence[str],
    places: Sequence[Place],
    *,
    means: Mapping[str, Mean] | None = None,
    notes: Iterable[str] = (),
) -> Sheet:
    """Lays the places out; rows stand in the order of their first places.

    Args:
        columns: those to show, in order; places of others only play a part in means.
        means: those of the columns that are means.
    """
    means = means or {}
    rows = _rows(places)
    metrics = {name: _metrics(place for place in places if place.column == name) for name in columns}
    by_row = any(len(names) > 1 for names in metrics.values())  # then a row names its metric, not a column
    labelled = any(row.apart for row in rows)
    words = (*row_names, *(["with"] * labelled), *(["metric"] * by_row), "what")
    units = {name: f"{'mean' if name in means else ''.join(metrics[name])} ↑" for name in columns}
    table = []
    for row in rows:
        cells = {name: _cell(place) for name, place in row.places.items() if name in columns}
        cells |= {name: _mean_cell(mean, row) for name, mean in means.items() if name in columns}
        lines = [what for what in WHAT if any(what in cell for cell in cells.values())]
        named = [*row.words, *([row.apart or NONE] * labelled)]
        named += [", ".join(f"{metric} ↑" for metric in _metrics(row.places.values()))] * by_row
        texts = ("\n".join(cells.get(name, {}).get(what, NONE) for what in lines) for name in columns)
        table.append(dict(zip((*words, *columns), (*named, "\n".join(lines), *texts), strict=True)))
    return Sheet(
        title=title,
        columns=(
            *(Column(name=name, align="left") for name in words),
            *(Column(name=name, unit="" if by_row else units[name]) for name in columns),
        ),
        rows=tuple(table),
        notes=tuple(notes),
        records=tuple(record for row in rows for record in _records(row, row_names, means)),
        incomplete=incomplete(place.line for place in places if place.line),
    )


def _metrics(places: Iterable[Place]) -> list[str]:
    return list(dict.fromkeys(place.metric for place in places))


def _rows(places: Sequence[Place]) -> list[Row]:
    """The rows, apart from each other where lines of ours would meet in one place."""
    found: dict[Words, dict[str, dict[str, Place]]] = {place.row: {} for place in places}
    alone = [place for place in places if place.line is None]
    for place, apart in _apart(places):
        while place.column in found[place.row].get(apart, {}):  # alike in all that has a name
            apart = f"{apart}, another".removeprefix(", ")
        found[place.row].setdefault(apart, {})[place.column] = place
    for place in alone:  # beside ours, unless there is more than one row of ours
        variants = found[place.row]
        apart = next(iter(variants)) if len(variants) == 1 else ""
        variants.setdefault(apart, {})[place.column] = place
    return [
        Row(words=words, apart=apart, places=by_column)
        for words, variants in found.items()
        for apart, by_column in variants.items()
    ]


def _apart(places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
    """The places of our lines, each with what sets it apart.

    Rows that are alike in all but their last word say the same of themselves, so that they can be told from each other
    by the same words: where pretrained has trials of 5 and 20 epochs, scratch says which of these it has.
    """
    meeting: dict[Words, dict[tuple[Words, str], list[Line]]] = defaultdict(lambda: defaultdict(list))
    for place in places:
        if place.line:
            meeting[place.row[:-1]][place.row, place.column].append(place.line)
    varying = {words: differing(by_place.values()) for words, by_place in meeting.items()}
    for place in places:
        if line := place.line:
            met = meeting[place.row[:-1]].values()
            names = [line.model] * any(len({other.model for other in lines}) > 1 for lines in met)
            names += [line.init] * any(len({other.init for other in lines}) > 1 for lines in met)
            phrases = [phrase(name, line.fields[name]) for name in varying[place.row[:-1]] if name in line.fields]
            yield place, ", ".join([*names, *phrases])


def _cell(place: Place) -> Cell:
    line = place.line
    if line is None:
        return {"ours": NONE, "paper": figure_text(place.paper)}
    pair = line.pair
    cell = _numbers(line.mean, line.std, place.paper)
    cell["n"] = line.selection.seeds
    if pair and pair.test.difference is not None:
        cell["vs scratch"] = points(pair.test.difference)
    if pair and pair.p_adjusted is not None:
        cell["Holm p"] = p_text(pair.p_adjusted)
    counts = line.selection.counts
    return cell | {state: str(counts[state]) for state in TROUBLE if counts[state]}


def _numbers(value: float | None, std: float | None, paper: PaperFigure | None) -> Cell:
    apart = difference(value, paper)
    cell = {"ours": percent(value, std)}
    if paper is not None:
        cell["paper"] = figure_text(paper)
    if apart is not None:
        cell["difference"] = points(apart / 100)
    return cell


def _seed_means(mean: Mean, row: Row) -> tuple[list[float], int]:
    """The weighted mean over the columns for every seed that all of them have, and how many were expected."""
    lines = [row.places[name].line for name in mean.weights if name in row.places]
    chosen = [line.selection.chosen for line in lines if line and line.selection.chosen]
    expected = max((setting.expected for setting in chosen), default=0)
    if len(chosen) < len(mean.weights):
        return [], expected
    scores = [{run.seed: getattr(run, line.split) for run in line.selection.runs} for line in lines if line]
    seeds = sorted(set.intersection(*map(set, scores)))
    total = sum(mean.weights.values())
    weights = mean.weights.values()
    return [
        sum(weight * of[seed] for weight, of in zip(weights, scores, strict=True)) / total for seed in seeds
    ], expected


def _mean_cell(mean: Mean, row: Row) -> Cell:
    scores, expected = _seed_means(mean, row)
    value, std = mean_and_std(scores)
    figure = mean.paper.get(row.words)
    if figure and not scores and figure.model not in row.words:
        figure = None  # another model's stands only beside a number of ours
    cell = _numbers(value, std, figure)
    num_ours = sum(name in row.places and row.places[name].line is not None for name in mean.weights)
    if scores:
        cell["n"] = f"{len(scores)}/{expected}"
    elif num_ours:
        cell["n"] = f"{num_ours}/{len(mean.weights)} tasks"
    return cell


def _records(row: Row, row_names: Words, means: Mapping[str, Mean]) -> Iterable[dict[str, object]]:
    """A record for every place of a row, and for every mean over them."""
    named: dict[str, object] = {**dict(zip(row_names, row.words, strict=True)), "with": row.apart or None}
    split = next((place.line.split for place in row.places.values() if place.line), "test")
    for name, place in row.places.items():
        numbers = line_record(place.line) if place.line else figure_record(place.paper)
        yield named | {"column": name, "metric": place.metric} | numbers
    for name, mean in means.items():
        scores, expected = _seed_means(mean, row)
        value, std = mean_and_std(scores)
        numbers = {"metric": "mean", f"{split}_mean": value, f"{split}_std": std, "n": len(scores)}
        if scores or row.words in mean.paper:
            yield (
                named | {"column": name} | numbers | {"n_expected": expected} | figure_record(mean.paper.get(row.words))
            )
