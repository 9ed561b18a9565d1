"""The paper's claims: which trials each is asked of, and when it is supported, contradicted, or neither."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis import paper
from analysis.claims import CLAIMS, PAPER_MODELS, PAPER_TASKS
from analysis.pairs import pair_up
from analysis.predictions import PATH, read_predictions
from analysis.verdict import MARGIN, RULES, Verdict, verdicts
from tests.recorder import BASE, Recorder, selections

BEATS, FRACTION, BETWEEN, UNUSED, SHIFT = (claim.text for claim in CLAIMS)
HIGH, MIDDLE, LOW = (0.90, 0.92, 0.91), (0.85, 0.86, 0.87), (0.80, 0.81, 0.79)
SPREAD = (0.70, 0.95, 0.85)  # above LOW in the mean, and below


def record(experiment: str, scores: Mapping[str, Sequence[float]], note: str = "", **settings: Any) -> list[str]:
    """A sweep with test scores by init and seed; its runs' ids."""
    recorder = Recorder(
        experiment, base={**BASE, **settings}, inits=tuple(scores), seeds=max(map(len, scores.values())), note=note
    )
    return [
        recorder.trial("finished", (0.9, score), init=init, seed=seed)
        for init, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]


def said(experiment: str, claim: str) -> list[Verdict]:
    """What is said of a claim, after a look at all that is said."""
    chosen = selections(experiment)
    found = verdicts(chosen, pair_up(chosen, lambda run_id: read_predictions(MlflowClient(), run_id)))
    assert {verdict.claim for verdict in found} == {claim.text for claim in CLAIMS}
    assert len({tuple(verdict.records) for verdict in found}) == 1  # the same columns for all
    for verdict in found:
        assert verdict.evidence.endswith(".") and ". " not in verdict.evidence
    return [verdict for verdict in found if verdict.claim == claim]


def outcome(experiment: str, claim: str) -> str:
    (verdict,) = said(experiment, claim)
    return verdict.outcome


def test_without_trials_every_claim_is_listed_with_what_it_needs() -> None:
    found = verdicts([], [])
    assert [verdict.claim for verdict in found] == [claim.text for claim in CLAIMS]
    assert {verdict.outcome for verdict in found} == {"not enough runs"}
    assert all("it needs" in verdict.evidence and verdict.scope == "-" for verdict in found)


@pytest.mark.parametrize(
    ("pretrained", "scratch", "expected"),
    [
        (HIGH, LOW, "supported"),
        (LOW, HIGH, "contradicted"),
        (SPREAD, LOW, "not enough runs"),
        (LOW, LOW, "not enough runs"),
        ((0.9, 0.91), (0.8, 0.81), "not enough runs"),  # the same difference twice has no spread
        ((0.9,), (0.8,), "not enough runs"),
    ],
)
def test_pretrained_beats_scratch_where_the_paired_test_says_so(
    experiment: str, pretrained: Sequence[float], scratch: Sequence[float], expected: str
) -> None:
    record(experiment, {"pretrained": pretrained, "scratch": scratch})
    assert outcome(experiment, BEATS) == expected


def test_evidence_and_records_give_the_numbers_and_the_runs_behind_them(experiment: str) -> None:
    """Differences of 10, 11 and 12 points: t = 11 * sqrt(3) = 19.05, p = 0.0027."""
    run_ids = record(experiment, {"pretrained": HIGH, "scratch": LOW})
    (verdict,) = said(experiment, BEATS)
    assert verdict.evidence == ("pretrained - scratch +11.0 [+8.5, +13.5] over 3 shared seeds, p 0.003, Holm 0.003.")
    assert verdict.records["difference_1"] == pytest.approx(0.11)
    assert verdict.records["p_holm_1"] == pytest.approx(0.00274, abs=1e-5)
    assert verdict.records["comparison_2"] is None
    assert sorted(str(verdict.records["runs_1"]).split()) == sorted(run_ids)


def test_holm_over_the_tasks_can_take_a_verdict_back(experiment: str) -> None:
    """p = 0.030 alone counts; of two tasks the other of which shows nothing, it becomes 0.060."""
    pretrained = (0.81, 0.84, 0.83)
    record(experiment, {"pretrained": pretrained, "scratch": (0.79, 0.80, 0.80)})
    (alone,) = said(experiment, BEATS)
    record(experiment, {"pretrained": SPREAD, "scratch": LOW}, task="h3")
    both = said(experiment, BEATS)
    assert alone.outcome == "supported"
    assert {verdict.outcome for verdict in both} == {"not enough runs"}
    chosen = selections(experiment)
    of_table = [pair.p_adjusted for pair in pair_up(chosen, lambda run_id: None)]
    assert [verdict.records["p_holm_1"] for verdict in both] == of_table


def test_a_bootstrap_alone_decides_nothing_but_is_shown(experiment: str) -> None:
    run_ids = record(experiment, {"pretrained": (1.0,), "scratch": (0.5,)})
    for run_id, wrong in zip(run_ids, (0, 50), strict=True):
        rows = "".join(f"{number},a,{'b' if number < wrong else 'a'},1,0\n" for number in range(100))
        header = "example,label,prediction,probability_a,probability_b\n"
        MlflowClient().log_text(run_id, header + rows, PATH)
    (verdict,) = said(experiment, BEATS)
    assert verdict.outcome == "not enough runs"
    assert verdict.evidence == (
        "pretrained - scratch +50.0 over 1 shared seed, bootstrap p 0.002; "
        "a paired test needs at least 2 shared seeds, better 3."
    )


def test_evidence_says_what_difference_would_have_counted_and_how_many_seeds_are_missing(experiment: str) -> None:
    """Differences of -10, 14, 6 points: standard error 7.06, times 4.30 (2 degrees of freedom) 30.4."""
    recorder = Recorder(experiment, inits=("pretrained", "scratch"), seeds=4)
    for seed, (first, second) in enumerate(zip(SPREAD, LOW, strict=True)):
        recorder.trial("finished", (0.9, first), init="pretrained", seed=seed)
        recorder.trial("finished", (0.9, second), init="scratch", seed=seed)
    (verdict,) = said(experiment, BEATS)
    assert "over 3 of 4 shared seeds" in verdict.evidence
    assert "pretrained - scratch would have been significant for certain from 30.4 on" in verdict.evidence


def test_no_finished_seed_on_both_sides_is_not_enough(experiment: str) -> None:
    Recorder(experiment, inits=("pretrained", "scratch"), seeds=3)
    (verdict,) = said(experiment, BEATS)
    assert verdict.outcome == "not enough runs" and "no seed has finished on both sides" in verdict.evidence


@pytest.mark.parametrize("mapping", ["unused", "identity"])
def test_the_paper_does_not_claim_that_pretrained_wins_on_unused_tokens_or_on_text_as_it_is(
    experiment: str, mapping: str
) -> None:
    record(experiment, {"pretrained": HIGH, "scratch": LOW}, mapping=mapping)
    (verdict,) = said(experiment, BEATS)
    assert verdict.scope == "-"


def test_a_part_of_the_training_data_is_a_claim_of_its_own(experiment: str) -> None:
    record(experiment, {"pretrained": HIGH, "scratch": LOW}, train_fraction=0.01)
    (verdict,) = said(experiment, FRACTION)
    assert verdict.outcome == "supported" and "1 % of the training data" in verdict.scope
    assert said(experiment, BEATS)[0].scope == "-"


@pytest.mark.parametrize(
    ("pretrained", "middle", "scratch", "expected"),
    [
        (HIGH, MIDDLE, LOW, "supported"),
        (MIDDLE, HIGH, LOW, "contradicted"),  # better than pretrained
        (HIGH, LOW, MIDDLE, "contradicted"),  # worse than scratch
        (HIGH, SPREAD, LOW, "not enough runs"),
        (SPREAD, MIDDLE, LOW, "not enough runs"),  # one half of it is shown
    ],
)
def test_new_embeddings_lie_between_where_both_halves_are_shown(
    experiment: str, pretrained: Sequence[float], middle: Sequence[float], scratch: Sequence[float], expected: str
) -> None:
    record(experiment, {"pretrained": pretrained, "reinit-embeddings": middle, "scratch": scratch})
    assert outcome(experiment, BETWEEN) == expected


@pytest.mark.parametrize(
    ("unused", "scratch", "usual", "expected"),
    [
        ((0.801, 0.812, 0.79), LOW, HIGH, "supported"),
        (LOW, HIGH, HIGH, "supported"),  # even below scratch
        (MIDDLE, LOW, HIGH, "contradicted"),  # it keeps half of the lead
        (HIGH, HIGH, LOW, "contradicted"),  # it does no harm at all
        (SPREAD, LOW, HIGH, "not enough runs"),  # that no lead is significant shows none to be absent
        ((0.801, 0.812, 0.79), LOW, SPREAD, "not enough runs"),
    ],
)
def test_unused_tokens_fall_to_scratch_where_no_lead_is_left(
    experiment: str, unused: Sequence[float], scratch: Sequence[float], usual: Sequence[float], expected: str
) -> None:
    record(experiment, {"pretrained": unused, "scratch": np.add(scratch, (0, 0.001, 0.002)).tolist()}, mapping="unused")
    record(experiment, {"pretrained": usual})
    assert outcome(experiment, UNUSED) == expected


def test_unused_tokens_without_the_other_trials_say_what_is_lacking(experiment: str) -> None:
    record(experiment, {"pretrained": LOW}, mapping="unused")
    record(experiment, {"pretrained": HIGH}, num_epochs=3)  # not the same training
    (verdict,) = said(experiment, UNUSED)
    assert verdict.outcome == "not enough runs"
    assert verdict.evidence == "there are no trials from scratch and none under mapping random or frequent."


@pytest.mark.parametrize(
    ("permuted", "expected"),
    [
        ((0.851, 0.859, 0.87), "supported"),
        ((0.80, 0.812, 0.82), "contradicted"),
        ((0.90, 0.912, 0.92), "contradicted"),
        ((0.80, 0.89, 0.86), "not enough runs"),  # p = 0.76 for a difference, which shows none to be absent
        ((0.76, 0.83, 0.84), "not enough runs"),  # surely no better, but perhaps worse
        (MIDDLE, "not enough runs"),  # the same scores: no spread
    ],
)
def test_permutation_matches_shift_only_where_it_is_shown_to_be_within_the_margin(
    experiment: str, permuted: Sequence[float], expected: str
) -> None:
    text: dict[str, Any] = {"task": "mrpc", "keep_special_tokens": False}
    record(experiment, {"pretrained": permuted}, mapping="permutation", **text)
    record(experiment, {"pretrained": MIDDLE}, mapping="shift", shift_by=1000, **text)
    record(experiment, {"pretrained": (0.1, 0.2, 0.4)}, mapping="shift", shift_by=17, **text)
    (verdict,) = said(experiment, SHIFT)
    assert verdict.outcome == expected
    assert "mapping permutation and shift 1000" in verdict.scope


def test_mappings_are_compared_only_where_all_else_is_equal(experiment: str) -> None:
    record(experiment, {"pretrained": HIGH}, mapping="permutation", keep_special_tokens=True)
    record(experiment, {"pretrained": HIGH}, mapping="shift", shift_by=1000, keep_special_tokens=False)
    assert said(experiment, SHIFT)[0].scope == "-"


def test_the_margin_covers_what_the_papers_own_figures_differ_by() -> None:
    with Path(paper.__file__).with_name("paper.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["version"], row["table"]) == ("v2", "table 3")]
    figures = {
        (row["setting"], row["task"]): float(row["value"])
        for row in rows
        if (row["model"], row["init"]) == ("bert-base-uncased", "pretrained") and row["task"] != "average"
    }
    apart = [
        abs(value - figures["shift 1000", task])
        for (mapping, task), value in figures.items()
        if mapping == "permutation"
    ]
    assert max(apart) == pytest.approx(2.2)
    assert 2.2 < 100 * MARGIN < 3
    assert any("2.2" in rule and f"{100 * MARGIN:.1f} points" in rule for rule in RULES)


def test_models_and_tasks_of_the_paper_are_those_it_has_figures_for() -> None:
    with Path(paper.__file__).with_name("paper.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] in ("table 3", "table 5", "table 6")]
    assert set(PAPER_MODELS) == {row["model"] for row in rows}
    means = {"average", "dna", "protein", "mnli-m", "mnli-mm"}
    assert set(PAPER_TASKS) == {row["task"] for row in rows} - means | {"mnli"}


def test_the_scope_names_all_that_limits_a_verdict(experiment: str) -> None:
    scores = {"pretrained": HIGH[:1], "scratch": LOW[:1]}
    record(experiment, scores, note="28 % subset", max_train_examples=500)
    record(experiment, scores, model="bert-base-uncased")
    record(experiment, scores, model="bert-base-uncased", num_epochs=3)
    record(experiment, scores, task="./own.csv", model="bert-base-uncased")
    assert [verdict.scope for verdict in said(experiment, BEATS)] == [
        "own.csv, bert-base-uncased, mapping random; not a task of the paper",
        "h4, all-MiniLM-L6-v2, mapping random; 500 training examples; 28 % subset; not a model of the paper",
        "h4, bert-base-uncased, mapping random; 3 epochs",
        "h4, bert-base-uncased, mapping random; 20 epochs",
    ]


def test_a_better_setting_that_only_lacks_a_seed_leaves_nothing_supported(experiment: str) -> None:
    """The good setting of scratch was passed over for one lost seed: what is left of scratch proves nothing."""
    sweep = Recorder(experiment, inits=("pretrained", "scratch"), learning_rates=(1e-3, 1e-4), seeds=3)
    for seed in range(3):
        for rate in (1e-3, 1e-4):
            sweep.trial("finished", (0.8, 0.80 + seed / 100), init="pretrained", learning_rate=rate, seed=seed)
        sweep.trial("finished", (0.5, 0.50 + seed / 90), init="scratch", learning_rate=1e-4, seed=seed)
        lost = ("failed", None) if seed == 2 else ("finished", (0.9, 0.9))
        sweep.trial(*lost, init="scratch", learning_rate=1e-3, seed=seed)
    (verdict,) = said(experiment, BEATS)
    assert verdict.outcome == "not enough runs"
    assert "scratch at adam 0.001 scores better than at the setting chosen for it, on 2 of 3 seeds" in verdict.evidence
    sweep.trial("finished", (0.1, 0.1), init="scratch", learning_rate=1e-3, seed=2)
    assert outcome(experiment, BEATS) != "supported"
