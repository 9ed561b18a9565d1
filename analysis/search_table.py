"""A grid search as optimizer x learning rate, with the chosen cell marked."""

from collections.abc import Iterable, Sequence

from analysis.listing import percent
from analysis.notes import checkpoint_notes, choice_notes, common
from analysis.records import number, selection_record
from analysis.select import Selection, Setting
from analysis.sheet import NONE, Column, Sheet
from analysis.tables import Line, by_task, differing, incomplete, lines_of, phrase
from trainer.errors import UserError

CHOSEN = "*"  # after the score of the chosen setting


def searched(selections: Iterable[Selection]) -> list[Selection]:
    """Those with more than one setting to choose among.

    Raises:
        UserError: when there are none.
    """
    found = [selection for selection in selections if selection.settings > 1]
    if not found:
        raise UserError(
            "layout: 'search' needs trials with more than one optimizer or learning rate, and there are none; run a "
            "sweep with grid=search or grid=quick, or give layout=auto"
        )
    return found


def search_sheets(selections: Sequence[Selection]) -> list[Sheet]:
    """A sheet for each group and init: the mean score by which a setting was chosen, over seeds.

    Args:
        selections: those that were :func:`searched`.
    """
    lines = lines_of(selections)
    varying = differing(by_task(lines).values())
    titles = [_title(line, varying) for line in lines]
    return [
        _sheet(line, title, [other for other in lines if _same_group(line, other)], varying)
        for line, title in zip(lines, titles, strict=True)
    ]


def _same_group(line: Line, other: Line) -> bool:
    first, second = line.selection, other.selection
    return (first.config, first.data_digest) == (second.config, second.data_digest)


def _title(line: Line, varying: Sequence[str]) -> str:
    apart = [phrase(name, line.fields[name]) for name in varying if name in line.fields]
    return ", ".join([line.task, line.model, *apart, line.init])


def _sheet(line: Line, title: str, group: Sequence[Line], varying: Sequence[str]) -> Sheet:
    selection = line.selection
    rates = sorted({setting.learning_rate for setting in selection.tried}, reverse=True)
    optimizers = dict.fromkeys(setting.optimizer for setting in selection.tried)
    at = {(setting.optimizer, setting.learning_rate): setting for setting in selection.tried}
    rows = tuple(
        {
            "optimizer": optimizer or NONE,
            **{f"{rate:g}": _cell(at.get((optimizer, rate)), selection.chosen) for rate in rates},
        }
        for optimizer in optimizers
    )
    return Sheet(
        title=f"{title}: mean {selection.by.removesuffix('/score')} {selection.metric} ↑ by learning rate",
        columns=(Column(name="optimizer", align="left"), *(Column(name=f"{rate:g}") for rate in rates)),
        rows=rows,
        notes=(
            *_notes(line, group),
            *common({line.task: [line]}, ("data",)),
            *choice_notes([line], [title]),
            *checkpoint_notes([line]),
        ),
        records=tuple(_record(line, setting) for setting in selection.tried),
        incomplete=incomplete([line]),
    )


def _cell(setting: Setting | None, chosen: Setting | None) -> str:
    if setting is None:
        return NONE
    lines = [percent(setting.score) + (f" {CHOSEN}" if setting == chosen else "")]
    if setting.finished < setting.expected:
        lines += [f"{setting.finished}/{setting.expected}", *setting.trouble.split(", ")]
    return "\n".join(lines)


def _notes(line: Line, group: Sequence[Line]) -> list[str]:
    """What was chosen for this init and for the others of its group."""
    choices = ["Scores in percent, mean over seeds; where some did not finish, how many did, and what became of them."]
    for other in sorted(group, key=lambda other: other is not line):
        selection, chosen = other.selection, other.selection.chosen
        split = selection.by.removesuffix("/score")
        if chosen is None:
            choices.append(f"{selection.init}: nothing is chosen, since no trial has a {split} score.")
            continue
        mark = f" ({CHOSEN})" if other is line else ""
        choices.append(
            f"{selection.init}: chosen{mark} by mean {split} {selection.metric}: {chosen.optimizer} at "
            f"{chosen.learning_rate:g}, {split} {percent(chosen.score)}, test {percent(other.mean, other.std)} "
            f"({chosen.finished} of {chosen.expected} seeds)."
        )
    choices.append(
        "The paper takes one setting for all inits: the one with which the model from scratch has the highest training "
        "score."
    )
    return choices


def _record(line: Line, setting: Setting) -> dict[str, object]:
    selection = line.selection
    return {
        **selection_record(selection),
        "select_by": selection.by,
        "optimizer": setting.optimizer or None,
        "learning_rate": number(setting.learning_rate),
        "score_mean": number(setting.score),
        "valid_mean": number(setting.valid),
        "n": setting.finished,
        "n_expected": setting.expected,
        "trouble": setting.trouble,
        "chosen": setting == selection.chosen,
        "test_mean": line.mean if setting == selection.chosen else None,
    }
