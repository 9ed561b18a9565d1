"""``python -m analysis``: tables and figures of what the tracking store holds, beside the paper's."""

import atexit
import gc
import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.layouts import LAYOUTS, PROBES, SEARCH, Cross, parse_layout
from sweeps import recorded
from trainer.commandline import parse, run, setting
from trainer.errors import UserError, one_of

if TYPE_CHECKING:
    from analysis.report import Report
    from analysis.source import RecordedRun, Source

MAX_SEARCHES = 4  # that are drawn of an overview: each is a page of its own, and takes half a second


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The parameters of ``mlflow run . -e compare`` and of ``python -m analysis``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    layout: str = setting(
        "auto", help=f"{', '.join(LAYOUTS)}, or rows x columns by the names of params, e.g. 'init,mapping x task'"
    )
    tasks: tuple[str, ...] | None = setting(None, help="which tasks, comma-separated", none="all")
    sweep: str | None = setting(None, help="run id of one sweep or probe, whichever experiment it is in", none="all")
    experiment: str | None = setting(
        None,
        help="name of the experiment to read; auto: MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else all of them",
    )
    select_by: str | None = setting(
        None, help=f"score by which settings are chosen: {', '.join(recorded.CRITERIA)}; auto: what each sweep names"
    )
    allow_missing: bool = setting(
        False, help="whether the exit status is 0 although cells are missing, failed, diverged or still running"
    )
    output: str | None = setting(
        "tables", help="folder for the tables, as md, csv, tex and html, and figures; none: log them only", none="none"
    )

    def __post_init__(self) -> None:
        parse_layout(self.layout)
        if self.tasks == ():
            raise UserError("tasks: none given; give names, comma-separated, or 'all'")
        if self.select_by is not None:
            one_of("select_by", self.select_by, recorded.CRITERIA)
        if self.output and Path(self.output).exists() and not Path(self.output).is_dir():
            raise UserError(f"output: {self.output!r} is not a folder; give one, it is made where there is none")


def main(arguments: Sequence[str]) -> int:
    """Prints the tables, writes them in every format with the figures, and logs those.

    Returns:
        1 where a cell behind them is missing, failed, diverged or still running, unless that is allowed; else 0.
    """
    options = parse(
        CompareOptions,
        arguments,
        program="python -m analysis",
        description="Build tables and figures from the runs in the tracking store (MLFLOW_TRACKING_URI).",
    )
    # Imported late: MLflow and pandas take seconds, a mistake on the command line should not.
    from analysis.source import open_source

    source = open_source(os.environ.get("MLFLOW_TRACKING_URI"))
    run_id = options.sweep or os.environ.get("MLFLOW_RUN_ID") or None
    with nullcontext() if run_id else source.expecting_new_run():
        return _compare(source, options, run_id)


def _compare(source: "Source", options: CompareOptions, run_id: str | None) -> int:
    """Does it all, and logs to a run, or to one of its own; returns the status."""
    from analysis.files import FIGURES, writable, write
    from analysis.listing import print_comparison
    from analysis.source import answering
    from analysis.terminal import print_sheets

    with answering(source.tracking_uri):
        report, home = _read(source, options)
    if report.comparison:
        print_comparison(report.comparison)
    else:
        print_sheets(report.sheets)
    from analysis.figure_probes import draw_probes
    from analysis.figures import draw, saving  # which takes half a second; the tables are on the screen by now

    with answering(source.tracking_uri):
        figures = draw(source, report.selections, max_searches=_max_searches(options))
    figures |= draw_probes(report.probes)
    with tempfile.TemporaryDirectory(prefix="polymath-") as nowhere:
        folder = Path(options.output or nowhere)
        with writable(folder), saving(figures, folder / FIGURES) as drawn:
            if run_id is None:  # while others draw
                with answering(source.tracking_uri):
                    run_id = source.new_run(home, "compare", {recorded.KIND: "compare"})
            files = write(report, drawn, _stem(report, options), folder)
        with answering(source.tracking_uri):
            source.log(run_id, files)
    print("", *_closing_lines(files, run_id, report, options), sep="\n")
    return 1 if report.incomplete and not options.allow_missing else 0


def _stem(report: "Report", options: CompareOptions) -> str:
    """The name of the tables' files, without their endings."""
    from analysis.report import stem

    return report.probes[0].content.kind if report.probes else stem(parse_layout(options.layout))


def _max_searches(options: CompareOptions) -> int | None:
    """Up to how many searches are drawn: each of one sweep and of the layout for them, few of an overview."""
    return None if options.sweep or options.layout == SEARCH else MAX_SEARCHES


def _closing_lines(files: dict[str, list[Path]], run_id: str, report: "Report", options: CompareOptions) -> list[str]:
    """What was written and logged, and whether anything is missing from it."""
    from analysis.files import FIGURES

    logged = " and ".join(f"{folder}/" for folder, paths in files.items() if paths)
    lines = [f"logged to run {run_id} under {logged}"]
    if options.output is not None:
        tables, *pictures = (
            ", ".join(str(path) for path in paths if path.suffix != ".svg") for paths in files.values()
        )
        lines.insert(0, f"written: {tables}" + "".join(f"; {paths}, also as .svg" for paths in pictures if paths))
    are_drawn = any(path.name.startswith("search-") for path in files[FIGURES])
    if not are_drawn and any(len(selection.tried) > 1 for selection in report.selections):
        lines.append("the grids of searches are drawn with layout=search, or of one sweep with sweep=RUN_ID")
    if report.incomplete:
        remedy = "" if options.allow_missing else "; status 1 unless allow_missing=true"
        lines.append(f"incomplete: cells are missing, failed, diverged or running{remedy}")
    return lines


def _read(source: "Source", options: CompareOptions) -> "tuple[Report, str]":
    """Reads and lays out; also returns the id of the newest trial's, or of a probe's, experiment.

    Raises:
        UserError: for an unknown run, experiment, task or param, a layout of another kind of runs, or where there are
            none of its runs.
    """
    from analysis.probes import find_kind
    from analysis.store import find_run

    if not options.sweep and os.environ.get("MLFLOW_RUN_ID"):
        find_run(source, "MLFLOW_RUN_ID", os.environ["MLFLOW_RUN_ID"])
    layout = parse_layout(options.layout)
    if options.sweep is None:
        experiment_ids, where = _experiments(source, options)
    else:
        found = _sweep_or_probe(source, options.sweep)
        kind = found.tags[recorded.KIND]
        experiment_ids, where = [found.experiment_id], f"{kind} {options.sweep}"
        if kind == "probe":
            layout = find_kind(source, found, layout)
        elif layout in PROBES:
            raise UserError(f"layout: {layout} is of probes, run {options.sweep!r} is a sweep; give a probe's run id")
    if layout in PROBES:
        return _read_probes(source, options, str(layout), experiment_ids, where)
    return _read_trials(source, options, layout, experiment_ids, where)


def _read_trials(
    source: "Source", options: CompareOptions, layout: str | Cross, experiment_ids: list[str], where: str
) -> "tuple[Report, str]":
    from analysis.report import build
    from analysis.store import expected_cells, read_sweeps, read_trials

    trials = read_trials(source, experiment_ids, options.sweep)
    expected = expected_cells(read_sweeps(source, experiment_ids, options.sweep))
    if trials.empty:
        raise UserError(f"there are no trials in {where}; run a sweep first: mlflow run . -e sweep -P task=h4")
    report = build(source, trials, expected, layout=layout, tasks=options.tasks, select_by=options.select_by)
    return report, str(trials["experiment_id"].iloc[0])


def _read_probes(
    source: "Source", options: CompareOptions, kind: str, experiment_ids: list[str], where: str
) -> "tuple[Report, str]":
    from analysis.probes import read_probes
    from analysis.report import of_probes

    probes = read_probes(source, experiment_ids, kind, where=where, tasks=options.tasks, run_id=options.sweep)
    return of_probes(probes), probes[0].experiment_id


def _experiments(source: "Source", options: CompareOptions) -> tuple[list[str], str]:
    """The ids of the experiments to read, and what they are, in words.

    Raises:
        UserError: when the experiment is not there.
    """
    from sweeps.connection import shown

    by_name = source.experiments()
    if options.experiment:
        return [by_name[one_of("experiment", options.experiment, by_name)]], f"experiment {options.experiment!r}"
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return [one_of("MLFLOW_EXPERIMENT_ID", experiment_id, by_name.values())], f"experiment {experiment_id}"
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return [by_name[one_of("MLFLOW_EXPERIMENT_NAME", name, by_name)]], f"experiment {name!r}"
    return list(by_name.values()), shown(source.tracking_uri)


def _sweep_or_probe(source: "Source", run_id: str) -> "RecordedRun":
    """The run that is asked for by its id.

    Raises:
        UserError: when it is not there, or is neither of them.
    """
    from analysis.store import find_run

    found = find_run(source, "sweep", run_id)
    kind = found.tags.get(recorded.KIND)
    if kind not in ("sweep", "probe"):
        remedy = "give the run id of one"
        if kind == "trial":
            remedy = f"it is a trial of sweep {found.tags.get(recorded.PARENT)}; give that"
        raise UserError(f"sweep: run {run_id!r} is not a sweep or probe; {remedy}")
    return found


if __name__ == "__main__":
    # A short command: to look for garbage as often as usual takes a fifth of its time, once more at its end a tenth.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    run(main)
