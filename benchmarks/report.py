"""How every benchmark ends: a table with ratios and targets, the same figures as JSON, and an exit status.

report = Report(program="benchmarks.encoding", settings=settings)
report.pairs("DNA", unit="s", ours=[0.1, 0.1], peer=[19.0, 20.0], more_is_better=False, at_least=40)
report.values("start-up", unit="s", values=[2.1, 2.3], at_most=10.0)
report.note("both ways gave the same ids")
return report.finish()
"""

import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Protocol

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.terminal import open_console
from sweeps.provenance import PACKAGES, hardware, provenance_tags, without_secrets
from sweeps.recorded import PREFIX
from trainer.errors import UserError

PEERS = ("accelerate",)  # packages that only the peers need


def require_peers() -> None:
    """Raises UserError when a package that only the peers need is missing."""
    for package in PEERS:
        if find_spec(package) is None:
            raise UserError(
                f"{package} is not installed: only the peer needs it; `make bench` installs it, or run "
                "`pip install --requirement benchmarks/requirements.txt --constraint constraints.txt`"
            )


class Settings(Protocol):
    """A benchmark's settings: a dataclass of :func:`trainer.commandline.setting` fields, with these two."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def quick(self) -> bool:
        """Less work, for a look; the figures are rough."""

    @property
    def output(self) -> str | None:
        """The JSON file."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        ours: what was measured of Polymath, in the unit.
        peer: the same of the peer, pair by pair; empty without one.
        compared: what the target is about: ratios, where 2 says that ours is twice as good; without a peer, ``ours``.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    compared: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the target; None without a target."""
        if self.at_least is None and self.at_most is None:
            return None
        middle = median(self.compared)
        return (self.at_least is None or middle >= self.at_least) and (self.at_most is None or middle <= self.at_most)

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, for JSON."""
        figures: dict[str, Any] = {"name": self.name, "unit": self.unit, "ours": self.ours, "median": median(self.ours)}
        if self.peer:
            figures |= {"peer": self.peer, "peer_median": median(self.peer)}
            figures |= {"ratios": self.compared, "ratio": median(self.compared)}
        return figures | {"at_least": self.at_least, "at_most": self.at_most, "holds": self.holds}

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        of = "x" if self.peer else f" {self.unit}"
        spread = f"{_number(min(self.compared))} - {_number(max(self.compared))}{of}"
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        target = ", ".join(f"{word} {bound:,g}{of}" for word, bound in bounds if bound is not None)
        return (
            self.name,
            f"{_number(median(self.ours))} {self.unit}",
            f"{_number(median(self.peer))} {self.unit}" if self.peer else "",
            f"{_number(median(self.compared))}x" if self.peer else "",
            spread,
            target,
            {None: "", True: "yes", False: "NO"}[self.holds],
        )


@dataclass(kw_only=True)
class Report:
    """Gathers what a benchmark measures; machine, versions and command are those at its making."""

    program: str
    settings: Settings
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        tags = provenance_tags()
        self.circumstances: dict[str, Any] = {
            "program": self.program,
            "command": without_secrets(self._command()),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": hardware(),
            "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "versions": _versions(),
            "commit": tags.get("mlflow.source.git.commit"),
            "changed": tags.get(f"{PREFIX}git_dirty") == "true",
        }

    def pairs(
        self,
        name: str,
        *,
        unit: str,
        ours: Sequence[float],
        peer: Sequence[float],
        more_is_better: bool,
        at_least: float | None = None,
    ) -> None:
        """A row of pairs that were measured next to each other.

        Args:
            name: what was measured.
            unit: of both sides' numbers.
            ours: Polymath's number of every pair.
            peer: the peer's number of every pair.
            more_is_better: as with examples/s, not with seconds.
            at_least: how many times better ours must be, as the median of the pairs' ratios; None: no target.

        Raises:
            ValueError: when there are no pairs, or a number is not above 0.
        """
        if not ours or min([*ours, *peer]) <= 0:
            raise ValueError(f"{name}: pairs of numbers above 0 are needed, not {ours} and {peer}")
        ratios = [one / other if more_is_better else other / one for one, other in zip(ours, peer, strict=True)]
        self.rows.append(
            Row(name=name, unit=unit, ours=tuple(ours), peer=tuple(peer), compared=tuple(ratios), at_least=at_least)
        )

    def values(
        self,
        name: str,
        *,
        unit: str,
        values: Sequence[float],
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """A row without a peer; the target is about the median.

        Raises:
            ValueError: when there are no values.
        """
        if not values:
            raise ValueError(f"{name}: no values")
        given = tuple(values)
        self.rows.append(Row(name=name, unit=unit, ours=given, compared=given, at_least=at_least, at_most=at_most))

    def note(self, line: str) -> None:
        """A line below the table: what was checked, the floor."""
        self.notes.append(line)

    def finish(self, console: Console | None = None) -> int:
        """Prints the table and writes the JSON file, where one is asked for.

        Returns:
            The exit status: 1 when a target is missed, else 0.
        """
        self._print(open_console(console))
        if self.settings.output:
            path = Path(self.settings.output)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.figures, indent=2) + "\n")
        return int(not self.holds)

    @property
    def holds(self) -> bool:
        """Whether no row misses its target."""
        return all(row.holds is not False for row in self.rows)

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, for JSON."""
        settings = {name: without_secrets(v) if isinstance(v, str) else v for name, v in asdict(self.settings).items()}
        measured = {"rows": [row.figures for row in self.rows], "notes": self.notes, "holds": self.holds}
        return {**self.circumstances, "settings": settings, **measured}

    def _print(self, console: Console) -> None:
        about = self.circumstances
        versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        console.print(Text(about["command"], style="bold"))
        console.print(f"{about['machine']}; CPUs used: {about['num_cpus']}; {versions}\n")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for column in ("what", "Polymath", "peer", "better by", "min - max", "target", "holds"):
            table.add_column(column, justify="left" if column in ("what", "holds") else "right")
        for row in self.rows:
            table.add_row(*map(Text, row.cells))
        console.print(table)
        console.print()
        for note in self.notes:
            console.print(f"* {note}")

    def _command(self) -> str:
        """The command that gives these settings; what is at its default is left out."""
        words = ["python", "-m", self.program]
        for one in fields(self.settings):
            if (value := getattr(self.settings, one.name)) != one.default:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words += [f"--{one.name.replace('_', '-')}", *([] if value is True else [text])]
        return shlex.join(words)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *PEERS):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _number(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
