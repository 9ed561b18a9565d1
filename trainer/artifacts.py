"""The files that a trial leaves behind, as bytes: its config, its test predictions and its loss curve."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from trainer.config import TrialConfig
from trainer.metrics import vote
from trainer.tasks.task import Dataset


def config_json(config: TrialConfig) -> bytes:
    """The settings of a trial as an indented JSON object."""
    return (json.dumps(config.settings(), indent=2) + "\n").encode()


def predictions(dataset: Dataset, test_predictions: np.ndarray) -> dict[str, bytes]:
    """The test predictions as tables, file name -> CSV: a row for each example that is scored.

    Examples go by their number in what was read, from 0. Where segments vote on their pieces, ``test.csv`` has the
    pieces, with each class's share of the votes, and ``segments.csv`` the segments.

    Args:
        test_predictions: (N, C) class probabilities, or (N,) numbers.
    """
    test = dataset.test
    examples_N = np.arange(len(test)) if test.rows is None else test.rows
    if not dataset.classes:
        rows = (list(row) for row in zip(examples_N, test.labels, test_predictions, strict=True))
        return {"test.csv": _csv(["example", "label", "prediction"], rows)}
    if test.pieces is None:
        columns = {"example": examples_N}
        if test.subsets:
            subset_of = {row: subset for subset, rows in test.subsets.items() for row in rows.tolist()}
            columns["subset"] = np.array([subset_of[row] for row in range(len(test))])
        return {"test.csv": _class_table(columns, dataset.classes, test.labels, test_predictions)}
    labels_P, votes_PC = vote(test.labels, test_predictions, test.pieces)
    pieces, segments = {"example": np.unique(test.pieces)}, {"example": examples_N, "piece": test.pieces}
    return {
        "test.csv": _class_table(pieces, dataset.classes, labels_P, votes_PC),
        "segments.csv": _class_table(segments, dataset.classes, test.labels, test_predictions),
    }


def _class_table(
    columns: Mapping[str, np.ndarray], classes: Sequence[str], labels_N: np.ndarray, probabilities_NC: np.ndarray
) -> bytes:
    """The given columns (N,) by name, then label, predicted class and every class's probability."""
    header = [*columns, "label", "prediction", *(f"probability_{name}" for name in classes)]
    predicted_N = probabilities_NC.argmax(axis=1)
    rows = (
        [
            *(column_N[place] for column_N in columns.values()),
            classes[labels_N[place]],
            classes[predicted_N[place]],
            *(f"{probability:.6g}" for probability in probabilities_NC[place]),
        ]
        for place in range(len(labels_N))
    )
    return _csv(header, rows)


def _csv(header: list[str], rows: Iterable[list[object]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue().encode()


def loss_curve_png(config: TrialConfig, losses: Sequence[float], unit: str) -> bytes:
    """Training loss over steps, with its running mean; 640 x 400 pixels."""
    from matplotlib.figure import Figure

    window = max(1, len(losses) // 20)
    sums = np.cumsum([0.0, *losses])
    means = (sums[window:] - sums[:-window]) / window
    figure = Figure(figsize=(6.4, 4.0), dpi=100)
    axes = figure.add_axes((0.18, 0.12, 0.79, 0.8))  # a layout that is looked for takes as long as the picture itself
    axes.plot(range(1, len(losses) + 1), losses, color="#9ecae1", linewidth=0.8, label="each step")
    axes.plot(range(window, len(losses) + 1), means, color="#08519c", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel=f"training loss ({unit})")
    axes.set_title(
        f"{PurePath(config.task).name}, {config.init}, {config.optimizer} {config.learning_rate:g}, seed {config.seed}"
    )
    axes.ticklabel_format(useOffset=False)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", pil_kwargs={"compress_level": 1})  # larger by a tenth, sooner done
    return picture.getvalue()
