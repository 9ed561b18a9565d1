"""A tracking store through MLflow's client: any store, a server most of all."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from analysis.source import Point, RecordedRun
from sweeps import connection, recorded

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs in one request


class Client:
    """A :class:`analysis.source.Source` by way of MLflow."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    @property
    def _client(self) -> "MlflowClient":
        return connection.client(self.tracking_uri)

    def experiments(self) -> dict[str, str]:
        by_name: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_experiments(max_results=PAGE, page_token=token)
            by_name.update({experiment.name: experiment.experiment_id for experiment in page})
            token = page.token
            if not token:
                return by_name

    def run(self, run_id: str) -> RecordedRun | None:
        from mlflow.exceptions import MlflowException

        try:
            return _recorded(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    def runs(self, experiment_ids: Sequence[str], kind: str, sweep: str | None = None) -> Iterator[RecordedRun]:
        of_sweep = f" and tags.`{recorded.MEMBER}{sweep}` = 'true'" if sweep else ""
        query = f"tags.`{recorded.KIND}` = '{kind}'{of_sweep}"
        token = None
        while experiment_ids:
            page = self._client.search_runs([*experiment_ids], query, max_results=PAGE, page_token=token)
            yield from map(_recorded, page)
            token = page.token
            if not token:
                return

    def history(self, run_id: str, metric: str) -> list[Point]:
        found = self._client.get_metric_history(run_id, metric)
        return [Point(step=entry.step, timestamp=entry.timestamp, value=entry.value) for entry in found]

    def artifact(self, run_id: str, path: str) -> str | None:
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory(prefix="polymath-") as folder:
            try:
                return Path(self._client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
            except (MlflowException, OSError):
                parent = str(PurePosixPath(path).parent)
                if path in {entry.path for entry in self._client.list_artifacts(run_id, parent)}:
                    raise
                return None

    def expecting_new_run(self) -> AbstractContextManager[None]:
        return nullcontext()  # MLflow is imported already

    def new_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        run_id = str(self._client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)
        self._client.set_terminated(run_id)
        return run_id

    def log(self, run_id: str, files: Mapping[str, Sequence[Path]]) -> None:
        for folder, paths in files.items():
            for path in paths:
                self._client.log_artifact(run_id, str(path), folder)


def _recorded(run: "Run") -> RecordedRun:
    return RecordedRun(
        run_id=run.info.run_id,
        experiment_id=str(run.info.experiment_id),
        status=run.info.status,
        start_time=run.info.start_time,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )
