"""Which trials belong together, which setting is chosen, and what is missing.

A group holds the trials that may be compared: every setting but the axes of a comparison (init, optimizer, learning
rate, seed) is equal, and so is the data. In a group, each init gets the optimizer and learning rate with the best
mean valid score over seeds; test scores are read after that choice.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.store import AXES, config_columns

STATES = ("finished", "diverged", "failed", "running", "missing")
INIT_ORDER = ("pretrained", "reinit-embeddings", "scratch")  # others follow, by name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An optimizer and learning rate, over the seeds that were expected of it.

    Attributes:
        valid: mean valid score of the seeds that finished, as a fraction; NaN where none did.
    """

    optimizer: str
    learning_rate: float
    expected: int
    finished: int
    valid: float


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a group's trials say about one init.

    Attributes:
        config: the settings that the group shares; None stands for "all" or not recorded.
        data_note, data_digest: what the trials say of their data, and its identity.
        counts: state -> number of cells, for every one of STATES.
        unfinished: state -> the cells in it as ``adam 1e-05 seed 0``, for every state but finished.
        settings: how many settings were expected, chosen or not.
        considered: how many of them the choice was among.
        chosen: None while no trial has finished.
        test_scores: test score of every seed that finished at the chosen setting, as fractions.
    """

    config: dict[str, Any]
    data_note: str
    data_digest: str
    metric: str
    init: str
    counts: dict[str, int]
    unfinished: dict[str, tuple[str, ...]]
    settings: int
    considered: int
    chosen: Setting | None
    test_scores: tuple[float, ...]


def select(trials: pd.DataFrame, expected: pd.DataFrame) -> list[Selection]:
    """One Selection for every group and init, in the order of task, model, the other settings, and init.

    Args:
        trials: as :func:`analysis.store.read_trials` returns them.
        expected: the cells that were to run, from :func:`analysis.store.expected_cells`.
    """
    cells = cells_with_state(trials, expected)
    keys = [*_group_columns(cells), "data_digest", "init"]
    parts = cells.groupby(keys, dropna=False, sort=False)
    selections = [_select_one(part) for _, part in parts]
    return sorted(selections, key=_place)


def cells_with_state(trials: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, with its ``state``, out of all runs and all expected cells.

    Cells are the same when all params and the data are. Of several runs, the newest counts that finished or
    diverged, else the newest. A trial that ended before it recorded its params has no cell; the cell that it was
    to be counts as missing.
    """
    settled = trials["outcome"].isin(["finished", "diverged"])
    lost = (trials["outcome"] == "finished") & trials["valid/score"].isna()
    state = trials["outcome"].where(settled & ~lost, "failed")
    state = state.mask(~settled & trials["status"].isin(["RUNNING", "SCHEDULED"]), "running")
    runs = trials.assign(state=state, rank=1 + settled.astype(int))[trials[list(AXES)].notna().all(axis=1)]
    records = pd.concat([expected.assign(state="missing", rank=0), runs], ignore_index=True)
    identity = [*_group_columns(records), *AXES, "data_digest"]
    return records.sort_values(["rank", "start_time", "run_id"]).drop_duplicates(identity, keep="last")


def _group_columns(frame: pd.DataFrame) -> list[str]:
    """The settings that all trials of a group share."""
    return [name for name in config_columns(frame) if name not in AXES]


def _select_one(cells: pd.DataFrame) -> Selection:
    """Chooses among the cells of one group and init."""
    settings = _settings(cells[["optimizer", "learning_rate", "state", "valid/score"]])
    considered = eligible(settings)
    chosen = best(considered)
    scores: tuple[float, ...] = ()
    if chosen is not None:
        at_choice = (cells["optimizer"] == chosen.optimizer) & (cells["learning_rate"] == chosen.learning_rate)
        scores = tuple(cells.loc[at_choice & (cells["state"] == "finished")].sort_values("seed")["test/score"])
    first = cells.iloc[-1]
    return Selection(
        config={name: None if pd.isna(first[name]) else first[name] for name in _group_columns(cells)},
        data_note=first["data_note"],
        data_digest=first["data_digest"],
        metric=first["metric"],
        init=first["init"],
        counts={state: int((cells["state"] == state).sum()) for state in STATES},
        unfinished={state: _cell_names(cells[cells["state"] == state]) for state in STATES if state != "finished"},
        settings=len(settings),
        considered=len(considered),
        chosen=chosen,
        test_scores=scores,
    )


def _settings(cells: pd.DataFrame) -> list[Setting]:
    """The settings of some cells; only valid scores come in here."""
    settings = []
    for _, seeds in cells.groupby(["optimizer", "learning_rate"]):
        valid = seeds.loc[seeds["state"] == "finished", "valid/score"]
        setting = Setting(
            optimizer=seeds["optimizer"].iloc[0],
            learning_rate=float(seeds["learning_rate"].iloc[0]),
            expected=len(seeds),
            finished=len(valid),
            valid=float(valid.mean()),
        )
        settings.append(setting)
    return settings


def eligible(settings: list[Setting]) -> list[Setting]:
    """The settings whose means may be compared: those with every expected seed finished, if any, else all with some;
    of these, the ones with the most seeds. A mean over the survivors of a setting never beats a whole one.
    """
    tried = [setting for setting in settings if setting.finished]
    pool = [setting for setting in tried if setting.finished == setting.expected] or tried
    most = max((setting.finished for setting in pool), default=0)
    return [setting for setting in pool if setting.finished == most]


def best(settings: list[Setting]) -> Setting | None:
    """The best mean valid score; of equal ones the smaller learning rate, then the first optimizer by name."""
    return min(settings, key=lambda setting: (-setting.valid, setting.learning_rate, setting.optimizer), default=None)


def _cell_names(cells: pd.DataFrame) -> tuple[str, ...]:
    ordered = cells.sort_values(["optimizer", "learning_rate", "seed"])
    places = zip(ordered["optimizer"], ordered["learning_rate"], ordered["seed"], strict=True)
    return tuple(f"{optimizer} {learning_rate:g} seed {seed}" for optimizer, learning_rate, seed in places)


def _place(selection: Selection) -> tuple[Any, ...]:
    """Where a selection stands in a table."""
    settings = tuple((value is None, str(type(value)), value or 0) for value in selection.config.values())
    known = selection.init in INIT_ORDER
    position = INIT_ORDER.index(selection.init) if known else len(INIT_ORDER)
    return settings, selection.data_digest, position, selection.init
