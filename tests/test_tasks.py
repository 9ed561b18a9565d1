"""The contract that every task keeps, whatever its discipline and wherever its data come from."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.metrics import METRICS
from trainer.sources import locate
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset, Examples, Split, Task

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A task, its data as read and as split, and the folder that they were read from."""

    task: Task
    folder: Path
    examples: Examples
    dataset: Dataset

    def splits(self) -> tuple[Split, ...]:
        return self.dataset.train, self.dataset.valid, self.dataset.test

    def given(self) -> tuple[Split, ...]:
        """What was read, each split once."""
        splits = {id(split): split for name in SPLITS if (split := getattr(self.examples, name)) is not None}
        return tuple(splits.values())


@pytest.fixture(scope="module", params=list(TASKS))
def loaded(request: pytest.FixtureRequest, task_files: Path) -> Loaded:
    """Every task in turn, on generated files in upstream's layout."""
    task = TASKS[request.param]
    examples = task.read(*locate((task.files, *task.alternatives), task_files))
    return Loaded(task=task, folder=task_files, examples=examples, dataset=task.load(task_files))


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
    assert task.metrics and set(task.metrics) <= set(METRICS)
    assert task.num_epochs > 0 and task.max_length > 0 and task.num_examples > 0


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_symbols_are_single_and_text_has_none(task: Task) -> None:
    assert bool(task.symbols) != task.is_text and len(set(task.symbols)) == len(task.symbols)
    assert len(task.classes) != 1 and len(set(task.classes)) == len(task.classes)
    assert all(task.classes)


def test_the_papers_sixteen_tasks_are_here() -> None:
    """Tables 3 to 6 of arXiv 2103.07162; WNLI is left out, as there."""
    disciplines = Counter(task.discipline for task in TASKS.values())
    assert disciplines == {"text": 8, "protein": 3, "dna": 4, "music": 1, "toy": 1}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_files_come_over_https_or_from_a_page_that_is_named(task: Task) -> None:
    for layout in (task.files, *task.alternatives):
        for source in layout:
            assert source.url.startswith("https://") or (not source.url and source.homepage.startswith("http"))
            assert re.fullmatch("([0-9a-f]{40})?", source.git_blob) and re.fullmatch("([0-9a-f]{64})?", source.sha256)
        assert len({source.path for source in layout}) == len(layout)
    assert not task.files or any(all(source.url for source in layout) for layout in (task.files, *task.alternatives))


def test_no_two_tasks_read_the_same_file_from_different_places() -> None:
    sources = {source for task in TASKS.values() for layout in (task.files, *task.alternatives) for source in layout}
    assert len({source.path for source in sources}) == len(sources)


# What a task's data keep


def test_sequences_have_the_tasks_symbols_only_and_at_least_one(loaded: Loaded) -> None:
    assert loaded.dataset.symbols == loaded.task.symbols
    for split in loaded.splits():
        assert all(split.sequences) and all(split.seconds)
        assert len(split.seconds) in (0, len(split))
        assert loaded.task.is_text or set("".join(split.sequences)) <= set(loaded.task.symbols)


def test_labels_index_the_classes_and_every_class_can_be_learned_or_are_numbers(loaded: Loaded) -> None:
    classes = loaded.dataset.classes
    if loaded.task.classes:
        assert classes == loaded.task.classes
    for split in loaded.splits():
        assert split.labels.shape == (len(split.sequences),)
        if classes:
            assert split.labels.dtype == np.int64
            assert set(split.labels.tolist()) <= set(range(len(classes)))
        else:
            assert split.labels.dtype == np.float64 and np.isfinite(split.labels).all()
    assert not classes or set(loaded.dataset.train.labels.tolist()) == set(range(len(classes)))


def test_the_metrics_fit_what_is_predicted(loaded: Loaded) -> None:
    of_numbers = {"spearman", "pearson"}
    metrics = set(loaded.task.metrics_for(loaded.dataset))
    assert not metrics & of_numbers if loaded.dataset.classes else metrics <= of_numbers


def test_every_example_is_in_one_split_once_with_its_label(loaded: Loaded) -> None:
    def examples(splits: tuple[Split, ...]) -> Counter[tuple[object, ...]]:
        rows = [zip(s.sequences, s.seconds or s.sequences, s.labels.tolist(), strict=True) for s in splits]
        return Counter(chain.from_iterable(rows))

    splits = loaded.splits()[:2] if loaded.dataset.test is loaded.dataset.valid else loaded.splits()
    assert examples(splits) == examples(loaded.given())
    assert min(map(len, splits)) > 0 and len(loaded.dataset.train) >= len(loaded.dataset.valid)


def test_splits_that_the_files_leave_open_have_five_percent(loaded: Loaded) -> None:
    total = sum(split.num_pieces for split in loaded.given())
    for name in ("valid", "test"):
        if getattr(loaded.examples, name) is None:
            assert getattr(loaded.dataset, name).num_pieces == round(0.05 * total)


def test_valid_is_test_where_the_final_checkpoint_counts_and_nowhere_else(loaded: Loaded) -> None:
    assert (loaded.dataset.test is loaded.dataset.valid) == (loaded.task.checkpoint == "final") == loaded.task.is_text


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
    label = (int(split.labels[row]) + 1) % (len(dataset.classes) or 100)
    assert with_split(dataset, name, with_label(split, row, label)).digest != dataset.digest
    first, *rest = split.sequences
    other = next(symbol for symbol in dataset.symbols or "AB" if symbol != first[0])
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


def test_the_first_training_examples_are_a_fair_sample_also_where_the_files_are_sorted() -> None:
    """Files that list class after class, and valid and test of their own: as MAESTRO's composers."""

    def split(size: int) -> Split:
        return Split(sequences=("A",) * size, labels=np.repeat([0, 1], size // 2))

    examples = Examples(train=split(1000), valid=split(20), test=split(20), classes=("x", "y"))
    dataset = TASKS["h4"].dataset(examples, (Path("sorted.txt"),))
    assert 30 < dataset.first_train_examples(100).train.labels.sum() < 70


def test_a_piece_is_never_split_between_train_and_test() -> None:
    pieces = np.repeat(np.arange(40), 5)
    train = Split(sequences=("A",) * 200, labels=pieces % 2, pieces=pieces)
    dataset = TASKS["h4"].dataset(Examples(train=train, classes=("x", "y")), (Path("pieces"),))
    found = [
        set(split.pieces.tolist()) for split in (dataset.train, dataset.valid, dataset.test) if split.pieces is not None
    ]
    assert [len(numbers) for numbers in found] == [36, 2, 2] and len(set.union(*found)) == 40
    assert all(len(split) == 5 * split.num_pieces for split in (dataset.train, dataset.valid, dataset.test))


def test_a_missing_valid_set_is_drawn_from_train_and_the_published_test_set_stays() -> None:
    train = Split(sequences=tuple("ACGT" * 25), labels=np.arange(100) % 2)
    test = Split(sequences=tuple("ACGT" * 25), labels=np.arange(100) % 2)
    dataset = TASKS["h4"].dataset(Examples(train=train, test=test), (Path("file"),))
    assert dataset.test is test and (len(dataset.train), len(dataset.valid)) == (90, 10)
    assert dataset.split == "as given, valid drawn from train (5 % of all) by seed 0"
