"""``python -m sweeps``: the whole line, from a task's file to a comparison table in MLflow."""

import gc
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from sweeps.checkpoints import check_checkpoint, fetch_model
from sweeps.claims import close_leftovers
from sweeps.cluster import Resources, check_resources, credentials, no_worker_left
from sweeps.connection import answering, client, current_uri, impatient, is_new_store, users_settings
from sweeps.heartbeat import Heartbeat, Watch
from sweeps.keys import cell_keys
from sweeps.ledger import CellRun, count_in, read_ledger
from sweeps.patience import patiently
from sweeps.plan import print_cells, print_estimate, print_plan
from sweeps.progress import SweepProgress
from sweeps.recorded import BY_TRAIN
from sweeps.session import RaySession
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.storage import Storage
from sweeps.supplies import Supplies
from sweeps.table import begin_table, end_table
from sweeps.tracking import SweepRecord, find_experiment, open_sweep
from sweeps.views import view_path
from trainer.commandline import parse, run
from trainer.config import NEEDS_OWN_WEIGHTS
from trainer.data import check_data, load_dataset
from trainer.models import find_model
from trainer.rivals import RIVALS
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from sweeps.worker import Place


DESCRIPTION = "Compare pre-trained and new language models on a task, over a grid of settings."


def main(arguments: Sequence[str]) -> int:
    """Runs what is missing of a sweep and prints its table; status 1 when a trial failed."""
    options = parse(SweepOptions, arguments, program="python -m sweeps", description=DESCRIPTION)
    spec = options.spec()
    if options.dry_run:
        print_cells(options, spec)
        return 0
    dataset = load_dataset(options.definition, options.data_folder)
    fetch_model(options.model)
    storage = check_place(options, spec)
    # `mlflow run` names its run here; workers must not inherit it, or all trials would log to that one run.
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)

    with RaySession(options) as ray:
        if is_new_store():
            ray.start(len(spec))  # nothing can have been done before
        max_length = check_cells(spec, dataset)
        keys = cell_keys(options, spec, dataset, current_uri())
        ledger, stale = first_look(run_id, dataset, keys, options.rerun_diverged)
        done = {key for key, runs in ledger.items() if any(run.is_done(stale) for run in runs)}
        if len(done) < len(spec):
            ray.start(len(spec) - len(done))
        record = open_sweep(options, spec, dataset, run_id, stale)
        progress = SweepProgress(len(spec), spec.name)
        store = client(record.tracking_uri)
        with interruptible(progress), record.closing(), Heartbeat(store, record.run_id) as heartbeat:
            watch = Watch(store, heartbeat)
            _count_in(record, dataset, done, progress)
            patiently(lambda: watch.look(record.experiment_id), progress.say)
            print_plan(options, spec, dataset, max_length, record)
            if done:
                print(f"{len(done)} of {len(spec)} cells are done already", flush=True)
            if len(done) < len(spec):
                import sweeps.driver  # noqa: F401  (Tune and Optuna come in here, while Ray is starting)

                resources = ray.resources()
                place = _place(options, spec, dataset, record, storage, keys, resources)
                found = _train(spec, dataset, place, resources, progress, watch, ledger)
                _count_in(record, dataset, found - done, progress)
            patiently(lambda: close_leftovers(store, record.experiment_id, watch), progress.say)
        table = begin_table(record.tracking_uri, record.run_id)  # Ray ends meanwhile
    end_table(table, record.tracking_uri, view_path(record.experiment_id, record.run_id))
    return 1 if progress.failed else 0


def _count_in(record: SweepRecord, dataset: Dataset, keys: set[str], progress: SweepProgress) -> None:
    """Counts cells that others have done as the sweep's own."""
    store = client(record.tracking_uri)
    patiently(lambda: count_in(store, record.experiment_id, dataset.digest, keys, record.run_id), progress.say)


def _train(
    spec: SweepSpec,
    dataset: Dataset,
    place: "Place",
    resources: Resources,
    progress: SweepProgress,
    watch: Watch,
    ledger: dict[str, list[CellRun]],
) -> set[str]:
    """Runs the cells that are not done; returns the keys of those that turned out to be done by others meanwhile."""
    from sweeps.driver import Driver
    from sweeps.worker import rehearse

    driver = Driver(spec, dataset, place, resources, progress, watch, ledger)
    left = driver.left()
    cells = [place.config(driver.points[key]) for key in left]
    if cells:
        speed = partial(rehearse, place, driver.points[left[0]], resources)
        patiently(lambda: print_estimate(cells, dataset, place.record, resources, speed), progress.say)
    if not gc.isenabled():
        collect_rarely()
    with progress, no_worker_left(resources):
        return driver.run()


def collect_rarely() -> None:
    """Looks for garbage seldom from now on, and not in what is there already.

    Tune makes much that stays: to look through it often would take a tenth of its time.
    """
    gc.freeze()
    gc.set_threshold(100_000)
    gc.enable()


def check_place(options: SweepOptions, spec: SweepSpec) -> Storage | None:
    """Looks whether trials can run, find their model and keep their state; returns where, if the user has said so.

    Raises:
        UserError: when they cannot.
    """
    check_resources(options)
    for model, needs_weights in {(c.model, c.init in NEEDS_OWN_WEIGHTS) for c in spec.cells.values()}:
        if model not in RIVALS:
            find_model(model, needs_weights=needs_weights)
    storage = Storage(options.storage) if options.storage else None
    if storage:
        storage.check()
    return storage


def _place(
    options: SweepOptions,
    spec: SweepSpec,
    dataset: Dataset,
    record: SweepRecord,
    storage: Storage | None,
    keys: dict[str, str],
    resources: Resources,
) -> "Place":
    """Where the sweep's trials run and read."""
    from sweeps.worker import Place

    is_local = resources.is_shared_machine
    if not is_local and storage is None:
        print("beware: no storage is given, so a trial whose machine dies begins anew; give a folder or URI for all")
    return Place(
        base=dict(spec.base),
        record=record,
        keys=keys,
        data_digest=dataset.digest,
        supplies=Supplies.local(options) if is_local else Supplies.shipped(options, spec, dataset),
        storage=storage,
        num_threads=resources.cpus,
        gpus=resources.gpus,
        environment={**credentials(), **users_settings()},
        save_model=options.save_model,
        scores_train=options.select_by == BY_TRAIN,
    )


def first_look(
    run_id: str | None, dataset: Dataset, keys: Mapping[str, str], rerun_diverged: bool
) -> tuple[dict[str, list[CellRun]], frozenset[str]]:
    """The runs of the sweep's cells, and the ids of diverged ones whose cells are to be done again.

    It is before anything is recorded.

    Raises:
        UserError: when the tracking store does not answer.
    """
    uri = current_uri()
    with answering(uri), impatient():
        ledger = read_ledger(client(uri), find_experiment(client(uri), run_id), dataset.digest, keys.values())
    done = [run for runs in ledger.values() for run in runs if run.is_done()]
    return ledger, frozenset(run.run_id for run in done if rerun_diverged and run.outcome == "diverged")


@contextmanager
def interruptible(progress: SweepProgress) -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, and it is said how to go on."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped: {progress.settled} of {progress.num_cells} cells are done; to go on, run the same command")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def check_cells(spec: SweepSpec, dataset: Dataset) -> int:
    """Looks whether the model, the data and every mapping and checkpoint go together; returns the usable length.

    Raises:
        UserError: when they do not.
    """
    distinct = {(c.mapping, c.checkpoint, c.checkpoint_step, c.init, c.max_length): c for c in spec.cells.values()}
    lengths = []
    for config in distinct.values():
        _, length = check_data(config, dataset, needs_weights=config.init in NEEDS_OWN_WEIGHTS)
        check_checkpoint(config, current_uri())
        lengths.append(length)
    return max(lengths)


if __name__ == "__main__":
    gc.disable()  # until the trials run: what is imported and opened before is no garbage
    run(main)
