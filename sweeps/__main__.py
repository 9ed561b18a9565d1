"""``python -m sweeps``: the whole line, from a task's file to a comparison table in MLflow."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from math import prod
from types import FrameType
from typing import NoReturn

from sweeps.cluster import ray_session
from sweeps.connection import shown
from sweeps.progress import SweepProgress
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.tracking import SweepRecord, open_sweep
from sweeps.views import view_path
from trainer.commandline import parse, run
from trainer.data import check_mapping, load_dataset, usable_length
from trainer.describe import describe
from trainer.models import find_model
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset


def main(arguments: Sequence[str]) -> int:
    """Runs a sweep and prints its table; status 1 when a trial failed."""
    options = parse(
        SweepOptions,
        arguments,
        program="python -m sweeps",
        description="Compare pre-trained and new language models on a task, over a grid of settings.",
    )
    spec = SweepSpec(base=options.base(), axes=options.axes())
    dataset = load_dataset(options.definition, options.data_folder)
    folder = find_model(options.model, needs_weights=options.inits != ("scratch",))
    max_length = usable_length(options, folder)
    check_mapping(options, dataset, folder)
    # `mlflow run` names its run here; workers must not inherit it, or all trials would log to that one run.
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)

    with ray_session(options) as resources:
        from ray import tune

        from sweeps.schedule import run_cells
        from sweeps.worker import Place, WorkerTrial

        signal.signal(signal.SIGTERM, _interrupt)  # only now: Ray sets a handler of its own when it starts
        record = open_sweep(options, spec, dataset, run_id)
        print_plan(options, spec, dataset, max_length, record)
        place = Place(
            base=spec.base,
            record=record,
            data_dir=options.data_folder,
            model_folder=options.model_folder,
            num_threads=resources.cpus,
            save_model=options.save_model,
        )
        progress = SweepProgress(len(spec.points()))
        with record.closing(), progress:
            run_cells(spec, tune.with_parameters(WorkerTrial, place=place), resources, progress)
    print_table(record)
    return 1 if progress.failed else 0


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def print_plan(options: SweepOptions, spec: SweepSpec, dataset: Dataset, max_length: int, record: SweepRecord) -> None:
    """Says what is about to run, on which data, and where it is recorded; of a user's own data, what was understood."""
    sizes = " x ".join(f"{len(values)} {name}{'s' * (len(values) > 1)}" for name, values in spec.axes.items())
    num_train = min(len(dataset.train), options.max_train_examples or len(dataset.train))
    note = f" ({dataset.note})" if dataset.note else ""
    print(f"{options.title()}: {prod(map(len, spec.axes.values()))} trials = {sizes}")
    if options.task in TASKS:
        held_out = f"{len(dataset.valid)} valid, {len(dataset.test)} test"
        if dataset.test is dataset.valid:
            held_out = f"{len(dataset.test)} dev (valid and test)"
        kinds = [f"{len(dataset.classes)} classes"] if dataset.classes else ["numbers to predict"]
        kinds += [f"{len(dataset.symbols)} symbols"] if dataset.symbols else []
        facts = [f"{value} {name.replace('_', ' ')}" for name, value in dataset.facts.items()]
        about = ", ".join([*kinds, *facts, f"digest {dataset.digest}"])
        print(f"data: {num_train} train, {held_out} examples{note}, {about}")
    else:
        print(*describe(options.definition, dataset, max_length), sep="\n")
        if num_train < len(dataset.train):
            print(f"training on {num_train} of {len(dataset.train)} examples")
    print(f"recorded in run {record.run_id} of {shown(record.tracking_uri)}", flush=True)


def print_table(record: SweepRecord) -> None:
    """Prints and logs the comparison table, made by ``analysis`` from the tracking store alone."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": record.tracking_uri}
    print(flush=True)
    command = [sys.executable, "-m", "analysis", "--sweep", record.run_id, "--output", "none"]
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
