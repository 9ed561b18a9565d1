"""The common end of all benchmarks: ratios, targets, the JSON file, the exit status."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import Report, require_peers
from trainer.commandline import setting
from trainer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settings:
    model: str = setting("bert", help="a model")
    sizes: tuple[str, ...] = setting(("10", "100"), help="some sizes")
    quick: bool = setting(False, help="whether")
    output: str | None = setting(None, help="a file", none="none")


def make(**values: object) -> Report:
    return Report(program="benchmarks.some", settings=Settings(**values))  # type: ignore[arg-type]


def printed(report: Report) -> str:
    file = io.StringIO()
    report.finish(Console(file=file))
    return file.getvalue()


def line_of(report: Report, name: str) -> list[str]:
    (line,) = [line for line in printed(report).splitlines() if line.startswith(name)]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize(
    ("more_is_better", "ratios"), [(True, [2.0, 5.0, 1.0]), (False, [0.5, 0.2, 1.0])], ids=["speed", "time"]
)
def test_a_ratio_says_how_many_times_better_ours_is_pair_by_pair(more_is_better: bool, ratios: list[float]) -> None:
    """And the one that counts is the median of the pairs, not the ratio of the two sides' medians, which is 20 / 6."""
    report = make()
    report.pairs("DNA", unit="u", ours=[20, 30, 6], peer=[10, 6, 6], more_is_better=more_is_better)
    (row,) = report.figures["rows"]
    assert row["ratios"] == pytest.approx(ratios)
    assert row["ratio"] == pytest.approx(sorted(ratios)[1])
    assert (row["median"], row["peer_median"]) == (20, 6)


@pytest.mark.parametrize(("at_least", "holds"), [(1.9, True), (2.0, True), (2.1, False), (None, None)])
def test_the_target_of_pairs_is_about_the_median_ratio(at_least: float | None, holds: bool | None) -> None:
    report = make()
    report.pairs("DNA", unit="s", ours=[1, 1, 1], peer=[9, 2, 1], more_is_better=False, at_least=at_least)
    assert report.rows[0].holds is holds
    assert report.finish(Console(quiet=True)) == (1 if holds is False else 0)


@pytest.mark.parametrize(
    ("targets", "holds"),
    [({"at_most": 5}, True), ({"at_most": 4}, False), ({"at_least": 5}, True), ({"at_least": 6}, False), ({}, None)],
)
def test_the_target_of_values_is_about_their_median(targets: dict[str, float], holds: bool | None) -> None:
    report = make()
    report.values("start-up", unit="s", values=[1, 5, 99], **targets)
    assert report.rows[0].holds is holds


@pytest.mark.parametrize("bounds", [(0.5, 2.0), (2.0, 0.5)])
def test_one_missed_target_is_a_failure(bounds: tuple[float, ...]) -> None:
    report = make()
    for bound in bounds:
        report.values("start-up", unit="s", values=[1.0], at_most=bound)
    assert report.finish(Console(quiet=True)) == 1


def test_the_table_shows_medians_ratio_spread_target_and_whether_it_holds() -> None:
    report = make()
    report.pairs("DNA", unit="examples/s", ours=[400, 90], peer=[100, 90], more_is_better=True, at_least=1.3)
    report.values("start-up", unit="s", values=[1234.5, 0.25, 12], at_most=10)
    report.note("both sides: [10] steps")
    assert line_of(report, "DNA") == [
        "DNA",
        "245 examples/s",
        "95.0 examples/s",
        "2.50x",
        "1.00 - 4.00x",
        "at least 1.3x",
        "yes",
    ]
    assert line_of(report, "start-up") == ["start-up", "12.0 s", "0.250 - 1,234 s", "at most 10 s", "NO"]
    assert "* both sides: [10] steps\n" in printed(report)


def test_the_file_has_the_figures_and_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "results/some.json"
    report = make(output=str(path), quick=True)
    report.values("start-up", unit="s", values=[1, 2], at_most=10)
    report.note("a note")
    report.finish(Console(quiet=True))
    found = json.loads(path.read_text())
    assert found["rows"] == [
        {
            "name": "start-up",
            "unit": "s",
            "ours": [1, 2],
            "median": 1.5,
            "at_least": None,
            "at_most": 10,
            "holds": True,
        }
    ]
    assert (found["notes"], found["holds"]) == (["a note"], True)
    assert found["settings"] == {"model": "bert", "sizes": ["10", "100"], "quick": True, "output": str(path)}
    assert {"machine", "num_cpus", "versions", "command", "time", "commit"} <= found.keys()
    assert {"python", "torch", "mlflow"} <= found["versions"].keys()


def test_without_an_output_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make().finish(Console(quiet=True))
    assert not [*tmp_path.iterdir()]


def test_the_command_has_what_is_not_at_its_default() -> None:
    report = make(quick=True, sizes=("1", "2"), model="a model")
    command = report.circumstances["command"]
    assert command == "python -m benchmarks.some --model 'a model' --sizes 1,2 --quick"


def test_passwords_stay_out_of_the_file() -> None:
    report = make(model="postgresql://me:secret@host/db")
    assert "secret" not in json.dumps(report.figures)


@pytest.mark.parametrize(
    ("ours", "peer"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0]), ([0.0], [1.0]), ([1.0], [-1.0])]
)
def test_pairs_that_cannot_be_compared_are_refused(ours: list[float], peer: list[float]) -> None:
    with pytest.raises(ValueError):
        make().pairs("DNA", unit="s", ours=ours, peer=peer, more_is_better=False)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="start-up: no values"):
        make().values("start-up", unit="s", values=[])


def test_a_package_that_only_peers_need_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.report.PEERS", ("no_such_package",))
    with pytest.raises(UserError, match=r"no_such_package is not installed.*make bench"):
        require_peers()
