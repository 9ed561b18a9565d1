"""The files that a trial leaves behind, as bytes: its config, its test predictions and its loss curve."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from trainer.config import TrialConfig


def config_json(config: TrialConfig) -> bytes:
    """The config as an indented JSON object."""
    return (json.dumps(asdict(config), indent=2) + "\n").encode()


def predictions_csv(classes: Sequence[str], labels_N: np.ndarray, probabilities_NC: np.ndarray) -> bytes:
    """A row per test example: its position, label, predicted class and every class's probability."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["example", "label", "prediction", *(f"probability_{name}" for name in classes)])
    predicted_N = probabilities_NC.argmax(axis=1)
    examples = zip(labels_N, predicted_N, probabilities_NC, strict=True)
    for position, (label, predicted, probabilities_C) in enumerate(examples):
        shown = [f"{probability:.6g}" for probability in probabilities_C]
        rows.writerow([position, classes[label], classes[predicted], *shown])
    return text.getvalue().encode()


def loss_curve_png(config: TrialConfig, losses: Sequence[float]) -> bytes:
    """Training loss over steps, with its running mean; 640 x 400 pixels."""
    from matplotlib.figure import Figure

    window = max(1, len(losses) // 20)
    sums = np.cumsum([0.0, *losses])
    means = (sums[window:] - sums[:-window]) / window
    figure = Figure(figsize=(6.4, 4.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, color="#9ecae1", linewidth=0.8, label="each step")
    axes.plot(range(window, len(losses) + 1), means, color="#08519c", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="training loss (nats)")
    axes.set_title(f"{config.task}, {config.init}, {config.optimizer} {config.learning_rate:g}, seed {config.seed}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
