"""The cell ledger and its claims: whoever comes, and whenever, a cell is trained by one driver alone."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from mlflow import MlflowClient

from sweeps import recorded
from sweeps.claims import DOUBLE, LEFT, Taken, check_claim, claim_cell, close_leftovers, close_run
from sweeps.heartbeat import Heartbeat, Watch, this_process
from sweeps.ledger import CellRun, cell_runs, count_in, ledger_key, read_ledger
from trainer.config import TrialConfig

KEY = "0123456789abcdef"


class Rival:
    """A driver that wants one cell.

    Args:
        before_creation: called when it has seen no run, and is about to make one.
    """

    def __init__(self, store: MlflowClient, experiment: str, name: str, gone: tuple[str, ...] = ()) -> None:
        self.store, self.experiment, self.name, self.gone = store, experiment, name, gone
        self.before_creation: Callable[[], object] = lambda: None
        self.stale: tuple[str, ...] = ()

    def create(self) -> str:
        self.before_creation()
        tags = {recorded.KIND: "trial", recorded.CELL: KEY, recorded.DRIVER: self.name, recorded.DATA_DIGEST: "d"}
        return self.store.create_run(self.experiment, tags=tags).info.run_id

    def claim(self) -> CellRun:
        return claim_cell(
            self.store,
            self.experiment,
            KEY,
            driver=self.name,
            gone=self.gone,
            stale=self.stale,
            create=self.create,
        )

    def got_it(self) -> bool:
        try:
            self.claim()
        except Taken:
            return False
        return True


@pytest.fixture
def rival(store: MlflowClient, experiment: str) -> Callable[..., Rival]:
    return lambda name, *gone: Rival(store, experiment, name, gone)


def open_runs(rival: Rival) -> list[CellRun]:
    return [run for run in cell_runs(rival.store, rival.experiment, KEY) if run.is_open]


def finish(rival: Rival, run: CellRun, outcome: str = "finished") -> None:
    rival.store.set_tag(run.run_id, recorded.OUTCOME, outcome)
    rival.store.set_terminated(run.run_id, "FINISHED")


def test_a_cell_that_a_driver_has_is_not_to_be_had_by_another(rival: Callable[..., Rival]) -> None:
    first, second = rival("first"), rival("second")
    run = first.claim()
    assert not second.got_it()
    assert [run.run_id] == [run.run_id for run in open_runs(first)], "and no second run is left"


def test_a_cell_that_is_done_is_not_to_be_had_again(rival: Callable[..., Rival]) -> None:
    first = rival("first")
    finish(first, first.claim())
    assert not rival("second", "first").got_it() and not first.got_it()


def test_a_diverged_cell_is_done_unless_asked_for_again(rival: Callable[..., Rival]) -> None:
    first, second, third = rival("first"), rival("second"), rival("third")
    diverged = first.claim()
    finish(first, diverged, "diverged")
    assert not second.got_it()
    second.stale = third.stale = (diverged.run_id,)
    finish(second, second.claim(), "diverged")
    assert not third.got_it(), "it was run again once, by another"


def test_a_failed_cell_gets_a_new_run(rival: Callable[..., Rival]) -> None:
    first, second = rival("first"), rival("second")
    run = first.claim()
    close_run(first.store, run.run_id, "FAILED", "out of luck")
    close_run(first.store, run.run_id, "KILLED", "too late to be heard")
    assert first.store.get_run(run.run_id).data.tags[recorded.FAILURE] == "out of luck"
    assert second.claim().run_id != run.run_id


def test_a_run_that_its_trial_and_its_driver_ended_at_once_is_gone_on_with(rival: Callable[..., Rival]) -> None:
    """The trial's FINISHED came last, after its driver had written that it failed: no second run may be made."""
    first = rival("first")
    run = first.claim()
    close_run(first.store, run.run_id, "KILLED", "interrupted")
    first.store.set_terminated(run.run_id, "FINISHED")
    assert rival("second", "first").claim().run_id == run.run_id


def test_a_claim_that_comes_to_nothing_leaves_no_run(rival: Callable[..., Rival]) -> None:
    """The cell is done by another after the first look."""
    first, second = rival("first"), rival("second")
    first.before_creation = lambda: finish(second, second.claim())
    assert not first.got_it()
    assert len(cell_runs(first.store, first.experiment, KEY)) == 1


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_the_run_of_a_driver_that_is_gone_is_taken_up_again(rival: Callable[..., Rival], status: str) -> None:
    first = rival("first")
    run = first.claim()
    if status == "KILLED":
        close_run(first.store, run.run_id, "KILLED", "interrupted")
    assert not rival("too early").got_it()
    assert rival("second", "first").claim().run_id == run.run_id
    assert not rival("third", "first").got_it(), "it belongs to the second now, which lives"
    assert rival("fourth", "first", "second").claim().claims[-1].startswith("second ")


def test_a_driver_goes_on_in_its_own_run(rival: Callable[..., Rival]) -> None:
    first = rival("first")
    assert first.claim().run_id == first.claim().run_id == first.claim().run_id


def test_a_driver_that_was_taken_for_dead_is_told_so(rival: Callable[..., Rival]) -> None:
    def now() -> CellRun:
        return CellRun.read(first.store.get_run(before.run_id))

    first, second = rival("first"), rival("second", "first")
    before = first.claim()
    check_claim(now(), before, "first")
    before_second = second.claim()
    check_claim(now(), before_second, "second")
    with pytest.raises(Taken):
        check_claim(now(), before, "first")


def test_of_two_that_make_their_runs_at_the_same_time_one_gets_the_cell(rival: Callable[..., Rival]) -> None:
    """Neither has seen the other's run when it makes its own."""
    rivals = [rival("first"), rival("second")]
    meeting = threading.Barrier(2)
    for one in rivals:
        one.before_creation = meeting.wait
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(Rival.got_it, rivals)) == [False, True]
    assert len(open_runs(rivals[0])) == 1, "the loser has taken its run back"


@pytest.mark.parametrize("winner_is_first", [True, False], ids=["the earlier one", "the later one"])
def test_whoever_comes_between_a_look_and_a_claim_is_seen(rival: Callable[..., Rival], winner_is_first: bool) -> None:
    """The second driver does all of its claim after the first has looked, and before the first makes its run."""
    first, second = rival("first"), rival("second")
    got = []
    first.before_creation = lambda: got.append(second.got_it())
    assert not first.got_it() and got == [True]
    assert len(open_runs(first)) == 1


def test_a_crowd_of_drivers_gets_a_cell_once(rival: Callable[..., Rival]) -> None:
    """Also when the one before them died: twelve rounds, in each the winner of the last one is gone."""
    gone: tuple[str, ...] = ()
    numbers = count()
    for _ in range(6):
        rivals = [rival(f"driver{next(numbers)}", *gone) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(Rival.got_it, rivals))
        assert got.count(True) <= 1
        winners = [one.name for one, has in zip(rivals, got, strict=True) if has]
        assert len(open_runs(rivals[0])) <= 1 or not winners
        gone += tuple(one.name for one in rivals)
    assert rival("last", *gone).got_it(), "whatever the others left behind"
    assert len(open_runs(rival("last"))) == 1


def test_a_run_that_the_server_made_twice_for_one_request_is_closed(rival: Callable[..., Rival]) -> None:
    """The answer to the first request was lost, and the client asked again."""
    first = rival("first")
    twice = first.create
    first.create = lambda: (twice(), twice())[1]  # type: ignore[method-assign]
    run = first.claim()
    assert [run.run_id] == [run.run_id for run in open_runs(first)]
    (other,) = [one for one in cell_runs(first.store, first.experiment, KEY) if not one.is_open]
    assert other.status == "KILLED" and other.tags[recorded.FAILURE] == DOUBLE


def test_what_a_driver_that_is_gone_left_open_is_closed_and_what_may_live_is_not(
    rival: Callable[..., Rival], store: MlflowClient, experiment: str
) -> None:
    def sweep_run() -> str:
        return store.create_run(experiment, tags={recorded.KIND: "sweep"}).info.run_id

    dead, alive = sweep_run(), sweep_run()
    store.set_tag(dead, recorded.HEARTBEAT, json.dumps({"process": this_process().rpartition("|")[0] + "|1"}))
    left = rival(dead).claim()
    other = store.create_run(experiment, tags={recorded.KIND: "trial", recorded.DRIVER: alive}).info.run_id
    of_nobody = store.create_run(experiment, tags={recorded.KIND: "trial"}).info.run_id
    assert close_leftovers(store, experiment, Watch(store, Heartbeat(store, "me"))) == 2
    for run_id in (dead, left.run_id):
        run = store.get_run(run_id)
        assert run.info.status == "KILLED" and run.data.tags[recorded.FAILURE] == LEFT
    assert {store.get_run(run_id).info.status for run_id in (alive, other, of_nobody)} == {"RUNNING"}
    assert close_leftovers(store, experiment, Watch(store, Heartbeat(store, "me"))) == 0


# The ledger


@pytest.fixture
def config() -> Iterator[TrialConfig]:
    yield TrialConfig(task="h4")


def test_a_key_hangs_on_config_data_model_and_version(config: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ledger_key(config, "data", "model")
    others = {
        ledger_key(TrialConfig(task="h4", seed=1), "data", "model"),
        ledger_key(config, "other data", "model"),
        ledger_key(config, "data", "other model"),
        ledger_key(config, "data", "model", ["train/score"]),
    }
    monkeypatch.setattr("sweeps.ledger.NUMBERS", 0)
    others.add(ledger_key(config, "data", "model"))
    assert len(others) == 5 and key not in others
    assert len(key) == 16 and int(key, 16) >= 0


def test_the_ledger_has_every_run_of_the_cells_asked_for_oldest_first(rival: Callable[..., Rival]) -> None:
    first, second = rival("first"), rival("second")
    failed = first.claim().run_id
    close_run(first.store, failed, "FAILED", "out of luck")
    done = second.claim()
    finish(second, done)
    found = read_ledger(first.store, first.experiment, "d", [KEY, "another"])
    assert [run.run_id for run in found[KEY]] == [failed, done.run_id] and set(found) == {KEY}
    assert [run.is_done() for run in found[KEY]] == [False, True]
    assert read_ledger(first.store, first.experiment, "other data", [KEY]) == {}


def test_a_sweep_counts_the_run_that_stands_for_its_cell_as_its_own(rival: Callable[..., Rival]) -> None:
    first = rival("first")
    finish(first, first.claim())
    count_in(first.store, first.experiment, "d", [KEY], "my sweep")
    (run,) = cell_runs(first.store, first.experiment, KEY)
    assert run.counts_in("my sweep") and not run.counts_in("first")
