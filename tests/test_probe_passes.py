"""What the probes read off a model is what transformers' own model gives, in another way and example by example."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import refusal
from tests.probe_models import (
    CLASSES,
    LABELS_N,
    LENGTHS,
    alone,
    examples,
    model_of,
    passes,
    plain,
    plain_inputs,
    probed,
    written,
)
from trainer.models import build_model, word_embeddings_name
from trainer.objectives import Objective, Regression
from trainer.probes import isometry, probe
from trainer.probes.config import KINDS, OF_PAIRS
from trainer.probes.passes import EAGER, Passes

ARCHITECTURES = ("bert", "roberta", "albert", "distilbert", "electra", "modernbert")
ALL = np.arange(len(LENGTHS))
NUMBERS = Regression(mean=0.5, std=2.0)
KEYS = {
    "pwcca": {"pwcca", "pwcca_of_second", "cka", "dimensions", "num_dimensions", "noise_floor", "ridge"},
    "attention": {"mean", "std", "num_examples"},
    "isometry": {
        *("edges_log10", "counts", "num_values", "num_zero", "quantiles", "mean_log10", "std_log10", "num_examples")
    },
    "gradients": {"mean", "std", "quantiles", "num_batches", "num_pairs"},
    "perturbation": {"noise_stds", "mean", "std", "num_values"},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Of models so small several threads make nothing but a crowd."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 layers of each form; ALBERT's and ELECTRA's embeddings are narrower than its layers."""
    return written(tmp_path_factory.mktemp("probed"), request.param)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("probed"), "bert")


@pytest.fixture
def exact(tiny_bert: Path) -> Passes:
    """Of four examples, in float64."""
    return passes(tiny_bert, examples(tiny_bert), dtype=torch.float64)


def close(ours: np.ndarray, expected: np.ndarray | torch.Tensor, tolerance: float = 2e-5) -> None:
    """As alike as two orders of the same float32 sums are, beside the largest entry."""
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def parameters_of(passed: Passes) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in passed.net.parameters()]


def are_equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


# -- forward


@pytest.mark.parametrize("has_pairs", [False, True])
def test_hidden_states_are_transformers_own_at_all_tokens_that_are_no_padding(tiny: Path, has_pairs: bool) -> None:
    encoded = examples(tiny, has_pairs=has_pairs)
    net, inputs = plain(tiny), plain_inputs(encoded)
    if "token_type_ids" in inputs and tiny.name in ("distilbert", "modernbert"):
        del inputs["token_type_ids"]  # these take none
    expected = net.base_model(**inputs, output_hidden_states=True)
    ours = passes(tiny, encoded).hidden_states(ALL)
    is_real_BT = inputs["attention_mask"]
    assert len(ours) == net.config.num_hidden_layers + 1 == len(expected.hidden_states)
    for layer_NH, expected_BTH in zip(ours, expected.hidden_states, strict=True):
        assert len(layer_NH) == sum(LENGTHS)
        close(layer_NH, expected_BTH[is_real_BT])
    close(ours[-1], expected.last_hidden_state[is_real_BT])


def test_layer_0_is_what_comes_out_of_the_embeddings(tiny_bert: Path) -> None:
    encoded = examples(tiny_bert)
    inputs = plain_inputs(encoded)
    embedded = plain(tiny_bert).bert.embeddings(input_ids=inputs["input_ids"])
    close(passes(tiny_bert, encoded).hidden_states(ALL)[0], embedded[inputs["attention_mask"]])


def test_hidden_states_do_not_hang_on_what_else_is_in_the_batch(tiny: Path) -> None:
    encoded = examples(tiny)
    passed = passes(tiny, encoded)
    together = passed.hidden_states(ALL)
    one_by_one = [passed.hidden_states(ALL[row : row + 1]) for row in ALL]
    for layer, whole in enumerate(together):
        close(np.concatenate([states[layer] for states in one_by_one]), whole)


def test_attention_maps_are_transformers_eager_ones_of_the_example_without_padding(tiny: Path) -> None:
    encoded = examples(tiny)
    net, passed = plain(tiny, attention=EAGER), passes(tiny, encoded, attention=EAGER)
    for row in ALL:
        maps = passed.attention_maps(int(row))
        expected = net.base_model(**plain_inputs(alone(encoded, int(row))), output_attentions=True).attentions
        close(maps, torch.cat(expected))
        assert maps.shape == (2, 2, LENGTHS[row], LENGTHS[row])
        np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)


def test_a_model_that_gives_no_attention_maps_is_one_line(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's fast attention no model gives any; and some know no other."""
    fast = passes(tiny_bert, examples(tiny_bert))
    message = refusal(lambda: fast.attention_maps(0))
    assert message == "models: 'bert' gives no attention maps; give a model whose layers are all attention"
    from transformers import BertForSequenceClassification

    def refuse(self: object, implementation: str) -> None:
        raise ValueError(f"no {implementation} here\nand more")

    monkeypatch.setattr(BertForSequenceClassification, "set_attn_implementation", refuse)
    message = refusal(lambda: passes(tiny_bert, examples(tiny_bert), attention=EAGER))
    assert message == "models: 'bert' has no eager attention (ValueError: no eager here); give another model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_tokens_are_transformers_own(tiny: Path, dtype: torch.dtype) -> None:
    encoded = examples(tiny)
    expected = plain(tiny, dtype=dtype).base_model(**plain_inputs(encoded)).last_hidden_state[:, 0]
    close(passes(tiny, encoded, dtype=dtype).first_tokens(ALL), expected, 1e-12 if dtype == torch.float64 else 2e-5)


# -- the Jacobian


def test_the_jacobian_is_that_of_finite_differences(tiny: Path) -> None:
    """In float64, of a plain model that is given word embeddings; ModernBERT turns its queries in float32 even so."""
    encoded, row = examples(tiny), 2
    step, tolerance = (1e-3, 1e-3) if tiny.name == "modernbert" else (1e-5, 1e-8)
    net, inputs = plain(tiny, dtype=torch.float64), plain_inputs(alone(encoded, row))
    embeddings = net.get_input_embeddings()(inputs.pop("input_ids")).detach()
    jacobian = passes(tiny, encoded, of_first_token=True, dtype=torch.float64).jacobian(row)
    num_tokens, width = embeddings.shape[1:]
    assert num_tokens == LENGTHS[row] and jacobian.shape == (32, num_tokens * width)

    def output(token: int, unit: int, change: float) -> torch.Tensor:
        moved = embeddings.clone()
        moved[0, token, unit] += change
        with torch.no_grad():
            first_H: torch.Tensor = net.base_model(inputs_embeds=moved, **inputs).last_hidden_state[0, 0]
        return first_H

    for token, unit in ((0, 0), (0, width - 1), (1, 3), (num_tokens - 1, 5)):
        slope_H = (output(token, unit, step) - output(token, unit, -step)) / (2 * step)
        assert slope_H.abs().max() > 1e-4, "or there would be nothing to see"
        np.testing.assert_allclose(
            jacobian[:, token * width + unit], slope_H, rtol=1e-6, atol=tolerance * float(slope_H.abs().max())
        )


@pytest.mark.parametrize("lengths", [LENGTHS, (7, 7, 7), (65, 3)])
def test_the_quick_jacobian_is_the_exact_one_to_float32(tiny: Path, lengths: tuple[int, ...]) -> None:
    """Also for examples of one length, which are filled up in another way than mixed ones."""
    encoded = examples(tiny, lengths)
    quick, slow = (passes(tiny, encoded, of_first_token=True, dtype=dtype) for dtype in (torch.float32, torch.float64))
    for row in range(len(lengths)):
        expected = slow.jacobian(row)
        close(quick.jacobian(row), expected, 1e-5)
        values = isometry.singular_values(quick.jacobian(row))
        assert len(values) == min(expected.shape)
        np.testing.assert_allclose(
            values, np.linalg.svd(expected, compute_uv=False), rtol=0, atol=1e-5 * float(values[0])
        )


# -- gradients


@pytest.mark.parametrize("objective", [CLASSES, NUMBERS], ids=["classes", "numbers"])
@pytest.mark.parametrize("lengths", [LENGTHS, (7, 7, 7, 7)], ids=["mixed", "equal"])
def test_a_gradient_is_autograds_of_a_padded_batch(tiny: Path, objective: Objective, lengths: tuple[int, ...]) -> None:
    encoded = examples(tiny, lengths)
    net = plain(tiny, objective.num_outputs)
    logits_BC = net(**plain_inputs(encoded)).logits
    if objective is CLASSES:
        loss = torch.nn.functional.cross_entropy(logits_BC, torch.from_numpy(LABELS_N))
    else:
        loss = ((logits_BC[:, 0] - (torch.from_numpy(LABELS_N).float() - 0.5) / 2.0) ** 2).mean()
    loss.backward()
    used_U = np.unique(encoded.ids_NT)
    expected = []
    for name, parameter in net.named_parameters():
        if parameter.grad is None:
            continue
        gradient = parameter.grad.numpy()
        if name == word_embeddings_name(net):
            unused_D = np.ones(len(gradient), dtype=bool)
            unused_D[used_U] = False
            assert unused_D.any() and not gradient[unused_D].any(), "what is left out is zero"
            gradient = gradient[used_U]
        expected.append(gradient.ravel())
    passed = passes(tiny, encoded, objective=objective, of_first_token=True)
    ours = passed.gradient(ALL)
    close(ours, np.concatenate(expected))
    assert len(ours) <= passed.num_parameters
    np.testing.assert_array_equal(passed.gradient(ALL), ours, "once more")


def test_dropout_draws_masks_by_seed_and_ends_with_its_block(tiny_bert: Path) -> None:
    passed = passes(tiny_bert, examples(tiny_bert), of_first_token=True)
    before = torch.random.get_rng_state()

    def gradient(is_on: bool, seed: int) -> np.ndarray:
        with passed.dropout(is_on, seed):
            return passed.gradient(ALL)

    calm, first, again, other = gradient(False, 0), gradient(True, 0), gradient(True, 0), gradient(True, 1)
    np.testing.assert_array_equal(again, first)
    assert not np.allclose(other, first) and not np.allclose(calm, first)
    np.testing.assert_array_equal(passed.gradient(ALL), calm)
    np.testing.assert_array_equal(gradient(False, 1), calm)
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's numbers change"


# -- noise


def test_noise_is_on_every_parameter_with_the_std_asked_for(exact: Passes) -> None:
    clean = parameters_of(exact)
    with exact.noise(1e-4, seed=0):
        drawn = [noisy - value for noisy, value in zip(parameters_of(exact), clean, strict=True)]
    assert all(bool((part != 0).all()) for part in drawn)
    whole = torch.cat([part.flatten() for part in drawn]) / 1e-4
    assert len(whole) == exact.num_parameters > 10_000
    assert abs(float(whole.std()) - 1) < 0.03 and abs(float(whole.mean())) < 0.03
    assert 0.66 < float((whole.abs() < 1).double().mean()) < 0.71, "as a normal distribution has it"


def test_noise_hangs_on_the_seed_alone(exact: Passes) -> None:
    def noisy(seed: int) -> list[torch.Tensor]:
        with exact.noise(1e-2, seed):
            return parameters_of(exact)

    first, again, other = noisy(0), noisy(0), noisy(1)
    assert are_equal(first, again) and not are_equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_come_back_bit_for_bit_also_after_an_error(tiny_bert: Path, dtype: torch.dtype) -> None:
    passed = passes(tiny_bert, examples(tiny_bert), dtype=dtype)
    clean, output = parameters_of(passed), passed.first_tokens(ALL)
    for std in (1e-2, 1e-8):
        with passed.noise(std, seed=0):
            pass
        assert are_equal(parameters_of(passed), clean)
    with pytest.raises(KeyboardInterrupt), passed.noise(1.0, seed=0):
        raise KeyboardInterrupt
    assert are_equal(parameters_of(passed), clean)
    np.testing.assert_array_equal(passed.first_tokens(ALL), output)


def test_noise_within_noise_ends_as_what_it_was_before(exact: Passes) -> None:
    clean = parameters_of(exact)
    with exact.noise(1e-2, seed=0):
        outer = parameters_of(exact)
        with exact.noise(1e-2, seed=1):
            assert not are_equal(parameters_of(exact), outer)
        assert are_equal(parameters_of(exact), outer)
    assert are_equal(parameters_of(exact), clean)


def test_small_noise_moves_the_output_in_proportion_where_dropout_would_drown_it(tiny: Path) -> None:
    exact = passes(tiny, examples(tiny), dtype=torch.float64)
    clean_EH = exact.first_tokens(ALL)

    def change(std: float, has_dropout: bool = False) -> float:
        with exact.dropout(has_dropout, seed=0), exact.noise(std, seed=0):
            return float(np.linalg.norm(exact.first_tokens(ALL) - clean_EH))

    assert change(1e-8) > 0
    assert change(1e-6) / change(1e-8) == pytest.approx(100, rel=0.03)
    if tiny.name in ("albert", "modernbert"):
        return  # these have no dropout
    drowned = change(1e-6, has_dropout=True) / change(1e-8, has_dropout=True)
    assert drowned == pytest.approx(1, rel=0.01)


# -- the models


def test_new_weights_are_drawn_by_seed_as_a_trial_draws_them(tiny_bert: Path) -> None:
    zero, one = (model_of(tiny_bert, is_new=True, seed=seed).build(3) for seed in (0, 1))
    name = word_embeddings_name(one)
    expected: Any = build_model(tiny_bert, init="scratch", num_outputs=3, seed=1)
    assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in one.state_dict().items())
    assert not torch.equal(zero.state_dict()[name], one.state_dict()[name])
    assert not zero.training


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_saved_classifier_counts_where_it_has_as_many_outputs(tiny: Path, tmp_path: Path, is_sharded: bool) -> None:
    """``write_model`` saves one of two classes."""
    folder = written(tmp_path, tiny.name, "ModelForSequenceClassification")
    saved = load_file(folder / "model.safetensors")
    if is_sharded:
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    fitting, other = (model_of(folder, seed=4).build(num_outputs).state_dict() for num_outputs in (2, 3))
    assert fitting.keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in fitting.items())
    drawn: Any = build_model(folder, init="pretrained", num_outputs=3, seed=4)
    assert all(torch.equal(tensor, drawn.state_dict()[name]) for name, tensor in other.items())


def test_half_a_saved_classifier_does_not_count(tmp_path: Path) -> None:
    """Of ELECTRA's two layers of weights one is missing: the other would go with what it was not trained with."""
    folder = written(tmp_path, "electra", "ModelForSequenceClassification")
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.out_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ours, drawn = model_of(folder).build(2), build_model(folder, init="pretrained", num_outputs=2, seed=0)
    assert all(torch.equal(tensor, drawn.state_dict()[name]) for name, tensor in ours.state_dict().items())


# -- whole probes


def asked(kind: str, *models: Path | str) -> dict[str, Any]:
    return {"kind": kind, "models": tuple(map(str, models)), "num_draws": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_gives_its_numbers_and_the_same_ones_twice(kind: str, tiny_model: Path, dna_files: Path) -> None:
    given = asked(kind, tiny_model, "scratch:1")
    found, again = (probed(dna_files, **given) for _ in range(2))
    labels = ["tiny-bert", "scratch seed 1"]
    assert [one.result["models"] for one in found] == ([labels] if kind in OF_PAIRS else [[label] for label in labels])
    for one, other in zip(found, again, strict=True):
        assert one.result.keys() == {"models", *KEYS[kind]}
        text = json.dumps(one.result, allow_nan=False)
        assert json.dumps(other.result, allow_nan=False) == text
        assert one.arrays and one.arrays.keys() == other.arrays.keys()
        for name, values in one.arrays.items():
            assert values.dtype == np.float64
            np.testing.assert_array_equal(values, other.arrays[name])


@pytest.fixture
def twin(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "twin")
    return tmp_path / "twin"


def test_a_model_is_like_itself(tiny_model: Path, twin: Path, dna_files: Path) -> None:
    (similar,) = probed(dna_files, **asked("pwcca", tiny_model, twin), num_examples=20)
    for name in ("pwcca", "pwcca_of_second", "cka"):
        np.testing.assert_allclose(np.diag(similar.arrays[name]), 1, atol=1e-9)
        assert similar.result[name] == similar.arrays[name].tolist()
        assert similar.arrays[name].shape == (3, 3) and similar.arrays[name][0, 2] < 0.999
    (distant,) = probed(dna_files, **asked("attention", tiny_model, twin))
    assert distant.result["mean"] == [0, 0] and distant.arrays["distances"].shape == (6, 2)


def test_rows_of_the_matrices_are_the_first_models_layers(tiny_model: Path, dna_files: Path) -> None:
    there, back = (
        probed(dna_files, **asked("pwcca", *models))[0].arrays
        for models in ((tiny_model, "scratch:1"), ("scratch:1", tiny_model))
    )
    np.testing.assert_allclose(there["cka"], back["cka"].T, atol=1e-9)
    np.testing.assert_allclose(there["pwcca"], back["pwcca_of_second"].T, atol=1e-9)
    assert not np.allclose(there["cka"], there["cka"].T, atol=1e-3)


def test_gradients_that_are_not_all_held_give_the_same(
    tiny_model: Path, dna_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**asked("gradients", tiny_model), "dropout": True}
    (held,) = probed(dna_files, **given)
    calls = 0

    def count(self: Passes, rows_B: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return gradient(self, rows_B)

    gradient = Passes.gradient
    monkeypatch.setattr(Passes, "gradient", count)
    monkeypatch.setattr(probe, "MAX_HELD", 1)
    (few,) = probed(dna_files, **given)
    assert calls > 5, "some are computed again"
    assert few.result == held.result
    np.testing.assert_array_equal(few.arrays["gram"], held.arrays["gram"])


@pytest.mark.parametrize("dropout", [False, True])
def test_a_perturbation_leaves_the_model_as_it_was(
    dropout: bool, tiny_model: Path, dna_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[Passes, list[torch.Tensor]]] = []
    begin = Passes.__init__

    def note(self: Passes, *given: Any, **how: Any) -> None:
        begin(self, *given, **how)
        built.append((self, parameters_of(self)))

    monkeypatch.setattr(Passes, "__init__", note)
    (measured,) = probed(dna_files, **asked("perturbation", tiny_model), dropout=dropout)
    ((passed, clean),) = built
    assert are_equal(parameters_of(passed), clean) and not passed.net.training
    assert measured.result["noise_stds"] == [1e-2, 1e-4, 1e-6, 1e-8]
    assert measured.arrays["changes"].shape == (4, 2, 6) and measured.result["num_values"] == [4] * 4
    mean = measured.result["mean"]
    if dropout:
        assert mean[3] == pytest.approx(mean[2], rel=0.5), "what is seen is dropout"
    else:
        assert mean[2] / mean[3] == pytest.approx(100, rel=0.5) and mean[0] > 100 * mean[2]


def test_a_noises_change_does_not_hang_on_what_other_noises_there_are(tiny_model: Path, dna_files: Path) -> None:
    given = asked("perturbation", tiny_model)
    (alone,) = probed(dna_files, **given, noise_stds=(1e-2,))
    (among,) = probed(dna_files, **given, noise_stds=(1e-4, 1e-2))
    np.testing.assert_array_equal(alone.arrays["changes"][0], among.arrays["changes"][1])


def test_dropout_of_a_model_that_has_none_is_one_line(tiny_model: Path, dna_files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dry"
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (folder / "config.json").write_text(json.dumps(settings))
    said = refusal(lambda: probed(dna_files, **asked("perturbation", folder), dropout=True))
    assert said == "dropout: true is not allowed, 'dry' has no dropout in its config; leave it out"
