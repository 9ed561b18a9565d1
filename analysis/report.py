"""From the options of ``compare`` to its tables: reads the store, selects, tests, lays out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis.corpora_table import beside_checkpoints, corpora_sheet
from analysis.cross_table import Told, cross_sheet, tell_apart
from analysis.inits import with_corpora
from analysis.layouts import AUTO, CORPORA, PAPER_LAYOUTS, SEARCH, VERDICT, Cross, check_fields
from analysis.listing import comparison_sheet
from analysis.pairs import Pair, pair_notes, pair_up
from analysis.paper_table import columns_of, paper_sheet, shown, tasks_of
from analysis.predictions import read_predictions
from analysis.probe_tables import probe_sheet
from analysis.probes import Probe
from analysis.search_table import search_sheets, searched
from analysis.select import Selection, select
from analysis.sheet import Sheet
from analysis.source import Store
from analysis.store import UNLISTED, config_columns
from analysis.tables import Comparison, compare
from analysis.verdict_table import verdict_sheet
from trainer.errors import one_of


@dataclass(frozen=True, kw_only=True)
class Report:
    """The tables of one layout, and what is behind them.

    Attributes:
        selections: of a layout of trials.
        comparison: of the layout ``auto`` only, which a terminal shows in its own way.
        probes: of a layout of probes.
    """

    sheets: tuple[Sheet, ...]
    selections: tuple[Selection, ...] = ()
    comparison: Comparison | None = None
    probes: tuple[Probe, ...] = ()

    @property
    def incomplete(self) -> bool:
        """Whether any expected cell behind the tables is missing, failed, diverged or still running."""
        return any(sheet.incomplete for sheet in self.sheets)


def build(
    store: Store,
    trials: pd.DataFrame,
    expected: pd.DataFrame,
    *,
    layout: str | Cross,
    tasks: Sequence[str] | None,
    select_by: str | None,
) -> Report:
    """The tables of what was recorded.

    Predictions are read of the runs behind the numbers that are shown, and of no others.

    Args:
        trials, expected: as :mod:`analysis.store` reads them.
        tasks: those to show; None: all.
        select_by: the score by which settings are chosen; None: the one that the sweeps name.

    Raises:
        UserError: for an unknown task or param, or where a layout has nothing to show.
    """
    recorded = sorted({*trials["task"].dropna(), *expected["task"].dropna()})
    of_paper = tasks_of(PAPER_LAYOUTS[layout]) if layout in PAPER_LAYOUTS else set()
    wanted = [one_of("tasks", task, sorted({*recorded, *of_paper})) for task in tasks or recorded]
    trials, expected = with_corpora(trials, expected)  # which trials that are not wanted may know
    trials, expected = (frame[frame["task"].isin(wanted)] for frame in (trials, expected))
    if isinstance(layout, Cross):
        check_fields(layout, [name.removeprefix(UNLISTED) for name in config_columns(trials)])
        return _cross(store, layout, tell_apart(trials, expected, select_by, layout.axes))
    selections = select(trials, expected, select_by)
    if layout in PAPER_LAYOUTS:
        return _paper(store, layout, selections, tasks)
    if layout == CORPORA:
        return _corpora(store, selections)
    if layout == SEARCH:
        selections = searched(selections)
        return Report(sheets=tuple(search_sheets(selections)), selections=tuple(selections))
    pairs = _pairs(store, selections)
    if layout == VERDICT:
        return Report(sheets=(verdict_sheet(selections, pairs),), selections=tuple(selections))
    comparison = compare(selections, pairs, pair_notes(pairs))
    return Report(sheets=(comparison_sheet(comparison),), selections=tuple(selections), comparison=comparison)


def of_probes(probes: tuple[Probe, ...]) -> Report:
    """The table of probes of one kind."""
    return Report(sheets=(probe_sheet(probes),), probes=probes)


def _cross(store: Store, layout: Cross, told: Sequence[Told]) -> Report:
    selections = tuple(one.selection for one in told)
    pairs = [] if layout.axes else _pairs(store, selections)  # seeds that are told apart are no pairs
    return Report(sheets=(cross_sheet(layout, told, pairs),), selections=selections)


def _paper(store: Store, name: str, selections: Sequence[Selection], tasks: Sequence[str] | None) -> Report:
    layout = PAPER_LAYOUTS[name]
    chosen = shown(layout, selections)
    others = {selection.config["task"] for selection in selections} - tasks_of(layout)
    columns = columns_of(layout) if layout.split == "test" else []
    pairs = _pairs(store, [selection for selection in chosen if selection.config["task"] in columns])
    sheet = paper_sheet(layout, chosen, pairs, tasks=tasks, left_out=sorted(others))
    return Report(sheets=(sheet,), selections=tuple(chosen))


def _corpora(store: Store, selections: Sequence[Selection]) -> Report:
    shown = beside_checkpoints(selections)
    left_out = {selection.config["task"] for selection in selections} - {one.config["task"] for one in shown}
    sheet = corpora_sheet(shown, _pairs(store, shown), sorted(left_out))
    return Report(sheets=(sheet,), selections=tuple(shown))


def _pairs(store: Store, selections: Sequence[Selection]) -> list[Pair]:
    return pair_up(selections, partial(read_predictions, store))


def stem(layout: str | Cross) -> str:
    """The name of a layout's files, without their endings."""
    if isinstance(layout, Cross):
        return re.sub(r"[^\w-]+", "-", "-".join([*layout.rows, "x", *layout.columns]))
    return "compare" if layout == AUTO else layout
