"""Probes as users start them: recorded in MLflow, side by side through Ray, of trials' models, interrupted."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file, save_file

from analysis.__main__ import main as analyse
from sweeps import __main__ as sweeps_main
from sweeps import probe as sweeps_probe
from sweeps import recorded
from sweeps.probe import Settings, main
from sweeps.probe_record import log_measured, metrics_of
from tests.conftest import ROOT, refusal, run_module
from tests.test_probe_config import copied
from tests.test_probe_passes import KEYS
from trainer.commandline import parse
from trainer.models import find_model, read_vocabulary
from trainer.probes.config import KINDS, OF_PAIRS, ProbeConfig
from trainer.probes.probe import Measured

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FEW = {"task": "splice", "num-examples": 6, "batch-size": 4, "num-batches": 3, "split": "train", "num-draws": 2}
MARK = "PROBE_UNDER_TEST"
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background start without
from sweeps.probe import main
from trainer.commandline import run
run(main)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in processes that are started: of models so small several threads make nothing but a crowd."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and figures, which take a process of their own, are left out."""
    for module in (sweeps_probe, sweeps_main):
        monkeypatch.setattr(module, "begin_table", lambda *given: None)
        monkeypatch.setattr(module, "end_table", lambda *given: None)


def arguments(kind: str, models: Sequence[Path | str], data_dir: Path, **more: object) -> list[str]:
    given = {"kind": kind, "models": ",".join(map(str, models)), "data-dir": data_dir, **FEW}
    given |= {name.replace("_", "-"): value for name, value in more.items()}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def probes(store: MlflowClient, experiment: str) -> list[Run]:
    """The newest first."""
    return list(store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'probe'"))


def artifacts(store: MlflowClient, run: Run, path: str = "") -> set[str]:
    return {entry.path for entry in store.list_artifacts(run.info.run_id, path or None)}


def content(store: MlflowClient, run: Run, folder: Path) -> dict[str, Any]:
    """``probe.json``, in which every number is one."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    path = Path(store.download_artifacts(run.info.run_id, recorded.PROBE, str(folder)))
    found: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return found


def arrays(store: MlflowClient, run: Run, folder: Path) -> list[dict[str, np.ndarray]]:
    """Of each part, in order."""
    found = []
    for path in sorted(artifacts(store, run, "arrays")):
        with np.load(store.download_artifacts(run.info.run_id, path, str(folder)), allow_pickle=False) as values:
            found.append(dict(values))
    return found


def curve(store: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in store.get_metric_history(run.info.run_id, name))


# -- what is recorded


def test_a_probe_is_recorded_and_shown(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    done = run_module("sweeps.probe", *arguments("pwcca", (tiny_model, "scratch:1"), dna_files))
    assert done.returncode == 0, done.stderr
    (run,) = probes(store, experiment)
    assert run.info.status == "FINISHED" and run.info.run_name == "pwcca splice"
    assert done.stdout.splitlines()[:2] == [
        "pwcca of 2 models on 6 examples of splice, train",
        f"recorded in run {run.info.run_id} of {os.environ['MLFLOW_TRACKING_URI']}",
    ]
    assert "tiny-bert - scratch seed 1: 2 of 2" in done.stdout, "a pipe gets lines"
    asked = {"kind": "pwcca", "task": "splice", "models": f"{tiny_model},scratch:1", "num_examples": "6"}
    asked |= {"split": "train", "mapping": "random", "max_length": "60", "ridge": "0", "seed": "0"}
    assert asked.items() <= run.data.params.items()
    assert not {"num_batches", "num_draws", "noise_stds", "data_dir", "num_workers"} & run.data.params.keys()
    assert run.inputs is not None
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.tags[0].value) == ("splice", "train")
    assert run.data.tags[recorded.DATA_DIGEST]

    found = content(store, run, tmp_path)
    models = ["tiny-bert", "scratch seed 1"]
    (result,) = found.pop("results")
    assert found == {"kind": "pwcca", "task": "splice", "models": models, "num_examples": 6, "num_tokens": 6 * 62}
    assert result["models"] == models and result.keys() == {"models", *KEYS["pwcca"]}
    (kept,) = arrays(store, run, tmp_path)
    for name in ("pwcca", "pwcca_of_second", "cka"):
        assert kept[name].tolist() == result[name]
        assert curve(store, run, f"{name}/tiny-bert - scratch seed 1") == [*enumerate(np.diag(kept[name]))]

    assert artifacts(store, run, "tables") and artifacts(store, run, "figures")
    assert f"{result['pwcca'][-1][-1]:.2f}"[1:] in done.stdout, "the table is printed"
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stdout and run.info.run_id in done.stdout


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pwcca"])
@pytest.mark.usefixtures("no_table")
def test_every_kind_is_recorded_and_has_tables_and_figures(
    kind: str,
    store: MlflowClient,
    experiment: str,
    tiny_model: Path,
    dna_files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = (tiny_model, "scratch") if kind in OF_PAIRS else (tiny_model,)
    assert main(arguments(kind, models, dna_files)) == 0
    (run,) = probes(store, experiment)
    found = content(store, run, tmp_path)
    (result,) = found["results"]
    assert found["kind"] == kind and result.keys() == {"models", *KEYS[kind]}
    assert found["num_examples"] == (12 if kind == "gradients" else 6)
    assert len(arrays(store, run, tmp_path)) == 1
    assert run.data.metrics and all(name.endswith(f"/{' - '.join(found['models'])}") for name in run.data.metrics)
    if kind == "attention":
        (name,) = run.data.metrics
        assert curve(store, run, name) == [*enumerate(result["mean"], 1)]
    if kind == "perturbation":
        assert sorted(run.data.metrics.values()) == sorted(result["mean"])
    capsys.readouterr()
    assert analyse(["--sweep", run.info.run_id, "--output", "none"]) == 0
    assert "tiny-bert" in capsys.readouterr().out
    assert artifacts(store, run, "tables") and artifacts(store, run, "figures")


@pytest.mark.usefixtures("no_table")
def test_under_a_run_that_is_given_a_probe_has_its_own(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``mlflow run`` gives one, in which it has recorded for good what it was told as text."""
    given = store.create_run(experiment).info.run_id
    store.log_param(given, "models", "as MLflow wrote them")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert main(arguments("isometry", (tiny_model,), dna_files)) == 0
    (run,) = probes(store, experiment)
    assert run.info.run_id != given and run.data.tags[recorded.PARENT] == given
    parent = store.get_run(given)
    assert parent.info.status == "RUNNING", "who opened it closes it"
    assert parent.info.run_name == "isometry splice" and recorded.KIND not in parent.data.tags


def part(kind: str, *labels: str, value: float = 0.5) -> Measured:
    result = {"mean": [value], "std": [None], "num_examples": 1}
    assert kind == "attention"
    return Measured(result={"models": [*labels], **result}, arrays={"distances": np.array([[value]])})


@pytest.mark.parametrize(
    "labels",
    [
        ("modèle", "modéle", "模型一", "模型二"),
        ("a" * 200 + "1", "a" * 200 + "2", "b"),
        (".", "..", "../..", "a/b", "a_b"),
        ("[red]", "<b>", "%s", "a:b", 'a"b', "\x1b[31m", "a\nb"),
    ],
    ids=["letters", "long", "paths", "marks"],
)
def test_no_two_parts_share_a_metric_or_a_file_whatever_models_are_called(
    labels: tuple[str, ...], store: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    run = store.create_run(experiment)
    measured = [part("attention", labels[0], label, value=float(number)) for number, label in enumerate(labels[1:], 1)]
    config = ProbeConfig(kind="attention", models=("a/b", "scratch"), task="splice")
    log_measured(store, run.info.run_id, config, measured)
    run = store.get_run(run.info.run_id)
    assert sorted(run.data.metrics.values()) == [1.0 + number for number in range(len(measured))]
    kept = arrays(store, run, tmp_path)
    assert [float(found["distances"][0, 0]) for found in kept] == [1.0 + number for number in range(len(measured))]


def test_of_models_of_other_depths_the_last_layers_come_last() -> None:
    table = [[10 * row + column for column in range(7)] for row in range(3)]
    for rows in (table, [list(column) for column in zip(*table, strict=True)]):
        result = dict.fromkeys(("pwcca", "pwcca_of_second", "cka"), rows)
        found = [(step, value) for name, step, value in metrics_of("pwcca", result) if name == "cka"]
        assert found == [(0, 0), (1, 11), (len(rows) - 1, rows[-1][-1])]


def test_every_noise_has_a_metric_of_its_own() -> None:
    result = {"noise_stds": [0.012, 0.01, 1e-8], "mean": [1.0, 2.0, 3.0]}
    names = [name for name, _, _ in metrics_of("perturbation", result)]
    assert len(set(names)) == 3


# -- side by side


@pytest.mark.slow
@pytest.mark.usefixtures("no_table", "ray_here")
@pytest.mark.parametrize("kind", ["gradients", "pwcca"])
def test_side_by_side_the_numbers_are_the_same(
    kind: str,
    store: MlflowClient,
    experiment: str,
    tiny_model: Path,
    dna_files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bit for bit, as both have one thread; others share sums out differently, and round them so."""
    models = (tiny_model, "scratch:1", "scratch:2")[: 3 if kind in OF_PAIRS else 2]
    for num_workers in (2, 1):
        assert main(arguments(kind, models, dna_files, num_workers=num_workers)) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if re.search(r": (\d+) of \1$", line)]
    alone, together = probes(store, experiment)
    ones, others = (arrays(store, run, tmp_path / run.info.run_id) for run in (alone, together))
    assert len(ones) == len(others) == (3 if kind in OF_PAIRS else 2)
    assert len(told) == 2 * len(ones), "the end of each part is told either way"
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(other[name], values, name)
    labels = [result["models"] for result in content(store, alone, tmp_path)["results"]]
    assert labels == [result["models"] for result in content(store, together, tmp_path)["results"]]
    assert len(labels) == len({*map(tuple, labels)})


def diverged(model: Path, folder: Path) -> Path:
    """The model with a weight that is no number."""
    copied(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverged_model_is_one_line(
    kind: str, store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    lost = diverged(tiny_model, tmp_path / "lost")
    message = refusal(lambda: main(arguments(kind, (lost, "scratch"), dna_files)))
    assert message == "models: 'lost' gives numbers that are not finite; leave it out, it has diverged"


@pytest.mark.slow
@pytest.mark.usefixtures("no_table", "ray_here")
def test_a_mistake_that_a_worker_meets_is_one_line(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    lost = diverged(tiny_model, tmp_path / "lost")
    message = refusal(lambda: main(arguments("attention", (tiny_model, lost, "scratch"), dna_files, num_workers=2)))
    assert message == "models: 'lost' gives numbers that are not finite; leave it out, it has diverged"
    (run,) = probes(store, experiment)
    assert run.info.status == "FAILED" and not artifacts(store, run, "arrays")


def test_a_mistake_on_the_way_is_one_line_and_the_run_has_failed(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    lost = diverged(tiny_model, tmp_path / "lost")
    done = run_module("sweeps.probe", *arguments("attention", (tiny_model, lost), dna_files))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == "error: models: 'lost' gives numbers that are not finite; leave it out, it has diverged"
    (run,) = probes(store, experiment)
    assert run.info.status == "FAILED" and recorded.PROBE not in artifacts(store, run)


def test_a_mistake_before_it_leaves_no_run(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path
) -> None:
    refusal(lambda: main(arguments("isometry", (tiny_model,), dna_files, num_examples=500)))
    refusal(lambda: main(arguments("isometry", (tiny_model / "none",), dna_files)))
    assert probes(store, experiment) == []


# -- of a trial


@pytest.fixture
def trial(
    store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path, no_table: None, ray_here: None
) -> Run:
    """A trial of a real sweep, seed 0, whose model is kept."""
    options = {"task": "splice", "data-dir": dna_files, "model": tiny_model, "inits": "scratch", "seeds": 1}
    options |= {"grid": "compare", "num-epochs": 1, "max-train-examples": 16, "save-model": "true"}
    assert sweeps_main.main([word for name, value in options.items() for word in (f"--{name}", str(value))]) == 0
    (run,) = store.search_runs([experiment], f"tags.`{recorded.KIND}` = 'trial'")
    return run


@pytest.mark.slow
def test_a_trials_model_is_probed_as_it_was_trained(
    trial: Run,
    store: MlflowClient,
    experiment: str,
    tiny_model: Path,
    dna_files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from trainer.probes.models import Model

    uri = f"runs:/{trial.info.run_id}/model"
    folder = Path(store.download_artifacts(trial.info.run_id, "model", str(tmp_path)))
    assert find_model(str(folder), needs_weights=True) == folder, "it is a whole model"
    assert read_vocabulary(folder) == read_vocabulary(tiny_model)
    saved = load_file(folder / "model.safetensors")
    built = Model(label="", folder=folder, is_new=False, seed=5).build(3).state_dict()
    assert {"classifier.weight", "classifier.bias"} <= saved.keys() == built.keys()
    assert all(bool((built[name] == tensor).all()) for name, tensor in saved.items())

    capsys.readouterr()
    for seed in (0, 1):
        assert main(arguments("gradients", (uri, "scratch"), dna_files, seed=seed, num_workers=1)) == 0
        beware = [line for line in capsys.readouterr().out.splitlines() if line.startswith("beware")]
        if seed == 0:
            assert beware == []
        else:
            assert beware == [f"beware: {uri} was trained with seed 0, not 1; it reads what it has not learned"]
    for run in probes(store, experiment):
        assert content(store, run, tmp_path)["models"] == ["fine-tuned scratch seed 0", "scratch seed 0"]
        assert run.data.params["models"] == f"{uri},scratch"
    assert main(arguments("gradients", (uri,), dna_files, task="h4", mapping="unused")) == 0
    assert f"{uri} was trained with task splice, not h4 and mapping random, not unused" in capsys.readouterr().out


# -- interrupted


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_probe_is_recorded_as_such_and_leaves_nothing_behind(
    num_workers: int, store: MlflowClient, experiment: str, tiny_model: Path, dna_files: Path
) -> None:
    """After its first quarter; two workers are processes of Ray's."""
    words = arguments("perturbation", (tiny_model, "scratch"), dna_files, num_draws=200, num_workers=num_workers)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {MARK: experiment}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        told = next((line for line in process.stdout if " of 801" in line), "")
        running = marked(experiment)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=120)
    assert told, said
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted"), said
    assert "Traceback" not in said
    (run,) = probes(store, experiment)
    assert run.info.status == "KILLED" and recorded.PROBE not in artifacts(store, run)
    assert len(running) > 2 if num_workers > 1 else len(running) == 1
    assert all(ends(pid) for pid in running)


def marked(value: str) -> list[int]:
    """The ids of the processes that have the mark from one that they come from."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if f"{MARK}={value}" in (folder / "environ").read_text(errors="replace").split("\0"):
                found.append(int(folder.name))
    return found


def ends(pid: int) -> bool:
    """Whether a process is gone, or goes within half a minute."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


# -- the project's face


def test_the_entry_point_has_the_settings_and_their_defaults() -> None:
    entry = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["probe"]
    declared, options = entry["parameters"], [field for field in fields(Settings) if field.metadata]
    assert list(declared) == [field.name for field in options]
    required = [field.name for field in options if field.default is MISSING]
    assert required == ["kind", "models"] == [name for name, how in declared.items() if "default" not in how]
    given = ["--kind", "isometry", "--models", "a/b"]
    filled_in = [word for name, how in declared.items() if "default" in how for word in (f"--{name}", how["default"])]
    expected = parse(Settings, given, program="", description="")
    assert parse(Settings, [*given, *filled_in], program="", description="") == expected
    assert re.findall(r"--(\S+) \{(\w+)\}", entry["command"]) == [(name.replace("_", "-"), name) for name in declared]
