"""The demo's task and the pre-training of its model."""

from pathlib import Path

import numpy as np
import pytest

from trainer.demo import main, vocabulary
from trainer.errors import UserError
from trainer.pretraining.artificial import is_nested
from trainer.tasks.demo import DEMO
from trainer.tasks.task import Dataset, Split


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return DEMO.load()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "model"
    assert main(["--output", str(folder), "--num-steps", "3", "--num-threads", "1"]) == 0
    return folder


def test_labels_are_balanced_in_every_split(dataset: Dataset) -> None:
    assert [len(split) for split in (dataset.train, dataset.valid, dataset.test)] == [18_000, 1_000, 1_000]
    for split in (dataset.train, dataset.valid, dataset.test):
        assert abs(split.labels.mean() - 0.5) < 0.05


def test_task_is_the_same_every_time_and_repeats_no_sequence(dataset: Dataset) -> None:
    assert DEMO.load().digest == dataset.digest
    sequences = dataset.train.sequences + dataset.valid.sequences + dataset.test.sequences
    assert len(set(sequences)) == len(sequences)


def test_a_stack_tells_the_classes_apart(dataset: Dataset) -> None:
    for sequence, label in zip(dataset.test.sequences, dataset.test.labels, strict=True):
        kinds = np.array([dataset.symbols.index(symbol) for symbol in sequence])
        assert is_nested(kinds) == (DEMO.classes[label] == "nested")


def test_is_nested_knows_crossing_from_nesting() -> None:
    assert is_nested(np.array([0, 1, 1, 0, 2, 2]))
    assert not is_nested(np.array([0, 1, 0, 1]))
    assert not is_nested(np.array([0, 0, 1]))


def test_symbol_counts_do_not_tell_the_classes_apart(dataset: Dataset) -> None:
    def features(split: Split) -> np.ndarray:
        return np.array([[1, *map(sequence.count, dataset.symbols)] for sequence in split.sequences], dtype=float)

    weights, *_ = np.linalg.lstsq(features(dataset.train), 2.0 * dataset.train.labels - 1, rcond=None)
    predicted = features(dataset.test) @ weights > 0
    assert abs((predicted == dataset.test.labels).mean() - 0.5) < 0.06


def test_saved_folder_loads(model_folder: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == vocabulary()
    assert tokenizer("ab aa")["input_ids"] == [101, 1001, 1000, 102]
    _, loading = AutoModelForMaskedLM.from_pretrained(model_folder, output_loading_info=True)
    assert not any(loading["missing_keys"])
    assert sorted(path.name for path in model_folder.parent.iterdir()) == ["model"]


def test_second_call_with_the_same_settings_returns_at_once(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (model_folder / "model.safetensors").stat().st_mtime_ns
    main(["--output", str(model_folder), "--num-steps", "3"])
    assert capsys.readouterr().out == f"{model_folder} holds this model already\n"
    assert (model_folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        main(["--output", str(tmp_path), "--num-steps", "1"])
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(("option", "value"), [("num-steps", "0"), ("num-threads", "-1")])
def test_a_wrong_number_is_refused(option: str, value: str) -> None:
    with pytest.raises(UserError, match=option.replace("-", "_")):
        main([f"--{option}", value])
