"""``python -m sweeps``: the whole line, from a task's file to a comparison table in MLflow."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from sweeps.checkpoints import check_checkpoint
from sweeps.cluster import Resources, ray_session
from sweeps.connection import current_uri, shown
from sweeps.plan import print_cells, print_estimate, print_plan
from sweeps.progress import SweepProgress
from sweeps.recorded import BY_TRAIN
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.tracking import SweepRecord, open_sweep
from sweeps.views import view_path
from trainer.commandline import parse, run
from trainer.config import NEEDS_OWN_WEIGHTS
from trainer.data import check_data, load_dataset
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from sweeps.worker import Place


def main(arguments: Sequence[str]) -> int:
    """Runs a sweep and prints its table; status 1 when a trial failed."""
    options = parse(
        SweepOptions,
        arguments,
        program="python -m sweeps",
        description="Compare pre-trained and new language models on a task, over a grid of settings.",
    )
    spec = options.spec()
    if options.dry_run:
        print_cells(options, spec)
        return 0
    dataset = load_dataset(options.definition, options.data_folder)
    max_length = check_cells(spec, dataset)
    # `mlflow run` names its run here; workers must not inherit it, or all trials would log to that one run.
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)

    with ray_session(options) as resources:
        from ray import tune

        from sweeps.schedule import run_cells
        from sweeps.worker import WorkerTrial, rehearse

        signal.signal(signal.SIGTERM, _interrupt)  # only now: Ray sets a handler of its own when it starts
        record = open_sweep(options, spec, dataset, run_id)
        place = _place(options, spec, record, resources)
        progress = SweepProgress(len(spec), spec.name)
        with record.closing():
            print_plan(options, spec, dataset, max_length, record)
            print_estimate(spec, dataset, record, resources, lambda: rehearse(place, spec.points()[0], resources))
            with progress:
                run_cells(spec, tune.with_parameters(WorkerTrial, place=place), resources, progress)
    print_table(record)
    return 1 if progress.failed else 0


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


def _place(options: SweepOptions, spec: SweepSpec, record: SweepRecord, resources: Resources) -> "Place":
    from sweeps.worker import Place

    return Place(
        base=dict(spec.base),
        record=record,
        data_dir=options.data_folder,
        model_folder=options.model_folder,
        num_threads=resources.cpus,
        home=Path.cwd(),
        save_model=options.save_model,
        scores_train=options.select_by == BY_TRAIN,
    )


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def print_table(record: SweepRecord) -> None:
    """Prints and logs the comparison table, made by ``analysis`` from the tracking store alone."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": record.tracking_uri}
    print(flush=True)
    command = [sys.executable, "-m", "analysis", "--sweep", record.run_id, "--output", "none"]
    command += ["--allow-missing", "true"]  # the sweep's own status says whether a trial failed
    subprocess.run(command, env=environment, check=False)
    uri = shown(record.tracking_uri)
    path = view_path(record.experiment_id, record.run_id)
    if uri.startswith("http"):
        print(f"\nto compare the runs in a browser: {uri.rstrip('/')}{path}")
    else:
        print(f"\nto compare the runs in a browser: mlflow ui --backend-store-uri {uri}")
        print(f"then open http://127.0.0.1:5000{path}")


if __name__ == "__main__":
    run(main)
