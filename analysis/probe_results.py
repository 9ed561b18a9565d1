"""What a probe found, kind by kind: the results in its ``probe.json``, checked and typed.

A number that there is not, null in the file, is None here.

Shape suffixes: L layers of the first model, M layers of the second, K bins, Q noises.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.store import plain
from trainer.errors import first_line

Number = float | None
Numbers = tuple[Number, ...]
Matrix = tuple[Numbers, ...]
ISOMETRY_QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")
GRADIENT_QUANTILES = ("0", *ISOMETRY_QUANTILES, "1")


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How alike the layers of two models are, from 0 to 1; index 0 is the embeddings' output.

    Attributes:
        pwcca_LM, of_second_LM: weighted by the first model's layers, and by the second's.
        dimensions: kept of each layer, of the first model and of the second.
        num_dimensions: that a layer has, of the first model and of the second.
        noise_floor: of the last layers, by ``pwcca``, ``pwcca_of_second`` and ``cka``.
    """

    models: tuple[str, str]
    pwcca_LM: Matrix
    of_second_LM: Matrix
    cka_LM: Matrix
    dimensions: tuple[Numbers, Numbers]
    num_dimensions: tuple[Number, Number]
    noise_floor: Mapping[str, Number]
    ridge: Number


@dataclass(frozen=True, kw_only=True)
class Distance:
    """L1 distance of two models' matched attention heads, layer by layer, from layer 1 on."""

    models: tuple[str, str]
    mean_L: Numbers
    std_L: Numbers
    num_examples: Number


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Singular values of one model's Jacobians; zeros are in ``num_values`` and ``num_zero`` only."""

    models: tuple[str]
    edges_log10: tuple[float, ...]
    counts_K: tuple[float, ...]
    num_values: Number
    num_zero: Number
    quantiles: Mapping[str, Number]
    mean_log10: Number
    std_log10: Number
    num_examples: Number


@dataclass(frozen=True, kw_only=True)
class Cosines:
    """Cosines of the gradients of every two minibatches, in one model."""

    models: tuple[str]
    mean: Number
    std: Number
    quantiles: Mapping[str, Number]
    num_batches: Number
    num_pairs: Number


@dataclass(frozen=True, kw_only=True)
class Changes:
    """L2 norm of the change of one model's output, noise by noise."""

    models: tuple[str]
    noise_stds_Q: tuple[float, ...]
    mean_Q: Numbers
    std_Q: Numbers
    num_values_Q: Numbers


Result = Similarity | Distance | Spectrum | Cosines | Changes


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a ``probe.json`` holds; its texts may be shown.

    Attributes:
        models: the labels, in the order given, no two alike.
        results: all of the type that ``kind`` decides.
    """

    kind: str
    models: tuple[str, ...]
    num_examples: Number
    num_tokens: Number
    results: tuple[Result, ...]


def parse(text: str, kind: str) -> Content:
    """The content of a file.

    Raises:
        ValueError: where it is damaged, or of another kind.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
        if content["kind"] != kind:
            raise ValueError(f"it is of kind {content['kind']!r}")
        models = _labels(content["models"])
        if not content["results"]:
            raise ValueError("there are no results")
        return Content(
            kind=kind,
            models=models,
            num_examples=_number(content["num_examples"]),
            num_tokens=_number(content["num_tokens"]),
            results=tuple(_result(PARSERS[kind](result), models) for result in content["results"]),
        )
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(first_line(error)) from None


def _similarity(content: Mapping[str, Any]) -> Similarity:
    first, second = _labels(content["models"])
    kept, whole, floor = content["dimensions"], _numbers(content["num_dimensions"], 2), content["noise_floor"]
    shape = len(kept[0]), len(kept[1])
    return Similarity(
        models=(first, second),
        pwcca_LM=_matrix(content["pwcca"], shape),
        of_second_LM=_matrix(content["pwcca_of_second"], shape),
        cka_LM=_matrix(content["cka"], shape),
        dimensions=(_numbers(kept[0], shape[0]), _numbers(kept[1], shape[1])),
        num_dimensions=(whole[0], whole[1]),
        noise_floor={name: _number(floor[name]) for name in ("pwcca", "pwcca_of_second", "cka")},
        ridge=_number(content["ridge"]),
    )


def _distance(content: Mapping[str, Any]) -> Distance:
    first, second = _labels(content["models"])
    mean_L = _numbers(content["mean"])
    return Distance(
        models=(first, second),
        mean_L=mean_L,
        std_L=_numbers(content["std"], len(mean_L)),
        num_examples=_number(content["num_examples"]),
    )


def _spectrum(content: Mapping[str, Any]) -> Spectrum:
    (model,) = _labels(content["models"])
    counts_K = _whole(_numbers(content["counts"]))
    edges = _whole(_numbers(content["edges_log10"], len(counts_K) + 1))
    if min(counts_K) < 0 or any(high <= low for low, high in pairwise(edges)):
        raise ValueError("a histogram with counts below 0 or edges that do not rise")
    return Spectrum(
        models=(model,),
        edges_log10=edges,
        counts_K=counts_K,
        quantiles={name: _number(content["quantiles"][name]) for name in ISOMETRY_QUANTILES},
        **{
            name: _number(content[name])
            for name in ("num_values", "num_zero", "mean_log10", "std_log10", "num_examples")
        },
    )


def _cosines(content: Mapping[str, Any]) -> Cosines:
    (model,) = _labels(content["models"])
    return Cosines(
        models=(model,),
        quantiles={name: _number(content["quantiles"][name]) for name in GRADIENT_QUANTILES},
        **{name: _number(content[name]) for name in ("mean", "std", "num_batches", "num_pairs")},
    )


def _changes(content: Mapping[str, Any]) -> Changes:
    (model,) = _labels(content["models"])
    stds_Q = _whole(_numbers(content["noise_stds"]))
    mean_Q, std_Q, num_values_Q = (_numbers(content[name], len(stds_Q)) for name in ("mean", "std", "num_values"))
    return Changes(models=(model,), noise_stds_Q=stds_Q, mean_Q=mean_Q, std_Q=std_Q, num_values_Q=num_values_Q)


PARSERS: Mapping[str, Callable[[Mapping[str, Any]], Result]] = {
    "pwcca": _similarity,
    "attention": _distance,
    "isometry": _spectrum,
    "gradients": _cosines,
    "perturbation": _changes,
}


def _result(result: Result, models: tuple[str, ...]) -> Result:
    if not {*result.models} <= {*models}:
        raise ValueError("a result of a model that is not listed")
    return result


def _labels(value: object) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(label, str) and label for label in value)):
        raise ValueError("models are not a list of names")
    labels = tuple(map(plain, value))
    if not labels or len({*labels}) < len(labels):
        raise ValueError("there are no models, or two of one name")
    return labels


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _number(value: object) -> Number:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("something stands where a number should")
    return float(value)


def _numbers(values: object, length: int | None = None) -> Numbers:
    if not isinstance(values, list) or not values or len(values) != (length or len(values)):
        raise ValueError("a list is empty, or not as long as it should be")
    return tuple(map(_number, values))


def _matrix(rows: object, shape: tuple[int, int]) -> Matrix:
    if not isinstance(rows, list) or len(rows) != shape[0]:
        raise ValueError("a matrix has not as many rows as there are layers")
    return tuple(_numbers(row, shape[1]) for row in rows)


def _whole(values: Numbers) -> tuple[float, ...]:
    found = tuple(value for value in values if value is not None)
    if len(found) < len(values):
        raise ValueError("a list lacks a number")
    return found
