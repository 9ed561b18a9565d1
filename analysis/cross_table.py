"""Any rows x columns by the names of params."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from analysis.grid_table import PAIR_NOTE, Place, grid_sheet
from analysis.layouts import Cross
from analysis.notes import common, explained, name_of
from analysis.pairs import Pair, pair_notes
from analysis.select import Selection, select
from analysis.sheet import NONE, Sheet
from analysis.store import UNLISTED
from analysis.tables import Line, by_task, differing, lines_of, value_text


@dataclass(frozen=True, kw_only=True)
class Told:
    """A selection among trials that are told apart by optimizer, learning rate or seed, and theirs."""

    axes: dict[str, Any]
    selection: Selection


def tell_apart(trials: pd.DataFrame, expected: pd.DataFrame, by: str | None, axes: Sequence[str]) -> list[Told]:
    """Selects for each value of the axes by itself; without axes, as usual."""
    values = [_values(trials[axis], expected[axis]) for axis in axes]
    found = []
    for point in product(*values):
        at_point = dict(zip(axes, point, strict=True))
        selections = select(_at(trials, at_point), _at(expected, at_point), by)
        found += [Told(axes=at_point, selection=selection) for selection in selections]
    return found


def _values(*columns: "pd.Series[Any]") -> list[Any]:
    """The values of some columns, sorted; None, for trials that have none, comes last."""
    known = sorted({value for column in columns for value in column.dropna()})
    return [*known, *([None] * any(column.isna().any() for column in columns))]


def _at(frame: pd.DataFrame, point: dict[str, Any]) -> pd.DataFrame:
    for name, value in point.items():
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    return frame


def cross_sheet(cross: Cross, told: Sequence[Told], pairs: Sequence[Pair]) -> Sheet:
    """A row for each combination of the rows' params, a column for each of the columns'."""
    lines = lines_of([one.selection for one in told], pairs=pairs)
    places = [
        Place(
            row=tuple(_word(name, line, one.axes) for name in cross.rows),
            column=", ".join(_word(name, line, one.axes) for name in cross.columns),
            metric=line.selection.metric,
            line=line,
            paper=line.paper,
        )
        for line, one in zip(lines, told, strict=True)
    ]
    tasks = by_task(lines)
    varying = differing(tasks.values())
    names = [
        ", ".join([name_of(line, lines, varying), *(f"{axis} {_text(value)}" for axis, value in one.axes.items())])
        for line, one in zip(lines, told, strict=True)
    ]
    return grid_sheet(
        f"{', '.join(cross.rows)} x {', '.join(cross.columns)}",
        cross.rows,
        list(dict.fromkeys(place.column for place in places)),
        places,
        notes=[
            *common(tasks, (*varying, "data")),
            *explained(lines, names),
            *pair_notes(pairs),
            *([PAIR_NOTE] if pairs else []),
        ],
    )


def _word(name: str, line: Line, axes: dict[str, Any]) -> str:
    """What a line has for a param."""
    selection = line.selection
    facts = {"task": line.task, "model": line.model, "init": line.init, "data": selection.data_digest[:8], **axes}
    if name in facts:
        return _text(facts[name])
    value = selection.config.get(name, selection.config.get(UNLISTED + name))
    return value_text(name, value)


def _text(value: object) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
