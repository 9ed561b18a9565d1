"""How many examples a second are trained on a CPU: Polymath against Hugging Face's Trainer.

    python -m benchmarks.throughput
    python -m benchmarks.throughput --data-dir ../shared/data --model ../shared/models/all-MiniLM-L6-v2

Both sides begin with the same weights and take the same batches of 32 in the same order, in float32, with Adam at the
same linearly falling learning rate, no weight decay and no clipping, on the same number of threads. The Trainer is as
a competent user has it: padding to the longest of a batch, SDPA, the fused optimizer, nothing logged between steps.
Before anything is timed the losses of every step are compared with dropout off. Then the two are timed in turn, with
dropout off and with the model's own.

The small model is a BERT of 2 layers and 128 hidden units; its data is generated. Real data needs ``--data-dir``, and
real text ``--model`` too, whose vocabulary the small model then shares.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import material
from benchmarks.report import Report, require_peers
from trainer.commandline import parse, run, setting
from trainer.config import TrialConfig
from trainer.data import encode_dataset
from trainer.kernels import Linear
from trainer.logger import SilentLogger
from trainer.loop import train_epoch
from trainer.models import build_model, read_tokenizer
from trainer.tasks.protein import AMINO_ACIDS
from trainer.trial import Trial

BATCH_SIZE = 32
LEARNING_RATE = 1e-4
EQUAL, MIXED = 1.3, 2.0  # how many times as fast ours must be
ALIKE = 1e-3  # of a loss, relative: rounding, and what it becomes over the steps
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TRAINER: dict[str, Any] = {
    "per_device_train_batch_size": BATCH_SIZE,
    "num_train_epochs": 1,
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 0.0,
    "weight_decay": 0.0,
    "train_sampling_strategy": "sequential",
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
}
PEAK_SIZE = 2048  # rows and columns of the matrices that show the peak


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    data_dir: str | None = setting(None, help="folder with real data: H4, localization, MRPC, SST-2", none="none")
    model: str | None = setting(None, help="folder of a BERT to train as well, with its weights", none="none")
    num_threads: int = setting(2, help="CPU threads of each side", unit="threads")
    num_rounds: int = setting(5, help="how many pairs are timed", unit="pairs")
    quick: bool = setting(False, help="generated data alone, one pair of a few steps")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and how far.

    Attributes:
        target: how many times as fast ours must be.
    """

    name: str
    task: str
    model: Path
    num_steps: int
    target: float

    def config(self) -> TrialConfig:
        """One epoch over as many examples as the steps take."""
        weights = any(self.model.glob("*.safetensors"))
        return TrialConfig(
            task=self.task,
            model=str(self.model),
            init="pretrained" if weights else "scratch",
            learning_rate=LEARNING_RATE,
            batch_size=BATCH_SIZE,
            num_epochs=1,
            max_train_examples=BATCH_SIZE * self.num_steps,
        )


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One run: seconds of its steps, and the loss of each."""

    seconds: float
    losses: list[float]


def ours(case: Case, data_dir: Path | None, num_threads: int) -> Timed:
    """Trains as a trial does, in the order of the data."""
    trial = Trial(case.config(), SilentLogger(), data_dir=data_dir, num_threads=num_threads)
    started = time.perf_counter()
    steps = train_epoch(trial.learner, trial.examples["train"], torch.arange(trial.num_train), BATCH_SIZE)
    losses = torch.stack(list(steps)).tolist()
    return Timed(seconds=time.perf_counter() - started, losses=losses)


def peer(case: Case, data_dir: Path | None) -> Timed:
    """Trains with the Trainer on the threads that are set."""
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    losses: list[torch.Tensor] = []
    times: list[float] = []

    class Recording(Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss: Any = super().compute_loss(*args, **kwargs)
            losses.append(loss.detach())
            return loss

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    config = case.config()
    with tempfile.TemporaryDirectory() as folder:
        examples, num_outputs = as_dicts(config, data_dir, case.model)
        model = build_model(case.model, init=config.init, num_outputs=num_outputs, seed=config.seed)
        trainer = Recording(
            model=model,
            args=TrainingArguments(output_dir=folder, **TRAINER),
            train_dataset=examples,
            data_collator=DataCollatorWithPadding(read_tokenizer(case.model)),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Timed(seconds=times[1] - times[0], losses=torch.stack(losses).tolist())


def as_dicts(config: TrialConfig, data_dir: Path | None, model: Path) -> tuple[list[dict[str, Any]], int]:
    """The training examples as the Trainer takes them, with all their token ids; and the number of classes."""
    from trainer.data import load_dataset, training_part

    dataset = training_part(load_dataset(config.definition, data_dir), config)
    encoded = encode_dataset(config, data_dir, model)["train"]
    rows = []
    for row, length in enumerate(encoded.lengths_N.tolist()):
        example = {"input_ids": encoded.ids_NT[row, :length].tolist(), "labels": int(dataset.train.labels[row])}
        if encoded.seconds_N is not None:
            example["token_type_ids"] = [int(place >= encoded.seconds_N[row]) for place in range(length)]
        rows.append(example)
    return rows, len(dataset.classes)


def write_proteins(path: Path, num_train: int) -> None:
    """Proteins of 50 to 512 residues, as spread as those of DeepLoc: half of them longer than 380."""
    rng = np.random.default_rng(material.SEED)
    letters = np.array(list(AMINO_ACIDS[:20]))
    rows = ["sequence,label,split"]
    for split, number in (("train", num_train), ("valid", 4), ("test", 4)):
        lengths = rng.lognormal(np.log(380), 0.6, number).clip(50, 512).astype(int)
        rows += [f"{''.join(rng.choice(letters, length))},{'ab'[n % 2]},{split}" for n, length in enumerate(lengths)]
    path.write_text("\n".join(rows) + "\n")


def calm(model: Path, folder: Path) -> Path:
    """A copy of a model without dropout."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | NO_DROPOUT))
    return folder


def small_model_for_text(model: Path, small: Path, folder: Path) -> Path:
    """The small model with another's vocabulary."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((small / "config.json").read_text())
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": vocabulary}))
    return folder


def cases(settings: Settings, folder: Path) -> list[Case]:
    """What is measured, all files in place."""
    few = settings.quick
    short, long, proteins = folder / "short", folder / "long", folder / "proteins.csv"
    material.write(short, BATCH_SIZE * 12, 60)
    material.write(long, BATCH_SIZE * 4, 500)
    write_proteins(proteins, BATCH_SIZE * 4)
    small = short / "model"
    found = [
        Case(name="DNA, 60 nt", task=f"{short}/data.csv", model=small, num_steps=4 if few else 12, target=EQUAL),
        Case(name="DNA, 500 nt", task=f"{long}/data.csv", model=small, num_steps=1 if few else 3, target=EQUAL),
        Case(name="proteins, 50-512", task=str(proteins), model=small, num_steps=2 if few else 4, target=MIXED),
    ]
    if few or settings.data_dir is None:
        return found
    found.append(Case(name="H4", task="h4", model=small, num_steps=3, target=EQUAL))
    found.append(Case(name="localization", task="localization", model=small, num_steps=4, target=MIXED))
    if settings.model is not None:
        model = Path(settings.model).expanduser().resolve()
        small = small_model_for_text(model, small, folder / "text")
        for task in ("mrpc", "sst2"):
            found.append(Case(name=task.upper(), task=task, model=small, num_steps=12, target=MIXED))
        found.append(Case(name=f"splice, {model.name}", task="splice", model=model, num_steps=2, target=EQUAL))
        found.append(Case(name=f"MRPC, {model.name}", task="mrpc", model=model, num_steps=3, target=MIXED))
    return found


def compare(case: Case, data_dir: Path | None, num_threads: int) -> str:
    """Trains both once and compares the loss of every step; untimed, so that both are warm afterwards."""
    one, other = ours(case, data_dir, num_threads).losses, peer(case, data_dir).losses
    if len(one) != case.num_steps or not np.allclose(one, other, rtol=ALIKE, atol=0):
        raise AssertionError(f"{case.name}: the losses differ\n{one}\n{other}")
    worst = max(abs(a / b - 1) for a, b in zip(one, other, strict=True))
    return f"{case.name}: {len(one)} steps, last loss {one[-1]:.6f} and {other[-1]:.6f}, at most {worst:.0e} apart"


def operations(case: Case, data_dir: Path | None) -> float:
    """Floating-point operations of the matrix products that a step needs, forward and backward, per example.

    Of the last layer only keys and values are needed for all tokens, the rest for the first ones.
    """
    config: Any = json.loads((case.model / "config.json").read_text())
    hidden, inner, layers = (config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    lengths_N = encode_dataset(case.config(), data_dir, case.model)["train"].lengths_N.astype(float)
    rest = 4 * hidden**2 + 4 * hidden * inner  # queries, output, feed-forward; of one token in one layer
    whole_N = lengths_N * (4 * hidden**2 + rest) + 4 * hidden * lengths_N**2
    last_N = lengths_N * 4 * hidden**2 + rest + 4 * hidden * lengths_N
    return 3 * float(((layers - 1) * whole_N + last_N).mean())


def peak(num_threads: int) -> float:
    """The most float32 operations a second that a product of two large matrices reaches here, by torch or by oneDNN."""
    torch.set_num_threads(num_threads)
    values, best = torch.randn(PEAK_SIZE, PEAK_SIZE), float("inf")
    fast, plain = (kind(PEAK_SIZE, PEAK_SIZE, bias=False) for kind in (Linear, torch.nn.Linear))
    with torch.inference_mode():
        for _ in range(5):
            for layer in (fast, plain):
                started = time.perf_counter()
                layer(values)
                best = min(best, time.perf_counter() - started)
    return 2 * PEAK_SIZE**3 / best


def measure(case: Case, settings: Settings, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Examples a second of every pair: ours, the Trainer's."""
    num_examples = BATCH_SIZE * case.num_steps
    pairs = []
    for _ in range(1 if settings.quick else settings.num_rounds):
        mine, theirs = ours(case, data_dir, settings.num_threads), peer(case, data_dir)
        if len(mine.losses) != len(theirs.losses):
            raise AssertionError(f"{case.name}: {len(mine.losses)} steps and {len(theirs.losses)}")
        pairs.append((num_examples / mine.seconds, num_examples / theirs.seconds))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each case and dropout."""
    settings = parse(Settings, arguments, program="python -m benchmarks.throughput", description=__doc__ or "")
    require_peers()
    report = Report(program="benchmarks.throughput", settings=settings)
    data_dir = Path(settings.data_dir).expanduser().resolve() if settings.data_dir else None
    most = peak(settings.num_threads)
    notes = [f"the peak of float32 matrix products here: {most / 1e9:.0f} GFLOP/s on {settings.num_threads} threads"]
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(settings, Path(folder))):
            quiet = replace(case, model=calm(case.model, Path(folder, f"calm-{number}")))
            notes.append(compare(quiet, data_dir, settings.num_threads))
            for name, one in ((f"{case.name}, no dropout", quiet), (case.name, case)):
                mine, theirs = measure(one, settings, data_dir)
                report.pairs(name, unit="examples/s", ours=mine, peer=theirs, more_is_better=True, at_least=case.target)
                share = max(mine) * operations(one, data_dir) / most
                notes.append(f"{name}: the products alone would take {share:.0%} of the fastest run, at the peak")
    for note in notes:
        report.note(note)
    return report.finish()


if __name__ == "__main__":
    run(main)
