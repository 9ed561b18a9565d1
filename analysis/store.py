"""The one reader of the tracking store: trials and sweeps in, typed tables out.

Nothing else in ``analysis`` knows how MLflow keeps them; the names are ``sweeps.recorded``'s.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.source import RecordedRun, Source, Store, source_of
from sweeps import recorded
from trainer.errors import UserError, first_line

# A trial's params, each a field of TrialConfig, with the types that they had before MLflow made text of them.
# A param that is not listed becomes a text column "params.NAME": a field that TrialConfig gains later still counts.
CONFIG_TYPES = {
    "task": "str",
    "model": "str",
    "init": "str",
    "mapping": "str",
    "optimizer": "str",
    "learning_rate": "float64",
    "seed": "Int64",
    "batch_size": "Int64",
    "num_epochs": "Int64",
    "patience": "Int64",
    "max_train_examples": "Int64",  # missing: all of them
}
UNLISTED_NUMBERS = ("train_fraction", "checkpoint_step")
NUMBER = re.compile(r"\d{1,15}|0?\.\d+|\d\.?\d*e-\d{1,2}")
FACT_TYPES = {
    "run_id": "str",
    "experiment_id": "str",
    "sweep": "str",
    "select_by": "str",  # of expected cells only: a trial's is its sweep's
    "status": "str",
    "outcome": "str",
    "cell": "str",
    "metric": "str",
    "data_note": "str",
    "data_digest": "str",
}
METRICS = (*recorded.CRITERIA, "test/score")  # columns even where no trial has logged them yet
CORPUS_PARAM = "corpus"  # of a checkpoint: recorded as a tag, and a setting like the params beside it
AXES = ("init", "optimizer", "learning_rate", "seed")  # what may differ between the cells of a comparison
ALL = "all"  # the param that stands for None
UNLISTED = "params."


@dataclass(frozen=True, kw_only=True)
class RecordedSweep:
    """A sweep as recorded.

    Attributes:
        cells: what it was to run: the params of every cell, as text.
        select_by: the score by which it chooses a setting.
    """

    run_id: str
    experiment_id: str
    cells: list[dict[str, str]]
    select_by: str
    metric: str
    data_note: str
    data_digest: str


def plain(text: str) -> str:
    """A text of the store's as it may be shown: what a terminal would obey, line breaks too, becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)


def _plain(texts: Mapping[str, str]) -> dict[str, str]:
    return {plain(name): plain(text) for name, text in texts.items()}


def find_run(store: Store, parameter: str, run_id: str) -> RecordedRun:
    """A run by its id.

    Raises:
        UserError: naming the parameter, when the store has no such run.
    """
    found = source_of(store).run(run_id)
    if found is None:
        raise UserError(f"{parameter}: the tracking store has no run {run_id!r}; run ids are shown by `mlflow ui`")
    return found


def read_trials(store: Store, experiment_ids: list[str], sweep: str | None = None) -> pd.DataFrame:
    """Every trial's run, or those of one sweep only.

    Returns:
        A row a run: the columns of FACT_TYPES (sweep is the parent's run id; outcome is missing while a trial
        runs), ``start_time`` (UTC), a column a param with the types of CONFIG_TYPES, and a column a metric with
        its last value, scores as fractions (float, missing where not logged).
    """
    return _typed([_trial_row(run) for run in source_of(store).runs(experiment_ids, "trial", sweep)])


def read_sweeps(store: Store, experiment_ids: list[str], sweep: str | None = None) -> list[RecordedSweep]:
    """Every sweep that has recorded what it was to run, newest first, or the one asked for."""
    source = source_of(store)
    wanted = (run for run in source.runs(experiment_ids, "sweep") if sweep in (None, run.run_id))
    return [
        RecordedSweep(
            run_id=run.run_id,
            experiment_id=run.experiment_id,
            cells=cells,
            select_by=_criterion(run.tags),
            metric=plain(run.tags.get(recorded.METRIC, "")),
            data_note=plain(run.tags.get(recorded.DATA_NOTE, "")),
            data_digest=plain(run.tags.get(recorded.DATA_DIGEST, "")),
        )
        for run in wanted
        if (cells := _cells(source, run.run_id)) is not None
    ]


def _criterion(tags: Mapping[str, str]) -> str:
    """The score by which a sweep chooses; the valid one where it names none that there is."""
    named = tags.get(recorded.SELECT_BY)
    return named if named in recorded.CRITERIA else recorded.BY_VALID


def _cells(source: Source, run_id: str) -> list[dict[str, str]] | None:
    """The params of every cell, from a sweep's ``cells.json``; None, and a line on stderr, where there is none."""
    text: str | None = ""
    try:
        text = source.artifact(run_id, recorded.CELLS)
        content = json.loads(text or "")
        cells = [_plain({**content["shared"], **cell}) for cell in content["cells"]]
        if not all({"task", "model", "init"} <= cell.keys() for cell in cells):
            raise ValueError("a cell without task, model or init")
        _param_columns(cells)  # raises where one cannot be typed
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"has no {recorded.CELLS}" if text is None else f"has a damaged {recorded.CELLS} ({first_line(error)})"
        print(f"beware: sweep {run_id} {reason}; which of its cells are missing cannot be seen", file=sys.stderr)
        return None
    return cells


def expected_cells(sweeps: Iterable[RecordedSweep]) -> pd.DataFrame:
    """The cells that the sweeps were to run: a row a cell, with the columns and types of :func:`read_trials`."""
    rows: list[dict[str, Any]] = []
    for sweep in sweeps:
        facts = {
            "experiment_id": sweep.experiment_id,
            "sweep": sweep.run_id,
            "select_by": sweep.select_by,
            "metric": sweep.metric,
            "data_note": sweep.data_note,
            "data_digest": sweep.data_digest,
        }
        rows += [{**facts, "params": cell} for cell in sweep.cells]
    return _typed(rows)


def read_history(store: Store, run_id: str, metric: str) -> pd.DataFrame:
    """Every value of a metric of a run: columns ``step`` (int) and ``value`` (float), in the order of steps.

    Of values logged more than once for a step, the first one counts: with its last step a trial logs the valid score of
    the checkpoint that it tests once more.
    """
    first: dict[int, float] = {}
    for point in sorted(source_of(store).history(run_id, metric), key=lambda point: (point.step, point.timestamp)):
        first.setdefault(point.step, point.value)
    steps, values = np.array([*first], dtype=np.int64), np.array([*first.values()], dtype=np.float64)
    return pd.DataFrame({"step": steps, "value": values})


def read_artifact(store: Store, run_id: str, path: str) -> str | None:
    """The text of a run's artifact; None where the run has none at this path."""
    return source_of(store).artifact(run_id, path)


def config_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold a trial's settings."""
    return [str(name) for name in frame.columns if name in CONFIG_TYPES or str(name).startswith(UNLISTED)]


def _trial_row(run: RecordedRun) -> dict[str, Any]:
    """A run as plain values; its params, still text, and its metrics in dictionaries of their own, by name."""
    tags, params = _plain(run.tags), dict(sorted(_plain(run.params).items()))
    corpus = {CORPUS_PARAM: tags[recorded.CORPUS]} if tags.get(recorded.CORPUS) and "checkpoint" in params else {}
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "sweep": tags.get(recorded.PARENT),
        "status": run.status,
        "outcome": tags.get(recorded.OUTCOME),
        "cell": tags.get(recorded.CELL),
        "metric": tags.get(recorded.METRIC, ""),
        "data_note": tags.get(recorded.DATA_NOTE, ""),
        "data_digest": tags.get(recorded.DATA_DIGEST, ""),
        "start_time": run.start_time,
        "params": _sound({n: t for n, t in params.items() if not n.startswith(recorded.PREFIX)}) | corpus,
        "metrics": dict(sorted(run.metrics.items())),
    }


def _sound(params: dict[str, str]) -> dict[str, str]:
    """The params without those of UNLISTED_NUMBERS that are none."""
    return {name: text for name, text in params.items() if name not in UNLISTED_NUMBERS or NUMBER.fullmatch(text)}


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A frame from rows whose params are text, each column with its type whether or not there are rows."""
    params: list[Mapping[str, str]] = [row["params"] for row in rows]
    metrics: list[Mapping[str, float]] = [row.get("metrics", {}) for row in rows]
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=kind) for name, kind in FACT_TYPES.items()}
    milliseconds = pd.Series([row.get("start_time") for row in rows], dtype="Int64")
    columns["start_time"] = pd.to_datetime(milliseconds, unit="ms", utc=True)
    columns |= _param_columns(params)
    for name in dict.fromkeys([*METRICS, *(name for row in metrics for name in row)]):
        columns[name] = pd.Series([row.get(name) for row in metrics], dtype="float64")
    return pd.DataFrame(columns)


def _param_columns(rows: Sequence[Mapping[str, str]]) -> "dict[str, pd.Series[Any]]":
    """A column for each param of any row and each of CONFIG_TYPES."""
    columns = {}
    for name in dict.fromkeys([*CONFIG_TYPES, *(name for row in rows for name in row)]):
        column = name if name in CONFIG_TYPES else UNLISTED + name
        columns[column] = _param_column([row.get(name) for row in rows], CONFIG_TYPES.get(name, "str"))
    return columns


def _param_column(texts: list[str | None], kind: str) -> "pd.Series[Any]":
    if kind == "str":
        return pd.Series(texts, dtype="str")
    numbers = pd.to_numeric(pd.Series(texts, dtype="str"), errors="coerce")  # "all" becomes missing
    if kind == "Int64":
        numbers = numbers.where((numbers % 1 == 0) & (numbers.abs() < 2**53))  # what is no whole number is missing
    return numbers.astype(kind)  # type: ignore[call-overload]
