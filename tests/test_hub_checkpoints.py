"""Checkpoints and models by their names on the Hugging Face hub: its requests are real, the hub is a server here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweeps.spec import SweepOptions
from tests.conftest import refusal, run_module
from tests.http_server import serving
from tests.hub_server import Hub, files_of
from trainer import hub as our_hub
from trainer.checkpoints import find_checkpoint, list_steps
from trainer.models import build_model, find_model

RUN = "google/multiberts-seed_0-step_*k"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without any model, and an empty cache."""
    from huggingface_hub import constants

    with serving(Hub()) as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        forget()
        yield server
    forget()


def forget() -> None:
    """As in a new process."""
    for asks in (our_hub.fetch_from_hub, our_hub.fetch_weights, our_hub.steps_on_hub):
        asks.cache_clear()


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on it is a new process without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget()


@pytest.fixture
def multiberts(hub: Hub, tiny_model: Path) -> Hub:
    """A hub with three steps of a run, in the form that MultiBERTs have, and others beside it."""
    for step in ("0k", "20k", "2000k"):
        hub.add(f"google/multiberts-seed_0-step_{step}", files_of(tiny_model))
    for other in ("google/multiberts-seed_1-step_40k", "google/multiberts-seed_0", "else/multiberts-seed_0-step_60k"):
        hub.add(other, files_of(tiny_model))
    return hub


def test_the_steps_of_a_series_are_those_of_its_names(multiberts: Hub) -> None:
    assert list_steps(RUN) == [0, 20_000, 2_000_000]
    assert not any("/resolve/" in request for request in multiberts.asked), "nothing is fetched for it"


def test_without_a_k_the_number_is_the_step_itself(hub: Hub, tiny_model: Path) -> None:
    for name in ("me/run-7", "me/run-12", "me/run-15-old", "me/rerun-9"):
        hub.add(name, files_of(tiny_model))
    assert list_steps("me/run-*") == [7, 12]


def test_a_step_of_a_series_is_fetched_and_no_other(multiberts: Hub, tiny_model: Path) -> None:
    folder = find_checkpoint(RUN, 20_000)
    assert (folder / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    fetched = {request.split("/resolve/")[0] for request in multiberts.asked if "/resolve/" in request}
    assert {request.split(" /")[1] for request in fetched} == {"google/multiberts-seed_0-step_20k"}


def test_a_model_on_the_hub_is_a_checkpoint_without_a_step(multiberts: Hub) -> None:
    assert (find_checkpoint("google/multiberts-seed_0", None) / "model.safetensors").is_file()
    message = refusal(lambda: find_checkpoint("google/multiberts-seed_0", 20))
    assert message.startswith("checkpoint_step: 20 is not in 'google/multiberts-seed_0', a model on the hub; leave it")
    assert list_steps("google/multiberts-seed_0") == []


def test_a_step_that_the_series_lacks_lists_those_that_there_are(multiberts: Hub) -> None:
    message = refusal(lambda: find_checkpoint(RUN, 20))
    assert message == f"checkpoint_step: 20 is not in '{RUN}'; there are 0, 20000, 2000000"
    assert "has several steps; give one of 0, 20000, 2000000" in refusal(lambda: find_checkpoint(RUN, None))


def test_names_that_the_hub_does_not_have_are_one_line(multiberts: Hub) -> None:
    message = refusal(lambda: list_steps("google/multiberts-seed_9-step_*k"))
    assert message.startswith(
        "checkpoint: there is no model 'google/multiberts-seed_9-step_*k', a number for *, on the"
    )
    message = refusal(lambda: list_steps("google/*-step_*k"))
    assert message == "checkpoint: 'google/*-step_*k' is not allowed; give one *, for the step's number"
    message = refusal(lambda: find_checkpoint("google/multibert", None))
    assert message == "checkpoint: 'google/multibert' is neither a local folder nor a model on the Hugging Face hub"


def test_a_mistyped_folder_here_is_suggested(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs/nested").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert refusal(lambda: find_checkpoint("runs/nestd", None)).endswith("hub; did you mean 'nested'?")


def test_without_a_network_the_steps_are_those_whose_weights_are_in_the_cache(
    multiberts: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = find_checkpoint(RUN, 20_000)
    find_model("google/multiberts-seed_0-step_0k", needs_weights=False)
    cut_off(monkeypatch)
    assert list_steps(RUN) == [20_000]
    assert find_checkpoint(RUN, 20_000) == find_checkpoint(RUN, None) == fetched
    message = refusal(lambda: list_steps("me/run-*"))
    assert message.startswith("checkpoint: there is no model 'me/run-*', a number for *, with safetensors in the local")


def test_the_grid_steps_has_a_trial_for_each_name_of_a_series(multiberts: Hub) -> None:
    cells = SweepOptions(task="splice", grid="steps", checkpoint=RUN, seeds=1).spec().cells.values()
    assert [(cell.init, cell.checkpoint_step) for cell in cells if cell.init == "checkpoint"] == [
        ("checkpoint", step) for step in (0, 20_000, 2_000_000)
    ]
    assert {cell.checkpoint for cell in cells} == {RUN} and len(cells) == 4


def test_a_hub_that_cannot_be_reached_is_asked_once_for_the_steps(
    multiberts: Hub, closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import constants

    find_checkpoint(RUN, 20_000)
    forget()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port}")
    assert list_steps(RUN) == [20_000]
    assert not caplog.records, "huggingface_hub says when it tries again"


# Conversions


@pytest.fixture
def pickled(hub: Hub, tiny_model: Path) -> dict[str, bytes]:
    """The files of ``some/model``, whose weights on the main branch are pickled."""
    files = files_of(tiny_model, model="pytorch_model.bin")
    hub.add("some/model", files)
    return files


def converted(pickled: dict[str, bytes], tiny_model: Path) -> dict[str, bytes]:
    return {**pickled, "model.safetensors": (tiny_model / "model.safetensors").read_bytes()}


def test_the_hubs_own_conversion_is_taken_where_the_main_branch_has_no_safetensors(
    hub: Hub, pickled: dict[str, bytes], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.offer("some/model", converted(pickled, tiny_model)) == "refs/pr/1"
    checkpoint, model = find_checkpoint("some/model", None), find_model("some/model", needs_weights=True)
    assert checkpoint == model
    expected = load_file(tiny_model / "model.safetensors")
    weights = build_model(model, init="pretrained", num_outputs=2, seed=0).state_dict()
    assert all(torch.equal(weights[f"bert.{name}"], tensor) for name, tensor in expected.items())
    assert not any("pytorch_model.bin" in request for request in hub.asked), "pickled weights are never fetched"
    assert not any(request.startswith("POST") for request in hub.asked), "and no conversion is asked for"
    cut_off(monkeypatch)
    assert find_model("some/model", needs_weights=True) == model


@pytest.mark.parametrize(
    ("author", "title"), [("somebody", None), ("SFconvertbot", "Better weights")], ids=["another's", "another title"]
)
def test_no_other_pull_request_is_taken(
    hub: Hub, pickled: dict[str, bytes], tiny_model: Path, author: str, title: str | None
) -> None:
    more = {"title": title} if title else {}
    hub.offer("some/model", converted(pickled, tiny_model), author=author, **more)
    message = refusal(lambda: find_checkpoint("some/model", None))
    assert message.startswith("checkpoint: 'some/model' has no weights (model.safetensors); other weights are never")


def test_a_conversion_of_weights_that_have_changed_since_is_not_taken(
    hub: Hub, pickled: dict[str, bytes], tiny_model: Path
) -> None:
    hub.offer("some/model", converted(pickled, tiny_model))
    hub.add("some/model", hub.repositories["some/model"]["main"] | {"pytorch_model.bin": b"trained for longer"})
    hub.repositories["some/model"]["refs/pr/1"] = converted(pickled, tiny_model)
    assert "has no weights" in refusal(lambda: find_model("some/model", needs_weights=True))
    assert (find_model("some/model", needs_weights=False) / "config.json").is_file(), "scratch needs none"


def test_a_sweep_of_one_trial_runs_on_a_step_from_the_hub(
    hub: Hub, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    """As a user does it, in a process of its own."""
    weights = {name: tensor + 1 for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    later = files_of(tiny_model) | {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    hub.add("me/bert-step_0k", files_of(tiny_model))
    hub.add("me/bert-step_2k", later)
    options = (
        f"--task splice --data-dir {dna_files} --model me/bert-step_0k --init checkpoint --checkpoint me/bert-step_*k"
    )
    options += " --num-epochs 1 --max-train-examples 64"
    where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
    losses = []
    for step in (0, 2000):
        done = run_module("trainer", *options.split(), "--checkpoint-step", str(step), **where)
        assert done.returncode == 0, done.stderr
        losses.append(done.stdout)
    assert losses[0] != losses[1] and all("test/score" in text for text in losses)
