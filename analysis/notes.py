"""The footnotes of a table: what a reader must know before believing its numbers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from analysis.inits import CHECKPOINT, series_place
from analysis.paper import FRACTION, STOP_AT_LOSS
from analysis.tables import LIMIT, Line, by_task, phrase
from sweeps.recorded import BY_VALID

SHOWN_CELLS = 4  # cells that a footnote names; the CSV file names them all


def explained(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """All footnotes of some lines, each line under its name."""
    notes = [*score_notes(lines), *paper_notes(lines)]
    tasks = by_task(lines)
    for task, of_task in tasks.items():
        notes += _data_notes(task, of_task)
    notes += choice_notes(lines, names)
    notes += checkpoint_notes(lines)
    if "demo" in tasks:
        notes.append(
            "demo: a toy. Its data is generated and its tiny BERT was pre-trained for a moment: it says nothing about "
            "real models."
        )
    return notes


def common(groups: Mapping[str, Sequence[Line]], varying: Iterable[str]) -> list[str]:
    """``h4, splice: mapping random, batch size 32, ...`` for every set of groups that agree in what does not vary."""
    agreeing: dict[str, list[str]] = defaultdict(list)
    for name, lines in groups.items():
        fields: dict[str, object] = {}
        for line in lines:
            for field, value in line.fields.items():
                fields.setdefault(field, value)
        shown = ", ".join(phrase(field, value) for field, value in fields.items() if field not in varying)
        agreeing[shown].append(name)
    return [f"{', '.join(names)}: {text}." for text, names in agreeing.items() if text]


def name_of(line: Line, lines: Sequence[Line], varying: Iterable[str]) -> str:
    """A line's name in a footnote: task and init, and as much else as sets its group apart."""
    of_task = [other for other in lines if other.task == line.task]
    apart = [line.model] if len({other.model for other in of_task}) > 1 else []
    apart += [
        phrase(name, line.fields.get(name))
        for name in varying
        if name in line.fields and len({other.fields.get(name) for other in of_task}) > 1
    ]
    return f"{line.task} {line.init}" + (f" ({', '.join(apart)})" if apart else "")


def score_notes(lines: Sequence[Line]) -> list[str]:
    """What the numbers are and by what their settings were chosen."""
    tasks: dict[str, dict[str, None]] = defaultdict(dict)
    for line in lines:
        tasks[line.selection.by.removesuffix("/score")][line.task] = None
    criteria = " and ".join(
        f"mean {split} score" + (f" (of {', '.join(of)})" if len(tasks) > 1 else "") for split, of in tasks.items()
    )
    after = "; test is read after that choice" if any(line.split == "test" for line in lines) else ""
    return [
        "Scores in percent: mean ± sample standard deviation over seeds; n: finished of expected seeds. The setting "
        f"with the best {criteria or 'mean ' + BY_VALID.replace('/', ' ')} is shown{after}."
    ]


def paper_notes(lines: Iterable[Line]) -> list[str]:
    """Where the paper's figures stand, and whose they are where the paper does not have our model's."""
    figures = [(line, line.paper) for line in lines if line.paper is not None]
    if not figures:
        return []
    tables = dict.fromkeys(f"{figure.version} {figure.table}" for _, figure in figures)
    notes = [
        f"paper: {figures[0][0].split} scores of arXiv 2103.07162 ({', '.join(tables)}); difference: ours - the "
        "paper's, in percentage points."
    ]
    borrowed: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for line, figure in figures:
        if PurePath(line.model).name != figure.model:
            borrowed[line.model, figure.model][line.selection.init] = None
    for (model, reference), inits in borrowed.items():
        notes.append(f"The paper has no {model} ({', '.join(inits)}): {reference}'s figures stand beside it.")
    return notes


def _data_notes(task: str, lines: Sequence[Line]) -> list[str]:
    """What the data or its size keeps the numbers from saying."""
    several = len({line.selection.data_digest for line in lines}) > 1
    said = {f"{task} (data {line.fields['data']})" if several else task: line.selection.data_note for line in lines}
    remark = "not comparable with the paper's figures"
    notes = []
    for subject, note in said.items():
        if note.endswith("subset"):
            notes.append(f"{subject}: {note} of the data: {remark}.")
        elif note:
            notes.append(f"{subject}: {note}.")
    limits = dict.fromkeys(line.fields.get(LIMIT) for line in lines if line.paper is not None)
    notes += [f"{task}: trained on {limit} examples only: {remark}." for limit in limits if limit is not None]
    if any(line.paper and FRACTION in line.fields and STOP_AT_LOSS not in line.fields for line in lines):
        notes.append(f"{task}: not trained until the loss is near zero (stop_at_loss), as the paper did on 1% of it.")
    return notes


def checkpoint_notes(lines: Iterable[Line]) -> list[str]:
    """Where the checkpoints are that rows begin from."""
    addresses = {line.series: line.selection.config.get(CHECKPOINT) for line in lines}
    found = [f"{name} is {addresses[name]}" for name in sorted(addresses, key=series_place) if addresses[name]]
    return [f"Checkpoints: {'; '.join(found)}."] if found else []


def choice_notes(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """What a reader must know of how each line's setting was chosen, and which cells are not behind it."""
    return [note for line, name in zip(lines, names, strict=True) for note in _choice_notes(line, name)]


def _choice_notes(line: Line, name: str) -> list[str]:
    selection, notes = line.selection, []
    chosen = selection.chosen
    if chosen is None and selection.counts["finished"]:
        notes.append(
            f"{name}: no trial has a {selection.by.replace('/', ' ')}, by which its setting is to be chosen; select_by="
            f"{BY_VALID} takes another."
        )
    elif chosen is not None and chosen.finished < chosen.expected:
        notes.append(
            f"{name}: no setting finished all of its seeds; chosen among those with the most, "
            f"{chosen.finished} of {chosen.expected}."
        )
    elif chosen is not None and selection.considered < selection.settings:
        notes.append(
            f"{name}: chosen among {selection.considered} of {selection.settings} settings; the others have fewer "
            "finished seeds."
        )
    if chosen is not None and line.mean is None:
        notes.append(f"{name}: a finished trial lacks its {line.split} score.")
    for state, cells in selection.unfinished.items():
        if cells:
            more = f" and {len(cells) - SHOWN_CELLS} more (the CSV file lists them)" if cells[SHOWN_CELLS:] else ""
            notes.append(f"{name}, {state}: {', '.join(cells[:SHOWN_CELLS])}{more}.")
    return notes
