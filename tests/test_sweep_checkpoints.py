"""Sweeps that start from the checkpoints of a pre-training run, in a folder or in the tracking store."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file, save_file

from sweeps import recorded, train
from sweeps.__main__ import main
from sweeps.checkpoints import MAX_CORPUS, check_checkpoint, checkpoint_folder, corpus_of, fetch_model
from sweeps.keys import model_digest
from sweeps.spec import SweepOptions
from sweeps.supplies import Supplies
from tests.conftest import refusal
from trainer import data, models
from trainer.config import TrialConfig
from trainer.models import find_model
from trainer.tasks.task import Dataset

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test has fetched is forgotten after it."""
    yield
    models._provided.clear()
    data._provided.clear()


@pytest.fixture
def checkpoints(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with the tiny model as it was after steps 0 and 20."""
    folder = tmp_path / "checkpoints"
    for step in (0, 20):
        shutil.copytree(tiny_model, folder / f"step-{step:04}")
        file = folder / f"step-{step:04}/model.safetensors"
        weights = {name: tensor + step for name, tensor in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
        (file.parent / "polymath.json").write_text(json.dumps({"corpus": "nested", "step": step}))
    return folder


@pytest.fixture
def pretraining(checkpoints: Path, experiment: str, store: MlflowClient) -> str:
    """The URI of these checkpoints in the tracking store."""
    run = store.create_run(experiment, tags={recorded.KIND: "pretrain"})
    store.log_artifacts(run.info.run_id, str(checkpoints), "checkpoints")
    store.set_terminated(run.info.run_id)
    return f"runs:/{run.info.run_id}/checkpoints"


def config(checkpoint: str, step: int | None = None, model: object = "bert-base-uncased") -> TrialConfig:
    return TrialConfig(task="splice", init="checkpoint", checkpoint=checkpoint, checkpoint_step=step, model=str(model))


def trials(store: MlflowClient, experiment: str) -> list[Run]:
    return list(store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'trial'"))


def test_a_step_is_fetched_from_the_store_and_no_other(pretraining: str, tracking_uri: str, checkpoints: Path) -> None:
    folder = checkpoint_folder(config(pretraining, 20), tracking_uri)
    assert folder is not None and [path.name for path in folder.parent.iterdir()] == [folder.name]
    expected = load_file(checkpoints / "step-0020/model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(folder / "model.safetensors").items())
    assert checkpoint_folder(config(pretraining, 20), tracking_uri) == folder, "once a process"


def test_a_relative_folder_is_found_from_where_the_sweep_was_started(
    checkpoints: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    folder = checkpoint_folder(config("checkpoints", 20), tracking_uri, checkpoints.parent)
    assert folder == checkpoints / "step-0020"


def test_the_folder_of_one_step_needs_no_step(pretraining: str, tracking_uri: str) -> None:
    assert checkpoint_folder(config(f"{pretraining}/step-0000"), tracking_uri) is not None


def test_trials_of_other_inits_need_no_checkpoint(tracking_uri: str) -> None:
    trial = TrialConfig(task="splice", init="scratch", checkpoint="runs:/gone/checkpoints")
    assert checkpoint_folder(trial, tracking_uri) is None
    check_checkpoint(trial, tracking_uri)


def test_a_mistake_in_a_uri_is_one_line_before_anything_is_fetched(pretraining: str, tracking_uri: str) -> None:
    def said(checkpoint: str, step: int | None = None) -> str:
        return refusal(lambda: check_checkpoint(config(checkpoint, step), tracking_uri))

    assert "checkpoint_step: 7 is not in" in said(pretraining, 7) and "there are 0, 20" in said(pretraining, 7)
    assert "has several steps; give one of 0, 20" in said(pretraining)
    assert "has no folders step-N; leave it out" in said(f"{pretraining}/step-0000", 5)
    assert said(f"{pretraining}/nothing").startswith("checkpoint: there is nothing at")
    assert said("runs:/0123456789abcdef0123456789abcdef/checkpoints").startswith("checkpoint: ")
    assert said("models-of-mine:/x").startswith("checkpoint: ")


def test_a_checkpoint_of_another_width_is_refused_before_its_weights_are_fetched(
    pretraining: str, checkpoints: Path, tiny_model: Path, tiny_model_for_music: Path, tracking_uri: str
) -> None:
    for checkpoint in (pretraining, str(checkpoints)):
        check_checkpoint(config(checkpoint, 20, tiny_model), tracking_uri)
        trial = config(checkpoint, 20, tiny_model_for_music)
        message = refusal(lambda trial=trial: check_checkpoint(trial, tracking_uri))  # type: ignore[misc]
        assert message == (
            f"checkpoint: the weights in {checkpoint}/step-0020 do not fit the architecture of {tiny_model_for_music} "
            "(vocab_size is 1100, not 1200); give model=the folder whose config they were trained with"
        )


@pytest.mark.parametrize(
    ("content", "corpus"),
    [
        ('{"corpus": "nested", "step": 3}', "nested"),
        (json.dumps({"corpus": "my\n texts " + "x" * 200}), "my texts " + "x" * (MAX_CORPUS - 9)),
        ('{"corpus": "a\\ud800\\u0000b"}', "a b"),
        ('{"step": 3}', ""),
        ('{"corpus": ["nested"]}', ""),
        ('["corpus"]', ""),
        ("{", ""),
        ("[" * 100_000, ""),
        ("\ud800", ""),
        (None, ""),
    ],
)
def test_a_corpus_is_a_short_text_or_not_known(tmp_path: Path, content: str | None, corpus: str) -> None:
    if content is not None:
        (tmp_path / "polymath.json").write_bytes(content.encode("utf-8", errors="surrogatepass"))
    assert corpus_of(tmp_path) == corpus and corpus_of(None) == ""


def test_of_a_text_weights_of_another_vocabulary_are_refused(
    tracking_uri: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Symbols are mapped to tokens anyway; a text's words would become others'."""
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text().replace('"word10', '"ward10'))
    for path in other.glob("vocab.txt"):
        path.write_text(path.read_text().replace("word10", "ward10"))
    shared = {"model": str(tiny_model), "init": "checkpoint"}
    check_checkpoint(TrialConfig(task="splice", checkpoint=str(other), **shared), tracking_uri)  # type: ignore[arg-type]
    check_checkpoint(TrialConfig(task="sst2", checkpoint=str(tiny_model), **shared), tracking_uri)  # type: ignore[arg-type]
    text = TrialConfig(task="sst2", checkpoint=str(other), **shared)  # type: ignore[arg-type]
    message = refusal(lambda: check_checkpoint(text, tracking_uri))
    assert "was trained with another vocabulary than the model's" in message and "give that very folder" in message


def test_a_model_in_the_store_is_fetched_once_and_found_by_its_uri(
    pretraining: str, checkpoints: Path, tracking_uri: str
) -> None:
    uri = f"{pretraining}/step-0020"
    message = refusal(lambda: find_model(uri, needs_weights=False))
    assert message.startswith(f"model: '{uri}' needs a tracking store; use a sweep or `python -m sweeps.train`")
    fetch_model(uri)
    folder = find_model(uri, needs_weights=True)
    weights = (checkpoints / "step-0020/model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == weights
    fetch_model(uri)
    assert find_model(uri, needs_weights=True) == folder
    trial = TrialConfig(task="splice", model=uri)
    local = TrialConfig(task="splice", model=str(checkpoints / "step-0020"))
    assert model_digest(trial, tracking_uri) == model_digest(local, tracking_uri), "its contents name it, not its place"
    supplies = Supplies.local(SweepOptions(task="splice", model=uri))
    assert supplies.receive(trial, tracking_uri).model_folder == folder, "workers here read the same files"


@pytest.mark.usefixtures("ray_here")
def test_a_model_in_the_store_travels_to_workers_on_other_machines_as_a_folder_does(
    pretraining: str,
    tiny_model: Path,
    splice_dataset: Dataset,
    tracking_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    options = SweepOptions(task="splice", grid="compare", model=f"{pretraining}/step-0000", inits=("pretrained",))
    fetch_model(options.model)
    supplies = Supplies.shipped(options, options.spec(), splice_dataset)
    models._provided.clear()  # a worker has not fetched it
    received = supplies.receive(next(iter(options.spec().cells.values())), tracking_uri)
    assert received.model_folder is not None and received.model_folder.is_relative_to(tmp_path / "cache")
    sent = load_file(received.model_folder / "model.safetensors")
    assert all(torch.equal(sent[n], tensor) for n, tensor in load_file(tiny_model / "model.safetensors").items())


def test_a_registered_model_is_a_model_and_a_checkpoint(
    pretraining: str, tiny_model: Path, tracking_uri: str, store: MlflowClient, experiment: str
) -> None:
    name = f"bert-{experiment}"
    store.create_registered_model(name)
    source = store.get_run(pretraining.split("/")[1]).info.artifact_uri
    store.create_model_version(name, f"{source}/checkpoints/step-0020", run_id=pretraining.split("/")[1])
    uri = f"models:/{name}/1"
    fetch_model(uri)
    assert find_model(uri, needs_weights=True).is_dir()
    check_checkpoint(config(uri, None, tiny_model), tracking_uri)
    folder = checkpoint_folder(config(uri, None, tiny_model), tracking_uri)
    assert folder is not None and corpus_of(folder) == "nested"


def test_a_mistake_in_a_models_uri_is_one_line(pretraining: str, experiment: str) -> None:
    message = refusal(lambda: fetch_model(pretraining))
    assert message == (
        f"model: '{pretraining}' has a folder for each step; give one of them, e.g. {pretraining}/step-0020"
    )
    assert refusal(lambda: fetch_model(f"{pretraining}/step-7")).startswith("model: there is nothing at")
    assert refusal(lambda: fetch_model("runs:/0123456789abcdef0123456789abcdef/x")).startswith("model: 'runs:/")
    message = refusal(lambda: fetch_model("https://me:secret@host/model"))
    assert message == "model: a URI is recorded as it is; leave out its user name, password and query"
    for model in ("bert-base-uncased", "kmer", "/some/folder"):
        fetch_model(model)  # nothing to be fetched


@pytest.mark.usefixtures("ray_here")
def test_a_sweep_over_corpora_with_a_model_in_the_store(
    pretraining: str,
    checkpoints: Path,
    dna_files: Path,
    experiment: str,
    store: MlflowClient,
    tmp_path: Path,
) -> None:
    plain = shutil.copytree(checkpoints / "step-0000", tmp_path / "plain")
    (plain / "polymath.json").unlink()
    model = f"{pretraining}/step-0000"
    options = ["--task", "splice", "--data-dir", str(dna_files), "--model", model, "--num-epochs", "1"]
    options += ["--max-train-examples", "64", "--grid", "corpora", "--checkpoint", f"{pretraining},{plain}"]
    options += ["--seeds", "1", "--learning-rates", "1e-3", "--inits", "pretrained,scratch,checkpoint"]
    assert main(options) == 0
    found = {
        (run.data.params["init"], run.data.params.get("checkpoint"), run.data.params.get("checkpoint_step")): run
        for run in trials(store, experiment)
    }
    from_store = ("checkpoint", pretraining, "20")
    assert set(found) == {
        ("pretrained", None, None),
        ("scratch", None, None),
        ("checkpoint", str(plain), None),
        from_store,
    }
    assert {run.data.params["model"] for run in found.values()} == {model}
    assert {run.data.params["learning_rate"] for run in found.values()} == {"0.001"}
    named = {start: run.data.tags.get(recorded.CORPUS) for start, run in found.items()}
    assert {start: corpus for start, corpus in named.items() if corpus} == {from_store: "nested"}
    assert main(options) == 0 and len(trials(store, experiment)) == 4, "all is done already"


def test_one_trial_alone_takes_a_model_and_a_checkpoint_from_the_store(
    pretraining: str, dna_files: Path, experiment: str, store: MlflowClient
) -> None:
    options = ["--task", "splice", "--data-dir", str(dna_files), "--model", f"{pretraining}/step-0000"]
    options += ["--num-epochs", "1", "--max-train-examples", "64"]
    assert train.main(options) == 0
    assert train.main([*options, "--init", "checkpoint", "--checkpoint", pretraining, "--checkpoint-step", "20"]) == 0
    runs = {run.data.params["init"]: run for run in trials(store, experiment)}
    assert {init: run.data.tags.get(recorded.CORPUS) for init, run in runs.items()} == {
        "pretrained": None,
        "checkpoint": "nested",
    }
    assert {run.data.params["model"] for run in runs.values()} == {f"{pretraining}/step-0000"}


@pytest.mark.usefixtures("ray_here")
def test_a_sweep_over_the_steps_of_a_pre_training_run(
    pretraining: str, tiny_model: Path, dna_files: Path, experiment: str, store: MlflowClient, tmp_path: Path
) -> None:
    grid = tmp_path / "steps.yaml"
    grid.write_text("checkpoint_step: [0, 20]\nlearning_rate: 1e-3\n")
    options = ["--task", "splice", "--data-dir", str(dna_files), "--model", str(tiny_model), "--num-epochs", "1"]
    options += ["--grid", str(grid), "--checkpoint", pretraining, "--inits", "scratch,checkpoint"]
    assert main(options) == 0
    runs = trials(store, experiment)
    params = [(run.data.params["init"], run.data.params.get("checkpoint_step")) for run in runs]
    assert sorted(params, key=str) == [("checkpoint", "0"), ("checkpoint", "20"), ("scratch", None)]
    assert {run.data.params.get("checkpoint") for run in runs} == {pretraining, None}
    first = {}
    for run in runs:
        history = store.get_metric_history(run.info.run_id, "train/loss")
        first[run.data.params["init"], run.data.params.get("checkpoint_step")] = history[0].value
    assert len(set(first.values())) == 3, "three different sets of weights"
    (sweep,) = store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'sweep'")
    table = store.download_artifacts(sweep.info.run_id, "tables/compare.csv", str(tmp_path))
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    assert [row["init"] for row in rows].count("checkpoint") == 2
    assert {row["checkpoint_step"] for row in rows} == {"0", "20", ""}
