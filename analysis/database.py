"""A tracking store's own database, SQLite or PostgreSQL, read by a few queries over MLflow's tables.

MLflow makes objects of every row, page by page; for 10,000 runs that takes ten times as long, and its import alone a
second. Nothing is written here, and no schema but the known one is touched: any other store is left to MLflow.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from analysis.aside import Aside
from analysis.client import Client
from analysis.source import Point, RecordedRun
from sweeps import recorded

if TYPE_CHECKING:
    from sqlalchemy import Engine, Select, TableClause

SCHEMA = "dc11669786a5"  # MLflow's name for the schema (the last of its Alembic revisions) of the version in conda.yaml
BUSY_S = 20  # that SQLite waits for a lock
TAGS = (
    *(recorded.KIND, recorded.PARENT, recorded.OUTCOME, recorded.CELL, recorded.SELECT_BY),
    *(recorded.METRIC, recorded.DATA_NOTE, recorded.DATA_DIGEST, recorded.CORPUS),
)
ROWS = 20_000  # fetched at once


@lru_cache
def open_database(uri: str) -> "Database | None":
    """The database behind a tracking URI; None where it is none, of another schema, or does not answer.

    What is wrong with it is then for MLflow to say.
    """
    if not uri.startswith(("sqlite", "postgresql")):
        return None
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        path = make_url(uri).database
        if uri.startswith("sqlite") and not (path and Path(path).is_file()):
            return None  # SQLite would make an empty one
        # MLflow waits as long for whoever writes; Python's own five seconds are too few beside a busy sweep.
        engine = create_engine(uri, connect_args={"timeout": BUSY_S} if uri.startswith("sqlite") else {})
        with engine.connect() as connection:
            schemas = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
            if schemas != [SCHEMA]:
                return None
            # Whose experiments a user may see where there are several workspaces, MLflow knows.
            others = text("SELECT 1 FROM experiments WHERE workspace <> 'default' LIMIT 1")
            return None if connection.execute(others).first() else Database(uri, engine)
    except (SQLAlchemyError, ImportError, OSError, ValueError):
        return None


class Database:
    """A :class:`analysis.source.Source` that reads MLflow's tables."""

    def __init__(self, tracking_uri: str, engine: "Engine") -> None:
        from sqlalchemy import String, column, table

        self.tracking_uri, self._engine = tracking_uri, engine
        self._aside: Aside | None = None
        names = ("run_uuid", "experiment_id", "status", "start_time", "lifecycle_stage", "artifact_uri")
        self._runs = table("runs", *map(column, names))
        self._tags, self._params = (
            table(name, *map(column, ("run_uuid", "key", "value"))) for name in ("tags", "params")
        )
        numbers = ("run_uuid", "value", "is_nan", "step", "timestamp")
        self._latest, self._points = (
            table(name, column("key", String), *map(column, numbers)) for name in ("latest_metrics", "metrics")
        )

    def close(self) -> None:
        """Ends its connections; it may be read again all the same."""
        self._engine.dispose()

    def experiments(self) -> dict[str, str]:
        from sqlalchemy import text

        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        with self._engine.connect() as connection:
            found = connection.execute(text(f"{query} ORDER BY creation_time DESC, experiment_id"))
            return {name: str(experiment_id) for name, experiment_id in found}

    def run(self, run_id: str) -> RecordedRun | None:
        from sqlalchemy import select

        runs = self._runs.c
        return next(self._read(select(runs.run_uuid).where(runs.run_uuid == run_id)), None)

    def runs(self, experiment_ids: Sequence[str], kind: str, sweep: str | None = None) -> Iterator[RecordedRun]:
        from sqlalchemy import select

        runs = self._runs.c
        chosen = select(runs.run_uuid).where(
            runs.experiment_id.in_([int(one) for one in experiment_ids]), runs.lifecycle_stage == "active"
        )
        for name, value in [(recorded.KIND, kind), *([(recorded.MEMBER + sweep, "true")] if sweep else [])]:
            tag = self._tags.alias()
            chosen = chosen.join(tag, tag.c.run_uuid == runs.run_uuid).where(tag.c.key == name, tag.c.value == value)
        return self._read(chosen)

    def _read(self, chosen: "Select[Any]") -> Iterator[RecordedRun]:
        """The runs whose ids a query gives, newest first."""
        from sqlalchemy import select, text

        # Found first, and once: PostgreSQL would look for them at every row where it knows nothing of the tables yet.
        ids = chosen.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")

        def of_these(table: "TableClause", *names: str) -> "Select[Any]":
            return select(*(table.c[name] for name in ("run_uuid", *names))).join(
                ids, ids.c.run_uuid == table.c.run_uuid
            )

        runs, tags, texts = self._runs, self._tags, ("key", "value")
        infos = of_these(runs, "experiment_id", "status", "start_time")
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET jit = off"))  # to compile a query takes longer than these do
            connection.execution_options(yield_per=ROWS)
            found = connection.execute(infos.order_by(runs.c.start_time.desc(), runs.c.run_uuid)).all()
            tags_of = _by_run(connection.execute(of_these(tags, *texts).where(tags.c.key.in_(TAGS))))
            params_of = _by_run(connection.execute(of_these(self._params, *texts)))
            metrics_of = _by_run(
                (run_id, name, math.nan if is_nan else value)
                for run_id, name, value, is_nan in connection.execute(of_these(self._latest, *texts, "is_nan"))
            )
        for run_id, experiment_id, status, start_time in found:
            yield RecordedRun(
                run_id=run_id,
                experiment_id=str(experiment_id),
                status=status,
                start_time=start_time,
                tags=tags_of.pop(run_id, {}),
                params=params_of.pop(run_id, {}),
                metrics=metrics_of.pop(run_id, {}),
            )

    def history(self, run_id: str, metric: str) -> list[Point]:
        from sqlalchemy import select

        points = self._points.c
        query = select(points.timestamp, points.step, points.value, points.is_nan)
        with self._engine.connect() as connection:
            # By the key itself, or asked to put them in order, SQLite would go through the metric's values of all runs.
            found = connection.execute(query.where(points.run_uuid == run_id, points.key + "" == metric))
            rows = sorted(tuple(row) for row in found)
        return [Point(step, time, math.nan if is_nan else value) for time, step, value, is_nan in rows]

    def artifact(self, run_id: str, path: str) -> str | None:
        folder = self._artifacts(run_id)
        if folder is None:
            return self._client.artifact(run_id, path)
        try:
            return (folder / path).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    @contextmanager
    def expecting_new_run(self) -> Iterator[None]:
        self._aside = Aside(self.tracking_uri)
        try:
            yield
        finally:
            self._aside.close()
            self._aside = None

    def new_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        return (self._aside or self._client).new_run(experiment_id, name, tags)

    def log(self, run_id: str, files: Mapping[str, Sequence[Path]]) -> None:
        folder = self._artifacts(run_id)
        if folder is None:
            return self._client.log(run_id, files)
        for name, paths in files.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for path in paths:
                shutil.copy(path, folder / name)

    def _artifacts(self, run_id: str) -> Path | None:
        """The folder of a run's artifacts; None where they are on another machine or in the cloud."""
        from sqlalchemy import select

        runs = self._runs.c
        with self._engine.connect() as connection:
            uri = connection.execute(select(runs.artifact_uri).where(runs.run_uuid == run_id)).scalar_one()
        parts = urlsplit(uri)
        is_here = parts.scheme in ("", "file") and not (parts.netloc or parts.query or parts.fragment)
        folder = Path(url2pathname(parts.path))
        return folder if is_here and folder.is_absolute() else None

    @property
    def _client(self) -> Client:
        """For what MLflow alone can do: to write, and to reach artifacts that are elsewhere."""
        return Client(self.tracking_uri)


def _by_run(rows: Iterable[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Run id -> name -> value, of rows of these three."""
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for run_id, name, value in rows:
        found[run_id][name] = value
    return found
