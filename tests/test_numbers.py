"""The numbers of a few small trials, as they were when ``trainer.version.NUMBERS`` was last raised.

The ledger takes a trial of an earlier day for one of today as long as NUMBERS is the same. So whatever changes what a
trial computes must be seen here.
"""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.test_trial import Memory
from trainer.config import TrialConfig
from trainer.trial import Trial
from trainer.version import NUMBERS

SMALL = {"num_epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "max_train_examples": 48}
STORED_FOR = 2  # the NUMBERS of the values below

# What is trained -> its losses, then the mean of the test predictions' last column and the test score.
TRIALS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "random mapping, adam": (
        {"task": "splice", "mapping": "random", "seed": 1},
        [1.07342, 1.12817, 1.10513, 1.08683, 1.09122, 1.09266, 0.287414, 0.4],
    ),
    "reinit-embeddings, radam": (
        {"task": "splice", "init": "reinit-embeddings", "optimizer": "radam"},
        [1.10787, 1.11304, 1.10326, 1.10374, 1.10091, 1.12057, 0.358384, 0.3],
    ),
    "permutation, scratch, novograd": (
        {
            "task": "mrpc",
            "mapping": "permutation",
            "init": "scratch",
            "optimizer": "novograd",
            "learning_rate": 0.03,
            "seed": 4,
        },
        [0.692658, 0.709584, 0.693834, 0.694083, 0.514582, 0.666667],
    ),
    "shift, adagrad": (
        {"task": "mrpc", "mapping": "shift", "keep_special_tokens": True, "optimizer": "adagrad"},
        [0.695327, 0.683951, 0.685048, 0.70389, 0.487411, 0.0],
    ),
    "a fraction, numbers, adamax": (
        {"task": "stability", "train_fraction": 0.6, "max_train_examples": None, "optimizer": "adamax"},
        [1.12317, 0.956884, 0.862592, 1.07857, 0.920629, 1.16378, 1.0623, 0.566917],
    ),
    "hilbert-cnn": (
        {"task": "h4", "model": "hilbert-cnn", "num_epochs": 1, "learning_rate": 1e-4},
        [0.795263, 0.825037, 0.679686, 0.487349, 0.6],
    ),
}


@pytest.mark.parametrize("trial", TRIALS)
def test_a_trial_has_the_numbers_of_its_version(tiny_model: Path, task_files: Path, trial: str) -> None:
    fields, stored = TRIALS[trial]
    memory = Memory()
    config = TrialConfig(**{"model": str(tiny_model), **SMALL, **fields})
    result = list(Trial(config, memory, data_dir=task_files, num_threads=1))[-1].result
    assert result is not None
    rows = list(csv.reader(io.StringIO(memory.files["predictions/test.csv"].decode())))[1:]
    prediction = sum(float(row[-1]) for row in rows) / len(rows)
    numbers = [*result.losses, prediction, result.metrics["test/score"]]
    assert numbers == pytest.approx(stored, rel=1e-3), (
        "a trial's numbers have changed: raise trainer.version.NUMBERS, set STORED_FOR to it, and store here "
        f"{[float(f'{number:.6g}') for number in numbers]}"
    )


def test_the_stored_numbers_are_those_of_this_version() -> None:
    assert NUMBERS == STORED_FOR, "store the new numbers in this file, and set STORED_FOR"
