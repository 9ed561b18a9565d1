"""What tests of figures share: small sweeps with histories, and what is in a drawing."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.figure_grid import CHOSEN
from analysis.figures import draw
from tests.recorder import BASE, Recorder, selections

BERT = {**BASE, "model": "bert-base-uncased"}
SEARCH: dict[str, Any] = {"optimizers": ("adam", "radam"), "learning_rates": (1e-6, 1e-5, 1e-4)}


def log(run_id: str, metric: str, values: Iterable[float], steps: Iterable[int]) -> None:
    entries = [Metric(metric, float(value), 0, step) for value, step in zip(values, steps, strict=True)]
    for start in range(0, len(entries), 1000):
        MlflowClient().log_batch(run_id, entries[start : start + 1000])


def losses(num_steps: int, seed: int) -> np.ndarray:
    return np.exp(-np.arange(num_steps) / 80) + np.random.default_rng(seed).normal(0, 0.05, num_steps)


def train(recorder: Recorder, init: str, seed: int, num_steps: int = 200, score: float = 0.9) -> np.ndarray:
    """Records a finished trial with a loss at every step, and returns the losses."""
    run_id = recorder.trial("finished", (score, score), init=init, seed=seed)
    values = losses(num_steps, seed)
    log(run_id, "train/loss", values, range(1, num_steps + 1))
    return values


def drawn(experiment: str) -> dict[str, Figure]:
    return draw(MlflowClient(), selections(experiment))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def xs(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata())


def ys(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata())


def footnotes(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def bars(axes: Axes) -> list[float]:
    return [round(bar.get_height(), 6) for container in axes.containers for bar in getattr(container, "patches", [])]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def cells(axes: Axes) -> dict[tuple[float, float], Rectangle]:
    """Column, row -> the cell."""
    squares = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_gid() != CHOSEN]
    return {(square.get_x() + 0.5, square.get_y() + 0.5): square for square in squares}
