"""Claims: that two drivers never train the same cell, with nothing but the tracking store between them.

MLflow's params are written once: of two that write a different value, one is refused. So param ``polymath.claim.N`` of
a run is a lock, held by whoever wrote it; N counts the times that the run changed hands. A cell is claimed by claiming
*every* run of it that is not over, in the order of their ids. Two that want the same new cell each make a run first and
look afterwards, so at least one of them sees the other's run and needs its lock too: only one gets all it needs.
"""

import uuid
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from sweeps import recorded
from sweeps.heartbeat import Watch, this_process
from sweeps.ledger import OPEN, CellRun, cell_runs, open_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

DOUBLE = "another run of the same cell was taken up instead"
LEFT = "its driver ended without a word"


class Taken(Exception):  # noqa: N818 - as StopIteration, it is no mistake
    """The cell belongs to another driver, or is done: what was trained here is not to be recorded."""


def claim_cell(
    store: "MlflowClient",
    experiment_id: str,
    key: str,
    *,
    driver: str,
    gone: Collection[str],
    stale: Collection[str],
    create: Callable[[], str],
) -> CellRun:
    """Makes a cell this driver's: goes on in the run that a driver which is gone has left, else in a new one.

    Args:
        driver: run id of the sweep that wants the cell.
        gone: sweeps of which it is certain that their drivers have ended.
        stale: ids of runs that are to be done again.
        create: makes the cell's run, with its key and driver as tags, and returns its id.

    Returns:
        The run, as it was before.

    Raises:
        Taken: when the cell is done, or a driver that may live has it.
    """
    may_have = {driver, *gone}
    runs, made = _candidates(store, experiment_id, key, stale), ""
    if any(run.owner not in may_have for run in runs):
        raise Taken(f"cell {key} belongs to another driver")
    if not runs:
        made = create()
        try:
            runs = _candidates(store, experiment_id, key, stale)
        except Taken:
            store.delete_run(made)
            raise
    claimant = f"{driver} {this_process()} {uuid.uuid4().hex[:12]}"
    for run in sorted(runs, key=lambda run: run.run_id):
        is_free = run.owner in may_have or not run.claims  # the latter: a rival that made its run at the same time
        if not (is_free and _write_once(store, run, claimant)):
            if made:
                store.delete_run(made)
            raise Taken(f"cell {key} belongs to another driver")
    kept = max(runs, key=lambda run: (run.run_id == made, run.is_open, len(run.claims), run.start_time, run.run_id))
    _close_doubles(store, [run for run in runs if run is not kept and run.is_open])
    return kept


def _close_doubles(store: "MlflowClient", runs: Collection[CellRun]) -> None:
    for run in runs:
        _unless_withdrawn(store, run.run_id, partial(close_run, store, run.run_id, "KILLED", DOUBLE))


def _candidates(store: "MlflowClient", experiment_id: str, key: str, stale: Collection[str]) -> list[CellRun]:
    """The runs in which a cell may be trained.

    Raises:
        Taken: when it is done.
    """
    runs = cell_runs(store, experiment_id, key)
    if any(run.is_done(stale) for run in runs):
        raise Taken(f"cell {key} is done")
    return [run for run in runs if run.can_go_on]


def close_leftovers(store: "MlflowClient", experiment_id: str, watch: Watch) -> int:
    """Ends the runs that drivers which are gone have left open, their sweeps' and their trials'; returns how many."""
    sweeps = [run.info.run_id for run in open_runs(store, experiment_id, "sweep")]
    trials = [run for run in map(CellRun.read, open_runs(store, experiment_id, "trial")) if run.owner]
    gone = watch.gone([*sweeps, *(run.owner for run in trials)])
    left = [
        run for run in trials if run.owner in gone and _write_once(store, run, f"{watch.own} {this_process()} closes")
    ]
    for run_id in [*(run.run_id for run in left), *gone.intersection(sweeps)]:
        _unless_withdrawn(store, run_id, partial(close_run, store, run_id, "KILLED", LEFT))
    return len(left) + len(gone.intersection(sweeps))


def close_own(store: "MlflowClient", experiment_id: str, driver: str, status: str, reason: str) -> int:
    """Ends the trials' runs that a driver has left open itself; returns how many."""
    open_ones = map(CellRun.read, open_runs(store, experiment_id, "trial"))
    own = [
        run for run in open_ones if run.owner == driver and _write_once(store, run, f"{driver} {this_process()} closes")
    ]
    for run in own:
        _unless_withdrawn(store, run.run_id, partial(close_run, store, run.run_id, status, reason))
    return len(own)


def check_claim(run: CellRun, before: CellRun, driver: str) -> None:
    """Looks whether a run that this driver claimed is still its own.

    Args:
        run: as it is now.
        before: as it was before that claim.

    Raises:
        Taken: when another has claimed it since: it took this driver for dead.
    """
    if run.owner != driver or len(run.claims) != len(before.claims) + 1:
        raise Taken(f"run {run.run_id} was taken over by another driver")


def close_run(store: "MlflowClient", run_id: str, status: str, reason: str) -> None:
    """Ends an open run that came to nothing, saying why; one that its own process ends meanwhile stays as that says."""
    if store.get_run(run_id).info.status not in OPEN:
        return
    store.set_terminated(run_id, status)
    if store.get_run(run_id).info.status == status:
        store.set_tag(run_id, recorded.OUTCOME, "failed")
        store.set_tag(run_id, recorded.FAILURE, reason)


def _write_once(store: "MlflowClient", run: CellRun, claimant: str) -> bool:
    """Whether the next claim on a run is ours, or nobody's any more since its rival withdrew it."""
    from mlflow.exceptions import MlflowException

    name = f"{recorded.CLAIM}{len(run.claims)}"
    try:
        _unless_withdrawn(store, run.run_id, lambda: store.log_param(run.run_id, name, claimant))
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        return False
    return True


def _unless_withdrawn(store: "MlflowClient", run_id: str, action: Callable[[], object]) -> None:
    """Does something with a run; when it is refused since whoever made the run has deleted it, nothing is wrong."""
    from mlflow.exceptions import MlflowException

    try:
        action()
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE" or store.get_run(run_id).info.lifecycle_stage != "deleted":
            raise
