"""Each other init against scratch, over the seeds that both have and over the test examples.

The same seed means the same mapping, data order and new weights, so that seeds are pairs. Only trials whose settings
and data are equal, but for what was searched (optimizer and learning rate), are held against each other.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.bootstrap import NUM_RESAMPLES, WEIGHTED, Bootstrap, bootstrap
from analysis.inits import OF_CHECKPOINTS
from analysis.predictions import Predictions
from analysis.select import SeedRun, Selection
from analysis.sheet import NONE
from analysis.statistics import PairedTest, holm, paired_test

BASELINE = "scratch"
OF_MAPPINGS = ("mapping", "params.shift_by")  # settings of mappings: another mapping has others

Read = Callable[[str], Predictions | None]  # run id -> its predictions


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One init against scratch. Differences are first - second, in fractions.

    Attributes:
        test: over shared seeds that have test scores.
        bootstrap: over test examples; None where a shared seed's predictions are missing, or not of the same examples.
        p_adjusted: the test's p-value by Holm, over all pairs that ask the same :attr:`question`.
    """

    first: Selection
    second: Selection
    test: PairedTest
    bootstrap: Bootstrap | None
    p_adjusted: float | None

    @property
    def question(self) -> str:
        """``pretrained against scratch``, with what makes it another question than the usual one."""
        mapping = self.first.config["mapping"]
        kinds = [f"mapping {mapping}"] if mapping in ("unused", "identity") else []
        kinds += ["part of the training data"] if self.first.config.get("params.train_fraction") is not None else []
        return f"{self.first.init} against {self.second.init}" + (f" ({', '.join(kinds)})" if kinds else "")


def pair_up(selections: Sequence[Selection], predictions: Read) -> list[Pair]:
    """Every selection of another init with the one from scratch of its group, in the order given.

    Args:
        predictions: a run's test predictions, e.g. :func:`analysis.predictions.read_predictions`; asked for the runs
            behind shared seeds only.
    """
    scratch = {key(selection, OF_CHECKPOINTS): selection for selection in selections if selection.init == BASELINE}
    pairs = []
    for first in selections:
        second = scratch.get(key(first, OF_CHECKPOINTS))
        if second is None or first.init == BASELINE:
            continue
        pair = Pair(
            first=first,
            second=second,
            test=over_seeds(first, second),
            bootstrap=_bootstrap(first, second, predictions),
            p_adjusted=None,
        )
        pairs.append(pair)
    by_question: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        by_question[pair.question].append(place)
    for places in by_question.values():
        for place, adjusted in zip(places, holm([pairs[place].test.p_value for place in places]), strict=True):
            pairs[place] = replace(pairs[place], p_adjusted=adjusted)
    return pairs


def key(selection: Selection, ignored: Sequence[str]) -> tuple[Any, ...]:
    """What two selections must have in common to be compared: data, metric, and all settings but those ignored."""
    settings = {name: value for name, value in selection.config.items() if name not in ignored and value is not None}
    return selection.data_digest, selection.metric, tuple(sorted(settings.items()))


def shared_runs(first: Selection, second: Selection) -> list[tuple[SeedRun, SeedRun]]:
    """Both sides' runs, by seed, of every seed that finished with a test score on both."""
    of_first, of_second = ({run.seed: run for run in side.runs if not math.isnan(run.test)} for side in (first, second))
    return [(of_first[seed], of_second[seed]) for seed in sorted(of_first.keys() & of_second.keys())]


def over_seeds(first: Selection, second: Selection) -> PairedTest:
    """The paired test of two selections' test scores."""
    shared = shared_runs(first, second)
    return paired_test({run.seed: run.test for run, _ in shared}, {run.seed: run.test for _, run in shared})


def _bootstrap(first: Selection, second: Selection, predictions: Read) -> Bootstrap | None:
    shared = shared_runs(first, second)
    if not shared or first.metric not in WEIGHTED:
        return None
    read = [predictions(run.run_id) for side in zip(*shared, strict=True) for run in side]
    found = [prediction for prediction in read if prediction is not None]
    if len(found) < len(read) or not all(prediction.same_test_as(found[0]) for prediction in found):
        return None
    predicted_RN = np.stack([prediction.predicted_N for prediction in found])
    labels_N, subsets_N = found[0].labels_N, found[0].subsets_N
    return bootstrap(first.metric, labels_N, predicted_RN[: len(shared)], predicted_RN[len(shared) :], subsets_N)


def pair_columns(pair: Pair | None) -> dict[str, str]:
    """A pair's cells, by column; of no pair, the same columns with nothing in them."""
    if pair is None:
        return dict.fromkeys(("vs scratch", "shared seeds", "p", "Holm p", "bootstrap p"), NONE)
    return {
        "vs scratch": difference_text(pair.test),
        "shared seeds": str(pair.test.n),
        "p": p_text(pair.test.p_value),
        "Holm p": p_text(pair.p_adjusted),
        "bootstrap p": p_text(None if pair.bootstrap is None else pair.bootstrap.p_value),
    }


def pair_record(pair: Pair | None) -> dict[str, object]:
    """A pair's numbers by name, scores as fractions; of no pair, the same names with None."""
    test, resampled = (None, None) if pair is None else (pair.test, pair.bootstrap)
    return {
        "vs_scratch_num_seeds": test and test.n,
        "vs_scratch_difference": test and test.difference,
        "vs_scratch_low": test and test.low,
        "vs_scratch_high": test and test.high,
        "vs_scratch_p": test and test.p_value,
        "vs_scratch_p_holm": pair and pair.p_adjusted,
        "vs_scratch_question": pair and pair.question,
        "vs_scratch_bootstrap_low": resampled and resampled.low,
        "vs_scratch_bootstrap_high": resampled and resampled.high,
        "vs_scratch_bootstrap_p": resampled and resampled.p_value,
        "vs_scratch_num_test_examples": resampled and resampled.num_examples,
    }


def pair_words(test: PairedTest, p_adjusted: float | None, resampled: Bootstrap | None) -> str:
    """``+3.1 [+1.0, +5.2] over 3 seeds, p 0.012, Holm 0.036, bootstrap p 0.004``, without what is not known."""
    words = [f"{difference_text(test)} over {test.n} shared seed{'' if test.n == 1 else 's'}"]
    words += [f"p {p_text(test.p_value)}"] if test.p_value is not None else []
    words += [f"Holm {p_text(p_adjusted)}"] if p_adjusted is not None else []
    words += [f"bootstrap p {p_text(resampled.p_value)}"] if resampled is not None else []
    return ", ".join(words)


def pair_notes(pairs: Sequence[Pair]) -> list[str]:
    """What a reader of the columns must know, for the foot of a table; nothing where there are no pairs."""
    if not pairs:
        return []
    tests = Counter(pair.question for pair in pairs if pair.p_adjusted is not None)
    corrected = "; ".join(f"{count} of {question}" for question, count in tests.items())
    notes = [
        "vs scratch: mean difference in percentage points over the seeds that both have, with its 95 % confidence "
        "interval, and p of Student's paired t-test over them, two-sided; two shared seeds are needed.",
        "bootstrap p: of the same difference over "
        f"{NUM_RESAMPLES:,} resamples of the test examples, the same for both sides and all seeds; it takes the "
        "trained models as they are, so that it says nothing of other seeds.",
    ]
    notes += [f"Holm p: p corrected for the number of tests that ask the same: {corrected}."] if corrected else []
    lacking = sum(pair.bootstrap is None and pair.test.n > 0 for pair in pairs)
    if lacking:
        why = "a run's predictions are missing, damaged or of other examples"
        notes.append(f"No bootstrap for {lacking} of {len(pairs)} pairs: {why}.")
    return notes


def difference_text(test: PairedTest) -> str:
    """``+3.1 [+1.0, +5.2]``, in percentage points."""
    if test.difference is None:
        return NONE
    interval = "" if test.low is None or test.high is None else f" [{points(test.low)}, {points(test.high)}]"
    return points(test.difference) + interval


def points(difference: float) -> str:
    """A difference in percentage points, with its sign; ``+0.0`` where it rounds to none."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def p_text(p_value: float | None) -> str:
    """Three decimals; ``<0.001`` below."""
    return NONE if p_value is None else "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
