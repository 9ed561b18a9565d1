"""A trial's journal: all that it logs, in order, on local disk; from there it is sent to the tracking store.

A line is a JSON object: ``{"params": {...}}`` or ``{"tags": {...}}``, names to texts, or ``{"metric": ..., "points":
[...]}``, where a point is ``[time, step, value]``. The time is fixed here: a tracking store drops a point that it has
already, so a request may be repeated when it is not known whether it arrived.
"""

import json
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BATCH = 1000  # points in a line, and names and points in one request: the most that a tracking server takes
CHUNK = 1 << 20  # bytes that are read at once, if that makes a line

Point = tuple[int, int, float]  # time in milliseconds since 1970, step, value


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a journal; only one of params, tags and points has anything in it."""

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    points: Sequence[Point] = ()

    def __len__(self) -> int:
        """How much of a request it takes."""
        return len(self.params) + len(self.tags) + len(self.points)


class Journal:
    """An append-only file of JSON lines. One thread may write while another reads.

    Args:
        path: the file, made anew.
        earlier: the text of an earlier attempt's journal, with which this one begins; a last line without its end is
            dropped.

    Raises:
        ValueError: when ``earlier`` is damaged elsewhere.
    """

    def __init__(self, path: Path, earlier: str = "") -> None:
        self.size = 0  # bytes
        self.num_logged = 0  # as len(Entry) counts
        self._latest: dict[str, tuple[int, int]] = {}  # metric -> time and step of its last point
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        weakref.finalize(self, os.close, self._file)
        whole = earlier[: earlier.rfind("\n") + 1]
        for entry in parse(whole):
            self._note(entry)
        self._write(whole)

    def params(self, values: Mapping[str, str]) -> None:
        self._append(Entry(params=values))

    def tags(self, values: Mapping[str, str]) -> None:
        self._append(Entry(tags=values))

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        """Adds points of a metric, as of now."""
        now, step_before = self._latest.get(name, (0, 0))
        now = max(now, int(time.time() * 1000))
        points = []
        for value, step in zip(values, steps, strict=True):
            if step <= step_before:
                now += 1  # no two points are alike in time and step, else the store would drop one as a repetition
            points.append((now, int(step), float(value)))
            step_before = step
        for start in range(0, len(points), BATCH):
            self._append(Entry(metric=name, points=points[start : start + BATCH]))

    def text(self) -> str:
        """All that was logged so far, for the journal of another attempt."""
        return os.pread(self._file, self.size, 0).decode()

    def read(self, offset: int) -> tuple[list[Entry], int]:
        """The entries from an offset on that go into one request, and the offset behind them."""
        data, length = b"", CHUNK
        while b"\n" not in data and len(data) < self.size - offset:
            data = os.pread(self._file, min(length, self.size - offset), offset)
            length *= 2
        entries, num_taken = list[Entry](), 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            (entry,) = parse(line.decode())
            num_taken += len(entry)
            if entries and num_taken > BATCH:
                break
            entries.append(entry)
            offset += len(line)
        return entries, offset

    def _append(self, entry: Entry) -> None:
        written = {"metric": entry.metric, "points": entry.points} if entry.metric else {}
        written |= {name: values for name in ("params", "tags") if (values := getattr(entry, name))}
        self._note(entry)
        self._write(json.dumps(written) + "\n")

    def _note(self, entry: Entry) -> None:
        self.num_logged += len(entry)
        if entry.points:
            time_ms, step, _ = entry.points[-1]
            self._latest[entry.metric] = time_ms, step

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            written = os.write(self._file, data)
            self.size += written
            data = data[written:]


def parse(text: str) -> Iterator[Entry]:
    """The entries of whole lines.

    Raises:
        ValueError: when a line is damaged.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number} of a journal is damaged: {line[:80]!r}") from error
