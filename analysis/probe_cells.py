"""What the tables of all kinds of probes have in common: the words that name a row, numbers as text, the settings."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from analysis.probe_results import Changes, Cosines, Distance, Number, Similarity, Spectrum
from analysis.probes import Probe
from analysis.sheet import NONE, Column, Sheet
from analysis.tables import phrase

Kind = TypeVar("Kind", Similarity, Distance, Spectrum, Cosines, Changes)
Row = Mapping[str, str]
Record = Mapping[str, object]

WORDS = ("task", "with", "model", "first", "second")  # columns; all others hold numbers


def results(probes: Sequence[Probe], kind: type[Kind]) -> Iterator[tuple[Probe, Kind]]:
    """All results of the probes, which are of one kind, each with its probe."""
    return ((probe, one) for probe in probes for one in probe.content.results if isinstance(one, kind))


def words(probe: Probe, models: Sequence[str]) -> dict[str, str]:
    """The words that name a row: ``model``, or ``first`` and ``second`` of a pair."""
    names = ("first", "second") if len(models) == 2 else ("model",)
    return {"task": probe.task, "with": probe.apart or NONE, **dict(zip(names, models, strict=True))}


def facts(probe: Probe, models: Sequence[str]) -> dict[str, object]:
    """What a record says besides its numbers."""
    return {"kind": probe.content.kind, **words(probe, models), "with": probe.apart or None, "run_id": probe.run_id}


def sheet(
    title: str,
    probes: Sequence[Probe],
    rows: Sequence[Row],
    notes: Sequence[str],
    records: Sequence[Record],
    hidden: Collection[str] = (),
) -> Sheet:
    """The table, with the probes' settings under it; what sets probes apart is a column where anything does.

    Args:
        rows: that begin with :func:`words`.
        hidden: columns that a terminal does not show.
    """
    left_out = {"with"} if not any(probe.apart for probe in probes) else set()
    shown = tuple({name: text for name, text in row.items() if name not in left_out} for row in rows)
    columns = (
        Column(name=name, align="left" if name in WORDS else "right", brief=name not in hidden) for name in shown[0]
    )
    return Sheet(
        title=title,
        columns=tuple(columns),
        rows=shown,
        notes=(*notes, *_settings(probes)),
        records=tuple(records),
    )


def _settings(probes: Sequence[Probe]) -> list[str]:
    """``stability, splice: mapping random, seed 0.`` for all probes that were asked the same."""
    alike: dict[str, list[str]] = defaultdict(list)
    for probe in probes:
        alike[", ".join(phrase(name, value) for name, value in probe.settings.items())].append(probe.name)
    return [f"{', '.join(names)}: {text}." for text, names in alike.items() if text]


def fixed(value: Number) -> str:
    """``0.545``: what is between -1 and 2."""
    return NONE if value is None else f"{value:.3f}"


def digits(value: Number) -> str:
    """``0.00123``: of any size."""
    return NONE if value is None else f"{value:.3g}"


def scientific(value: Number) -> str:
    """``1.23e-04``: of many sizes beside each other."""
    return NONE if value is None else f"{value:.2e}"


def with_std(mean: Number, std: Number, text: Callable[[Number], str]) -> str:
    """``0.545 ± 0.012``; the mean alone where it has no standard deviation."""
    return text(mean) + ("" if mean is None or std is None else f" ± {text(std)}")


def span(quantiles: Mapping[str, Number], low: str, high: str, text: Callable[[Number], str]) -> str:
    """``0.12 to 3.4``: from one quantile to another."""
    ends = quantiles[low], quantiles[high]
    return NONE if None in ends else " to ".join(map(text, ends))


def count(value: Number) -> str:
    """``6,200``."""
    return NONE if value is None else f"{value:,.0f}"


def whole(value: Number) -> Number:
    """A count as a file has it, without a decimal point."""
    return int(value) if value is not None and value.is_integer() else value


def mean(values: Sequence[Number]) -> Number:
    """None where any is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there and len(there) == len(values) else None
