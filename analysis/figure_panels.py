"""What belongs into one panel: selections that differ in nothing but their init, and the words for them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from analysis.inits import CORPUS, OF_CHECKPOINTS, series_place, step_of
from analysis.pairs import key
from analysis.paper import RIVALS
from analysis.select import Selection
from analysis.tables import Line, by_task, differing, phrase

LONGEST_SLUG = 50  # characters, of up to 4 bytes each

Steps = dict[int | None, Line]  # pre-training step -> line; None of an init that has none


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines to be drawn together.

    Attributes:
        name: what sets it apart from the others: the task, and the model and settings that are not everywhere alike.
        series: init, or a checkpoint's corpus or name -> its lines, in the order of pre-training steps.
    """

    name: str
    series: Mapping[str, Steps]

    @property
    def last(self) -> dict[str, Line]:
        """Each series' line, of checkpoints the one of their last step."""
        return {name: list(steps.values())[-1] for name, steps in self.series.items()}


def panels_of(lines: Sequence[Line]) -> list[Panel]:
    """The lines by what they share, in their order.

    Checkpoints of any step stand beside the other inits. Two lines that nothing in their settings tells apart, such as
    a learning rate's beside another's, are never in one panel.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Steps]]] = defaultdict(list)
    for line in lines:
        step = step_of(line.selection.config)
        alike = groups[key(line.selection, OF_CHECKPOINTS)]
        free = next((group for group in alike if step not in group.get(line.series, {})), None)
        if free is None:
            alike.append(free := {})
        free.setdefault(line.series, {})[step] = line
    varying = [name for name in differing(by_task(lines).values()) if name not in OF_CHECKPOINTS]
    several = len({line.model for line in lines if not is_rival(line)}) > 1
    return [
        Panel(name=name, series=_in_order(group))
        for alike in groups.values()
        for name, group in zip(_names(alike, several, varying), alike, strict=True)
    ]


def _in_order(group: Mapping[str, Steps]) -> dict[str, Steps]:
    """Inits in the order of the tables, checkpoints last; the lines of each by step."""
    names = sorted(group, key=series_place)
    return {name: dict(sorted(group[name].items(), key=lambda item: item[0] or 0)) for name in names}


def _names(alike: Sequence[Mapping[str, Steps]], with_model: bool, varying: Iterable[str]) -> list[str]:
    """The name of a panel, with a number behind it where nothing else sets several apart."""
    line = next(iter(next(iter(alike[0].values())).values()))
    settings = [phrase(name, line.fields[name]) for name in varying if name in line.fields]
    name = ", ".join([line.task, *([line.model] * (with_model or is_rival(line))), *settings])
    return [name, *(f"{name} ({number})" for number in range(2, len(alike) + 1))]


def is_rival(line: Line) -> bool:
    """Whether its model is not a language model."""
    return PurePath(line.selection.config["model"]).name in RIVALS


def subject(lines: Iterable[Line]) -> str:
    """``: MODEL`` where all lines but rivals' are of one model, for the end of a title."""
    models = {line.model for line in lines if not is_rival(line)}
    return f": {models.pop()}" if len(models) == 1 else ""


def data_notes(panels: Iterable[Panel]) -> list[str]:
    """``h3, h4: 28 % subset of the data.``, and which series are named after the corpus of their pre-training."""
    tasks: dict[str, dict[str, None]] = defaultdict(dict)
    lines = [line for panel in panels for line in panel.last.values()]
    corpora = sorted({line.series for line in lines if line.selection.config.get(CORPUS)}, key=series_place)
    named = [f"Checkpoints, named after their corpus: {', '.join(corpora)}."] if corpora else []
    for line in lines:
        note = line.selection.data_note
        if note:
            tasks[f"{note} of the data" if note.endswith("subset") else note][line.task] = None
    return [*named, *(f"{', '.join(names)}: {note}." for note, names in tasks.items())]


def step_notes(panels: Iterable[Panel]) -> list[str]:
    """What the last step is of checkpoints that are shown at it; nothing where all are of one step."""
    steps = [(name, list(by_step)) for panel in panels for name, by_step in panel.series.items()]
    notes = ["Checkpoints: at their last step."] if any(len(of_series) > 1 for _, of_series in steps) else []
    last = {(series_place(name), name, of_series[-1]) for name, of_series in steps if of_series[-1] is not None}
    if len({step for *_, step in last}) > 1:
        shown = ", ".join(f"{name} {step_text(step)}" for _, name, step in sorted(last))
        notes.append(f"Pre-training steps: {shown}.")
    return notes


def step_text(step: float) -> str:
    """``0``, ``500``, ``20k``, ``1.5M``."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"


def seeds_text(selection: Selection, num_shown: int | None = None) -> str:
    """``2 of 3 seeds``: those that are shown, or that finished, of those that were to run at the chosen setting."""
    shown, expected = seeds_of(selection)
    return f"{shown if num_shown is None else num_shown} of {expected} seed{'' if expected == 1 else 's'}"


def seeds_of(selection: Selection) -> tuple[int, int]:
    """How many seeds finished at the chosen setting, and how many were to run."""
    if selection.chosen is None:
        return 0, max(setting.expected for setting in selection.tried)
    return selection.chosen.finished, selection.chosen.expected


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The text that mostly goes with a name, which a legend gives; ``rule`` where it always does."""

    text: str
    rule: bool

    def label(self, name: str) -> str:
        """``scratch, 3 of 3 seeds``, with a star where it has exceptions."""
        return f"{name}, {self.text}{'' if self.rule else '*'}"


def usual(texts: Iterable[tuple[str, str]]) -> dict[str, Usual]:
    """Name -> what mostly goes with it, from all pairs of a name and a text."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name, text in texts:
        found[name][text] += 1
    return {name: Usual(text=of.most_common(1)[0][0], rule=len(of) == 1) for name, of in found.items()}


def slug(text: str) -> str:
    """A text as part of a file's name, which file systems let be 255 bytes long."""
    return re.sub(r"[^\w.-]+", "-", text)[:LONGEST_SLUG].strip("-.")
