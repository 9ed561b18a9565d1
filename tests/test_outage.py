"""The tracking server may vanish at any moment: training goes on, and afterwards the record is as if it had not."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from sweeps import trial_logger
from sweeps.connection import IMPATIENCE, ONE_TRY, UPLOAD, impatient, is_outage
from tests.servers import MlflowServer
from tests.streams import OUTAGE_S, Stream, WatchedClient, eventually
from tests.trials import PATIENCE_S
from trainer.errors import UserError

SEED = 20210
RETRIES, TIMEOUT = IMPATIENCE


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def up(mlflow_server: MlflowServer) -> MlflowServer:
    """The server, which a test before may have left killed."""
    if mlflow_server.process is None:
        mlflow_server.start()
    return mlflow_server


@pytest.fixture
def watched(up: MlflowServer) -> WatchedClient:
    return WatchedClient(up.uri)


# The server is killed


@pytest.mark.slow
def test_in_mid_stream(up: MlflowServer, watched: WatchedClient, tmp_path: Path) -> None:
    stream = Stream(watched, "0", tmp_path)
    stream.log(500)
    run_id = stream.logger.wait_open(OUTAGE_S) and stream.logger.run_id
    eventually(lambda: "train/loss" in watched.get_run(str(run_id)).data.metrics)
    up.kill()
    stream.log(1200)
    assert watched.missed.wait(PATIENCE_S)
    stream.log(300)
    stream.logger.check()
    up.start()
    stream.log(105)
    stream.finish()
    assert stream.logger.wait(OUTAGE_S)
    stream.check_recorded()


@pytest.mark.slow
def test_before_the_run_is_open(up: MlflowServer, watched: WatchedClient, tmp_path: Path) -> None:
    up.kill()
    stream = Stream(watched, "0", tmp_path)
    stream.log(120)
    assert not stream.logger.wait_open(0) and stream.logger.run_id is None
    stream.finish()
    assert not stream.logger.wait(0)
    up.start()
    assert stream.logger.wait_open(OUTAGE_S)
    assert stream.logger.wait(OUTAGE_S)
    stream.check_recorded()


@pytest.mark.slow
def test_before_the_end(up: MlflowServer, watched: WatchedClient, tmp_path: Path) -> None:
    stream = Stream(watched, "0", tmp_path)
    stream.log(120)
    run_id = stream.logger.wait_open(OUTAGE_S) and stream.logger.run_id
    eventually(lambda: len(watched.get_metric_history(str(run_id), "train/loss")) == 120)
    up.kill()
    stream.finish()
    assert watched.missed.wait(PATIENCE_S)
    assert not stream.logger.wait(0)
    up.start()
    assert stream.logger.wait(OUTAGE_S)
    stream.check_recorded()


@pytest.mark.slow
def test_several_times_at_random_moments(
    up: MlflowServer, watched: WatchedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_logger, "PAUSE", 0.0)  # a request is under way nearly always
    rng = random.Random(SEED)
    streams = [Stream(watched, "0", tmp_path) for _ in range(3)]
    for _ in range(3):
        for _ in range(rng.randrange(20, 60)):
            for stream in streams:
                stream.log(rng.randrange(30))
        threading.Event().wait(rng.uniform(0, 0.2))
        up.kill()
        for stream in streams:
            stream.log(rng.randrange(200))
        up.start()
    for stream in streams:
        stream.finish()
    threading.Event().wait(rng.uniform(0, 0.2))
    up.kill()
    up.start()
    for stream in streams:
        assert stream.logger.wait(OUTAGE_S)
        stream.check_recorded()


@pytest.mark.slow
def test_with_the_worker_too(up: MlflowServer, watched: WatchedClient, tmp_path: Path) -> None:
    """The next worker goes on from an older state; the run has steps that this one trains again."""
    first = Stream(watched, "0", tmp_path)
    first.log(150)
    saved, saved_step = first.logger.journal(), first.num_steps
    first.log(90)
    assert first.logger.wait_open(OUTAGE_S)
    eventually(lambda: len(watched.get_metric_history(str(first.logger.run_id), "train/loss")) == 240)
    up.kill()
    first.log(50)
    first.logger.abandon(0)
    second = Stream(watched, "0", tmp_path, run_id=first.logger.run_id, journal=saved, start=saved_step)
    second.log(200)
    second.finish()
    up.start()
    assert second.logger.wait(OUTAGE_S)
    second.check_recorded()


# An answer is lost, a worker dies: a store that is there


class Forgetful(MlflowClient):
    """Does what it is told, and then says that the connection was reset: once for each kind of request."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.lost: set[str] = set()

    def _lose(self, name: str) -> None:
        if name not in self.lost:
            self.lost.add(name)
            raise ConnectionResetError(name)

    def log_batch(self, *args: Any, **kwargs: Any) -> None:
        super().log_batch(*args, **kwargs)
        self._lose(" ".join(name for name, values in kwargs.items() if values))

    def log_artifacts(self, *args: Any, **kwargs: Any) -> None:
        super().log_artifacts(*args, **kwargs)
        self._lose("artifacts")

    def set_terminated(self, *args: Any, **kwargs: Any) -> None:
        super().set_terminated(*args, **kwargs)
        self._lose("end")


def test_what_arrived_although_its_answer_was_lost_is_not_recorded_twice(
    tracking_uri: str, experiment: str, tmp_path: Path
) -> None:
    store = Forgetful(tracking_uri)
    stream = Stream(store, experiment, tmp_path)
    stream.log(1500)
    stream.finish()
    assert stream.logger.wait(PATIENCE_S)
    stream.check_recorded()
    assert {"metrics", "artifacts", "end"} <= store.lost | {name.split()[0] for name in store.lost}


@pytest.mark.parametrize(
    ("at_state", "at_death"), [(0, 0), (0, 70), (70, 70), (70, 71), (70, 139), (137, 138), (1100, 2300)]
)
def test_a_trial_that_goes_on_from_an_older_state_repeats_and_omits_nothing(
    at_state: int, at_death: int, store: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    first = Stream(store, experiment, tmp_path)
    first.log(at_state)
    saved = first.logger.journal()
    first.log(at_death - at_state)
    first.logger.abandon(PATIENCE_S)
    second = Stream(store, experiment, tmp_path, run_id=first.logger.run_id, journal=saved, start=at_state)
    second.log(at_death - at_state + 105)
    second.finish()
    assert second.logger.wait(PATIENCE_S)
    second.check_recorded()


def test_what_a_dead_worker_had_logged_but_not_sent_comes_from_its_state(
    store: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    first = Stream(store, experiment, tmp_path)
    first.log(30)
    first.logger.abandon(PATIENCE_S)
    first.log(40)  # nobody sends this
    second = Stream(
        store, experiment, tmp_path, run_id=first.logger.run_id, journal=first.logger.journal(), start=first.num_steps
    )
    second.log(5)
    second.finish()
    assert second.logger.wait(PATIENCE_S)
    second.check_recorded()


# What an outage is


def error_of(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        action()
    assert isinstance(caught.value, Exception)
    return caught.value


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "0")
    monkeypatch.setenv(TIMEOUT, "1")


def requests_to(store: MlflowClient, run_id: str) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: store.get_run(run_id),
        "write": lambda: store.set_tag(run_id, "name", "value"),
        "upload": lambda: store.log_text(run_id, "text", "file.txt"),
    }


@pytest.mark.slow
def test_a_server_that_is_killed_or_hangs_is_away_and_one_that_refuses_is_not(
    up: MlflowServer, one_second: None
) -> None:
    store = MlflowClient(up.uri)
    run_id = store.create_run("0").info.run_id
    check_refusals(store, run_id)
    up.signal(signal.SIGSTOP)
    for request in requests_to(store, run_id).values():
        assert is_outage(error_of(request))
    up.signal(signal.SIGCONT)
    up.kill()
    for request in requests_to(store, run_id).values():
        assert is_outage(error_of(request))


def test_a_refusal_is_no_outage(store: MlflowClient, experiment: str) -> None:
    check_refusals(store, store.create_run(experiment).info.run_id)


def check_refusals(store: MlflowClient, run_id: str) -> None:
    store.log_param(run_id, "task", "splice")
    for refused in (
        lambda: store.get_run("0" * 32),
        lambda: store.log_param(run_id, "task", "h4"),
        lambda: store.log_metric(run_id, "a bad name!", 1.0),
        lambda: store.log_artifact(run_id, "no such file"),
    ):
        assert not is_outage(error_of(refused))
    store.delete_run(run_id)
    assert not is_outage(error_of(lambda: store.set_tag(run_id, "name", "value")))


@pytest.mark.parametrize(("status", "expected"), [(429, True), (500, True), (502, True), (503, True), (404, False)])
@pytest.mark.parametrize("answer", [b"<html>no</html>", b'{"error_code": "INTERNAL_ERROR", "message": "no"}'])
def test_what_a_proxy_says_instead_of_the_server(status: int, expected: bool, answer: bytes, one_second: None) -> None:
    with serving(status, answer) as uri:
        for request in requests_to(MlflowClient(uri), "0" * 32).values():
            assert is_outage(error_of(request)) == expected


@contextmanager
def serving(status: int, answer: bytes) -> Iterator[str]:
    """A server that answers every request alike; its URI."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (TEMPORARILY_UNAVAILABLE, "(sqlite3.OperationalError) database is locked", True),
        (REQUEST_LIMIT_EXCEEDED, "slowly, please", True),
        (BAD_REQUEST, "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00", True),
        (BAD_REQUEST, "(psycopg2.errors.UniqueViolation) duplicate key value", True),
        (BAD_REQUEST, "(psycopg2.InterfaceError) connection already closed", True),
        (BAD_REQUEST, "(psycopg2.errors.StringDataRightTruncation) value too long", False),
        (INVALID_PARAMETER_VALUE, "The run must be in 'active' state", False),
        (INTERNAL_ERROR, "a bug", False),
    ],
)
def test_what_mlflow_says_of_its_database(code: int, message: str, expected: bool) -> None:
    assert is_outage(MlflowException(message, code)) == expected


def test_a_refusal_that_came_while_an_outage_was_handled_is_one() -> None:
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        refused = error_of(lambda: _raise(MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)))
        told = error_of(lambda: _raise(UserError("MLFLOW_TRACKING_URI: no answer")))
    assert isinstance(refused.__context__, ConnectionResetError) and not is_outage(refused)
    assert not is_outage(told)


def _raise(error: Exception) -> None:
    raise error


# MLflow's own patience


def test_blocks_of_impatience_may_overlap_and_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (RETRIES, TIMEOUT):
        monkeypatch.delenv(name, raising=False)
    first, second = impatient(ONE_TRY), impatient(UPLOAD)
    with first:
        assert {name: os.environ[name] for name in ONE_TRY} == ONE_TRY
        second.__enter__()
    assert os.environ[RETRIES] == "0" and TIMEOUT not in os.environ
    second.__exit__(None, None, None)
    assert RETRIES not in os.environ


def test_impatience_leaves_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "3")
    monkeypatch.delenv(TIMEOUT, raising=False)
    with impatient(), impatient():
        assert os.environ[RETRIES] == "3" and os.environ[TIMEOUT] == ONE_TRY[TIMEOUT]
    assert os.environ[RETRIES] == "3" and TIMEOUT not in os.environ
