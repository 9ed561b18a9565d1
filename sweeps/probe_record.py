"""How a probe stands in the tracking store: a run of its own with params, metrics, arrays and ``probe.json``."""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps import recorded
from sweeps.connection import LAST_TRY, impatient
from sweeps.provenance import provenance_files, provenance_tags
from sweeps.tracking import data_tags, dataset_inputs, find_experiment
from sweeps.trial_logger import text_of
from trainer.probes.config import ProbeConfig
from trainer.probes.models import displayed
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainer.probes.probe import Measured

RUN_URI = re.compile(r"runs:/+([0-9a-fA-F]+)(?:/(.*))?")
ARRAYS = "arrays"  # artifact folder
MAX_NAME = 150  # characters of a part's: MLflow and file systems take 250
FINE_TUNED = "fine-tuned"  # begins the label of a trial's model


@dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """The run of a probe."""

    run_id: str
    experiment_id: str


def called(model: str, config: ProbeConfig, tracking_uri: str) -> str:
    """What to call a model of a run: a trial's by where it began, a checkpoint by its corpus; empty for others.

    Says on the way when a trial has read other tokens than the probe will.
    """
    from sweeps.connection import client

    match = RUN_URI.fullmatch(model)
    if match is None:
        return ""
    run = client(tracking_uri).get_run(match[1])
    params, tags = run.data.params, run.data.tags
    kind, path = tags.get(recorded.KIND), (match[2] or "").rstrip("/")
    if kind == "trial":
        _beware(model, params, config)
        words = [FINE_TUNED, params.get("init", ""), tags.get(recorded.CORPUS, ""), "seed", params.get("seed", "")]
    else:
        words = [
            tags.get(recorded.CORPUS, ""),
            path.rpartition("/")[2],
            *([] if kind == "pretrain" else [match[1][:8]]),
        ]
    return displayed(" ".join(filter(None, words)))


def _beware(model: str, params: Mapping[str, str], config: ProbeConfig) -> None:
    """A line where a trial was trained on another task, or under another mapping, than it is probed with."""
    names = ("task", "mapping", "seed", "shift_by", "keep_special_tokens")
    ours = {name: text_of(getattr(config, name)) for name in names}
    if config.mapping not in ("random", "permutation"):
        del ours["seed"]  # which draws the mapping
    differing = [
        f"{name} {params[name]}, not {value}" for name, value in ours.items() if params.get(name, value) != value
    ]
    if differing:
        print(f"beware: {model} was trained with {' and '.join(differing)}; it reads what it has not learned")


def open_probe(store: "MlflowClient", config: ProbeConfig, dataset: Dataset, given: str | None) -> ProbeRun:
    """Makes the run of a probe; under the one that ``mlflow run`` made, where there is one.

    ``mlflow run`` has recorded there, for good, what it was given as text.
    """
    experiment_id = find_experiment(store, given)
    title = f"{config.kind} {Path(config.task).name}"
    tags = {**provenance_tags(), **data_tags(config.definition, dataset), recorded.KIND: "probe"}
    if given:
        tags[recorded.PARENT] = given
        store.set_tag(given, "mlflow.runName", title)
    run_id = str(store.create_run(experiment_id, tags=tags, run_name=title).info.run_id)
    return ProbeRun(run_id=run_id, experiment_id=experiment_id)


def describe_probe(store: "MlflowClient", run_id: str, config: ProbeConfig, dataset: Dataset, max_length: int) -> None:
    """Records what is asked, of which data, and how to repeat it.

    Args:
        max_length: how much of a sequence all models take.
    """
    from mlflow.entities import Param

    settings = {**config.settings(), "max_length": max_length}
    store.log_batch(run_id, params=[Param(name, _text(value)) for name, value in settings.items()])
    used = [one for one in dataset_inputs(config.task, dataset) if str(config.split) in one.tags[0].value]
    store.log_inputs(run_id, used)
    for name, text in provenance_files().items():
        store.log_text(run_id, text, name)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else text_of(value, "auto")


def log_measured(store: "MlflowClient", run_id: str, config: ProbeConfig, measured: "Sequence[Measured]") -> None:
    """Logs the metrics of every part, and its arrays."""
    from mlflow.entities import Metric

    names, now = _part_names(measured), int(time.time() * 1000)
    points = [
        Metric(f"{metric}/{name}", value, now, step)
        for name, one in zip(names, measured, strict=True)
        for metric, step, value in metrics_of(config.kind, one.result)
        if value is not None
    ]
    for first in range(0, len(points), 1000):  # what a request may hold
        store.log_batch(run_id, metrics=points[first : first + 1000])
    with tempfile.TemporaryDirectory(prefix="polymath-probe-") as folder:
        for name, one in zip(names, measured, strict=True):
            path = Path(folder, f"{name}.npz")
            np.savez_compressed(path, allow_pickle=False, **one.arrays)
            store.log_artifact(run_id, str(path), ARRAYS)


def metrics_of(kind: str, result: Mapping[str, Any]) -> Iterator[tuple[str, int, float | None]]:
    """Name, step and value of each metric of a part; steps are layers."""
    match kind:
        case "pwcca":
            for name in ("pwcca", "pwcca_of_second", "cka"):
                table = result[name]
                depth = min(len(table), len(table[0])) - 1
                yield from ((name, layer, table[layer][layer]) for layer in range(depth))
                yield name, len(table) - 1, table[-1][-1]
        case "attention":
            yield from (("distance", layer, value) for layer, value in enumerate(result["mean"], 1))
        case "isometry":
            yield "median", 0, result["quantiles"]["0.5"]
            yield from ((name, 0, result[name]) for name in ("mean_log10", "std_log10"))
        case "gradients":
            yield from ((f"cosine_{name}", 0, result[name]) for name in ("mean", "std"))
        case _:
            for std, mean in zip(result["noise_stds"], result["mean"], strict=True):
                yield f"change_{std:g}", 0, mean


def _part_names(measured: "Sequence[Measured]") -> list[str]:
    """What to call each part in the name of a metric and of a file; numbered where two would be called alike."""
    names = [re.sub(r"[^A-Za-z0-9_. -]+", "_", " - ".join(one.result["models"]))[:MAX_NAME] for one in measured]
    are_alike = len({name.lower() for name in names}) < len(names)
    return [f"{number} {name}" if are_alike else name for number, name in enumerate(names, 1)]


def log_probe(
    store: "MlflowClient",
    run_id: str,
    config: ProbeConfig,
    labels: Sequence[str],
    num_tokens: int,
    measured: "Sequence[Measured]",
) -> None:
    """Logs what tables and figures are made of."""
    probe = {
        "kind": config.kind,
        "task": config.task,
        "models": list(labels),
        "num_examples": config.num_drawn,
        "num_tokens": num_tokens,
        "results": [one.result for one in measured],
    }
    store.log_text(run_id, json.dumps(probe, indent=1, allow_nan=False) + "\n", recorded.PROBE)


@contextmanager
def closing(store: "MlflowClient", run_id: str) -> Iterator[None]:
    """Ends the run with the block: FINISHED, KILLED by Ctrl-C or SIGTERM, or FAILED."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with suppress(Exception), impatient(LAST_TRY):
            store.set_terminated(run_id, status)
