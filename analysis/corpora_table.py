"""Which pre-training helps: a row for the model from scratch and for each corpus, a column for each task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from analysis.grid_table import PAIR_NOTE, Place, grid_sheet
from analysis.inits import CHECKPOINT_STEP, FROM_CHECKPOINT, OF_CHECKPOINTS, place
from analysis.notes import common, explained, name_of
from analysis.pairs import Pair, key, pair_notes
from analysis.select import Selection
from analysis.sheet import Sheet
from analysis.tables import Line, by_task, differing, lines_of, value_text

ROWS = ("scratch", FROM_CHECKPOINT, "reinit-embeddings", "pretrained")  # from no pre-training to most
ROW_NAME, STEP_NAME = "corpus", "pre-training step"


def beside_checkpoints(selections: Sequence[Selection]) -> list[Selection]:
    """Checkpoints, and what differs from one of them in nothing but its init; all, where there are no checkpoints."""
    groups = {key(selection, OF_CHECKPOINTS) for selection in selections if selection.init == FROM_CHECKPOINT}
    return [selection for selection in selections if not groups or key(selection, OF_CHECKPOINTS) in groups]


def corpora_sheet(selections: Sequence[Selection], pairs: Sequence[Pair], left_out: Sequence[str]) -> Sheet:
    """The table.

    Args:
        selections: those :func:`beside_checkpoints`.
        pairs: their test scores against scratch.
        left_out: tasks that have trials but none from a checkpoint.
    """
    lines = [replace(line, paper=None, difference=None) for line in lines_of(selections, pairs=pairs)]
    lines.sort(key=_place)
    steps = {line.fields.get(CHECKPOINT_STEP) for line in lines if line.selection.init == FROM_CHECKPOINT}
    with_steps = len(steps) > 1
    places = [
        Place(
            row=(line.series, *([value_text(CHECKPOINT_STEP, line.fields.get(CHECKPOINT_STEP))] * with_steps)),
            column=line.task,
            metric=line.selection.metric,
            line=line,
            paper=None,
        )
        for line in lines
    ]
    tasks = by_task(lines)
    varying = differing(tasks.values())
    notes = [*common(tasks, (*varying, "data")), *explained(lines, [name_of(line, lines, varying) for line in lines])]
    if not steps:
        notes.append("No trial began from a checkpoint; a sweep with grid=corpora runs such trials.")
    if left_out:
        notes.append(f"Not in this table, since no trial of theirs began from a checkpoint: {', '.join(left_out)}.")
    return grid_sheet(
        "Scores by pre-training corpus",
        (ROW_NAME, *([STEP_NAME] * with_steps)),
        sorted(tasks),
        places,
        notes=[*notes, *pair_notes(pairs), *([PAIR_NOTE] if pairs else [])],
    )


def _place(line: Line) -> tuple[Any, ...]:
    """Where a row stands; of lines of one row, those of equal settings together."""
    init = line.selection.init
    return ROWS.index(init) if init in ROWS else len(ROWS), init, place(line.selection.config)
