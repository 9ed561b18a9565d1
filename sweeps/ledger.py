"""The cell ledger: which cells have been done, in the tracking store itself, for every driver that uses it.

A cell's key is a hash of all that decides its numbers. Whoever wants a cell looks here first; a sweep that is run
again, on any machine with the same store and experiment, finds what is there and runs the rest.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps import recorded
from trainer.config import TrialConfig
from trainer.version import NUMBERS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs in one request
OPEN = ("RUNNING", "SCHEDULED")
SETTLED = ("finished", "diverged")  # outcomes


def ledger_key(config: TrialConfig, data_digest: str, model_digest: str, asked: Sequence[str] = ()) -> str:
    """16 hex digits that name a cell: a SHA-256 of its whole config, its data, its model's files and our version.

    Args:
        asked: what the trial is to leave behind beyond the usual.
    """
    whole = [config.settings(), data_digest, model_digest, NUMBERS, *asked]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """A cell's run as the store has it.

    Attributes:
        start_time: in milliseconds since 1970.
        claims: who claimed it, each as ``<run id of a sweep> <a process> <an id>``, first to last.
        metrics: the keys of its metrics.
    """

    run_id: str
    status: str
    start_time: int
    tags: Mapping[str, str]
    claims: tuple[str, ...]
    metrics: tuple[str, ...]

    @classmethod
    def read(cls, run: "Run") -> "CellRun":
        """What concerns the ledger of a run."""
        params, prefix = run.data.params, recorded.CLAIM
        claims = {int(name.removeprefix(prefix)): value for name, value in params.items() if name.startswith(prefix)}
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            start_time=run.info.start_time,
            tags=run.data.tags,
            claims=tuple(claims[number] for number in sorted(claims)),
            metrics=tuple(run.data.metrics),
        )

    @property
    def owner(self) -> str:
        """Run id of the sweep that claimed it last, or made it."""
        return self.claims[-1].partition(" ")[0] if self.claims else self.tags.get(recorded.DRIVER, "")

    @property
    def claimant(self) -> str:
        """The process that claimed it last; see :func:`sweeps.heartbeat.this_process`."""
        return self.claims[-1].split(" ")[1] if self.claims else ""

    @property
    def outcome(self) -> str:
        """``finished``, ``diverged`` or ``failed``; empty while there is none."""
        return self.tags.get(recorded.OUTCOME, "")

    @property
    def retries(self) -> int:
        """How often its sweep began again after a failure."""
        return int(self.tags.get(recorded.RETRIES, "0"))

    def counts_in(self, sweep: str) -> bool:
        """Whether a sweep counts it as its own."""
        return recorded.MEMBER + sweep in self.tags

    @property
    def is_open(self) -> bool:
        """Whether somebody may be training it."""
        return self.status in OPEN

    @property
    def can_go_on(self) -> bool:
        """Whether a trial may be taken up again in it: it is open, or was interrupted."""
        was_ended_twice = self.status == "FINISHED" and self.outcome not in SETTLED  # by its trial and by its driver
        return self.is_open or self.status == "KILLED" or was_ended_twice

    def is_done(self, stale: Collection[str] = ()) -> bool:
        """Whether it stands for its cell for good; the runs that are to be done again, by their ids, do not."""
        return self.status == "FINISHED" and self.outcome in SETTLED and self.run_id not in stale


def cell_runs(store: "MlflowClient", experiment_id: str, key: str) -> list[CellRun]:
    """All runs of one cell, oldest first."""
    return sorted(map(CellRun.read, _search(store, experiment_id, f"tags.`{recorded.CELL}` = '{key}'")), key=_age)


def read_ledger(
    store: "MlflowClient", experiment_id: str, data_digest: str, keys: Collection[str]
) -> dict[str, list[CellRun]]:
    """All runs of some cells over the same data, oldest first; no entry for a cell without one."""
    wanted, found = frozenset(keys), defaultdict[str, list[CellRun]](list)
    if not wanted:
        return {}
    query = f"tags.`{recorded.KIND}` = 'trial' and tags.`{recorded.DATA_DIGEST}` = '{data_digest}'"
    for run in _search(store, experiment_id, query):
        if (key := run.data.tags.get(recorded.CELL, "")) in wanted:
            found[key].append(CellRun.read(run))
    return {key: sorted(runs, key=_age) for key, runs in found.items()}


def open_runs(store: "MlflowClient", experiment_id: str, kind: str) -> "list[Run]":
    """The runs of a kind, ``sweep`` or ``trial``, that say they are running."""
    query = f"tags.`{recorded.KIND}` = '{kind}' and attributes.status = 'RUNNING'"
    return list(_search(store, experiment_id, query))


def count_in(store: "MlflowClient", experiment_id: str, data_digest: str, keys: Collection[str], sweep: str) -> None:
    """Marks the runs that stand for a sweep's cells, and were made by others, as the sweep's too."""
    for runs in read_ledger(store, experiment_id, data_digest, keys).values():
        done = [run for run in runs if run.is_done()]
        if done and not done[-1].counts_in(sweep):
            store.set_tag(done[-1].run_id, recorded.MEMBER + sweep, "true")


def _age(run: CellRun) -> tuple[int, str]:
    return run.start_time, run.run_id


def _search(store: "MlflowClient", experiment_id: str, query: str) -> "Iterator[Run]":
    token = None
    while True:
        page = store.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
