"""A sweep keeps its promise whatever is killed: a few rounds of ``python -m benchmarks.faults``, their seeds fixed."""

import math
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.faults import Reference, report, undisturbed
from benchmarks.kinds import KINDS, Fault, draw_faults
from benchmarks.promise import Losses, Recorded, compare
from benchmarks.rounds import Outcome, Round
from benchmarks.scene import NUM_CELLS, OURS, Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("chaos"), has_cluster=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference(scene: Scene) -> Reference:
    return undisturbed(scene, OURS)


def struck(kind: str, after: int, delay: float = 1.0, lasts: float = 5.0) -> Fault:
    return Fault(kind=kind, after=after, delay=delay, lasts=lasts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        [struck("server", 2), struck("worker", 4), struck("stop", 7)],
        [struck("two", 1), struck("worker", 4), struck("driver", 6, delay=1.5)],
    ],
    ids=lambda faults: "-".join(fault.kind for fault in faults),
)
def test_a_sweep_loses_nothing_whatever_dies(scene: Scene, reference: Reference, faults: Sequence[Fault]) -> None:
    kinds = [fault.kind for fault in faults]
    one = Round(scene, OURS, "-".join(kinds), seed=0)
    outcome = one.run(faults)
    one.check(outcome, reference.cells, reference.table)
    assert outcome.troubles == [], str(outcome)
    assert outcome.inflicted == kinds


RUN = Recorded(params={"seed": "0"}, metrics={"loss": ((1, 0.5), (2, 0.25), (3, 0.125))}, files={"a": b"1"})


def recorded(*points: tuple[int, float]) -> Recorded:
    return Recorded(params=RUN.params, metrics={"loss": points}, files=RUN.files)


def test_a_lost_a_repeated_a_changed_and_a_moved_point_are_told_apart() -> None:
    first, second, third = RUN.metrics["loss"]
    assert not compare(RUN, RUN)
    assert compare(recorded(first, third), RUN) == Losses(points_lost=1)
    assert compare(recorded(first, second, second, third), RUN) == Losses(points_repeated=1)
    assert compare(recorded(first, (2, math.nextafter(0.25, 1)), third), RUN) == Losses(points_changed=1)
    assert compare(recorded(first, third, second), RUN) == Losses(points_changed=2)
    assert compare(Recorded(params={}, metrics=RUN.metrics, files={}), RUN) == Losses(others_changed=2)


def test_what_happens_in_a_round_follows_from_its_seed_alone_and_every_kind_comes_up() -> None:
    kinds = [*KINDS]
    rounds = [draw_faults(seed, kinds, most=3) for seed in range(40)]
    assert rounds == [draw_faults(seed, kinds, most=3) for seed in range(40)]
    assert {fault.kind for faults in rounds for fault in faults} == set(kinds)
    assert {len(faults) for faults in rounds} == {1, 2, 3}
    assert all(0 <= fault.after <= NUM_CELLS for faults in rounds for fault in faults)


def test_the_summary_counts_a_round_once_for_each_kind_and_once_in_all() -> None:
    kept = Outcome(seed=0, inflicted=["driver", "driver", "worker"])
    broken = Outcome(seed=1, inflicted=["worker"], losses=Losses(cells_lost=2), troubles=["2 cells lost"])
    rows = [line.split(" | ")[:6] for line in report([kept, broken]).splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["driver", "worker", "all"]
    assert [row[1:6] for row in rows] == [
        ["2", "1", "0", "0", "0"],
        ["2", "2", "1", "0", "2"],
        ["4", "2", "1", "0", "2"],
    ]
