"""What a model folder holds, in sixteen digits."""

import hashlib
import os
from pathlib import Path

import pytest

from trainer.digests import folder_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_copy_elsewhere_has_the_same_digest(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(model.iterdir(), reverse=True):
        (copy / path.name).write_bytes(path.read_bytes())
    digest = folder_digest(copy)
    assert digest == folder_digest(model)
    assert len(digest) == 16 and int(digest, 16)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_one_other_byte_is_another_digest(model: Path, name: str) -> None:
    before = folder_digest(model)
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[:-1] + b"?")
    os.utime(model / name, ns=(1, 1))  # the same length, written at another time
    assert folder_digest(model) != before


def test_another_name_or_one_file_more_is_another_digest(model: Path) -> None:
    before = folder_digest(model)
    (model / "vocab.txt").rename(model / "words.txt")
    renamed = folder_digest(model)
    (model / "spiece.model").write_bytes(b"")
    assert len({before, renamed, folder_digest(model)}) == 3


def test_what_makes_no_model_does_not_count(model: Path) -> None:
    before = folder_digest(model)
    (model / "README.md").write_text("about it")
    (model / "pytorch_model.bin").write_bytes(b"not read")
    (model / "onnx").mkdir()
    (model / "onnx/config.json").write_text("{}")
    (model / "folder.json").mkdir()
    assert folder_digest(model) == before


def test_without_weights_models_of_one_architecture_are_the_same(model: Path) -> None:
    whole, described = folder_digest(model), folder_digest(model, weights=False)
    assert whole != described
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / "model.safetensors.index.json").write_text("{}")
    assert folder_digest(model, weights=False) == described
    (model / "config.json").write_text('{"hidden_size": 32}')
    assert folder_digest(model, weights=False) != described


def test_files_that_did_not_change_are_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder_digest(model)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert folder_digest(model) == before
