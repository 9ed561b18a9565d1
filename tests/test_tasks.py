"""The contract that every task keeps, whatever its discipline and wherever its data come from."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.metrics import METRICS
from trainer.sources import locate
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset, Split, Task

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A task, its data as read and as split, and the folder that they were read from."""

    task: Task
    folder: Path
    examples: Split
    dataset: Dataset

    def splits(self) -> tuple[Split, Split, Split]:
        return self.dataset.train, self.dataset.valid, self.dataset.test


@pytest.fixture(scope="module", params=list(TASKS))
def loaded(request: pytest.FixtureRequest, dna_files: Path) -> Loaded:
    """Every task in turn, on generated files in upstream's layout."""
    task = TASKS[request.param]
    examples = task.read(*(locate(source, dna_files) for source in task.files))
    return Loaded(task=task, folder=dna_files, examples=examples, dataset=task.load(dna_files))


def with_split(dataset: Dataset, name: str, split: Split) -> Dataset:
    changes: dict[str, Any] = {name: split}
    return replace(dataset, **changes)


def with_label(split: Split, row: int, label: int) -> Split:
    labels = split.labels.copy()
    labels[row] = label
    return replace(split, labels=labels)


# What a task says of itself


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_can_be_called_by_a_lower_case_name(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", name)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_says_where_it_belongs_where_it_was_described_and_how_it_is_scored(task: Task) -> None:
    assert task.discipline.strip() and task.paper.strip()
    assert task.metric in METRICS
    assert task.num_epochs > 0 and task.max_length > 0 and task.num_examples > 0


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_symbols_are_single_and_classes_are_two_or_more(task: Task) -> None:
    assert task.symbols and len(set(task.symbols)) == len(task.symbols)
    assert len(task.classes) >= 2 and len(set(task.classes)) == len(task.classes)
    assert all(task.classes)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_files_come_over_https_and_can_be_checked(task: Task) -> None:
    for source in task.files:
        assert source.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{40}", source.git_blob)
    assert len({source.path for source in task.files}) == len(task.files)


def test_no_two_tasks_read_the_same_file_from_different_places() -> None:
    sources = {source for task in TASKS.values() for source in task.files}
    assert len({source.path for source in sources}) == len(sources)


# What a task's data keep


def test_sequences_have_the_tasks_symbols_only_and_at_least_one(loaded: Loaded) -> None:
    assert loaded.dataset.symbols == loaded.task.symbols
    for split in loaded.splits():
        assert all(split.sequences)
        assert set("".join(split.sequences)) <= set(loaded.task.symbols)


def test_generated_sequences_are_within_the_tasks_length(loaded: Loaded) -> None:
    assert max(map(len, loaded.examples.sequences)) <= loaded.task.max_length


def test_labels_index_the_classes_and_every_class_can_be_learned(loaded: Loaded) -> None:
    assert loaded.dataset.classes == loaded.task.classes
    for split in loaded.splits():
        assert split.labels.shape == (len(split.sequences),)
        assert np.issubdtype(split.labels.dtype, np.integer)
        assert set(split.labels.tolist()) <= set(range(len(loaded.task.classes)))
    assert set(loaded.dataset.train.labels.tolist()) == set(range(len(loaded.task.classes)))


def test_every_example_is_in_one_split_once_with_its_label(loaded: Loaded) -> None:
    assert sum(map(len, loaded.splits())) == len(loaded.examples)
    parts = [pair for split in loaded.splits() for pair in zip(split.sequences, split.labels.tolist(), strict=True)]
    assert Counter(parts) == Counter(zip(loaded.examples.sequences, loaded.examples.labels.tolist(), strict=True))


def test_every_split_has_its_five_percent(loaded: Loaded) -> None:
    assert min(map(len, loaded.splits())) >= round(0.05 * len(loaded.examples)) > 0
    assert len(loaded.dataset.train) > len(loaded.dataset.valid)


def test_every_load_gives_the_same_data(loaded: Loaded) -> None:
    again = loaded.task.load(loaded.folder)
    assert again is not loaded.dataset
    assert again.digest == loaded.dataset.digest and re.fullmatch("[0-9a-f]{16}", again.digest)
    assert [getattr(again, name).digest for name in SPLITS] == [split.digest for split in loaded.splits()]


@pytest.mark.parametrize("name", SPLITS)
def test_the_digest_tells_of_one_changed_label_and_one_changed_symbol(loaded: Loaded, name: str) -> None:
    dataset, split = loaded.dataset, getattr(loaded.dataset, name)
    assert with_split(dataset, name, replace(split)).digest == dataset.digest
    row = len(split) - 1
    label = (int(split.labels[row]) + 1) % len(dataset.classes)
    assert with_split(dataset, name, with_label(split, row, label)).digest != dataset.digest
    first, *rest = split.sequences
    other = next(symbol for symbol in dataset.symbols if symbol != first[0])
    changed = replace(split, sequences=(other + first[1:], *rest))
    assert with_split(dataset, name, changed).digest != dataset.digest


def test_fewer_training_examples_are_the_first_ones_and_leave_valid_and_test(loaded: Loaded) -> None:
    whole = loaded.dataset
    part = whole.first_train_examples(7)
    assert len(part.train) == 7
    assert part.train.sequences == whole.train.sequences[:7]
    assert part.train.labels.tolist() == whole.train.labels[:7].tolist()
    assert part.valid.digest == whole.valid.digest and part.test.digest == whole.test.digest
    assert (part.symbols, part.classes) == (whole.symbols, whole.classes)
    for count in (None, len(whole.train), len(whole.train) + 1):
        assert whole.first_train_examples(count).digest == whole.digest
