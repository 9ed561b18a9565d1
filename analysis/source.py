"""What tables need of a tracking store, and the fastest way to it: its database where that is known, else MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

from sweeps import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A run as it stands in the store: params and tags as text, of each metric the last value.

    Attributes:
        start_time: in ms since 1970.
        tags: those alone that are read here, see :data:`analysis.database.TAGS`, or all.
    """

    run_id: str
    experiment_id: str
    status: str
    start_time: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Point(NamedTuple):
    """A value of a metric; the time is in ms since 1970."""

    step: int
    timestamp: int
    value: float


@runtime_checkable
class Source(Protocol):
    """A tracking store that is read."""

    @property
    def tracking_uri(self) -> str: ...

    def __hash__(self) -> int: ...

    def experiments(self) -> dict[str, str]:
        """The experiments that are not deleted: name -> id, newest first."""

    def run(self, run_id: str) -> RecordedRun | None:
        """A run, deleted or not; its params and metrics may be left out. None where there is none."""

    def runs(self, experiment_ids: Sequence[str], kind: str, sweep: str | None = None) -> Iterator[RecordedRun]:
        """The runs that are not deleted, newest first.

        Args:
            kind: their tag ``polymath.kind``.
            sweep: the run id of a sweep that counts them as its own; None: any.
        """

    def history(self, run_id: str, metric: str) -> list[Point]:
        """All values of a run's metric, in any order."""

    def artifact(self, run_id: str, path: str) -> str | None:
        """The text of a run's artifact; None where the run has none at this path."""

    def expecting_new_run(self) -> AbstractContextManager[None]:
        """Inside the block :meth:`new_run` will be called once: what takes time for it may begin."""

    def new_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Makes a run that has ended, and returns its id."""

    def log(self, run_id: str, files: Mapping[str, Sequence[Path]]) -> None:
        """Makes files a run's artifacts: folder among them -> paths."""


Store: TypeAlias = "Source | MlflowClient"  # what the readers take: a client stands for its store


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """:func:`sweeps.connection.answering`, which imports MLflow, where something is wrong only.

    Raises:
        UserError: for a store's refusal or silence inside the block.
    """
    try:
        yield
    except Exception:
        with connection.answering(uri):
            raise


def source_of(store: Store) -> Source:
    """The store itself where it can be read as it is; of an MLflow client the fastest way to its store."""
    return store if isinstance(store, Source) else _open(store.tracking_uri)


def open_source(uri: str | None) -> Source:
    """A way to the store at a URI; None: the current one of MLflow.

    MLflow is imported only where the database cannot be read directly: that takes a second.

    Raises:
        UserError: when the store is not there.
    """
    return (uri and _database(uri)) or _open(connection.open_existing_store().tracking_uri)


def _open(uri: str) -> Source:
    from analysis.client import Client

    return _database(uri) or Client(uri)


def _database(uri: str) -> Source | None:
    from analysis.database import open_database

    return open_database(uri)
