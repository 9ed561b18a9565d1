"""A trial's state: who restores it goes on bit for bit, and a file that does not fit changes nothing."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import files_in, run_module
from tests.test_trial import Memory
from trainer import state, state_file
from trainer.config import Report, TrialConfig
from trainer.optimizers import OPTIMIZERS
from trainer.state_file import StateError, read_notes
from trainer.trial import Trial
from trainer.version import NUMBERS

FEW = {"task": "splice", "num_epochs": 3, "learning_rate": 3e-3, "max_train_examples": 40, "batch_size": 8}


def config_of(tiny_model: Path, **fields: Any) -> TrialConfig:
    return TrialConfig(**{"model": str(tiny_model), **FEW, **fields})


def begin(config: TrialConfig, data_dir: Path) -> tuple[Trial, Memory]:
    memory = Memory()
    return Trial(config, memory, data_dir=data_dir, num_threads=1, save_model=True, scores_train=True), memory


def outcome(reports: list[Report], memory: Memory) -> dict[str, Any]:
    """All numbers that a trial ends with; its weights too, whose every bit counts."""
    result = reports[-1].result
    assert result is not None
    metrics = {name: value for name, value in result.metrics.items() if name != "examples_per_second"}
    files = {name: content for name, content in memory.files.items() if name.startswith(("predictions/", "model/"))}
    assert len(files) >= 2 and len(result.losses) == reports[-1].step
    return {"metrics": metrics, "losses": result.losses, "tags": memory.tags, **files}


def go_on(path: Path, config: TrialConfig, data_dir: Path) -> tuple[dict[str, Any], Memory]:
    """Restores a state in a new trial and trains to the end."""
    trial, memory = begin(config, data_dir)
    trial.restore(path)
    return outcome(list(trial), memory), memory


def check_each_interruption(config: TrialConfig, data_dir: Path, folder: Path) -> list[Report]:
    """Compares an undisturbed trial with one that is saved after each evaluation, and those that go on from there."""
    trial, memory = begin(config, data_dir)
    reports = list(trial)
    undisturbed = outcome(reports, memory)

    saved, its_memory = begin(config, data_dir)
    saved.save(folder / "0")
    paths, its_reports = [folder / "0"], []
    for report in saved:
        its_reports.append(report)
        if report.result is None:
            paths.append(folder / str(report.epoch))
            saved.save(paths[-1])
    assert outcome(its_reports, its_memory) == undisturbed, "saving has changed the numbers"

    assert len(paths) == len(reports) >= 2
    for path in paths:
        numbers, heard = go_on(path, config, data_dir)
        assert numbers == undisturbed
        told, whole = heard.series["train/loss"], memory.series["train/loss"]
        assert told == whole[-len(told) :], "what was told before is not told again"
    return reports


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_trial_goes_on_bit_for_bit_with_every_optimizer(
    tiny_model: Path, dna_files: Path, tmp_path: Path, optimizer: str
) -> None:
    check_each_interruption(config_of(tiny_model, optimizer=optimizer), dna_files, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"task": "cola", "max_train_examples": None}, id="the final checkpoint counts"),
        pytest.param({"task": "stability", "max_train_examples": None}, id="numbers are predicted"),
        pytest.param({"train_fraction": 0.2, "max_train_examples": None, "seed": 3}, id="a share of the data"),
        pytest.param({"model": "hilbert-cnn", "learning_rate": 1e-3}, id="batch statistics"),
        pytest.param({"init": "scratch", "seed": 1, "task": "h4", "num_epochs": 2}, id="from scratch, mixed lengths"),
    ],
)
def test_a_restored_trial_goes_on_bit_for_bit_whatever_is_trained(
    tiny_model: Path, task_files: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    check_each_interruption(config_of(tiny_model, **fields), task_files, tmp_path)


def test_best_weights_of_before_the_interruption_are_tested(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    config = config_of(tiny_model, num_epochs=9, patience=2, max_train_examples=80, learning_rate=1e-2)
    *_, before, last = check_each_interruption(config, dna_files, tmp_path)
    assert last.result is not None and last.epoch < 9, "or patience has not ended it"
    assert last.result.metrics["best_epoch"] < before.epoch, "or this test shows nothing"


def test_training_to_a_low_loss_goes_on_with_epochs_between_evaluations(
    tiny_model: Path, task_files: Path, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"max_train_examples": None, "train_fraction": 0.1, "num_epochs": None}
    config = config_of(tiny_model, task="mrpc", stop_at_loss=0.3, **fields)
    reports = check_each_interruption(config, task_files, tmp_path)
    assert reports[0].epoch > 1, "or this test shows nothing"


def test_another_process_goes_on_bit_for_bit(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    config = config_of(tiny_model)
    whole, memory = begin(config, dna_files)
    expected = outcome(list(whole), memory)
    trial, _ = begin(config, dna_files)
    next(trial)
    trial.save(tmp_path / "state")
    script = (
        "from pathlib import Path; from tests.test_state import config_of, go_on; "
        f"print(go_on(*map(Path, {[str(tmp_path / 'state')]!r}), config_of(Path({str(tiny_model)!r})), "
        f"Path({str(dna_files)!r}))[0])"
    )
    alone = run_module("timeit", "-n1", "-r1", script)
    assert alone.stdout.splitlines()[:1] == [str(expected)], alone.stderr


# The file.


@pytest.fixture(scope="module")
def saved(tiny_model: Path, dna_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state after the first epoch; tests copy it."""
    path = tmp_path_factory.mktemp("saved") / "state"
    trial, _ = begin(config_of(tiny_model), dna_files)
    next(trial)
    trial.save(path, {"journal": "what was said"})
    return path


def test_notes_are_kept_whatever_they_hold_and_the_last_save_counts(
    tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    config = config_of(tiny_model)
    trial, memory = begin(config, dna_files)
    trial.save(tmp_path / "state", {"journal": "old", "other": ""})
    next(trial)
    notes = {"journal": '{"größe": "\\u0000 \0"}\n' * 100_000, "checksum": "a/b", "": "nameless"}
    trial.save(tmp_path / "state", notes)
    assert read_notes(tmp_path / "state") == notes
    assert files_in(tmp_path) == {"state"}
    expected = outcome(list(trial), memory)
    assert go_on(tmp_path / "state", config, dna_files)[0] == expected


def test_without_notes_there_are_none(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    begin(config_of(tiny_model), dna_files)[0].save(tmp_path / "state")
    assert read_notes(tmp_path / "state") == {}


def test_the_time_of_training_counts_on(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    trial, _ = begin(config_of(tiny_model), dna_files)
    next(trial)
    trial.save(tmp_path / "state")
    restored, _ = begin(config_of(tiny_model), dna_files)
    restored.restore(tmp_path / "state")
    assert restored.seconds == trial.seconds > 0


def test_the_file_is_plain_safetensors(saved: Path, tiny_model: Path, dna_files: Path) -> None:
    trial, _ = begin(config_of(tiny_model), dna_files)
    trial.restore(saved)
    tensors = load_file(saved)
    weights = trial.learner.model.state_dict()
    assert all(torch.equal(tensors[f"weights/{name}"], tensor) for name, tensor in weights.items())
    assert tensors["losses"].dtype == torch.float64 and tensors["random/cpu"].dtype == torch.uint8
    assert not any(name.startswith("best_weights/") for name in tensors), "these are the current ones"


def test_tensors_that_share_memory_or_lie_askew_are_kept_as_they_are_seen(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": whole, "row": whole[1], "turned": whole.T, "one": whole[2, 3], "none": torch.zeros(0, 3)}
    tensors |= {
        "bytes": torch.ones(3, dtype=torch.uint8),
        "flags": whole > 5,
        "count": torch.tensor(7),
        "wide": whole.double()[:, ::2],
    }
    state_file.write_state(tmp_path / "x", {**tensors, "number": 0.1, "list": [1, None]}, {})
    aligned = load_file(tmp_path / "x").values()
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in aligned)
    read = state_file.read_state(tmp_path / "x", {})
    assert (read.pop("number"), read.pop("list")) == (0.1, [1, None])
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_a_restored_trial_shares_no_memory_with_its_file(saved: Path, tiny_model: Path, dna_files: Path) -> None:
    content = saved.read_bytes()
    go_on(saved, config_of(tiny_model), dna_files)
    assert saved.read_bytes() == content


def test_a_save_that_fails_leaves_what_was_there(
    tiny_model: Path, dna_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    trial, _ = begin(config_of(tiny_model), dna_files)
    trial.save(path, {"journal": "old"})
    with pytest.raises(ValueError, match="surrogates"):
        trial.save(path, {"journal": "\ud800"})
    written: list[torch.Tensor] = []

    def full_disk(tensor: torch.Tensor) -> memoryview:
        written.append(tensor)
        if len(written) > 3:
            raise OSError("no space left on device")
        return memoryview(bytes(tensor.nbytes))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(state_file, "_bytes", full_disk)
        trial.save(path)
    monkeypatch.setattr(state_file, "MAX_HEADER", 10_000)
    with pytest.raises(ValueError, match=r"notes: .* bytes do not fit; give less than 10,000"):
        trial.save(path, {"journal": "x" * 10_000})
    assert read_notes(path) == {"journal": "old"} and files_in(tmp_path) == {"state"}


def test_whom_the_umask_lets_read_can_read(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        begin(config_of(tiny_model), dna_files)[0].save(tmp_path / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o640


def test_a_trial_that_has_ended_has_no_state(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    trial, _ = begin(config_of(tiny_model, num_epochs=1), dna_files)
    list(trial)
    with pytest.raises(ValueError, match="the trial has ended"):
        trial.save(tmp_path / "state")
    assert not files_in(tmp_path)


# What is refused.


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "one byte short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "a header alone, cut": lambda content: content[:50],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[:-5000] + bytes(5000),
    "a bit of a weight": lambda content: flipped(content, len(content) * 3 // 4),
    "the last bit": lambda content: flipped(content, len(content) - 1),
    "a bit of a note": lambda content: flipped(content, content.index(b"what was said")),
    "a bit of a number": lambda content: flipped(content, content.index(b"last_epoch") + 15),
    "a tensor's name": lambda content: content.replace(b"random/cpu", b"random/cqu"),
    "two names of one length": lambda content: (
        content.replace(b"query", b"-----").replace(b"value", b"query").replace(b"-----", b"value")
    ),
    "a pickle": lambda content: b"\x80\x04\x95" + content,
    "a header of an exabyte": lambda content: (2**60).to_bytes(8, "little") + content[8:],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(
    saved: Path, tiny_model: Path, dna_files: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "state"
    path.write_bytes(DAMAGED[damage](saved.read_bytes()))
    trial, _ = begin(config_of(tiny_model), dna_files)
    with pytest.raises(StateError) as caught:
        trial.restore(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    tensors_alone = {
        "zeros at the end",
        "a bit of a weight",
        "the last bit",
        "a tensor's name",
        "two names of one length",
    }
    if damage in tensors_alone:  # notes are read from the header, and only from there
        assert read_notes(path) == {"journal": "what was said"}
    else:
        with pytest.raises(StateError):
            read_notes(path)


def test_files_of_another_kind_are_no_states(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model")
    with pytest.raises(StateError, match="this is no saved state"):
        read_notes(tmp_path / "model")
    nested = {state_file.FACTS: "[" * 100_000}
    save_file({}, tmp_path / "nested", nested | {state_file.CHECKSUM: state_file._text_checksum(nested)})
    with pytest.raises(StateError, match="this is no saved state"):
        state_file.read_state(tmp_path / "nested", {})
    with pytest.raises(FileNotFoundError):
        read_notes(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": 1e-3}, "config/learning_rate: 0.003 there, 0.001 here"),
        ({"seed": 1}, "config/seed: 0 there, 1 here"),
        ({"stop_at_loss": 0.1}, "config/stop_at_loss: None there, 0.1 here"),
        ({"task": "h4"}, "data: '"),
    ],
)
def test_another_trials_state_is_refused(
    saved: Path, tiny_model: Path, dna_files: Path, fields: dict[str, Any], said: str
) -> None:
    trial, _ = begin(config_of(tiny_model, **fields), dna_files)
    with pytest.raises(StateError, match="the state is of something else") as caught:
        trial.restore(saved)
    assert said in str(caught.value)


def test_a_state_of_another_version_of_the_numbers_is_refused(
    saved: Path, tiny_model: Path, dna_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "NUMBERS", NUMBERS + 1)
    with pytest.raises(StateError, match=r"numbers: \d+ there, \d+ here"):
        begin(config_of(tiny_model), dna_files)[0].restore(saved)


CLASSIFIER = "weights/classifier.weight"
MISFITS: dict[str, Callable[[dict[str, Any]], object]] = {
    f"lacks {CLASSIFIER}": lambda entries: entries.pop(CLASSIFIER),
    "lacks optimizer/0/exp_avg": lambda entries: entries.pop("optimizer/0/exp_avg"),
    "lacks losses": lambda entries: entries.pop("losses"),
    "lacks epoch": lambda entries: entries.pop("epoch"),
    "lacks best_weights/bert": lambda entries: entries.update({"best_weights/classifier.bias": torch.zeros(3)}),
    "unknown weights/more": lambda entries: entries.update({"weights/more": torch.zeros(1)}),
    "unknown optimizer/0/more": lambda entries: entries.update({"optimizer/0/more": torch.zeros(1)}),
    "unknown optimizer/999/step": lambda entries: entries.update({"optimizer/999/step": torch.tensor(1.0)}),
    "unknown optimizer/x/step": lambda entries: entries.update({"optimizer/x/step": torch.tensor(1.0)}),
    "unknown config/more": lambda entries: entries.update({"config/more": 1}),
    CLASSIFIER: lambda entries: entries.update({CLASSIFIER: entries[CLASSIFIER].T}),
    "optimizer/1/exp_avg": lambda entries: entries.update({"optimizer/1/exp_avg": torch.zeros(())}),
    "optimizer/1/step": lambda entries: entries.update({"optimizer/1/step": 5}),
    "losses": lambda entries: entries.update(losses=entries["losses"].float()),
    "epoch": lambda entries: entries.update(epoch="1"),
    "seconds": lambda entries: entries.update(seconds=None),
    "best_scores/accuracy": lambda entries: entries.update({"best_scores/accuracy": torch.ones(1)}),
    "rates": lambda entries: entries["rates"].pop("lr"),
    "schedule": lambda entries: entries["schedule"].update(step="no method"),
    "random/cpu": lambda entries: entries.update({"random/cpu": torch.zeros_like(entries["random/cpu"])}),
    "random/data_order": lambda entries: entries.update({"random/data_order": torch.zeros(3, dtype=torch.uint8)}),
}


def test_a_state_that_does_not_fit_is_refused_and_the_trial_still_trains_from_the_beginning(
    saved: Path, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    """Such as one of a library's other version: whole, and of this config."""
    config = config_of(tiny_model)
    undisturbed, memory = begin(config, dna_files)
    expected = outcome(list(undisturbed), memory)
    trial, memory = begin(config, dna_files)
    common = json.loads(json.dumps(state._identity(trial)))
    for place, (said, change) in enumerate(MISFITS.items()):
        path = tmp_path / str(place)
        entries = state_file.read_state(saved, common)
        change(entries)
        state_file.write_state(path, common | entries, {})
        with pytest.raises(StateError) as caught:
            trial.restore(path)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert outcome(list(trial), memory) == expected
