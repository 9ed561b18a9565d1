"""What a sweep says before it starts: its cells, its data, and about how long it will take."""

import math
import statistics
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sweeps import recorded
from sweeps.cluster import Resources
from sweeps.connection import client, shown
from sweeps.progress import duration
from sweeps.provenance import without_secrets
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.tracking import SweepRecord
from trainer.config import TRAINING_COST, TrialConfig, epochs_per_evaluation
from trainer.cost import training_flops
from trainer.data import check_data, training_part
from trainer.describe import describe
from trainer.encoding import NUM_SPECIAL
from trainer.errors import UserError, first_line
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIN_REHEARSED = 12  # cells; a smaller sweep's first trial tells as much as soon
MIN_FLOPS = {"cpu": 2e13, "gpu": 2e16}  # of trials side by side: a few minutes; less is done before it is rehearsed
LAST_TRIALS = 20  # that an estimate looks back at


def print_cells(options: SweepOptions, spec: SweepSpec) -> None:
    """The cells of a dry run, a line each; a pipe gets every column in full."""
    print(f"{options.title()}: {spec.sizes}")
    settings = [config.settings() for config in spec.cells.values()]
    names = [name for name in spec.axes if any(name in row for row in settings)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", justify="right")
    for name in names:
        table.add_column(name.replace("_", " "))
    for number, row in enumerate(settings, start=1):
        values = (row.get(name, "-") for name in names)
        table.add_row(str(number), *(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def print_plan(options: SweepOptions, spec: SweepSpec, dataset: Dataset, max_length: int, record: SweepRecord) -> None:
    """Says what is about to run, on which data, and where it is recorded; of a user's own data, what was understood."""
    first = next(iter(spec.cells.values()))
    num_train = len(training_part(dataset, first).train)
    note = f" ({dataset.note})" if dataset.note else ""
    print(f"{options.title()}: {spec.sizes}")
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


def print_estimate(
    cells: "Sequence[TrialConfig]",
    dataset: Dataset,
    record: SweepRecord,
    resources: Resources,
    rehearse: "Callable[[], float]",
) -> None:
    """Says about how long the sweep will train, from the speed of earlier trials or of a rehearsal.

    Args:
        cells: what is left to be run.
        rehearse: trains a few steps of the first cell where a trial would, and returns examples per second; not asked
            where that would take longer than it is worth.
    """
    first = cells[0]
    if "num_epochs" not in first.settings():
        return  # not trained in steps: done in seconds
    speeds = earlier_speeds(first, record)
    source = f"{len(speeds)} earlier trial{'s' * (len(speeds) > 1)}"
    if not speeds and len(cells) >= MIN_REHEARSED and not is_short(cells, dataset, resources):
        source = "a rehearsal of one cell"
        try:
            speeds = [rehearse()]
        except Exception as error:  # whatever it is, the first trial will meet it, be recorded as failed and say so
            reason = without_secrets(first_line(getattr(error, "cause", error)))
            print(f"estimate: none, the rehearsal failed ({reason})", flush=True)
            return
    if not speeds:
        print("estimate: none yet, the first trial that finishes gives one", flush=True)
        return
    speed = statistics.median(speeds)
    seconds = sum(num_examples(config, dataset) for config in cells) / speed
    side_by_side = min(resources.num_side_by_side, len(cells))
    share = seconds * resources.gpus / 3600
    hours = f"{share:.2g} GPU-hours" if resources.gpus else f"{seconds * resources.cpus / 3600:.2g} CPU-hours"
    never_stops = first.definition.checkpoint == "final" and first.stop_at_loss is None
    stops = "" if never_stops else ", less where trials stop early"
    print(
        f"estimate: about {duration(seconds / side_by_side)} of training with {side_by_side} trials side by side, "
        f"{hours}{stops} ({speed:.3g} examples/s in {source})",
        flush=True,
    )


def is_short(cells: "Sequence[TrialConfig]", dataset: Dataset, resources: Resources) -> bool:
    """Whether all trials are done in a few minutes, as far as the sizes of model and data tell."""
    first = cells[0]
    try:
        folder, max_length = check_data(first, dataset, needs_weights=False)
    except UserError:
        folder = None  # whoever needs the model will say so
    if folder is None:
        return False
    characters = statistics.mean(map(len, dataset.train.sequences)) + NUM_SPECIAL
    tokens = sum(num_examples(config, dataset) for config in cells) * min(characters, max_length)
    least = MIN_FLOPS["gpu" if resources.gpus else "cpu"]
    flops = training_flops(folder, tokens)
    return flops is not None and flops / resources.num_side_by_side < least


def num_examples(config: TrialConfig, dataset: Dataset) -> float:
    """What a trial costs if it is not stopped early, in examples trained on."""
    num_train = len(training_part(dataset, config).train)
    num_epochs = config.num_epochs or config.definition.num_epochs
    num_evaluations = math.ceil(num_epochs / epochs_per_evaluation(config, num_train, len(dataset.valid)))
    return num_epochs * num_train + (num_evaluations * len(dataset.valid) + len(dataset.test)) / TRAINING_COST


def earlier_speeds(config: TrialConfig, record: SweepRecord) -> list[float]:
    """Examples per second of the experiment's last finished trials of this task, model, batch size and length."""
    same = {"task": config.task, "model": config.model, "batch_size": str(config.batch_size)}
    conditions = [f"params.{name} = '{value}'" for name, value in same.items() if "'" not in value]
    conditions += [f"tags.`{recorded.KIND}` = 'trial'", f"tags.`{recorded.OUTCOME}` = 'finished'"]
    store = client(record.tracking_uri)
    runs = store.search_runs([record.experiment_id], " and ".join(conditions), max_results=LAST_TRIALS)
    length = config.settings().get("max_length")
    alike = [run for run in runs if run.data.params.get("max_length") == (None if length is None else str(length))]
    speeds = [run.data.metrics["examples_per_second"] for run in alike if "examples_per_second" in run.data.metrics]
    return [speed for speed in speeds if speed > 0]
