"""What our runs say of the paper's claims: each supported, contradicted, or not enough runs.

A claim is asked once for each scope (task, model, mapping, ...) that has trials for it, and rests on one comparison
or more of test scores, paired by seed. Of its first side, a comparison asks one of three things:

- ``better``: by the paired t-test, two-sided;
- ``no better``: not better by MARGIN, by a one-sided t-test against it;
- ``level``: less than MARGIN apart, by two one-sided t-tests (TOST).

Supported: every comparison comes out as the claim has it, with p < 0.05 by Holm over all of the claim's comparisons.
Contradicted: one of them is significant the other way, with Holm: the first side is worse by the two-sided test, or for
the other two kinds better, or apart, by more than MARGIN, tested against it. Not enough runs: anything else. A
difference that is not significant is not taken for none, and a bootstrap over test examples, which knows one training
run of each side and nothing of the next, decides nothing by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from analysis.bootstrap import Bootstrap
from analysis.claims import CLAIMS, Case, Claim, Comparison, scope_text
from analysis.pairs import Pair, difference_text, over_seeds, p_text, shared_runs
from analysis.select import Selection
from analysis.sheet import NONE
from analysis.statistics import ALPHA, PairedTest, apart, better, detectable, holm, level, no_better

# A little more than the largest difference that the paper itself has between permutation and shift 1000: 2.2 points,
# on STS-B (version 2, table 3).
MARGIN = 0.025
NUM_COMPARISONS = 3  # at most, behind a verdict

_MARGIN = f"{100 * MARGIN:.1f}"
_NUMBERS = (
    *("comparison", "asks", "num_seeds", "difference", "low", "high", "p", "p_holm", "p_asked", "p_asked_holm"),
    *("bootstrap_low", "bootstrap_high", "bootstrap_p", "runs"),
)

RULES = (
    "supported: every difference that the claim rests on is as it says, with p < 0.05 in a t-test paired by seed, "
    "corrected by Holm's method over all comparisons of the same claim.",
    "contradicted: one of these differences is significant the other way. not enough runs: anything else; a difference "
    "that is not significant is not taken for none.",
    f'"Level" and "no better" mean within {_MARGIN} points, shown by one-sided tests against that margin; the '
    "paper's own figures for permutation and shift differ by up to 2.2.",
    "Where every seed scores the same on both sides, as CoLA's Matthews 0.0, there is no spread to test with.",
    "bootstrap p is of other test examples, not of other training runs: it decides nothing by itself.",
    "Differences are in percentage points, first - second, with 95 % confidence intervals over shared seeds.",
    "A verdict is on its scope only: that task, model, mapping and amount of data.",
)

Outcome = Literal["supported", "contradicted", "not enough runs"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What our runs say of a claim in one scope.

    Attributes:
        source: where the paper makes the claim.
        scope: task, model, mapping and what else limits the verdict; ``-`` where there are no trials at all.
        evidence: one sentence, differences in percentage points.
        records: the numbers behind it by name, the same names for every verdict; scores and differences as fractions.
    """

    claim: str
    source: str
    scope: str
    outcome: Outcome
    evidence: str
    records: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """A comparison and what came out of it; p-values after Holm's correction have ``_adjusted`` in their name."""

    comparison: Comparison
    test: PairedTest
    bootstrap: Bootstrap | None
    p_asked: float | None  # of what the comparison asks; for "better" the two-sided one
    p_asked_adjusted: float | None
    p_against: float | None  # of what contradicts; for "better" the two-sided one
    p_adjusted: float | None
    num_tests: int

    @property
    def holds(self) -> bool:
        return not self.fails and self.p_asked_adjusted is not None and self.p_asked_adjusted < ALPHA

    @property
    def fails(self) -> bool:
        difference = self.test.difference or 0.0
        if self.p_adjusted is None or self.p_adjusted >= ALPHA:
            return False
        match self.comparison.asks:
            case "better":
                return difference < 0
            case "no better":
                return difference > MARGIN
            case "level":
                return abs(difference) > MARGIN


def verdicts(selections: Sequence[Selection], pairs: Sequence[Pair]) -> list[Verdict]:
    """A verdict for every claim of the paper and every scope with trials for it; one without a scope where none has.

    Args:
        pairs: of the same selections, from :func:`analysis.pairs.pair_up`; their bootstraps are shown.
    """
    bootstraps = {(id(pair.first), id(pair.second)): pair.bootstrap for pair in pairs}
    found: list[Verdict] = []
    for claim in CLAIMS:
        cases = claim.cases(selections)
        findings = iter(_findings([comparison for case in cases for comparison in case.comparisons], bootstraps))
        for case in cases:
            own = list(islice(findings, len(case.comparisons)))
            found.append(_verdict(claim, case, own, scope_text(case, selections)))
        if not cases:
            found.append(_without_trials(claim))
    return found


def _findings(comparisons: Sequence[Comparison], bootstraps: dict[tuple[int, int], Bootstrap | None]) -> list[_Finding]:
    """Tests the comparisons behind one claim, and corrects for their number."""
    tests = [over_seeds(comparison.first, comparison.second) for comparison in comparisons]
    asked = [_p_asked(comparison, test) for comparison, test in zip(comparisons, tests, strict=True)]
    against = [_p_against(comparison, test) for comparison, test in zip(comparisons, tests, strict=True)]
    asked_adjusted, adjusted = holm(asked), holm(against)
    return [
        _Finding(
            comparison=comparison,
            test=tests[place],
            bootstrap=bootstraps.get((id(comparison.first), id(comparison.second))),
            p_asked=asked[place],
            p_asked_adjusted=asked_adjusted[place],
            p_against=against[place],
            p_adjusted=adjusted[place],
            num_tests=sum(p_value is not None for p_value in asked),
        )
        for place, comparison in enumerate(comparisons)
    ]


def _p_asked(comparison: Comparison, test: PairedTest) -> float | None:
    match comparison.asks:
        case "better":
            return test.p_value
        case "no better":
            return no_better(test, MARGIN)
        case "level":
            return level(test, MARGIN)


def _p_against(comparison: Comparison, test: PairedTest) -> float | None:
    """p-value of what contradicts: small for a difference that is surely the other way, or beyond the margin."""
    match comparison.asks:
        case "better":
            return test.p_value
        case "no better":
            return better(test, MARGIN)
        case "level":
            return apart(test, MARGIN)


def _verdict(claim: Claim, case: Case, findings: Sequence[_Finding], scope: str) -> Verdict:
    outcome: Outcome = "not enough runs"
    if any(finding.fails for finding in findings):
        outcome = "contradicted"
    elif all(finding.holds for finding in findings) and not case.lacking:
        outcome = "supported"
    facts = [_words(finding) for finding in findings]
    sides = {id(side): side for finding in findings for side in (finding.comparison.first, finding.comparison.second)}
    if passed_over := [text for side in sides.values() if (text := _passed_over(side))]:
        outcome = "not enough runs"
        facts += passed_over
    elif outcome == "not enough runs":
        facts.append(f"there are no trials {case.lacking}" if case.lacking else _lack(findings))
    config = case.subject.config
    return Verdict(
        claim=claim.text,
        source=claim.source,
        scope=scope,
        outcome=outcome,
        evidence="; ".join(facts) + ".",
        records={
            "task": config["task"],
            "model": config["model"],
            "mapping": case.mapping,
            "margin": MARGIN,
            **_records(findings),
        },
    )


def _passed_over(side: Selection) -> str:
    """What was not chosen since it lacks seeds, though it scores better on those that it has; empty without such."""
    chosen = side.chosen
    better_ones = [one for one in side.tried if chosen and one.finished < one.expected and one.score > chosen.score]
    if not better_ones:
        return ""
    best = max(better_ones, key=lambda setting: setting.score)
    return (
        f"{side.init} at {best.optimizer} {best.learning_rate:g} scores better than at the setting chosen for it, on "
        f"{best.finished} of {best.expected} seeds"
    )


def _without_trials(claim: Claim) -> Verdict:
    return Verdict(
        claim=claim.text,
        source=claim.source,
        scope=NONE,
        outcome="not enough runs",
        evidence=f"There are no trials for it: it needs {claim.needs}.",
        records={"task": None, "model": None, "mapping": None, "margin": MARGIN, **_records(())},
    )


def _words(finding: _Finding) -> str:
    """``pretrained - scratch +3.1 [+1.0, +5.2] over 3 shared seeds, p 0.012, Holm 0.036, bootstrap p 0.004``."""
    comparison, test, resampled = finding.comparison, finding.test, finding.bootstrap
    if test.n == 0:
        return f"{comparison.name}: no seed has finished on both sides"
    expected = [side.chosen.expected for side in (comparison.first, comparison.second) if side.chosen is not None]
    of = f" of {min(expected)}" if test.n < min(expected) else ""
    words = [f"{comparison.name} {difference_text(test)} over {test.n}{of} shared seed{'' if test.n == 1 else 's'}"]
    if comparison.asks == "better":
        asked, p_value, p_adjusted = "p", test.p_value, finding.p_adjusted
    elif finding.fails:
        apart = "better" if comparison.asks == "no better" else "apart"
        asked, p_value, p_adjusted = f"p of {_MARGIN} or less {apart}", finding.p_against, finding.p_adjusted
    else:
        apart = "better" if comparison.asks == "no better" else "apart"
        asked, p_value, p_adjusted = f"p of {_MARGIN} or more {apart}", finding.p_asked, finding.p_asked_adjusted
    if p_value is not None:
        words += [f"{asked} {p_text(p_value)}", f"Holm {p_text(p_adjusted)}"]
    if resampled is not None:
        words.append(f"bootstrap p {p_text(resampled.p_value)}")
    return ", ".join(words)


def _lack(findings: Sequence[_Finding]) -> str:
    """What it would have taken, for the first comparison that does not come out as the claim has it."""
    finding = next(finding for finding in findings if not finding.holds)
    test = finding.test
    if test.n < 2:
        return "a paired test needs at least 2 shared seeds, better 3"
    threshold = detectable(test, finding.num_tests)
    if threshold is None:
        return "every seed differs by the same amount, so that no spread can be estimated"
    if finding.comparison.asks == "better":
        least = f"{100 * threshold:.1f}"
        return f"{finding.comparison.name} would have been significant for certain from {least} on"
    return f"{finding.comparison.name} is not shown to be less than {_MARGIN}: it takes more seeds or a smaller spread"


def _records(findings: Sequence[_Finding]) -> dict[str, object]:
    """The numbers of up to NUM_COMPARISONS comparisons, each with its number behind its names."""
    records: dict[str, object] = {}
    for place in range(NUM_COMPARISONS):
        finding = findings[place] if place < len(findings) else None
        numbers = dict.fromkeys(_NUMBERS) if finding is None else _numbers(finding)
        records |= {f"{name}_{place + 1}": value for name, value in numbers.items()}
    return records


def _numbers(finding: _Finding) -> dict[str, object]:
    comparison, test, resampled = finding.comparison, finding.test, finding.bootstrap
    shared = shared_runs(comparison.first, comparison.second)
    values = (
        comparison.name,
        comparison.asks,
        test.n,
        test.difference,
        test.low,
        test.high,
        test.p_value,
        finding.p_adjusted,
        finding.p_asked,
        finding.p_asked_adjusted,
        resampled and resampled.low,
        resampled and resampled.high,
        resampled and resampled.p_value,
        " ".join(run.run_id for both in shared for run in both),
    )
    return dict(zip(_NUMBERS, values, strict=True))
