"""The probes that the tracking store holds: finished runs of one kind, each with what its ``probe.json`` says."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.layouts import AUTO, PROBES
from analysis.probe_results import Content, parse
from analysis.source import RecordedRun, Source, Store, source_of
from analysis.store import plain
from analysis.tables import phrase
from sweeps import recorded
from trainer.errors import UserError, first_line, one_of

SAID = ("kind", "task", "models")  # params that have places of their own in a table; the others are settings
NOT_SET = ("", "None", "none", "auto")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A run of a probe; its texts may be shown.

    Attributes:
        settings: its params but SAID, as text.
        apart: what sets it apart from other probes of its task, in words; empty where there is no other.
    """

    run_id: str
    experiment_id: str
    task: str
    settings: Mapping[str, str]
    content: Content
    apart: str = ""

    @property
    def name(self) -> str:
        """The task, and what sets it apart."""
        return f"{self.task}, {self.apart}" if self.apart else self.task


def find_kind(store: Store, run: RecordedRun, layout: object) -> str:
    """The kind of a probe that is asked for by its run.

    Raises:
        UserError: when the layout is another one's, or the run is deleted or of no known kind.
    """
    of_experiment = source_of(store).runs([run.experiment_id], "probe")
    kind = next((plain(one.params.get("kind", "")) for one in of_experiment if one.run_id == run.run_id), None)
    if kind is None:
        raise UserError(
            f"sweep: probe {run.run_id} is deleted; `mlflow runs restore --run-id {run.run_id}` brings it back"
        )
    if kind not in PROBES:
        raise UserError(f"sweep: probe {run.run_id} is of kind {kind!r}; kinds that can be shown: {', '.join(PROBES)}")
    if layout not in (AUTO, kind):
        shown = layout if isinstance(layout, str) else "rows x columns"
        raise UserError(
            f"layout: {shown} does not show run {run.run_id}, a probe of kind {kind}; give layout={kind} or auto"
        )
    return kind


def read_probes(
    store: Store,
    experiment_ids: Sequence[str],
    kind: str,
    *,
    where: str,
    tasks: Sequence[str] | None = None,
    run_id: str | None = None,
) -> tuple[Probe, ...]:
    """The finished probes of a kind by task, of a task the newest first; of those with the very same params
    and data the newest.

    One whose results cannot be read is left out, with a line on stderr.

    Args:
        where: what is read, in words, for a refusal.
        tasks: those to show; None: all.
        run_id: the only run to read, finished or not; None: all.

    Raises:
        UserError: for a task without such a probe, or where nothing is left.
    """
    source = source_of(store)
    runs = [
        run
        for run in source.runs(experiment_ids, "probe")
        if run.params.get("kind") == kind and (run.status == "FINISHED" if run_id is None else run.run_id == run_id)
    ]
    of_tasks = sorted({_task(run) for run in runs})
    wanted = [one_of("tasks", task, of_tasks) for task in (tasks or ()) if of_tasks] or of_tasks
    found: dict[frozenset[tuple[str, str]], Probe] = {}
    for run in runs:
        params = frozenset({**run.params, recorded.DATA_DIGEST: run.tags.get(recorded.DATA_DIGEST, "")}.items())
        if _task(run) in wanted and params not in found and (probe := _read(source, run, kind)):
            found[params] = probe
    if not found:
        remedy = f"mlflow run . -e probe -P kind={kind} -P task=h4 -P models=bert-base-uncased,scratch"
        raise UserError(f"there are no results of {kind} probes in {where}; run one first: {remedy}")
    return tuple(_told_apart(sorted(found.values(), key=lambda probe: probe.task)))


def _task(run: RecordedRun) -> str:
    return plain(run.params.get("task", ""))


def _told_apart(probes: Sequence[Probe]) -> list[Probe]:
    """Those of one task by the settings in which they differ, and by their runs where these leave any two alike."""
    apart = []
    for probe in probes:
        others = [other.settings for other in probes if other.task == probe.task]
        differing = [name for name in probe.settings if len({settings.get(name) for settings in others}) > 1]
        apart.append(", ".join(phrase(name, probe.settings[name]) for name in differing))
    words = Counter(zip((probe.task for probe in probes), apart, strict=True))
    return [
        replace(probe, apart=text if words[probe.task, text] == 1 else f"{text} run {probe.run_id[:8]}".strip())
        for probe, text in zip(probes, apart, strict=True)
    ]


def _read(source: Source, run: RecordedRun, kind: str) -> Probe | None:
    """A run with its results; None, and a line on stderr, where these are missing or damaged."""
    text: str | None = ""
    try:
        text = source.artifact(run.run_id, recorded.PROBE)
        content = parse(text or "", kind)
    except ValueError as error:  # the bytes may be no text, too
        reason = f"no {recorded.PROBE}" if text is None else f"a damaged {recorded.PROBE} ({plain(first_line(error))})"
        print(f"beware: probe {run.run_id} has {reason}; it is left out", file=sys.stderr)
        return None
    settings = {plain(name): plain(value) for name, value in sorted(run.params.items()) if _is_setting(name, value)}
    return Probe(
        run_id=run.run_id, experiment_id=run.experiment_id, task=_task(run), settings=settings, content=content
    )


def _is_setting(name: str, value: str) -> bool:
    return name not in SAID and not name.startswith(recorded.PREFIX) and value not in NOT_SET
