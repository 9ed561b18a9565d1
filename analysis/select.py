"""Which trials belong together, which setting is chosen, and what is missing.

A group holds the trials that may be compared: every setting but the axes of a comparison (init, optimizer, learning
rate, seed) is equal, and so is the data. In a group, each init gets the optimizer and learning rate with the best
mean valid score over seeds, or train score where that is the criterion; test scores are read after that choice.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.inits import INIT_ORDER, OF_CHECKPOINTS, place, with_corpora
from analysis.store import AXES, config_columns
from sweeps.recorded import BY_TRAIN, BY_VALID, CRITERIA
from trainer.errors import one_of

SETTING = ["optimizer", "learning_rate"]
STATES = ("finished", "diverged", "failed", "running", "missing")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An optimizer and learning rate, over the seeds that were expected of it.

    Attributes:
        optimizer, learning_rate: "" and NaN of a model that is not trained in steps.
        valid: mean valid score of the seeds that finished, as a fraction; NaN where none did.
        score: the mean by which settings are chosen: ``valid``, or that of the train scores.
        trouble: what became of the seeds that did not finish, e.g. ``1 missing, 2 diverged``.
    """

    optimizer: str
    learning_rate: float
    expected: int
    finished: int
    valid: float
    score: float
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """A finished trial at the chosen setting; scores as fractions, NaN where not logged."""

    run_id: str
    seed: int
    valid: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a group's trials say about one init.

    Attributes:
        by: the score by which its setting was chosen, one of CRITERIA.
        config: the settings that the group shares; None stands for "all" or not recorded.
        data_note, data_digest: what the trials say of their data, and its identity.
        counts: state -> number of cells, for every one of STATES.
        unfinished: state -> the cells in it as ``adam 1e-05 seed 0``, for every state but finished.
        settings: how many settings were expected, chosen or not.
        considered: how many of them the choice was among.
        tried: all settings, by optimizer and learning rate, whether or not a seed of theirs finished.
        chosen: None while no trial has finished.
        runs: the trials that finished at the chosen setting, by seed.
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
    tried: tuple[Setting, ...]
    chosen: Setting | None
    runs: tuple[SeedRun, ...]
    by: str = BY_VALID

    @property
    def seeds(self) -> str:
        """``2/3``: finished of expected seeds at the chosen setting; while there is none, of the one with the most."""
        chosen = self.chosen
        most = max((setting.expected for setting in self.tried), default=0)
        return f"{chosen.finished}/{chosen.expected}" if chosen else f"0/{most}"

    @property
    def test_scores(self) -> tuple[float, ...]:
        """Test score of every seed that finished at the chosen setting, as fractions."""
        return tuple(run.test for run in self.runs)


def select(trials: pd.DataFrame, expected: pd.DataFrame, by: str | None = None) -> list[Selection]:
    """One Selection for every group and init, in the order of task, model, the other settings, init and checkpoint.

    Args:
        trials: as :func:`analysis.store.read_trials` returns them.
        expected: the cells that were to run, from :func:`analysis.store.expected_cells`.
        by: the score whose mean chooses a setting, ``valid/score`` or ``train/score``; never a test score. None: the
            one that a group's sweeps name, see :func:`_criteria`.
    """
    if by is not None:
        one_of("select_by", by, CRITERIA)
    cells = cells_with_state(trials, expected, by)
    keys = [*_group_columns(cells), "data_digest", "init"]
    parts = cells.groupby(keys, dropna=False, sort=False)
    selections = [_select_one(part) for _, part in parts]
    return sorted(selections, key=_place)


def cells_with_state(trials: pd.DataFrame, expected: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """One row a cell, with its ``state`` and the criterion of its group, out of all runs and all expected cells.

    Cells are the same when all params and the data are. Of several runs, the newest counts that finished or
    diverged, if there is one with the score that the choice is by, else the newest. A trial that ended before it
    recorded its params has no cell; the cell that it was to be counts as missing.
    """
    trials, expected = with_corpora(trials, expected)
    settled = trials["outcome"].isin(["finished", "diverged"])
    lost = (trials["outcome"] == "finished") & trials["valid/score"].isna()
    state = trials["outcome"].where(settled & ~lost, "failed")
    state = state.mask(~settled & trials["status"].isin(["RUNNING", "SCHEDULED"]), "running")
    rank = 1 + (settled & ~lost).astype(int)
    runs = trials.assign(state=state, rank=rank)[trials[["init", "seed"]].notna().all(axis=1)]
    records = pd.concat([expected.assign(state="missing", rank=0), runs], ignore_index=True)
    of_group = [*_group_columns(records), "data_digest"]
    group = records.groupby(of_group, dropna=False, sort=False).ngroup()
    criteria = _criteria(records.assign(group=group)[records["rank"] == 0])
    records["select_by"] = [by or criteria.get(number, BY_VALID) for number in group]
    records["has_score"] = records[BY_TRAIN].notna().where(records["select_by"] == BY_TRAIN, records[BY_VALID].notna())
    order = ["rank", "has_score", "start_time", "run_id"]
    return records.sort_values(order).drop_duplicates([*of_group, *AXES], keep="last")


def _criteria(expected: pd.DataFrame) -> dict[int, str]:
    """Group -> the score by which its sweeps choose: those that laid out several settings, else any of them.

    The valid score where they do not agree: all inits of a group are chosen by the same score.
    """
    criteria = {}
    for group, part in expected.drop_duplicates(["group", "sweep", *SETTING]).groupby("group"):
        sweeps = part.groupby("sweep")["select_by"].agg(["size", "first"])
        named = {*sweeps.loc[sweeps["size"] > 1, "first"]} or {*sweeps["first"]}
        criteria[int(str(group))] = str(named.pop()) if len(named) == 1 else BY_VALID
    return criteria


def _group_columns(frame: pd.DataFrame) -> list[str]:
    """The settings that all trials of a group share."""
    return [name for name in config_columns(frame) if name not in AXES]


class _Cell(NamedTuple):
    """A cell of one group and init; scores are NaN where not logged."""

    optimizer: str  # "" of a model that is not trained in steps; its learning rate is NaN
    learning_rate: float
    seed: int
    state: str
    run_id: str
    valid: float
    train: float
    test: float

    def score(self, by: str) -> float:
        return self.train if by == BY_TRAIN else self.valid

    def is_at(self, setting: Setting) -> bool:
        same_rate = math.isnan(self.learning_rate) or self.learning_rate == setting.learning_rate
        return self.optimizer == setting.optimizer and same_rate

    @property
    def place(self) -> tuple[Any, ...]:
        """Where it stands among others; what is missing comes last."""
        is_number, has_seed = not math.isnan(self.learning_rate), not pd.isna(self.seed)
        setting = (not self.optimizer, self.optimizer, not is_number, self.learning_rate if is_number else 0)
        return (*setting, not has_seed, self.seed if has_seed else 0)

    @property
    def name(self) -> str:
        """``adam 1e-05 seed 0``"""
        return f"{self.optimizer} {self.learning_rate:g} seed {self.seed}" if self.optimizer else f"seed {self.seed}"


def _cells_of(frame: pd.DataFrame) -> list[_Cell]:
    """The rows of a frame as plain values, in their place: thousands of small sums are slow in pandas."""
    names = ("learning_rate", "seed", "state", "run_id", BY_VALID, BY_TRAIN, "test/score")
    columns = [frame["optimizer"].fillna("").tolist(), *(frame[name].tolist() for name in names)]
    return sorted(itertools.starmap(_Cell, zip(*columns, strict=True)), key=lambda cell: cell.place)


def _select_one(frame: pd.DataFrame) -> Selection:
    """Chooses among the cells of one group and init."""
    first, cells = frame.iloc[-1], _cells_of(frame)
    by = str(first["select_by"])
    settings = _settings(cells, by)
    considered = eligible(settings)
    chosen = best(considered)
    names = {state: tuple(cell.name for cell in cells if cell.state == state) for state in STATES}
    return Selection(
        config={name: None if pd.isna(first[name]) else first[name] for name in _group_columns(frame)},
        data_note=first["data_note"],
        data_digest=first["data_digest"],
        metric=first["metric"],
        init=first["init"],
        by=by,
        counts={state: len(of_state) for state, of_state in names.items()},
        unfinished={state: of_state for state, of_state in names.items() if state != "finished"},
        settings=len(settings),
        considered=len(considered),
        tried=tuple(settings),
        chosen=chosen,
        runs=() if chosen is None else _runs_at(cells, chosen, by),
    )


def _settings(cells: Sequence[_Cell], by: str) -> list[Setting]:
    """The settings of some cells, which stand in their place; no test score comes in here."""
    settings = []
    for _, group in itertools.groupby(cells, key=lambda cell: cell.place[:4]):
        seeds = list(group)
        finished = [cell for cell in seeds if cell.state == "finished"]
        scores = [cell.score(by) for cell in finished]
        states = Counter(cell.state for cell in seeds)
        setting = Setting(
            optimizer=seeds[0].optimizer,
            learning_rate=seeds[0].learning_rate,
            expected=len(seeds),
            finished=sum(not math.isnan(score) for score in scores),
            valid=_mean([cell.valid for cell in finished]),
            score=_mean(scores),
            trouble=trouble({state: states[state] for state in STATES}),
        )
        settings.append(setting)
    return settings


def _mean(scores: Sequence[float]) -> float:
    """Of those that are logged; NaN where none is."""
    logged = [score for score in scores if not math.isnan(score)]
    with np.errstate(all="ignore"):  # of scores that no trial can have
        return float(np.mean(logged)) if logged else math.nan


def trouble(counts: Mapping[str, int]) -> str:
    """``1 missing, 2 diverged``; empty where every expected cell finished."""
    return ", ".join(f"{counts[state]} {state}" for state in reversed(STATES[1:]) if counts[state])


def _runs_at(cells: Iterable[_Cell], setting: Setting, by: str) -> tuple[SeedRun, ...]:
    """The finished trials at a setting with the score that it was chosen by, in the order of seeds."""
    finished = [cell for cell in cells if cell.state == "finished" and not math.isnan(cell.score(by))]
    return tuple(
        SeedRun(run_id=cell.run_id, seed=cell.seed, valid=cell.valid, test=cell.test)
        for cell in sorted(finished, key=lambda cell: cell.seed)
        if cell.is_at(setting)
    )


def eligible(settings: list[Setting]) -> list[Setting]:
    """The settings whose means may be compared: the ones with the most finished seeds, and of these those with every
    expected seed finished, if any. A mean over the survivors of a setting never beats a whole one of as many seeds.
    """
    most = max((setting.finished for setting in settings), default=0)
    pool = [setting for setting in settings if setting.finished == most > 0]
    return [setting for setting in pool if setting.finished == setting.expected] or pool


def best(settings: list[Setting]) -> Setting | None:
    """The best mean score; of equal ones the smaller learning rate, then the first optimizer by name."""
    return min(settings, key=lambda setting: (-setting.score, setting.learning_rate, setting.optimizer), default=None)


def _place(selection: Selection) -> tuple[Any, ...]:
    """Where a selection stands in a table."""
    settings = tuple(
        (value is None, str(type(value)), value or 0)
        for name, value in selection.config.items()
        if name not in OF_CHECKPOINTS
    )
    known = selection.init in INIT_ORDER
    position = INIT_ORDER.index(selection.init) if known else len(INIT_ORDER)
    return settings, selection.data_digest, position, selection.init, place(selection.config)
