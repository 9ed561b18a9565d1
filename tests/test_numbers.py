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
STORED_FOR = 1  # the NUMBERS of the values below

# What is trained -> its losses, then the mean of the test predictions' last column and the test score.
TRIALS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "random mapping, adam": (
        {"task": "splice", "mapping": "random", "seed": 1},
        [1.06364, 1.1184, 1.12346, 1.08414, 1.08634, 1.08752, 0.290753, 0.4],
    ),
    "reinit-embeddings, radam": (
        {"task": "splice", "init": "reinit-embeddings", "optimizer": "radam"},
        [1.1063, 1.11565, 1.10493, 1.11522, 1.12041, 1.12036, 0.358313, 0.3],
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
        [0.691967, 0.710127, 0.694468, 0.695785, 0.526697, 0.666667],
    ),
    "shift, adagrad": (
        {"task": "mrpc", "mapping": "shift", "keep_special_tokens": True, "optimizer": "adagrad"},
        [0.70557, 0.69113, 0.676572, 0.691013, 0.508338, 0.666667],
    ),
    "a fraction, numbers, adamax": (
        {"task": "stability", "train_fraction": 0.6, "max_train_examples": None, "optimizer": "adamax"},
        [1.12446, 0.97788, 0.803712, 1.04058, 0.896433, 1.18765, 1.07191, 0.700752],
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
