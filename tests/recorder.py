"""Small sweeps for tests, written into a real tracking store as ``sweeps`` would record them, and read again."""

import io
from collections.abc import Mapping, Sequence
from itertools import count, product
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from rich.console import Console

from analysis.layouts import parse_layout
from analysis.listing import print_comparison
from analysis.report import Report, build
from analysis.select import Selection, select
from analysis.sheet import Sheet
from analysis.store import expected_cells, read_sweeps, read_trials
from analysis.tables import Comparison, compare
from sweeps import recorded

BASE: dict[str, Any] = {
    "task": "h4",
    "model": "/models/all-MiniLM-L6-v2",
    "mapping": "random",
    "batch_size": 32,
    "num_epochs": 20,
    "patience": 3,
    "max_train_examples": None,
}
START = count(1_700_000_000_000, 1000)  # ms; runs start a second apart, in the order in which tests write them


def text_of(value: object) -> str:
    """A param as a trial records it."""
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def checkpoint_params(address: str, step: int | None) -> dict[str, Any]:
    """The params of a trial that begins from a checkpoint."""
    return {"checkpoint": address} | ({} if step is None else {"checkpoint_step": step})


Scores = tuple[float, ...]  # valid, test, and train where it plays a part


class Recorder:
    """Writes a sweep and its trials into an experiment."""

    def __init__(
        self,
        experiment: str,
        *,
        base: Mapping[str, Any] = BASE,
        inits: tuple[str, ...] = ("pretrained",),
        optimizers: tuple[str, ...] = ("adam",),
        learning_rates: tuple[float, ...] = (1e-5,),
        seeds: int = 1,
        note: str = "",
        digest: str = "0123456789abcdef",
        metric: str = "accuracy",
        select_by: str | None = None,
        checkpoints: Sequence[tuple[str, int | None]] = (),
        corpora: Mapping[str, str] | None = None,
    ) -> None:
        """Of a model that is not trained in steps, optimizers and learning rates are ``()``.

        Args:
            checkpoints: from which trials of init ``checkpoint`` begin: address and step.
            corpora: address -> what its trials record as its corpus; nothing where it is not in here.
        """
        self.client, self.experiment, self.base = MlflowClient(), experiment, base
        axes = {
            "seed": tuple(range(seeds)),
            "optimizer": optimizers,
            "learning_rate": learning_rates,
            "init": inits,
        }
        self.axes: dict[str, tuple[Any, ...]] = {name: values for name, values in axes.items() if values}
        self.facts = {recorded.METRIC: metric, recorded.DATA_NOTE: note, recorded.DATA_DIGEST: digest}
        tags = {**self.facts, recorded.KIND: "sweep", **({recorded.SELECT_BY: select_by} if select_by else {})}
        self.run_id = self.client.create_run(experiment, start_time=next(START), tags=tags).info.run_id
        self.checkpoints, self.corpora = checkpoints, corpora or {}
        cells = [{name: text_of(value) for name, value in point.items()} for point in self.points()]
        shared = {name: text_of(value) for name, value in base.items()}
        self.client.log_dict(self.run_id, {"shared": shared, "cells": cells}, recorded.CELLS)

    def points(self) -> list[dict[str, Any]]:
        """The grid; of init ``checkpoint`` a point for each checkpoint."""
        points = []
        for values in product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            of_init = self.checkpoints if point["init"] == "checkpoint" else ()
            points += [{**point, **checkpoint_params(*checkpoint)} for checkpoint in of_init] or [point]
        return points

    def trial(self, outcome: str, scores: Scores | None = None, **point: Any) -> str:
        """One trial at a point of the grid (the first one, but for what is given); returns its run id."""
        config = {**self.base, **{name: values[0] for name, values in self.axes.items()}, **point}
        tags = {**self.facts, recorded.KIND: "trial", recorded.PARENT: self.run_id, recorded.CELL: repr(config)}
        tags[recorded.MEMBER + self.run_id] = "true"
        if corpus := self.corpora.get(config.get("checkpoint", "")):
            tags[recorded.CORPUS] = corpus
        run_id = self.client.create_run(self.experiment, start_time=next(START), tags=tags).info.run_id
        texts = {name: text_of(value) for name, value in config.items()}
        names = ("valid/score", "test/score", "train/score")
        metrics = [Metric(name, value, 0, 100) for name, value in zip(names, scores or (), strict=False)]
        self.client.log_batch(run_id, metrics, [Param(*param) for param in texts.items()])
        if outcome != "running":
            self.client.set_tag(run_id, recorded.OUTCOME, outcome)
            self.client.set_terminated(run_id, "FAILED" if outcome == "failed" else "FINISHED")
        return run_id

    def scored(self, tests: Mapping[str, Sequence[float]]) -> None:
        """A trial for each init and seed with the test score given, at the first setting; valid is 0.01 below."""
        for init, scores in tests.items():
            for seed, score in enumerate(scores):
                self.trial("finished", (score - 0.01, score), init=init, seed=seed)

    def all_trials(self, scores: Scores) -> None:
        """Every cell of the grid, finished; each seed above 0 scores one point more on test."""
        for point in self.points():
            self.trial("finished", (scores[0], scores[1] + 0.01 * point["seed"]), **point)


def selections(experiment: str, sweep: str | None = None) -> list[Selection]:
    client = MlflowClient()
    expected = expected_cells(read_sweeps(client, [experiment], sweep))
    return select(read_trials(client, [experiment], sweep), expected)


def predicted(run_id: str, labels: Sequence[int], classes: Sequence[int]) -> None:
    """Logs a run's test predictions, class for class, as a trial does."""
    rows = [
        f"{place},{label},{found},{1 - found},{found}"
        for place, (label, found) in enumerate(zip(labels, classes, strict=True))
    ]
    text = "\n".join(["example,label,prediction,probability_0,probability_1", *rows, ""])
    MlflowClient().log_text(run_id, text, "predictions/test.csv")


def selection(experiment: str) -> Selection:
    (only,) = selections(experiment)
    return only


def comparison(experiment: str) -> Comparison:
    return compare(selections(experiment))


def report(experiment: str, layout: str, *, tasks: Sequence[str] | None = None, select_by: str | None = None) -> Report:
    """What ``compare`` makes of an experiment."""
    client = MlflowClient()
    trials, expected = read_trials(client, [experiment]), expected_cells(read_sweeps(client, [experiment]))
    return build(client, trials, expected, layout=parse_layout(layout), tasks=tasks, select_by=select_by)


def cell(sheet: Sheet, column: str, **words: str) -> dict[str, str]:
    """The lines of a grid's cell by their names, in the only row with these words."""
    (row,) = [row for row in sheet.rows if words.items() <= row.items()]
    return dict(zip(row["what"].split("\n"), row[column].split("\n"), strict=True))


def printed(table: Comparison, *, terminal: bool, width: int) -> str:
    file = io.StringIO()
    print_comparison(table, Console(file=file, force_terminal=terminal, width=width, color_system=None, markup=False))
    return file.getvalue()
