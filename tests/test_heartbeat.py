"""Whether a driver lives: told by its process where that can be seen, else by its heartbeat."""

import json
import subprocess
import sys
import threading

import pytest
from mlflow import MlflowClient

from sweeps import heartbeat, recorded
from sweeps.heartbeat import LEASE_S, Heartbeat, Watch, process_start, this_process
from tests.trials import PATIENCE_S

OWN = "0" * 32


@pytest.fixture
def run_id(store: MlflowClient, experiment: str) -> str:
    return store.create_run(experiment).info.run_id


@pytest.fixture
def watch(store: MlflowClient) -> Watch:
    heartbeat = Heartbeat(store, OWN)
    heartbeat.up_since = 0.0
    return Watch(store, heartbeat)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The watcher's clock, in seconds; set its only element."""
    now = [0.0]
    monkeypatch.setattr("sweeps.heartbeat.time.monotonic", lambda: now[0])
    return now


def beat(store: MlflowClient, run_id: str, **changes: object) -> None:
    value = {"process": "another|1|1", "beats": 1, **changes}
    store.set_tag(run_id, recorded.HEARTBEAT, json.dumps(value))


def named(pid: int, started: str) -> str:
    """A process of this machine."""
    return f"{this_process().split('|')[0]}|{pid}|{started}"


def test_a_driver_that_lives_on_this_machine_is_never_gone(store: MlflowClient, run_id: str, watch: Watch) -> None:
    with Heartbeat(store, run_id):
        assert watch.gone([run_id]) == frozenset()


def test_a_driver_of_this_machine_is_gone_as_soon_as_its_process_is(
    store: MlflowClient, run_id: str, watch: Watch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        beat(store, run_id, process=named(process.pid, process_start(process.pid)))
        assert watch.gone([run_id]) == frozenset()
        process.kill()
    assert watch.gone([run_id]) == {run_id}


def test_another_process_with_the_same_id_is_not_the_driver(store: MlflowClient, run_id: str, watch: Watch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        beat(store, run_id, process=named(process.pid, "1"))
        assert watch.gone([run_id]) == {run_id}
        process.kill()


def test_a_driver_elsewhere_is_gone_when_its_heartbeat_has_stood_still(
    store: MlflowClient, run_id: str, watch: Watch, clock: list[float]
) -> None:
    beat(store, run_id)
    assert watch.gone([run_id]) == frozenset(), "it was never seen before, so nothing is known"
    clock[0] += LEASE_S - 1
    assert watch.gone([run_id]) == frozenset()
    beat(store, run_id, beats=2)
    clock[0] += 2
    assert watch.gone([run_id]) == frozenset(), "it has beaten meanwhile"
    clock[0] += LEASE_S
    assert watch.gone([run_id]) == {run_id}


def test_time_in_which_the_store_was_away_does_not_count(
    store: MlflowClient, run_id: str, watch: Watch, clock: list[float]
) -> None:
    """Nobody's heart could beat meanwhile; it is given as long after as ever."""
    beat(store, run_id)
    watch.gone([run_id])
    clock[0] += 10 * LEASE_S
    watch.heartbeat.up_since = clock[0] - 1
    assert watch.gone([run_id]) == frozenset()
    watch.heartbeat.up_since = float("inf")
    clock[0] += 10 * LEASE_S
    assert watch.gone([run_id]) == frozenset()
    watch.heartbeat.up_since = clock[0] - LEASE_S
    assert watch.gone([run_id]) == {run_id}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_driver_whose_sweep_has_ended_is_gone(store: MlflowClient, run_id: str, watch: Watch, status: str) -> None:
    beat(store, run_id)
    store.set_terminated(run_id, status)
    assert watch.gone([run_id]) == {run_id}


def test_the_driver_of_a_deleted_sweep_is_gone_and_oneself_never_is(
    store: MlflowClient, run_id: str, watch: Watch
) -> None:
    store.delete_run(run_id)
    assert watch.gone([run_id, "f" * 32, OWN]) == {run_id, "f" * 32}


def test_a_heartbeat_goes_on_until_its_block_is_left_also_when_the_store_was_away(
    store: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.001)
    values: list[str] = []
    enough = threading.Event()

    class Store:
        def set_tag(self, run_id: str, name: str, value: str) -> None:
            values.append(value)
            if len(values) == 2:
                raise ConnectionError("away")
            if len(values) == 5:
                enough.set()

    with Heartbeat(Store(), run_id) as beating:  # type: ignore[arg-type]
        assert enough.wait(PATIENCE_S)
    beating._thread.join(PATIENCE_S)
    assert not beating._thread.is_alive()
    assert beating.up_since < float("inf")
    assert len({*values}) == len(values), "each beat is another value"
    assert json.loads(values[0])["process"] == this_process()
