"""Finding the folder of a pre-training checkpoint."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import refusal
from trainer.checkpoints import find_checkpoint


@pytest.fixture
def steps(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with three steps, written with and without zeros in front, and other things beside them."""
    for name in ("step-0", "step-0000200", "step-1000"):
        (tmp_path / "run" / name).mkdir(parents=True)
        shutil.copy(tiny_model / "model.safetensors", tmp_path / "run" / name)
    (tmp_path / "run/log").mkdir()
    (tmp_path / "run/step-7").touch()  # a file is no step
    return tmp_path / "run"


def test_a_model_folder_is_its_own_checkpoint(tiny_model: Path) -> None:
    assert find_checkpoint(str(tiny_model), None) == tiny_model.resolve()


@pytest.mark.parametrize(("step", "name"), [(0, "step-0"), (200, "step-0000200"), (1000, "step-1000")])
def test_a_step_picks_its_folder(steps: Path, step: int, name: str) -> None:
    assert find_checkpoint(str(steps), step) == (steps / name).resolve()


def test_the_only_step_needs_no_choosing(steps: Path) -> None:
    for name in ("step-0", "step-1000"):
        shutil.rmtree(steps / name)
    assert find_checkpoint(str(steps), None).name == "step-0000200"


def test_among_several_steps_one_must_be_chosen(steps: Path) -> None:
    message = refusal(lambda: find_checkpoint(str(steps), None))
    assert message == f"checkpoint_step: {str(steps)!r} has several steps; give one of 0, 200, 1000"


def test_beside_a_final_model_steps_can_still_be_chosen(steps: Path, tiny_model: Path) -> None:
    shutil.copy(tiny_model / "model.safetensors", steps)
    assert find_checkpoint(str(steps), None) == steps.resolve()
    assert find_checkpoint(str(steps), 1000).name == "step-1000"


def test_a_step_that_is_not_there_lists_those_that_are(steps: Path) -> None:
    message = refusal(lambda: find_checkpoint(str(steps), 7))
    assert message == f"checkpoint_step: 7 is not in {str(steps)!r}; there are 0, 200, 1000"
    for step in range(2000, 12000, 1000):
        (steps / f"step-{step}").mkdir()
    message = refusal(lambda: find_checkpoint(str(steps), 7))
    assert message.endswith("there are 0, 200, 1000, 2000, 3000, 4000, 5000, 6000 and 5 more")


def test_a_plain_model_folder_has_no_step_to_choose(tiny_model: Path) -> None:
    message = refusal(lambda: find_checkpoint(str(tiny_model), 200))
    assert message.startswith("checkpoint_step: 200 is not in") and "no folders step-N; leave it out" in message


@pytest.mark.parametrize(
    "uri", ["runs:/0123abc/model", "mlflow-artifacts:/1/0123abc/artifacts/model", "models:/m/1", "s3://bucket/model"]
)
def test_a_uri_is_left_to_those_who_have_a_tracking_store(uri: str) -> None:
    message = refusal(lambda: find_checkpoint(uri, None))
    assert "needs a tracking store; use a sweep or `python -m sweeps.train`" in message


def test_a_mistyped_folder_suggests_its_neighbour(steps: Path) -> None:
    message = refusal(lambda: find_checkpoint(str(steps.parent / "rum"), None))
    assert message.startswith("checkpoint: there is no folder") and message.endswith("did you mean 'run'?")


def test_a_step_whose_weights_are_not_safetensors_is_refused_with_the_remedy(steps: Path) -> None:
    (steps / "step-1000/model.safetensors").rename(steps / "step-1000/pytorch_model.bin")
    message = refusal(lambda: find_checkpoint(str(steps), 1000))
    assert message.startswith("checkpoint: ") and "has its weights in pytorch_model.bin" in message
    assert "save_pretrained" in message


def test_a_folder_with_neither_weights_nor_steps_is_refused(tmp_path: Path) -> None:
    message = refusal(lambda: find_checkpoint(str(tmp_path), None))
    assert "has no weights (model.safetensors); give a folder with weights, or one with a folder step-N" in message
