"""Pre-training as users start it: recorded in MLflow, on the console, in several processes, interrupted."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps import recorded
from sweeps.pretrain import main
from tests.conftest import ROOT, refusal, run_module
from trainer.errors import UserError
from trainer.pretrain import main as main_on_console

SETTINGS = {"num-steps": 6, "batch-size": 8, "max-length": 16, "checkpoint-steps": "0,3", "learning-rate": 1e-3}
METRICS = ("train/loss", "train/masked_accuracy", "tokens_per_second", "valid/loss", "valid/masked_accuracy")


def arguments(model: Path, **more: object) -> list[str]:
    given = {"corpus": "nested", "model": model, "num-threads": 1, **SETTINGS}
    given |= {name.replace("_", "-"): value for name, value in more.items()}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def the_run(store: MlflowClient, experiment: str) -> Any:
    (run,) = store.search_runs([experiment], "tags.`polymath.kind` = 'pretrain'")
    return run


def curve(store: MlflowClient, run_id: str, name: str = "train/loss") -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in store.get_metric_history(run_id, name))


def artifacts(store: MlflowClient, run_id: str, path: str) -> set[str]:
    return {entry.path.removeprefix(f"{path}/") for entry in store.list_artifacts(run_id, path)}


def test_a_run_has_all_that_was_done(store: MlflowClient, experiment: str, tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    assert main(arguments(tiny_model)) == 0
    run = the_run(store, experiment)
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags[recorded.OUTCOME], tags["polymath.corpus"]) == ("finished", "nested")
    assert run.data.params["num_steps"] == "6" and run.data.params["checkpoint_steps"] == "0,3,6"
    for name in METRICS:
        first = 0 if name.startswith("valid") else 1
        assert [step for step, _ in curve(store, run.info.run_id, name)] == list(range(first, 7)), name
    assert artifacts(store, run.info.run_id, "checkpoints") == {"step-0", "step-3", "step-6"}
    assert artifacts(store, run.info.run_id, "resume") == set()
    folder = store.download_artifacts(run.info.run_id, "checkpoints/step-3", str(tmp_path))
    assert AutoModelForMaskedLM.from_pretrained(folder).config.vocab_size == len(AutoTokenizer.from_pretrained(folder))
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("nested", tags[recorded.DATA_DIGEST])


def test_what_is_done_is_not_done_again(
    store: MlflowClient, experiment: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(tiny_model))
    run = the_run(store, experiment)
    assert main(arguments(tiny_model)) == 0
    assert f"done already, in run {run.info.run_id}" in capsys.readouterr().out
    main(arguments(tiny_model, seed=1))
    assert len(store.search_runs([experiment], "tags.`polymath.kind` = 'pretrain'")) == 2


KILLED_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
from sweeps import pretrain_worker
keep = pretrain_worker._keep
def keep_and_go_on(store, run_id, pretraining, *rest):
    keep(store, run_id, pretraining, *rest)
    if pretraining.step == 3:
        train = pretraining._train
        def die(end):
            train(end)
            if pretraining.step == 5:
                os.kill(os.getpid(), signal.{how})
        pretraining._train = die
pretrain_worker._keep = keep_and_go_on
from sweeps.pretrain import main
from trainer.commandline import run
run(main)
"""


WORKER_DIES = """
import os, signal
from pathlib import Path
from sweeps import pretrain_group
work = pretrain_group._work
def dying(given):
    from trainer.pretraining.pretraining import Pretraining
    train = Pretraining._train
    def die(self, end):
        train(self, end)
        flag = Path("{flag}")
        if self.step == 5 and self.group.rank == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    Pretraining._train = die
    work(given)
pretrain_group._work = dying
from sweeps.pretrain import main
from trainer.commandline import run
run(main)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_an_interrupted_run_goes_on_with_the_same_curve(
    store: MlflowClient, experiment: str, tiny_model: Path, tmp_path: Path, how: str
) -> None:
    """Killed two steps after the last one that was kept."""
    command = [sys.executable, "-c", KILLED_AT.format(how=how), *arguments(tiny_model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if how == "SIGKILL" else 130), done.stderr
    before = the_run(store, experiment)
    assert before.info.status == ("RUNNING" if how == "SIGKILL" else "KILLED")
    assert artifacts(store, before.info.run_id, "resume") == {"step-3.safetensors"}
    assert main(arguments(tiny_model)) == 0
    after = the_run(store, experiment)
    assert after.info.run_id == before.info.run_id and after.info.status == "FINISHED"

    name = store.create_experiment(f"undisturbed {tmp_path}", artifact_location=(tmp_path / "undisturbed").as_uri())
    os.environ["MLFLOW_EXPERIMENT_ID"] = name  # the fixture puts it back
    main(arguments(tiny_model))
    undisturbed = the_run(store, name)
    for metric in set(METRICS) - {"tokens_per_second"}:
        expected = curve(store, undisturbed.info.run_id, metric)
        assert curve(store, after.info.run_id, metric) == expected, metric
    steps = [step for step, _ in curve(store, after.info.run_id, "tokens_per_second")]
    assert steps == list(range(1, 7))


def test_two_do_not_train_the_same(store: MlflowClient, experiment: str, tiny_model: Path) -> None:
    from sweeps.heartbeat import Heartbeat

    main(arguments(tiny_model))
    run_id = the_run(store, experiment).info.run_id
    store.update_run(run_id, status="RUNNING")
    store.delete_tag(run_id, recorded.OUTCOME)
    with Heartbeat(store, run_id):  # of this very process, which lives
        message = refusal(lambda: main(arguments(tiny_model)))
    assert f"runs already, in run {run_id}; wait for it, or stop it" in message


def test_a_diverged_one_is_recorded_and_refused_in_one_line(
    store: MlflowClient, experiment: str, tiny_model: Path
) -> None:
    wild = arguments(tiny_model, learning_rate=1e38, num_warmup_steps=0)
    assert refusal(lambda: main(wild)).startswith("learning_rate: 1e+38 is not allowed here: the loss was no number")
    run = the_run(store, experiment)
    assert (run.info.status, run.data.tags[recorded.OUTCOME]) == ("FINISHED", "diverged")
    assert "diverged before" in refusal(lambda: main(wild))


@pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning")  # Ray Data warns of settings of its own
def test_two_processes_learn_what_one_does(
    store: MlflowClient, experiment: str, ray_here: None, tiny_model: Path, tmp_path: Path
) -> None:
    """By Ray Train, each taking half of every step's sequences."""
    settings = json.loads((tiny_model / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    main(arguments(tmp_path, num_workers=2))
    together = the_run(store, experiment)
    store.delete_run(together.info.run_id)
    main(arguments(tmp_path))
    alone = the_run(store, experiment)
    for name in ("train/loss", "valid/loss"):
        pairs = zip(curve(store, together.info.run_id, name), curve(store, alone.info.run_id, name), strict=True)
        for (step, loss), (_, other) in pairs:
            assert loss == pytest.approx(other, rel=1e-5), (name, step)
    assert artifacts(store, together.info.run_id, "checkpoints") == {"step-0", "step-3", "step-6"}


def test_more_processes_than_sequences_are_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="num_workers: 9 is not allowed, as few as 8 sequences"):
        main(arguments(tiny_model, num_workers=9))
    with pytest.raises(UserError, match="num_workers: 3 is not allowed, as few as 2 sequences"):
        main(arguments(tiny_model, num_workers=3, micro_batch_size=6))


def test_on_the_console_models_are_kept_in_a_folder_and_it_goes_on(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main_on_console([*arguments(tiny_model), "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {"step-0", "step-3", "step-6", "state.safetensors"}
    assert main_on_console([*arguments(tiny_model), "--output", str(output)]) == 0
    assert "goes on after step 6" in capsys.readouterr().out
    assert "of something else" in refusal(
        lambda: main_on_console([*arguments(tiny_model, seed=1), "--output", str(output)])
    )


def test_steps_that_are_past_are_not_claimed_to_be_kept(tiny_model: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path)]
    assert main_on_console([*arguments(tiny_model), *output]) == 0
    message = refusal(lambda: main_on_console([*arguments(tiny_model, checkpoint_steps="0,2"), *output]))
    assert f"{str(tmp_path)!r} is past step 2 and has not kept it" in message


def test_an_output_that_is_a_file_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refusal(lambda: main_on_console([*arguments(tiny_model), "--output", str(tmp_path / "file")]))
    assert message.startswith("output: ") and message.endswith("give another folder")


def test_of_two_that_begin_at_once_the_later_gives_way(
    store: MlflowClient, experiment: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's run appears after this one has looked."""
    from sweeps import pretrain
    from sweeps.heartbeat import Heartbeat

    other = ""

    def made_meanwhile(store: MlflowClient, experiment_id: str, *rest: Any) -> str:
        nonlocal other
        other = make(store, experiment_id, *rest)
        beating.enter_context(Heartbeat(store, other))
        return make(store, experiment_id, *rest)

    make = pretrain.new_run
    monkeypatch.setattr(pretrain, "new_run", made_meanwhile)
    with ExitStack() as beating:
        assert "runs already, in run" in refusal(lambda: main(arguments(tiny_model)))
    assert the_run(store, experiment).info.run_id == other


def test_a_worker_that_dies_is_replaced_and_the_curve_stays(
    store: MlflowClient, experiment: str, tiny_model: Path, tmp_path: Path
) -> None:
    """The second of two processes is killed after step 3 was kept; in a Ray of its own."""
    command = [sys.executable, "-c", WORKER_DIES.format(flag=tmp_path / "died"), *arguments(tiny_model, num_workers=2)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists()
    run = the_run(store, experiment)
    assert (run.info.status, run.data.tags[recorded.OUTCOME]) == ("FINISHED", "finished")
    assert [step for step, _ in curve(store, run.info.run_id)] == list(range(1, 7))


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = run_module("sweeps.pretrain", "--corpus", str(tmp_path / "no.txt"), "--model", "../shared/models/none")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
