"""Finished probes for tests of what is made of them, written into a real tracking store as ``sweeps`` records them."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Param

from sweeps import recorded
from tests.recorder import START

MODELS = ("all-MiniLM-L6-v2", "scratch seed 0")
Content = dict[str, Any]


def floor(value: float) -> Content:
    return {"pwcca": value, "pwcca_of_second": value + 0.01, "cka": value - 0.1}


def similarity(models: Sequence[str], rng: np.random.Generator, num_layers: int) -> Content:
    size = num_layers + 1, num_layers + 1
    found = {name: rng.uniform(0.2, 1, size).tolist() for name in ("pwcca", "pwcca_of_second", "cka")}
    kept = [[300 + layer for layer in range(num_layers + 1)]] * 2
    return {**found, "dimensions": kept, "num_dimensions": [384, 384], "noise_floor": floor(0.25), "ridge": 0.0}


def distance(models: Sequence[str], rng: np.random.Generator, num_layers: int) -> Content:
    mean = 0.4 + 0.1 * len(models[1]) / 20 + rng.uniform(0, 0.5, num_layers)
    return {"mean": mean.tolist(), "std": rng.uniform(0.02, 0.1, num_layers).tolist(), "num_examples": 100}


def spectrum(models: Sequence[str], rng: np.random.Generator, num_layers: int) -> Content:
    logs = rng.normal(-1.5 if models[0].startswith("scratch") else -2.5, rng.uniform(0.3, 1), 7680)
    edges = np.linspace(-8, 4, 241)
    counts, _ = np.histogram(logs, edges)
    first, last = np.flatnonzero(counts)[[0, -1]]
    return {
        "edges_log10": edges[first : last + 2].tolist(),
        "counts": counts[first : last + 1].tolist(),
        "num_values": 7720,
        "num_zero": 40,
        "quantiles": {
            share: float(np.quantile(10**logs, float(share))) for share in ("0.05 0.25 0.5 0.75 0.95".split())
        },
        "mean_log10": float(logs.mean()),
        "std_log10": float(logs.std(ddof=1)),
        "num_examples": 20,
    }


def cosines(models: Sequence[str], rng: np.random.Generator, num_layers: int) -> Content:
    values = np.tanh(rng.normal(rng.uniform(0, 0.7), 0.2, 496))
    shares = "0 0.05 0.25 0.5 0.75 0.95 1".split()
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)),
        "quantiles": {share: float(np.quantile(values, float(share))) for share in shares},
        "num_batches": 32,
        "num_pairs": 496,
    }


def changes(models: Sequence[str], rng: np.random.Generator, num_layers: int) -> Content:
    stds = [1e-2, 1e-4, 1e-6, 1e-8]
    size = rng.uniform(20, 300)
    mean = [size * std for std in stds]
    return {"noise_stds": stds, "mean": mean, "std": [0.2 * value for value in mean], "num_values": [12] * 4}


RESULTS: Mapping[str, Callable[[Sequence[str], np.random.Generator, int], Content]] = {
    "pwcca": similarity,
    "attention": distance,
    "isometry": spectrum,
    "gradients": cosines,
    "perturbation": changes,
}


def content(kind: str, task: str = "splice", models: Sequence[str] = MODELS, *, num_layers: int = 2) -> Content:
    """What a probe of some models found, drawn by the number of models."""
    rng = np.random.default_rng(len(models))
    groups = combinations(models, 2) if kind in ("pwcca", "attention") else ((model,) for model in models)
    results = [{"models": [*group], **RESULTS[kind](group, rng, num_layers)} for group in groups]
    return {
        "kind": kind,
        "task": task,
        "models": [*models],
        "num_examples": 100,
        "num_tokens": 6200,
        "results": results,
    }


def record_probe(
    experiment: str, found: Content | None, *, text: str | None = None, status: str = "FINISHED", **params: Any
) -> str:
    """Records a probe's run and returns its id.

    Args:
        found: its results, also the params where ``params`` do not name others.
        text: of its artifact, in place of the results.
    """
    client = MlflowClient()
    run = client.create_run(experiment, start_time=next(START), tags={recorded.KIND: "probe"})
    of_content = (
        {name: found[name] for name in ("kind", "task")} | {"models": ",".join(found["models"])} if found else {}
    )
    texts = {"seed": 0, **of_content, **params}
    client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in texts.items()])
    if found or text is not None:
        client.log_text(run.info.run_id, json.dumps(found) if text is None else text, recorded.PROBE)
    client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)
