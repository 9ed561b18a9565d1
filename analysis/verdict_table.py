"""The verdicts on the paper's claims as a table of words."""

from collections import Counter
from collections.abc import Sequence

from analysis.notes import choice_notes, name_of, score_notes
from analysis.pairs import Pair
from analysis.select import Selection
from analysis.sheet import Column, Sheet
from analysis.tables import by_task, differing, incomplete, lines_of
from analysis.verdict import RULES, verdicts


def verdict_sheet(selections: Sequence[Selection], pairs: Sequence[Pair]) -> Sheet:
    """A row for every claim and scope."""
    found = verdicts(selections, pairs)
    outcomes = Counter(verdict.outcome for verdict in found)
    lines = lines_of(selections)
    varying = differing(by_task(lines).values())
    names = [name_of(line, lines, varying) for line in lines]
    words = [
        {
            "claim": f"{verdict.claim} ({verdict.source})",
            "outcome": verdict.outcome,
            "scope": verdict.scope,
            "evidence": verdict.evidence,
        }
        for verdict in found
    ]
    return Sheet(
        title="The paper's claims (arXiv 2103.07162): "
        + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
        columns=tuple(Column(name=name, align="left") for name in ("claim", "outcome", "scope", "evidence")),
        rows=tuple(words),
        notes=(*RULES, *score_notes(lines), *choice_notes(lines, names)),
        records=tuple(
            {"claim": v.claim, "source": v.source, "scope": v.scope, "outcome": v.outcome, "evidence": v.evidence}
            | v.records
            for v in found
        ),
        incomplete=incomplete(lines),
    )
