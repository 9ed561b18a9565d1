"""Faults on purpose: a 12-cell sweep is disturbed at random moments, and what it promises is checked.

``python -m benchmarks.faults --rounds 20 --seed 0``. Every round is a new sweep, run as a user runs it, against a real
``mlflow server``; its seed decides what is killed and when. A round that broke the promise keeps its folder.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from benchmarks.kinds import KINDS, draw_faults
from benchmarks.promise import Losses, Recorded, read_cells
from benchmarks.rounds import Outcome, Round, table_of
from benchmarks.scene import NUM_CELLS, WIRINGS, Scene, Wiring
from trainer.commandline import parse, run, setting
from trainer.errors import UserError, one_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run."""

    rounds: int = setting(20, help="how many sweeps are disturbed", unit="sweeps")
    seed: int = setting(0, help="seed of the first round; the next ones have the numbers that follow")
    kinds: str = setting("driver,stop,worker,server,pause,two", help=f"the faults to choose from: {', '.join(KINDS)}")
    most: int = setting(3, help="the most faults in a round", unit="faults")
    wiring: str = setting("polymath", help=f"what is disturbed: {', '.join(WIRINGS)}")
    folder: str | None = setting(None, help="where everything is kept; made anew unless given")

    def __post_init__(self) -> None:
        one_of("wiring", self.wiring, WIRINGS)
        for kind in self.kinds.split(","):
            one_of("kinds", kind, KINDS)
        if self.rounds < 1 or self.most < 1:
            raise UserError("rounds, most: give at least 1")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The sweep that nothing disturbed.

    Attributes:
        table: as it was printed.
    """

    cells: dict[str, Recorded]
    table: str
    seconds: float


def undisturbed(scene: Scene, wiring: Wiring) -> Reference:
    """Runs the sweep without faults.

    Raises:
        RuntimeError: when even that does not end well.
    """
    first = Round(scene, wiring, "reference", seed=0)
    outcome = first.run([])
    cells = read_cells(scene.store, first.experiment, wiring.kept)
    if outcome.troubles or len(cells) != NUM_CELLS:
        raise RuntimeError(f"the undisturbed sweep did not end well, see {first.folder}: {outcome.troubles}")
    return Reference(cells=cells, table=table_of(first.output), seconds=outcome.seconds)


@dataclass
class Total:
    """Sums over rounds; a round with several kinds of faults counts in the row of each."""

    rounds: int = 0
    faults: int = 0
    broken: int = 0
    exceptions: int = 0
    losses: Losses = field(default_factory=Losses)

    def add(self, outcome: Outcome, num_faults: int) -> None:
        """Adds a round."""
        self.rounds += 1
        self.faults += num_faults
        self.broken += bool(outcome.troubles)
        self.exceptions += outcome.exceptions
        self.losses += outcome.losses


def report(outcomes: Sequence[Outcome]) -> str:
    """The summary as a Markdown table."""
    totals: dict[str, Total] = {}
    for outcome in outcomes:
        for kind, count in Counter(outcome.inflicted).items():
            totals.setdefault(kind, Total()).add(outcome, count)
        totals.setdefault("all", Total()).add(outcome, len(outcome.inflicted))
    names = [one.name for one in fields(Losses)]
    header = ["fault", "times", "rounds", "rounds broken", "exceptions", *(name.replace("_", " ") for name in names)]
    rows = [
        [kind, total.faults, total.rounds, total.broken, total.exceptions, *(getattr(total.losses, n) for n in names)]
        for kind in (*KINDS, "all")
        if (total := totals.get(kind))
    ]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def run_rounds(settings: Settings, folder: Path) -> list[Outcome]:
    """The undisturbed sweep, then every round, with a line for each as it ends."""
    wiring, kinds = WIRINGS[settings.wiring], settings.kinds.split(",")
    scene = Scene(folder, has_cluster="node" in kinds)
    outcomes = []
    try:
        reference = undisturbed(scene, wiring)
        print(f"undisturbed: {len(reference.cells)} cells in {reference.seconds:.0f} s", flush=True)
        for seed in range(settings.seed, settings.seed + settings.rounds):
            one = Round(scene, wiring, f"round-{seed}", seed)
            outcome = one.run(draw_faults(seed, kinds, settings.most))
            one.check(outcome, reference.cells, reference.table)
            outcomes.append(outcome)
            print(outcome, flush=True)
            if outcome.troubles:
                print(f"  kept in {one.folder}; again: --rounds 1 --seed {seed} --kinds {settings.kinds}", flush=True)
            else:
                shutil.rmtree(one.folder)
    finally:
        scene.close()
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Prints a line a round and the summary; status 1 when the promise was broken."""
    settings = parse(Settings, arguments, program="python -m benchmarks.faults", description=__doc__ or "")
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="faults-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    outcomes = run_rounds(settings, folder)
    broken = sum(bool(outcome.troubles) for outcome in outcomes)
    faults = sum(len(outcome.inflicted) for outcome in outcomes)
    print(f"\n{settings.wiring}: {len(outcomes)} rounds, {faults} faults, {broken} rounds broken, ", end="")
    print(f"{(time.monotonic() - started) / 60:.0f} min\n\n{report(outcomes)}")
    if not broken and not settings.folder:
        shutil.rmtree(folder)
    return 1 if broken else 0


if __name__ == "__main__":
    run(main)
