"""Counts what a sweep has lost, doubled or left behind, against the same sweep undisturbed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Point = tuple[int, float]  # step, value
OPEN = ("RUNNING", "SCHEDULED")
MEMBER = "polymath.sweep."  # tag: followed by a sweep's run id, on the trials that it counts as its own


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a cell's run holds.

    Attributes:
        metrics: name -> its history.
        files: artifact -> content.
    """

    params: Mapping[str, str]
    metrics: Mapping[str, tuple[Point, ...]]
    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What must be the same in both sweeps.

    Attributes:
        cell_of: names the cell that a run is of; empty for a run that is no trial's.
        is_metric: whether a metric is decided by the cell, as no clock is.
        is_param: the same of a param.
        files: artifacts.
    """

    cell_of: Callable[["Run"], str]
    is_metric: Callable[[str], bool]
    is_param: Callable[[str], bool] = lambda name: True
    files: Sequence[str] = ()


@dataclass(kw_only=True)
class Losses:
    """What a sweep cost; all zero when the promise was kept."""

    cells_lost: int = 0
    runs_doubled: int = 0
    runs_left_open: int = 0
    points_lost: int = 0
    points_repeated: int = 0
    points_changed: int = 0
    others_changed: int = 0

    def __add__(self, other: "Losses") -> "Losses":
        return Losses(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def total(self) -> int:
        """All of them together."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __bool__(self) -> bool:
        return self.total() > 0

    def __str__(self) -> str:
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "nothing"


def runs_of(store: "MlflowClient", experiment: str) -> "list[Run]":
    """All runs of an experiment that are not deleted; none where there is no such experiment."""
    found = store.get_experiment_by_name(experiment)
    return list(store.search_runs([found.experiment_id], max_results=1000)) if found else []


def finished(runs: "Sequence[Run]", kept: Kept) -> "dict[str, list[Run]]":
    """The FINISHED runs of every cell that has any, oldest first."""
    cells = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.info.start_time):
        if (cell := kept.cell_of(run)) and run.info.status == "FINISHED":
            cells[cell].append(run)
    return dict(cells)


def read_cells(store: "MlflowClient", experiment: str, kept: Kept) -> dict[str, Recorded]:
    """Every cell's record, of a sweep that nothing disturbed."""
    runs = finished(runs_of(store, experiment), kept)
    return {cell: read_run(store, run, kept) for cell, (run,) in runs.items()}


def read_run(store: "MlflowClient", run: "Run", kept: Kept) -> Recorded:
    """A run's record, all that the cell decides of it."""
    run_id = run.info.run_id
    names = sorted(filter(kept.is_metric, run.data.metrics))
    histories = {name: store.get_metric_history(run_id, name) for name in names}
    return Recorded(
        params={name: value for name, value in run.data.params.items() if kept.is_param(name)},
        metrics={name: tuple((one.step, one.value) for one in history) for name, history in histories.items()},
        files=dict(_files(store, run_id, kept.files)),
    )


def _files(store: "MlflowClient", run_id: str, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        folder, _, _ = name.rpartition("/")
        if name not in {entry.path for entry in store.list_artifacts(run_id, folder or None)}:
            continue
        with TemporaryDirectory() as temporary:
            yield name, Path(store.download_artifacts(run_id, name, temporary)).read_bytes()


def count_losses(store: "MlflowClient", experiment: str, reference: Mapping[str, Recorded], kept: Kept) -> Losses:
    """Holds a sweep against the same one undisturbed."""
    runs = runs_of(store, experiment)
    losses = Losses(runs_left_open=sum(run.info.status in OPEN for run in runs))
    cells = finished(runs, kept)
    losses.cells_lost = len(reference.keys() - cells.keys())
    losses.runs_doubled = sum(len(found) - 1 for found in cells.values())
    losses.others_changed = len(cells.keys() - reference.keys())
    for cell in cells.keys() & reference.keys():
        found = [compare(read_run(store, run, kept), reference[cell]) for run in cells[cell]]
        losses += min(found, key=Losses.total)  # of several runs, a user may find the best one
    return losses


def compare(found: Recorded, expected: Recorded) -> Losses:
    """Holds one run against the run of the same cell in the undisturbed sweep."""
    losses = Losses(others_changed=(found.params != expected.params) + (found.files != expected.files))
    for name in found.metrics.keys() | expected.metrics.keys():
        here, there = found.metrics.get(name, ()), expected.metrics.get(name, ())
        steps_here, steps_there = Counter(step for step, _ in here), Counter(step for step, _ in there)
        losses.points_lost += (steps_there - steps_here).total()
        losses.points_repeated += (steps_here - steps_there).total()
        if steps_here == steps_there:  # then each value has its counterpart, or the order is another
            losses.points_changed += sum(a != b for a, b in zip(here, there, strict=True))
    return losses


def check_sweeps(store: "MlflowClient", experiment: str, kept: Kept) -> list[str]:
    """What is wrong with our sweeps' own runs: one has to have ended well, and to count every cell."""
    runs = runs_of(store, experiment)
    cells = finished(runs, kept)
    sweeps = [run.info for run in runs if run.data.tags.get("polymath.kind") == "sweep"]
    ended = [sweep for sweep in sweeps if sweep.status == "FINISHED"]
    troubles = [] if ended else ["no sweep is FINISHED"]
    for sweep in ended:
        counted = sum(MEMBER + sweep.run_id in found[-1].data.tags for found in cells.values())
        if counted != len(cells):
            troubles.append(f"a finished sweep counts {counted} cells as its own")
    return troubles


def check_folders(folder: Path) -> list[str]:
    """What our sweep has left in a round's folder: no state of a trial and no journal may stay there."""
    homes = [folder / "states", folder / "cache/unfinished", folder / "cache/journals"]
    left = [path.relative_to(folder) for home in homes for path in home.rglob("*") if path.is_file()]
    return [f"left behind: {', '.join(map(str, left))}"] if left else []
