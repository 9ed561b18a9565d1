"""Configs: what they record, and which of them are refused before any trial."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TrialConfig
from trainer.data import check_mapping, load_dataset, usable_length
from trainer.errors import UserError
from trainer.models import read_vocabulary
from trainer.tasks import find_task


def test_a_folder_that_is_here_is_a_task_elsewhere_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in another folder, or on another machine, gets the same task from the sweep's settings."""
    (tmp_path / "pieces").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = TrialConfig(task="pieces").settings()
    monkeypatch.chdir("/")
    assert TrialConfig(**settings).definition == find_task("./pieces")


@pytest.mark.parametrize(("task", "longest"), [("h4", 62), ("cola", 64)])
def test_more_than_the_model_takes_is_refused_and_a_tasks_own_length_is_capped(
    tiny_model: Path, tmp_path: Path, task: str, longest: int
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "short")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    assert usable_length(TrialConfig(task=task), folder) == longest
    assert usable_length(TrialConfig(task=task, max_length=longest), folder) == longest
    with pytest.raises(UserError, match=f"max_length: {longest + 1} is not allowed; the model takes 64 tokens"):
        usable_length(TrialConfig(task=task, max_length=longest + 1), folder)


@pytest.mark.parametrize("fields", [{"seed": 1}, {"shift_by": 8}, {"keep_special_tokens": True}])
def test_what_a_mapping_depends_on_is_recorded_and_nothing_else(fields: dict[str, Any]) -> None:
    names = {
        mapping: set(TrialConfig(task="cola", mapping=mapping, **fields).settings())
        for mapping in ("identity", "shift", "permutation")
    }
    assert names["shift"] - names["identity"] == {"shift_by", "keep_special_tokens"}
    assert names["permutation"] - names["identity"] == {"keep_special_tokens"}


@pytest.mark.parametrize(
    ("task", "mapping", "said"),
    [
        ("cola", "random", "mapping: unknown value 'random'; allowed: identity, shift, permutation"),
        ("h4", "shift", "mapping: unknown value 'shift'; allowed: random, frequent, unused"),
    ],
)
def test_a_mapping_belongs_to_text_or_to_symbols(task: str, mapping: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrialConfig(task=task, mapping=mapping)


def test_a_mapping_without_room_is_refused_before_any_trial(real_models: Path, task_files: Path) -> None:
    config = TrialConfig(task="composer", mapping="unused")
    dataset = load_dataset(config.definition, task_files)
    check_mapping(config, dataset, real_models / "bert-base-uncased")
    with pytest.raises(UserError, match="mapping: 'unused' needs 128 unused tokens"):
        check_mapping(config, dataset, real_models / "roberta-base")


@pytest.mark.parametrize("shift_by", [0, 65536, 10**30])
def test_a_shift_that_shifts_nothing_is_refused(shift_by: int) -> None:
    with pytest.raises(UserError, match=f"shift_by: {shift_by} is not allowed; give a whole number from 1 to 65535"):
        TrialConfig(task="cola", mapping="shift", shift_by=shift_by)


def test_a_vocabulary_and_an_architecture_that_do_not_belong_together_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "mixed")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 1099}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"has 1100 tokens and config.json says vocab_size 1099; give a folder in which"
    ):
        read_vocabulary(folder)
