"""The numbers behind a table, each by itself: what its CSV file holds. Scores are fractions."""

from analysis.pairs import pair_record
from analysis.paper import PaperFigure
from analysis.select import STATES, Selection
from analysis.store import UNLISTED
from analysis.tables import LIMIT, Line


def line_record(line: Line) -> dict[str, object]:
    """A line's settings, scores, choice, paper figure, test against scratch, and cells."""
    selection, chosen = line.selection, line.selection.chosen
    return {
        **selection_record(selection),
        f"{line.split}_mean": line.mean,
        f"{line.split}_std": line.std,
        "n": len(selection.runs),
        "n_expected": chosen.expected if chosen else None,
        **({"valid_mean": chosen.valid if chosen else None} if line.split == "test" else {}),
        "optimizer": chosen.optimizer or None if chosen else None,
        "learning_rate": number(chosen.learning_rate) if chosen else None,
        "select_by": selection.by,
        "settings": selection.settings,
        "settings_considered": selection.considered,
        **figure_record(line.paper),
        "difference": None if line.difference is None else line.difference / 100,
        **pair_record(line.pair),
        **{f"cells_{state}": selection.counts[state] for state in STATES},
        **{f"{state}_cells": "; ".join(cells) for state, cells in selection.unfinished.items()},
        "runs": " ".join(run.run_id for run in selection.runs),
    }


def selection_record(selection: Selection) -> dict[str, object]:
    """What was trained on what."""
    limit = selection.config[LIMIT]
    return {
        **{name.removeprefix(UNLISTED): value for name, value in selection.config.items()},
        LIMIT: "all" if limit is None else limit,
        "data_digest": selection.data_digest,
        "data_note": selection.data_note,
        "init": selection.init,
        "metric": selection.metric,
    }


def figure_record(figure: PaperFigure | None) -> dict[str, object]:
    """The paper's figure as fractions, and where it stands."""
    return {
        "paper_mean": round(figure.value / 100, 6) if figure else None,
        "paper_std": round(figure.std / 100, 6) if figure and figure.std is not None else None,
        "paper_model": figure.model if figure else None,
        "paper_source": f"{figure.version}, {figure.table}" if figure else None,
    }


def number(value: float) -> float | None:
    """None for NaN."""
    return None if value != value else value
