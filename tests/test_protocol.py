"""The paper's protocol (arXiv 2103.07162, section 3 and appendix), rule by rule, seen from outside a real trial."""

import json
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.glue_files import tsv
from tests.test_trial import Memory
from trainer.config import TrialConfig
from trainer.data import encode_dataset, load_dataset, training_part
from trainer.encoding import Encoded
from trainer.loop import predict
from trainer.mapping import MAPPINGS, Vocabulary, map_symbols
from trainer.metrics import METRICS
from trainer.models import read_vocabulary
from trainer.objectives import Classification
from trainer.optimizers import OPTIMIZERS, build_optimizer
from trainer.tasks import TASKS
from trainer.trial import Trial

GLUE = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"}
STEEPNESS = 2.0**13
PAD, CLS, SEP = 0, 101, 102  # of the tiny model


def begin(model: Path, data_dir: Path, **fields: Any) -> Trial:
    """A trial on 70 training examples: two batches of 32 and one of 6."""
    usual: dict[str, Any] = {"task": "splice", "model": str(model), "num_epochs": 2, "max_train_examples": 70}
    return Trial(TrialConfig(**usual | fields), Memory(), data_dir=data_dir, num_threads=1)


def watch(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Runs a trial; every batch that it takes of its examples, in order: the split and the row numbers."""
    taken: list[tuple[str, list[int]]] = []
    for name, examples in trial.examples.items():

        def batch(rows_B: torch.Tensor, name: str = name, take: Any = examples.batch) -> Any:
            taken.append((name, rows_B.tolist()))
            return take(rows_B)

        monkeypatch.setattr(examples, "batch", batch)
    list(trial)
    return taken


# The setting, and how long it is trained


def test_every_task_has_the_papers_setting_and_glue_alone_a_fixed_number_of_epochs() -> None:
    for name in set(TASKS) - {"demo"}:
        config = TrialConfig(task=name)
        assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 1e-5, 32)
        length = (config.num_epochs, config.definition.checkpoint)
        assert length == ((3, "final") if name in GLUE else (20, "best")), name


@pytest.mark.parametrize(("task", "epochs"), [("rte", 5), ("stsb", 5), ("splice", 2), ("stability", 2)])
def test_early_stopping_is_for_all_but_glue(tiny_model: Path, task_files: Path, task: str, epochs: int) -> None:
    """At this learning rate no evaluation is better than the first."""
    trial = begin(tiny_model, task_files, task=task, num_epochs=5, patience=1, learning_rate=1e-12)
    assert [report.epoch for report in trial] == list(range(1, epochs + 1))


@pytest.mark.parametrize("task", ["splice", "rte"])
def test_the_test_set_is_seen_once_whole_and_after_all_choices(
    tiny_model: Path, task_files: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = begin(tiny_model, task_files, task=task)
    taken = watch(trial, monkeypatch)
    assert [name for name, _ in groupby(name for name, _ in taken)] == ["train", "valid", "train", "valid", "test"]
    seen = [row for name, rows in taken if name == "test" for row in rows]
    assert sorted(seen) == list(range(len(trial.dataset.test)))


# One step


def test_every_epoch_takes_every_example_once_in_an_order_that_the_seed_alone_decides(
    tiny_model: Path, dna_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def orders(**fields: Any) -> list[list[int]]:
        trial = begin(tiny_model, dna_files, **fields)
        torch.manual_seed(len(fields))  # dropout's numbers, which play no part
        taken = watch(trial, monkeypatch)
        batches = [rows for name, rows in taken if name == "train"]
        assert [len(rows) for rows in batches] == [32, 32, 6] * 2
        return np.concatenate(batches).reshape(2, 70).tolist()

    first, second = orders()
    assert first != second and sorted(first) == sorted(second) == list(range(70))
    assert orders(init="scratch", optimizer="adagrad") == [first, second], "a comparison is paired by its seed"
    assert first not in orders(seed=1)


@pytest.mark.parametrize("task", ["splice", "rte"])
def test_the_learning_rate_falls_linearly_to_exactly_zero(tiny_model: Path, task_files: Path, task: str) -> None:
    trial = begin(tiny_model, task_files, task=task, learning_rate=1e-3, batch_size=8, num_epochs=3)
    optimizer, rates = trial.learner.optimizer, list[float]()
    optimizer.register_step_pre_hook(lambda *_: rates.extend(group["lr"] for group in optimizer.param_groups))
    list(trial)
    num_steps = 3 * -(-trial.num_train // 8)
    assert rates == pytest.approx([1e-3 * (1 - step / num_steps) for step in range(num_steps)])
    assert rates[0] == 1e-3 and [group["lr"] for group in optimizer.param_groups] == [0.0]


class Steep(Classification):
    """The same loss many times over."""

    def loss(self, logits_BC: torch.Tensor, targets_B: torch.Tensor) -> torch.Tensor:
        return super().loss(logits_BC, targets_B) * STEEPNESS


def test_no_gradient_is_clipped(tiny_model: Path, dna_files: Path) -> None:
    """A loss that is 8192 times as large reaches the optimizer as a gradient 8192 times as large."""

    def first_gradient(objective: Classification) -> torch.Tensor:
        trial = begin(tiny_model, dna_files)
        trial.learner.objective = objective
        parameters, found = list(trial.learner.model.parameters()), list[torch.Tensor]()
        trial.learner.optimizer.register_step_pre_hook(
            lambda *_: found.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        )
        next(trial)
        return found[0]

    plain, steep = first_gradient(Classification(num_outputs=3)), first_gradient(Steep(num_outputs=3))
    assert steep.norm() > 100
    torch.testing.assert_close(steep, plain * STEEPNESS, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_decays_weights(name: str) -> None:
    weights = torch.nn.Parameter(torch.tensor([-2.0, 0.5, 30.0]))
    before = weights.detach().clone()
    optimizer = build_optimizer(name, [weights], learning_rate=0.1)
    for _ in range(3):
        weights.grad = torch.zeros(3)
        optimizer.step()
    assert torch.equal(weights, before), "nothing asked for a change"


def test_everything_is_fine_tuned(tiny_model: Path, dna_files: Path) -> None:
    trial = begin(tiny_model, dna_files, num_epochs=1, learning_rate=1e-3)
    before = {name: tensor.detach().clone() for name, tensor in trial.learner.model.named_parameters()}
    list(trial)
    after = trial.learner.model.named_parameters()
    assert not [name for name, tensor in after if torch.equal(tensor, before[name])]


def dropout(model: torch.nn.Module) -> dict[str, float]:
    return {name: part.p for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout)}


def test_dropout_is_the_models_own_in_training_and_off_in_evaluation(
    tiny_model: Path, dna_files: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    path = folder / "config.json"
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    path.write_text(json.dumps(json.loads(path.read_text()) | rates))
    trial = begin(folder, dna_files, batch_size=35)
    model, modes = trial.learner.model, list[set[bool]]()
    model.register_forward_pre_hook(lambda *_: modes.append({part.training for part in model.modules()}))
    list(trial)
    own = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder))
    assert dropout(own) == dropout(model) and set(dropout(own).values()) == {0.3, 0.2}
    steps, evaluation = [{True}] * 2, [{False}]
    assert modes == (steps + evaluation) * 2 + evaluation, "two epochs, each followed by valid, and test"


# Special tokens, mappings and padding


def test_random_draws_any_token_but_the_first_1000_the_special_and_the_unused_ones() -> None:
    tokens = [f"low{place}" for place in range(1000)]
    tokens += ["a", "[unused998]", "b", "[SPECIAL]", "madeupword0001", "c", "d", "e"]
    vocabulary = Vocabulary(tokens=tuple(tokens), special_ids=frozenset({5, 1003}), begin_id=5, end_id=5, pad_id=5)
    draws = [set(map_symbols("random", vocabulary, "ACG", seed).tolist()) for seed in range(50)]
    assert set.union(*draws) == {1000, 1002, 1005, 1006, 1007} and {len(ids) for ids in draws} == {3}


@pytest.mark.parametrize("mapping", sorted({*MAPPINGS} - {"frequent"}))  # the tiny model has no words
def test_around_mapped_symbols_the_special_tokens_stay(tiny_model: Path, dna_files: Path, mapping: str) -> None:
    config = TrialConfig(task="h4", model=str(tiny_model), mapping=mapping)
    for split in encode_dataset(config, dna_files, tiny_model).values():
        last_N = split.lengths_N - 1
        place_T = np.arange(split.ids_NT.shape[1])
        assert (split.ids_NT[:, 0] == CLS).all() and (np.take_along_axis(split.ids_NT, last_N[:, None], 1) == SEP).all()
        assert (split.ids_NT[place_T > last_N[:, None]] == PAD).all()
        symbols = set(split.ids_NT[(place_T >= 1) & (place_T < last_N[:, None])].tolist())
        assert len(symbols) == 4 and not symbols & read_vocabulary(tiny_model).special_ids


def text(model: Path, data_dir: Path, **fields: Any) -> Encoded:
    return encode_dataset(TrialConfig(task="mrpc", model=str(model), **fields), data_dir, model)["valid"]


def test_shift_takes_special_tokens_and_padding_along(tiny_model: Path, task_files: Path) -> None:
    plain, mapped = text(tiny_model, task_files), text(tiny_model, task_files, mapping="shift")
    assert {PAD, CLS, SEP} < set(plain.ids_NT.flat)
    num_tokens = len(read_vocabulary(tiny_model).tokens)
    assert np.array_equal(mapped.ids_NT, (plain.ids_NT.astype(int) + 1000) % num_tokens)
    assert np.array_equal(mapped.lengths_N, plain.lengths_N)


@pytest.mark.parametrize("mapping", ["shift", "permutation"])
def test_special_tokens_stay_where_asked(tiny_model: Path, task_files: Path, mapping: str) -> None:
    """And no other token becomes one of them."""
    plain = text(tiny_model, task_files)
    mapped = text(tiny_model, task_files, mapping=mapping, keep_special_tokens=True)
    special = sorted(read_vocabulary(tiny_model).special_ids)
    assert np.array_equal(np.isin(mapped.ids_NT, special), np.isin(plain.ids_NT, special))
    assert ((mapped.ids_NT == plain.ids_NT) == np.isin(plain.ids_NT, special)).all()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mapping", ["shift", "permutation"])
def test_mapped_padding_is_masked_out(tiny_model: Path, task_files: Path, mapping: str, keep: bool) -> None:
    trial = begin(tiny_model, task_files, task="mrpc", mapping=mapping, keep_special_tokens=keep)
    examples = trial.examples["valid"]
    is_padding_NT = torch.arange(examples.ids_NT.shape[1]) >= examples.lengths_N[:, None]
    used_U = trial.assembly.used_U
    assert used_U is not None
    (padding,) = used_U[examples.ids_NT[is_padding_NT].unique().numpy()].tolist()
    assert (padding == PAD) == keep
    before = predict(trial.learner, examples)
    others = torch.arange(int(is_padding_NT.sum())) % len(used_U)
    examples.ids_NT[is_padding_NT] = others.to(torch.int16)
    assert np.allclose(predict(trial.learner, examples), before, rtol=0, atol=1e-7)
    examples.ids_NT[:, 1] = (examples.ids_NT[:, 1] + 1) % len(used_U)
    assert not np.allclose(predict(trial.learner, examples), before, rtol=0, atol=1e-7), "what is no padding counts"


# Scores


def test_numbers_are_standardised_by_the_drawn_training_examples_alone(tiny_model: Path, task_files: Path) -> None:
    trial = begin(tiny_model, task_files, task="stability", max_train_examples=None, train_fraction=0.5)
    whole = load_dataset(trial.task, task_files)
    drawn = training_part(whole, trial.config).train.labels
    assert len(drawn) == len(whole.train) / 2 and drawn.mean() != pytest.approx(whole.train.labels.mean(), abs=1e-3)
    for split in ("train", "valid", "test"):
        labels = getattr(trial.dataset, split).labels
        expected = (labels - drawn.mean()) / drawn.std()
        assert trial.examples[split].targets_N.tolist() == pytest.approx(expected, abs=1e-5)


def test_mnli_is_the_mean_of_its_halves_also_where_one_is_larger(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "glue/MNLI"
    folder.mkdir(parents=True)
    for part, num_rows in {"train": 24, "dev_matched": 12, "dev_mismatched": 5}.items():
        (folder / f"{part}.tsv").write_bytes(tsv("MNLI", part, num_rows))
    *_, last = begin(tiny_model, tmp_path, task="mnli", num_epochs=1)
    assert last.result is not None
    scores = last.result.metrics
    matched, mismatched = scores["test/accuracy_matched"], scores["test/accuracy_mismatched"]
    assert scores["test/score"] == pytest.approx((matched + mismatched) / 2)
    assert scores["test/score"] != pytest.approx((12 * matched + 5 * mismatched) / 17), "or this test shows nothing"


def pairs(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    """(2, N) whole numbers, true ones and predicted ones, N at most 40: with ties, and often all alike."""
    numbers = st.integers(low, high)
    return st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40).map(lambda rows: np.array(rows).T)


def has_constant(pair: np.ndarray) -> bool:
    return bool(np.ptp(pair, axis=1).min() == 0)


@settings(deadline=None)
@given(three=pairs(0, 2), two=pairs(0, 1))
def test_classes_are_scored_as_scikit_learn_does(three: np.ndarray, two: np.ndarray) -> None:
    from scipy.stats import hmean
    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_score, recall_score

    for pair in (three, two):
        labels, probabilities = pair[0], np.eye(3)[pair[1]] * 0.5 + 0.1
        assert METRICS["accuracy"](labels, probabilities) == pytest.approx(accuracy_score(*pair))
        expected = 0.0 if has_constant(pair) else matthews_corrcoef(*pair)
        assert METRICS["matthews"](labels, probabilities) == pytest.approx(expected)
    rates = [rate(*two, zero_division=0) for rate in (precision_score, recall_score)]
    assert METRICS["f1"](two[0], np.eye(2)[two[1]]) == pytest.approx(hmean(rates))


@settings(deadline=None)
@given(pairs(-4, 4))
def test_numbers_are_scored_as_scipy_does_and_a_constant_scores_zero(pair: np.ndarray) -> None:
    from scipy.stats import pearsonr, rankdata

    for metric, values in (("spearman", rankdata(pair, axis=1)), ("pearson", pair)):
        expected = 0.0 if has_constant(pair) else pearsonr(*values).statistic
        assert METRICS[metric](*pair.astype(float)) == pytest.approx(expected)
