"""The tables of probes, one for each kind: a row for each task and model, or pair of models."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from analysis.paper import BOTH_RANDOM, WITH_RANDOM, PaperFigure, pwcca_figure
from analysis.probe_cells import (
    Record,
    count,
    digits,
    facts,
    fixed,
    mean,
    results,
    scientific,
    sheet,
    span,
    whole,
    with_std,
    words,
)
from analysis.probe_families import PRETRAINED, SCRATCH, family
from analysis.probe_results import Changes, Cosines, Distance, Similarity, Spectrum
from analysis.probes import Probe
from analysis.sheet import NONE, Sheet

EMBEDDINGS = "0 (embeddings)"
OVER_PAIRS = "Mean ± sample standard deviation over all pairs of minibatches"
PAPER_NOTE = (
    "paper: PWCCA of the last layers in arXiv 2103.07162 (v2 table 1), of BERT-base and a random model, or of two "
    "random models. It is not the same measurement: another model, 100 other sequences of the task, and a ridge term "
    "for each task (stability 1.5e-3, fluorescence 1e-3, localization 1e-4)."
)


def probe_sheet(probes: Sequence[Probe]) -> Sheet:
    """The table of probes of one kind, of which there is at least one."""
    return SHEETS[probes[0].content.kind](probes)


def _pwcca(probes: Sequence[Probe]) -> Sheet:
    found = [(probe, pair, _paper(probe, pair)) for probe, pair in results(probes, Similarity)]
    with_paper = any(figure for *_, figure in found)
    rows = [
        {
            **words(probe, pair.models),
            "examples (tokens)": f"{count(probe.content.num_examples)} ({count(probe.content.num_tokens)})",
            "PWCCA": fixed(pair.pwcca_LM[-1][-1]),
            "noise floor": fixed(pair.noise_floor["pwcca"]),
            "PWCCA by second": fixed(pair.of_second_LM[-1][-1]),
            "its noise floor": fixed(pair.noise_floor["pwcca_of_second"]),
            "CKA": fixed(pair.cka_LM[-1][-1]),
            "CKA noise floor": fixed(pair.noise_floor["cka"]),
            "dimensions kept": ", ".join(
                f"{count(kept[-1])}/{count(of_layer)}"
                for kept, of_layer in zip(pair.dimensions, pair.num_dimensions, strict=True)
            ),
            **({"paper": fixed(figure.value if figure else None)} if with_paper else {}),
        }
        for probe, pair, figure in found
    ]
    notes = [
        "How alike the hidden states of two models' last layers are, on the same tokens: from 0, nothing in common, to "
        "1, the same but for an invertible linear map (PWCCA) or for rotation and scale (linear CKA).",
        "PWCCA is weighted by the first model's neurons, by second: by the second model's. noise floor: the same with "
        "one model's tokens put out of order, what unrelated states have at these sizes.",
        "dimensions kept: in which the states vary at all, of the first and of the second. The CSV file has all "
        "layers.",
        *_ridge_notes(found),
        *([PAPER_NOTE] if with_paper else []),
    ]
    records = [record for one in found for record in _pwcca_records(*one)]
    hidden = ("its noise floor", "CKA noise floor")
    return sheet("Similarity of hidden states (PWCCA and CKA), last layers", probes, rows, notes, records, hidden)


def _ridge_notes(found: Sequence[tuple[Probe, Similarity, object]]) -> list[str]:
    terms = {probe.name: pair.ridge for probe, pair, _ in found if pair.ridge}
    return [f"Ridge term of {', '.join(f'{name}: {term:g}' for name, term in terms.items())}."] if terms else []


def _paper(probe: Probe, pair: Similarity) -> PaperFigure | None:
    """What may stand beside a pair: of models that were not fine-tuned, one of them new at least."""
    match sorted(map(family, pair.models)):
        case [first, second] if {first, second} == {PRETRAINED, SCRATCH}:
            return pwcca_figure(probe.task, WITH_RANDOM)
        case [first, second] if {first, second} == {SCRATCH}:
            return pwcca_figure(probe.task, BOTH_RANDOM)
    return None


def _pwcca_records(probe: Probe, pair: Similarity, figure: PaperFigure | None) -> Iterator[Record]:
    """One for each layer of the first model and each of the second; those that are of the last layers have more."""
    last = len(pair.pwcca_LM) - 1, len(pair.pwcca_LM[0]) - 1
    for place in ((row, column) for row in range(last[0] + 1) for column in range(last[1] + 1)):
        row, column = place
        are_last = place == last
        yield {
            **facts(probe, pair.models),
            "num_tokens": whole(probe.content.num_tokens),
            "first_layer": _layer(row),
            "second_layer": _layer(column),
            "pwcca": pair.pwcca_LM[row][column],
            "pwcca_of_second": pair.of_second_LM[row][column],
            "cka": pair.cka_LM[row][column],
            "first_dimensions": whole(pair.dimensions[0][row]),
            "first_num_dimensions": whole(pair.num_dimensions[0]),
            "second_dimensions": whole(pair.dimensions[1][column]),
            "second_num_dimensions": whole(pair.num_dimensions[1]),
            "ridge": pair.ridge,
            **{f"noise_floor_{name}": value if are_last else None for name, value in pair.noise_floor.items()},
            "paper": figure.value if figure and are_last else None,
            "paper_pair": figure.model if figure and are_last else None,
        }


def _attention(probes: Sequence[Probe]) -> Sheet:
    found = list(results(probes, Distance))
    num_layers = max(len(pair.mean_L) for _, pair in found)
    rows = [
        {
            **words(probe, pair.models),
            "examples": count(pair.num_examples),
            **dict.fromkeys((f"layer {layer}" for layer in range(1, num_layers + 1)), NONE),
            **{
                f"layer {layer}": with_std(*values, fixed)
                for layer, values in enumerate(zip(pair.mean_L, pair.std_L, strict=True), start=1)
            },
            "mean of layers": fixed(mean(pair.mean_L)),
        }
        for probe, pair in found
    ]
    notes = [
        "How far the attention maps of two models are apart: the L1 distance per query token of the heads of a layer, "
        "matched one to one such that it is least; from 0, the same maps, to 2, no token attended to by both. Lower is "
        "more alike.",
        "Mean ± sample standard deviation over examples.",
    ]
    records = [
        {
            **facts(probe, pair.models),
            "num_examples": whole(pair.num_examples),
            "layer": layer,
            "mean": value,
            "std": std,
        }
        for probe, pair in found
        for layer, (value, std) in enumerate(zip(pair.mean_L, pair.std_L, strict=True), start=1)
    ]
    return sheet("Distance of attention maps by layer", probes, rows, notes, records)


def _isometry(probes: Sequence[Probe]) -> Sheet:
    found = list(results(probes, Spectrum))
    rows = [
        {
            **words(probe, one.models),
            "examples": count(one.num_examples),
            "median": digits(one.quantiles["0.5"]),
            "5 % - 95 %": span(one.quantiles, "0.05", "0.95", digits),
            "25 % - 75 %": span(one.quantiles, "0.25", "0.75", digits),
            "spread": fixed(one.std_log10),
            "zero directions": f"{count(one.num_zero)}/{count(one.num_values)}",
        }
        for probe, one in found
    ]
    notes = [
        "Singular values of the Jacobian of the last layer's first token with respect to the input word embeddings, of "
        "all examples together, without unit; all 1 would be an isometry, and the narrower they lie the nearer a model "
        "is to one.",
        "spread: sample standard deviation of log10 of the values, in decades. zero directions: values that are zero, "
        "but for rounding, of all; they play no other part.",
    ]
    records = [
        {
            **facts(probe, one.models),
            "num_examples": whole(one.num_examples),
            **{f"quantile_{share}": value for share, value in one.quantiles.items()},
            "mean_log10": one.mean_log10,
            "std_log10": one.std_log10,
            "num_values": whole(one.num_values),
            "num_zero": whole(one.num_zero),
        }
        for probe, one in found
    ]
    return sheet("Singular values of the Jacobian (dynamical isometry)", probes, rows, notes, records)


def _gradients(probes: Sequence[Probe]) -> Sheet:
    found = list(results(probes, Cosines))
    rows = [
        {
            **words(probe, one.models),
            "batches": count(one.num_batches),
            "pairs": count(one.num_pairs),
            "cosine": with_std(one.mean, one.std, fixed),
            "median": fixed(one.quantiles["0.5"]),
            "5 % - 95 %": span(one.quantiles, "0.05", "0.95", fixed),
        }
        for probe, one in found
    ]
    notes = [
        "How alike the gradients of different minibatches are: the cosine of every two, from -1 to 1. Higher is more "
        "alike: minibatches then agree on where to go.",
        f"{OVER_PAIRS}, which share minibatches and are not independent.",
    ]
    records = [
        {
            **facts(probe, one.models),
            "num_batches": whole(one.num_batches),
            "num_pairs": whole(one.num_pairs),
            "mean": one.mean,
            "std": one.std,
            **{f"quantile_{share}": value for share, value in one.quantiles.items()},
        }
        for probe, one in found
    ]
    return sheet("Cosine of the gradients of different minibatches", probes, rows, notes, records)


def _perturbation(probes: Sequence[Probe]) -> Sheet:
    found = list(results(probes, Changes))
    noises = sorted({std for _, one in found for std in one.noise_stds_Q}, reverse=True)
    rows = []
    for probe, one in found:
        cells = {
            _noise(std): with_std(value, error, scientific)
            for std, value, error in zip(one.noise_stds_Q, one.mean_Q, one.std_Q, strict=True)
        }
        counts = dict.fromkeys(map(count, one.num_values_Q))
        columns = dict.fromkeys(map(_noise, noises), NONE) | cells
        rows.append({**words(probe, one.models), **columns, "values": "/".join(counts)})
    notes = [
        "How much noise on all parameters moves a model: the L2 norm of the change of the last layer's first token, in "
        "the model's own units, by the standard deviation of the Gaussian noise. Lower is steadier.",
        "Mean ± sample standard deviation over batches and draws; values: how many of these there are.",
    ]
    records = [
        {
            **facts(probe, one.models),
            "noise_std": std,
            "mean": one.mean_Q[place],
            "std": one.std_Q[place],
            "num_values": whole(one.num_values_Q[place]),
        }
        for probe, one in found
        for place, std in enumerate(one.noise_stds_Q)
    ]
    return sheet("Change of the first token's output under noise on the parameters", probes, rows, notes, records)


def _layer(place: int) -> str:
    return str(place) if place else EMBEDDINGS


def _noise(std: float) -> str:
    return f"noise {std!r}"


SHEETS: Mapping[str, Callable[[Sequence[Probe]], Sheet]] = {
    "pwcca": _pwcca,
    "attention": _attention,
    "isometry": _isometry,
    "gradients": _gradients,
    "perturbation": _perturbation,
}
