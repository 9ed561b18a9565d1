"""Tracking stores of a team: 16 trials at once, each logging every step, lose nothing, even when it is killed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.servers import MlflowServer, Postgres
from tests.streams import OUTAGE_S, Stream, WatchedClient, eventually
from tests.trials import PATIENCE_S

pytestmark = pytest.mark.slow

NUM_TRIALS, NUM_STEPS = 16, 500


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("server"), postgres.uri, postgres.environment) as server:
        yield server


def run_trials_at_once(uri: str, experiment: str, folder: Path) -> None:
    """Each trial's process has a client and a sending thread of its own; here they are threads."""
    start = threading.Barrier(NUM_TRIALS)
    streams = []

    def train() -> None:
        start.wait(PATIENCE_S)
        stream = Stream(MlflowClient(uri), experiment, folder)
        for _ in range(NUM_STEPS // 10):
            stream.log(10)
        stream.finish()
        streams.append(stream)

    threads = [threading.Thread(target=train) for _ in range(NUM_TRIALS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(streams) == NUM_TRIALS
    for stream in streams:
        assert stream.logger.wait(OUTAGE_S)
        stream.check_recorded()
    assert len({stream.logger.run_id for stream in streams}) == NUM_TRIALS


def test_a_server_on_postgresql_takes_16_trials_at_once(on_postgres: MlflowServer, tmp_path: Path) -> None:
    run_trials_at_once(on_postgres.uri, "0", tmp_path)


def test_a_server_on_sqlite_takes_16_trials_at_once(tmp_path: Path) -> None:
    with MlflowServer(tmp_path) as server:
        run_trials_at_once(server.uri, "0", tmp_path)


def test_sqlite_takes_16_trials_at_once(tracking_uri: str, experiment: str, tmp_path: Path) -> None:
    run_trials_at_once(tracking_uri, experiment, tmp_path)


def test_a_database_that_is_killed_behind_its_server_is_waited_for(
    on_postgres: MlflowServer, postgres: Postgres, tmp_path: Path
) -> None:
    store = WatchedClient(on_postgres.uri)
    stream = Stream(store, "0", tmp_path)
    stream.log(200)
    assert stream.logger.wait_open(OUTAGE_S)
    eventually(lambda: "train/loss" in store.get_run(str(stream.logger.run_id)).data.metrics)
    postgres.kill()
    stream.log(200)
    assert store.missed.wait(PATIENCE_S)
    stream.finish()
    assert not stream.logger.wait(0)
    postgres.start()
    assert stream.logger.wait(OUTAGE_S)
    stream.check_recorded()
