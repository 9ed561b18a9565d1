"""The kinds of faults, and what happens in a round."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scene import NUM_CELLS

FIRST_S = (2.0, 20.0)  # when a fault strikes that does not wait for a cell: from start-up to the first trials
LATER_S = (0.0, 4.0)  # seconds after a cell's end
AWAY_S = (1.0, 8.0)  # how long a server is away

KINDS = {
    "driver": "kill -9 of the driver; then the same command again",
    "stop": "SIGTERM to the driver; then the same command again",
    "worker": "kill -9 of a process in which a trial runs",
    "node": "kill -9 of all processes of a node; another joins",
    "server": "kill -9 of the tracking server, which comes back",
    "pause": "SIGSTOP of the tracking server, later SIGCONT",
    "two": "a second driver of the same sweep",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        after: cells that are done before.
        delay: seconds after that.
        lasts: seconds that a server is away.
    """

    kind: str
    after: int
    delay: float
    lasts: float

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.kind in ("server", "pause") else ""
        return f"{self.kind} after {self.after} cells + {self.delay:.1f} s{lasts}"


def draw_faults(seed: int, kinds: Sequence[str], most: int) -> list[Fault]:
    """What happens in a round, in order."""
    draw = random.Random(seed)
    faults = []
    for _ in range(draw.randint(1, most)):
        after = draw.randrange(NUM_CELLS + 1)
        delay = draw.uniform(*(LATER_S if after else FIRST_S))
        faults.append(Fault(kind=draw.choice(kinds), after=after, delay=delay, lasts=draw.uniform(*AWAY_S)))
    return sorted(faults, key=lambda fault: fault.after)
