"""The five probes: passes through one model or two, example by example, and what mathematics makes of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, count
from typing import Any

import numpy as np
import torch

from trainer.encoding import Encoded
from trainer.errors import UserError, first_line
from trainer.objectives import Objective
from trainer.probes import attention, gradients, isometry, perturbation, pwcca
from trainer.probes.config import OF_PAIRS, ProbeConfig
from trainer.probes.inputs import Inputs
from trainer.probes.models import Model
from trainer.probes.passes import EAGER, Passes

BATCH = 8  # examples of a forward pass whose whole output is kept
MAX_HELD = 2 * 2**30  # bytes of gradients at once


@dataclass(frozen=True, kw_only=True)
class Part:
    """A share of a probe that stands by itself: one model, or a pair; the arrays that they read are with it."""

    models: tuple[Model, ...]
    encoded: tuple[Encoded, ...]
    labels_N: np.ndarray
    objective: Objective

    @property
    def labels(self) -> list[str]:
        """What its models are called."""
        return [model.label for model in self.models]


Tell = Callable[[int, int], None]  # is told how many passes are done, and of how many


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out of a part.

    Attributes:
        result: numbers by name, as JSON has them.
        arrays: what they were made of, by name.
    """

    result: dict[str, Any]
    arrays: dict[str, np.ndarray]


def parts_of(config: ProbeConfig, models: list[Model], inputs: Inputs) -> list[Part]:
    """A probe's parts: every pair of models, or every model, in the order of the list."""
    groups = combinations(range(len(models)), 2 if config.kind in OF_PAIRS else 1)
    return [
        Part(
            models=tuple(models[number] for number in group),
            encoded=tuple(inputs.encoded[number] for number in group),
            labels_N=inputs.labels_N,
            objective=inputs.objective,
        )
        for group in groups
    ]


def measure(config: ProbeConfig, part: Part, tell: Tell, num_threads: int | None = None) -> Measured:
    """Goes through a part.

    Raises:
        UserError: when a model cannot be read or cannot give what is asked of it.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        found = MEASURES[config.kind](config, part, tell)
    except UserError:
        raise
    except ValueError as error:  # of the mathematics: what it is given says nothing
        raise UserError(f"models: {' - '.join(part.labels)} cannot be measured: {first_line(error)}") from error
    return Measured(result={"models": part.labels, **found.result}, arrays=found.arrays)


def _passes(part: Part, **how: Any) -> list[Passes]:
    return [
        Passes(model, encoded, part.labels_N, part.objective, **how)
        for model, encoded in zip(part.models, part.encoded, strict=True)
    ]


def _rows(num_examples: int, batch_size: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + batch_size, num_examples)) for first in range(0, num_examples, batch_size)]


def _pwcca(config: ProbeConfig, part: Part, tell: Tell) -> Measured:
    batches = _rows(len(part.labels_N), BATCH)
    layers: list[list[np.ndarray]] = []
    for number, passes in enumerate(_passes(part)):
        of_batches = []
        for batch, rows_B in enumerate(batches, 1):
            of_batches.append(passes.hidden_states(rows_B))
            tell(number * len(batches) + batch, 2 * len(batches))
        layers.append([np.concatenate(states) for states in zip(*of_batches, strict=True)])
    firsts = list(_bases(layers[0]))
    columns, seconds = [], []
    for second in _bases(layers[1]):
        columns.append([pwcca.compare(first, second, ridge=config.ridge) for first in firsts])
        seconds.append(second.values_K)
    floor = pwcca.noise_floor(firsts[-1], second, ridge=config.ridge, seed=config.seed)
    matrices = {
        name: np.array([[getattr(similarity, name) for similarity in column] for column in columns]).T
        for name in ("pwcca", "pwcca_of_second", "cka")
    }
    values = {"first": [first.values_K for first in firsts], "second": seconds}
    return Measured(
        result={
            **{name: _json(matrix) for name, matrix in matrices.items()},
            "dimensions": [list(map(len, side)) for side in values.values()],
            "num_dimensions": [firsts[-1].num_dimensions, second.num_dimensions],
            "noise_floor": {name: _json(getattr(floor, name)) for name in matrices},
            "ridge": config.ridge,
        },
        arrays={**matrices, **{f"singular_values_of_{name}": _stacked(side) for name, side in values.items()}},
    )


def _bases(layers: list[np.ndarray]) -> Iterator[pwcca.Basis]:
    """The basis of each layer; its states, as large, are let go of first."""
    while layers:
        yield pwcca.basis(layers.pop(0))


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """(R, K) with NaN where a row is shorter."""
    whole = np.full((len(rows), max(map(len, rows))), np.nan)
    for number, row in enumerate(rows):
        whole[number, : len(row)] = row
    return whole


def _json(values: np.ndarray | float) -> Any:
    """Lists of numbers, None in the place of NaN, which JSON has not."""
    whole = np.array(values, dtype=object)
    whole[~np.isfinite(values)] = None
    return whole.tolist()


def _attention(config: ProbeConfig, part: Part, tell: Tell) -> Measured:
    first, second = _passes(part, attention=EAGER)
    num_examples = len(part.labels_N)
    distances = []
    for row in range(num_examples):
        distances.append(attention.matched_distances(first.attention_maps(row), second.attention_maps(row)))
        tell(row + 1, num_examples)
    distances_EL = np.array(distances)
    return Measured(result=attention.summary(distances_EL), arrays={"distances": distances_EL})


def _isometry(config: ProbeConfig, part: Part, tell: Tell) -> Measured:
    (passes,) = _passes(part, of_first_token=True)
    num_examples = len(part.labels_N)
    values = []
    for row in range(num_examples):
        values.append(isometry.singular_values(passes.jacobian(row)))
        tell(row + 1, num_examples)
    # Where an example has fewer inputs than the model has outputs, the other directions are zero.
    values_EO = np.nan_to_num(_stacked(values))
    return Measured(result=isometry.summary(values_EO), arrays={"singular_values": values_EO})


def _gradients(config: ProbeConfig, part: Part, tell: Tell) -> Measured:
    (passes,) = _passes(part, of_first_token=True)
    batches = _rows(len(part.labels_N), config.batch_size)
    num_held = max(2, MAX_HELD // (4 * passes.num_parameters))
    total = gradients.num_calls(len(batches), num_held)
    done = count(1)

    def gradient(number: int) -> np.ndarray:
        with passes.dropout(config.dropout, config.seed + number):
            found = passes.gradient(batches[number])
        tell(next(done), total)
        return found

    gram_BB = gradients.gram(gradient, len(batches), num_held)
    cosines = gradients.cosines(gram_BB)
    return Measured(result=gradients.summary(cosines), arrays={"gram": gram_BB, "cosines": cosines})


def _perturbation(config: ProbeConfig, part: Part, tell: Tell) -> Measured:
    # In float64: in float32 noise of 1e-8 would vanish beside a weight of 1.
    (passes,) = _passes(part, dtype=torch.float64)
    batches = _rows(len(part.labels_N), config.batch_size)
    total = 1 + len(config.noise_stds) * config.num_draws

    def outputs(number: int) -> np.ndarray:
        with passes.dropout(config.dropout, config.seed + number):
            return np.concatenate([passes.first_tokens(rows_B) for rows_B in batches])

    clean_EH = outputs(0)
    tell(1, total)
    changes_SDE = np.zeros((len(config.noise_stds), config.num_draws, len(part.labels_N)))
    for done, (number, draw) in enumerate(np.ndindex(*changes_SDE.shape[:2]), 2):
        with passes.noise(config.noise_stds[number], _seed(config.seed, draw)):  # one direction for every std
            changes_SDE[number, draw] = perturbation.changes(clean_EH, outputs(done - 1))
        tell(done, total)
    means = [
        np.array([perturbation.batch_means(changes_E, config.batch_size) for changes_E in changes_DE])
        for changes_DE in changes_SDE
    ]
    return Measured(
        result=perturbation.summary(means, config.noise_stds),
        arrays={
            "noise_stds": np.array(config.noise_stds),
            "changes": changes_SDE,
            "norms": np.linalg.norm(clean_EH, axis=1),
        },
    )


def _seed(*numbers: int) -> int:
    """A seed of its own for each combination."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


Measure = Callable[[ProbeConfig, Part, Tell], Measured]
MEASURES: dict[str, Measure] = {
    "pwcca": _pwcca,
    "attention": _attention,
    "isometry": _isometry,
    "gradients": _gradients,
    "perturbation": _perturbation,
}
