"""Small sweeps for tests, written into a real tracking store as ``sweeps`` would record them, and read again."""

import io
import json
from collections.abc import Mapping
from itertools import count, product
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from rich.console import Console

from analysis.render import print_comparison
from analysis.select import Selection, select
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

Scores = tuple[float, float]  # valid, test


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
    ) -> None:
        self.client, self.experiment, self.base = MlflowClient(), experiment, base
        self.axes: dict[str, tuple[Any, ...]] = {
            "seed": tuple(range(seeds)),
            "optimizer": optimizers,
            "learning_rate": learning_rates,
            "init": inits,
        }
        self.facts = {recorded.METRIC: metric, recorded.DATA_NOTE: note, recorded.DATA_DIGEST: digest}
        grid = {recorded.AXES: json.dumps(self.axes), recorded.BASE: json.dumps(dict(base))}
        tags = {**self.facts, **grid, recorded.KIND: "sweep"}
        self.run_id = self.client.create_run(experiment, start_time=next(START), tags=tags).info.run_id

    def trial(self, outcome: str, scores: Scores | None = None, **point: Any) -> str:
        """One trial at a point of the grid (the first one, but for what is given); returns its run id."""
        config = {**self.base, **{name: values[0] for name, values in self.axes.items()}, **point}
        tags = {**self.facts, recorded.KIND: "trial", recorded.PARENT: self.run_id, recorded.CELL: repr(config)}
        run_id = self.client.create_run(self.experiment, start_time=next(START), tags=tags).info.run_id
        texts = {
            name: "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in config.items()
        }
        names = ("valid/score", "test/score")
        metrics = [Metric(name, value, 0, 100) for name, value in zip(names, scores or (), strict=False)]
        self.client.log_batch(run_id, metrics, [Param(*param) for param in texts.items()])
        if outcome != "running":
            self.client.set_tag(run_id, recorded.OUTCOME, outcome)
            self.client.set_terminated(run_id, "FAILED" if outcome == "failed" else "FINISHED")
        return run_id

    def all_trials(self, scores: Scores) -> None:
        """Every cell of the grid, finished; each seed above 0 scores one point more on test."""
        for values in product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            self.trial("finished", (scores[0], scores[1] + 0.01 * point["seed"]), **point)


def selections(experiment: str, sweep: str | None = None) -> list[Selection]:
    client = MlflowClient()
    expected = expected_cells(read_sweeps(client, [experiment], sweep))
    return select(read_trials(client, [experiment], sweep), expected)


def selection(experiment: str) -> Selection:
    (only,) = selections(experiment)
    return only


def comparison(experiment: str) -> Comparison:
    return compare(selections(experiment))


def printed(table: Comparison, *, terminal: bool, width: int) -> str:
    file = io.StringIO()
    print_comparison(table, Console(file=file, force_terminal=terminal, width=width, color_system=None, markup=False))
    return file.getvalue()
