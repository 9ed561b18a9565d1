"""A trial's journal: what is written is read, to the last bit, also by the next attempt."""

import math
import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.journal import BATCH, CHUNK, Entry, Journal, parse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write(journal: Journal) -> None:
    journal.params({"task": "splice", "note": "two\nlines, \u2028 and ü"})
    journal.metrics("train/loss", [0.5, 0.25], [1, 2])
    journal.tags({"polymath.hardware": "abacus"})
    journal.metrics("valid/score", [0.1 + 0.2], [2])


def batches(journal: Journal) -> Iterator[list[Entry]]:
    offset = 0
    while offset < journal.size:
        entries, offset = journal.read(offset)
        assert entries
        yield entries


def points(journal: Journal, metric: str) -> list[tuple[int, int, float]]:
    entries = [entry for entry in parse(journal.text()) if entry.metric == metric]
    return [(time_ms, step, value) for entry in entries for time_ms, step, value in entry.points]


def test_what_is_written_is_read_in_order(path: Path) -> None:
    journal = Journal(path)
    write(journal)
    ((params, losses, tags, scores),) = batches(journal)
    assert params.params == {"task": "splice", "note": "two\nlines, \u2028 and ü"}
    assert (losses.metric, [(step, value) for _, step, value in losses.points]) == ("train/loss", [(1, 0.5), (2, 0.25)])
    assert tags.tags == {"polymath.hardware": "abacus"}
    assert scores.points[0][2] == 0.1 + 0.2
    assert abs(scores.points[0][0] - time.time() * 1000) < 60_000


@given(st.lists(st.floats(), max_size=5))
def test_floats_survive_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.jsonl")
    journal.metrics("loss", values, range(len(values)))
    read = [value for _, _, value in points(journal, "loss")]
    assert [(math.isnan(value), value.hex()) for value in read] == [(math.isnan(v), v.hex()) for v in values]


def test_an_earlier_attempts_journal_comes_first(path: Path, tmp_path: Path) -> None:
    earlier = Journal(tmp_path / "earlier.jsonl")
    write(earlier)
    journal = Journal(path, earlier.text())
    assert journal.text() == earlier.text()
    journal.metrics("train/loss", [0.125], [3])
    assert journal.text().startswith(earlier.text())
    assert [step for _, step, _ in points(journal, "train/loss")] == [1, 2, 3]
    assert journal.num_logged == 2 + 3 + 1 + 1 == sum(len(entry) for batch in batches(journal) for entry in batch)


def test_of_a_journal_that_was_cut_off_all_whole_lines_are_kept(path: Path, tmp_path: Path) -> None:
    earlier = Journal(tmp_path / "earlier.jsonl")
    write(earlier)
    text = earlier.text()
    for end in range(len(text)):
        assert Journal(path, text[:end]).text() == "".join(
            line for line in text[:end].splitlines(keepends=True) if line.endswith("\n")
        )


@pytest.mark.parametrize("damaged", ["{", "[]", '{"metrics": 1}', "null"])
def test_a_journal_that_is_damaged_elsewhere_is_refused(damaged: str, path: Path) -> None:
    with pytest.raises(ValueError, match="line 2 of a journal is damaged"):
        Journal(path, f'{{"tags": {{}}}}\n{damaged}\n{{"tags": {{}}}}\n')


def test_a_request_holds_as_much_as_a_server_takes_and_every_line_gets_into_one(path: Path) -> None:
    journal = Journal(path)
    journal.tags({"note": "x" * 3 * CHUNK})
    for size in (1, BATCH, 2 * BATCH + 1, 7, BATCH - 7):
        journal.metrics("loss", [0.5] * size, range(1, size + 1))
    sizes = [sum(map(len, entries)) for entries in batches(journal)]
    assert sum(sizes) == journal.num_logged == 1 + 1 + BATCH + 2 * BATCH + 1 + BATCH
    assert max(sizes) <= BATCH


def test_a_point_that_is_logged_again_has_another_time(path: Path) -> None:
    """A store drops a point that it has: the last epoch's score, repeated as the best one's, must not be lost."""
    journal = Journal(path)
    for values, steps in (([0.9], [30]), ([0.9], [30]), ([0.9] * 4, [30, 30, 31, 30])):
        journal.metrics("valid/score", values, steps)
    logged = points(journal, "valid/score")
    assert len(set(logged)) == len(logged) == 6


def test_times_never_fall_when_a_clock_goes_back(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow shows and returns a metric by its points' times; the next attempt may be on a machine that is slow."""
    clock = count(1_700_000_000, -60)
    monkeypatch.setattr("sweeps.journal.time.time", lambda: next(clock))
    earlier = Journal(tmp_path / "earlier.jsonl")
    earlier.metrics("loss", [3.0, 2.0], [1, 2])
    journal = Journal(path, earlier.text())
    journal.metrics("loss", [1.5], [3])
    journal.metrics("loss", [1.5], [3])
    logged = points(journal, "loss")
    assert all((time, step) < (later, next_step) for (time, step, _), (later, next_step, _) in pairwise(logged))
