"""``python -m analysis``: the comparison table of what the tracking store holds."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commandline import parse, run, setting
from trainer.errors import UserError, one_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from analysis.tables import Comparison


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The parameters of ``mlflow run . -e compare`` and of ``python -m analysis``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    tasks: tuple[str, ...] | None = setting(None, help="which tasks, comma-separated", none="all")
    sweep: str | None = setting(None, help="run id of one sweep, whichever experiment it is in", none="all")
    experiment: str | None = setting(
        None,
        help="name of the experiment to read; auto: MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else all of them",
    )
    output: str | None = setting(
        "tables", help="folder for compare.md, compare.csv and compare.tex; none: log them only", none="none"
    )

    def __post_init__(self) -> None:
        if self.tasks == ():
            raise UserError("tasks: none given; give names, comma-separated, or 'all'")
        if self.output and Path(self.output).exists() and not Path(self.output).is_dir():
            raise UserError(f"output: {self.output!r} is not a folder; give one, it is made where there is none")


def main(arguments: Sequence[str]) -> int:
    """Prints the table, writes it in three formats and logs those; status 1 when a cell is missing or failed."""
    options = parse(
        CompareOptions,
        arguments,
        program="python -m analysis",
        description="Build the comparison table from the runs in the tracking store (MLFLOW_TRACKING_URI).",
    )
    # Imported late: MLflow and pandas take seconds, a mistake on the command line should not.
    from analysis.render import print_comparison
    from sweeps.connection import answering, open_existing_store

    client = open_existing_store()
    with answering(client.tracking_uri):
        comparison, home = _read(client, options)
    print_comparison(comparison)
    with tempfile.TemporaryDirectory(prefix="polymath-") as nowhere:
        paths = write(comparison, Path(options.output or nowhere))
        with answering(client.tracking_uri):
            run_id = log(client, paths, options.sweep or os.environ.get("MLFLOW_RUN_ID"), home)
    written = f"; written to {', '.join(str(path) for path in paths)}" if options.output else ""
    print(f"\nlogged to run {run_id} under tables/{written}")
    return 1 if comparison.incomplete else 0


def _read(client: "MlflowClient", options: CompareOptions) -> "tuple[Comparison, str]":
    """Reads and compares; also returns the id of the newest trial's experiment.

    Raises:
        UserError: for an unknown run, experiment or task, or where there are no trials.
    """
    from analysis.select import select
    from analysis.store import expected_cells, find_run, read_sweeps, read_trials
    from analysis.tables import compare

    if not options.sweep and os.environ.get("MLFLOW_RUN_ID"):
        find_run(client, "MLFLOW_RUN_ID", os.environ["MLFLOW_RUN_ID"])
    experiment_ids, where = _experiments(client, options)
    trials = read_trials(client, experiment_ids, options.sweep)
    expected = expected_cells(read_sweeps(client, experiment_ids, options.sweep))
    if trials.empty:
        raise UserError(f"there are no trials in {where}; run a sweep first: mlflow run . -e sweep -P task=h4")
    names = sorted({*trials["task"].dropna(), *expected["task"].dropna()})
    wanted = [one_of("tasks", task, names) for task in options.tasks or names]
    selections = select(trials[trials["task"].isin(wanted)], expected[expected["task"].isin(wanted)])
    return compare(selections), str(trials["experiment_id"].iloc[0])


def _experiments(client: "MlflowClient", options: CompareOptions) -> tuple[list[str], str]:
    """The ids of the experiments to read, and what they are, in words.

    Raises:
        UserError: when the sweep or the experiment is not there, or the sweep is no sweep.
    """
    from analysis.store import find_experiments
    from sweeps.connection import shown

    if options.sweep:
        return [_experiment_of_sweep(client, options.sweep)], f"sweep {options.sweep}"
    by_name = find_experiments(client)
    if options.experiment:
        return [by_name[one_of("experiment", options.experiment, by_name)]], f"experiment {options.experiment!r}"
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return [one_of("MLFLOW_EXPERIMENT_ID", experiment_id, by_name.values())], f"experiment {experiment_id}"
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return [by_name[one_of("MLFLOW_EXPERIMENT_NAME", name, by_name)]], f"experiment {name!r}"
    return list(by_name.values()), shown(client.tracking_uri)


def _experiment_of_sweep(client: "MlflowClient", run_id: str) -> str:
    from analysis.store import find_run
    from sweeps import recorded

    found = find_run(client, "sweep", run_id)
    kind = found.data.tags.get(recorded.KIND)
    if kind != "sweep":
        remedy = "give a sweep's run id"
        if kind == "trial":
            remedy = f"it is a trial of sweep {found.data.tags.get(recorded.PARENT)}; give that"
        raise UserError(f"sweep: run {run_id!r} is not a sweep; {remedy}")
    return str(found.info.experiment_id)


def write(comparison: "Comparison", folder: Path) -> list[Path]:
    """Writes compare.md, compare.csv and compare.tex into the folder, and returns their paths.

    Raises:
        UserError: when the folder cannot be written to.
    """
    from analysis.render import latex, markdown, table_csv

    texts = {"md": markdown(comparison), "csv": table_csv(comparison), "tex": latex(comparison)}
    paths = [folder / f"compare.{ending}" for ending in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"output: cannot write to {folder} ({error.strerror}); give another folder") from None
    return paths


def log(client: "MlflowClient", paths: list[Path], run_id: str | None, experiment_id: str) -> str:
    """Logs the files as artifacts under ``tables/`` to the run given, else to a new one, and returns its id."""
    from sweeps import recorded

    new = run_id is None
    if run_id is None:
        run_id = client.create_run(experiment_id, run_name="compare", tags={recorded.KIND: "compare"}).info.run_id
    for path in paths:
        client.log_artifact(run_id, str(path), "tables")
    if new:
        client.set_terminated(run_id)
    return run_id


if __name__ == "__main__":
    run(main)
