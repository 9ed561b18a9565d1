"""One trial: a config trained once, as an iterator that yields a report per evaluation.

Protocol (section 3 and appendix of arXiv 2103.07162): everything is fine-tuned, the learning rate decays linearly
to 0 without warm-up, nothing is clipped, and the checkpoint with the best valid score is tested.
"""

import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LinearLR

from trainer import artifacts
from trainer.config import TrialConfig, TrialResult
from trainer.encoding import Encoded, encode
from trainer.logger import Logger
from trainer.loop import Examples, Learner, predict, train_epoch
from trainer.mapping import map_symbols
from trainer.metrics import METRICS
from trainer.models import build_model, find_model, read_config, read_vocabulary
from trainer.optimizers import build_optimizer
from trainer.tasks import TASKS
from trainer.tasks.task import Dataset, Split

# Without it cuBLAS is not deterministic, and torch refuses it; read when CUDA starts (docs.nvidia.com/cuda/cublas).
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

LOSSES_PER_CHECK = 25  # steps between looks at the losses; on a GPU each look waits for the device


@dataclass(frozen=True, kw_only=True)
class Report:
    """The state of a trial after an evaluation.

    Attributes:
        step: optimizer steps taken.
        valid_score: the task's metric on valid; NaN when the trial diverged before it.
        result: set in the last report only.
    """

    epoch: int
    step: int
    valid_score: float
    result: TrialResult | None = None


@lru_cache(maxsize=2)
def load_dataset(task: str, data_dir: Path | None) -> Dataset:
    """A task's data, read once a process."""
    return TASKS[task].load(data_dir)


@lru_cache(maxsize=8)
def encode_dataset(
    task: str, data_dir: Path | None, folder: Path, mapping: str, seed: int
) -> dict[str, tuple[Encoded, np.ndarray]]:
    """Every split as token ids with its (N,) labels, encoded once a process for each mapping.

    The seed matters to the random mapping only.
    """
    dataset, vocabulary = load_dataset(task, data_dir), read_vocabulary(folder)
    positions = getattr(read_config(folder, len(dataset.classes)), "max_position_embeddings", 512)
    max_tokens = min(TASKS[task].max_length + 2, positions)
    token_ids = map_symbols(mapping, vocabulary, dataset.symbols, seed)

    def encoded(split: Split) -> tuple[Encoded, np.ndarray]:
        return encode(split.sequences, dataset.symbols, token_ids, vocabulary, max_tokens), split.labels

    return {"train": encoded(dataset.train), "valid": encoded(dataset.valid), "test": encoded(dataset.test)}


class Trial:
    """One config trained once: iterate over it for a :class:`Report` per evaluation.

    Args:
        config: what to train.
        logger: told everything that happens.
        data_dir: folder with the task's files; None for the cache folder.
        model_folder: where config.model lies when its name alone does not say it on this machine.
        num_threads: CPU threads to compute with; None for torch's own choice.
        save_model: whether the tested model is handed to the logger.

    Raises:
        UserError: for data or a model that cannot be read.
    """

    def __init__(
        self,
        config: TrialConfig,
        logger: Logger,
        *,
        data_dir: Path | None = None,
        model_folder: Path | None = None,
        num_threads: int | None = None,
        save_model: bool = False,
    ) -> None:
        torch.use_deterministic_algorithms(True)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.config, self.logger, self.save_model = config, logger, save_model
        logger.params(asdict(config))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dataset = load_dataset(config.task, data_dir)
        folder = model_folder or find_model(config.model, needs_weights=config.init != "scratch")
        encoded = encode_dataset(config.task, data_dir, folder, config.mapping, config.seed)
        self.examples = {name: Examples(ids, labels, self.device) for name, (ids, labels) in encoded.items()}
        self.num_train = min(len(self.dataset.train), config.max_train_examples or len(self.dataset.train))
        self.num_epochs = config.num_epochs or TASKS[config.task].num_epochs
        self.learner = self._build_learner(folder)
        self.data_order = torch.Generator().manual_seed(config.seed)
        self.losses: list[float] = []
        self.epoch = 0
        self.best_epoch, self.best_score, self.best_weights = 0, -np.inf, dict[str, torch.Tensor]()
        self.seconds = 0.0
        self.result: TrialResult | None = None
        logger.tag("hardware", self._hardware())
        logger.artifact("config.json", artifacts.config_json(config))

    def _hardware(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"

    def _build_learner(self, folder: Path) -> Learner:
        config = self.config
        model = build_model(folder, init=config.init, num_outputs=len(self.dataset.classes), seed=config.seed)
        model.to(self.device)  # type: ignore[arg-type]
        optimizer = build_optimizer(config.optimizer, model.parameters(), config.learning_rate)
        num_steps = self.num_epochs * math.ceil(self.num_train / config.batch_size)
        schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=num_steps)
        return Learner(model=model, optimizer=optimizer, schedule=schedule, device=self.device)

    def __iter__(self) -> Iterator[Report]:
        return self

    def __next__(self) -> Report:
        """Trains one epoch and evaluates; the last report carries the result."""
        if self.result is not None:
            raise StopIteration
        self.epoch += 1
        score = self._evaluate("valid")[0] if self._train_epoch() else math.nan
        if math.isnan(score):
            self.result = self._diverged()
            return self._report(score)
        self._log({"valid/score": score, f"valid/{self._metric}": score, "epoch": self.epoch})
        if score > self.best_score:
            self.best_epoch, self.best_score = self.epoch, score
            self.best_weights = {name: tensor.clone() for name, tensor in self.learner.model.state_dict().items()}
        if self.epoch == self.num_epochs or self.epoch - self.best_epoch >= self.config.patience:
            self.result = self._finished()
        return self._report(score)

    @property
    def _metric(self) -> str:
        return TASKS[self.config.task].metric

    def _report(self, valid_score: float) -> Report:
        return Report(epoch=self.epoch, step=len(self.losses), valid_score=valid_score, result=self.result)

    def _log(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.logger.metrics(name, [value], [len(self.losses)])

    def _train_epoch(self) -> bool:
        """One pass over the training data; False as soon as a loss is seen to be NaN or infinite."""
        started = time.perf_counter()
        order_N = torch.randperm(self.num_train, generator=self.data_order)
        steps = train_epoch(self.learner, self.examples["train"], order_N, self.config.batch_size)
        while chunk := list(islice(steps, LOSSES_PER_CHECK)):
            losses = torch.stack(chunk).tolist()
            finite = list(takewhile(math.isfinite, losses))
            first = len(self.losses) + 1
            self.losses += finite
            if finite:
                self.logger.metrics("train/loss", finite, range(first, first + len(finite)))
            if len(finite) < len(losses):
                return False
        self.seconds += time.perf_counter() - started
        return True

    def _evaluate(self, split: str) -> tuple[float, np.ndarray]:
        """The task's metric on a split (NaN when the model's output is) and the (N, C) probabilities behind it."""
        probabilities_NC = predict(self.learner, self.examples[split])
        if not np.isfinite(probabilities_NC).all():
            return math.nan, probabilities_NC
        return METRICS[self._metric](getattr(self.dataset, split).labels, probabilities_NC), probabilities_NC

    def _finished(self) -> TrialResult:
        """Scores the checkpoint with the best valid score on test: the one time that test is read."""
        self.learner.model.load_state_dict(self.best_weights)
        score, probabilities_NC = self._evaluate("test")
        metrics = {
            "valid/score": self.best_score,
            f"valid/{self._metric}": self.best_score,
            "test/score": score,
            f"test/{self._metric}": score,
            "best_epoch": self.best_epoch,
            "examples_per_second": self.epoch * self.num_train / self.seconds,
        }
        self._log(metrics)
        labels_N = self.dataset.test.labels
        predictions = artifacts.predictions_csv(self.dataset.classes, labels_N, probabilities_NC)
        self.logger.artifact("predictions/test.csv", predictions)
        self.logger.artifact("loss.png", artifacts.loss_curve_png(self.config, self.losses))
        if self.save_model:
            self._log_model()
        return TrialResult(config=self.config, outcome="finished", metrics=metrics, losses=self.losses)

    def _log_model(self) -> None:
        with tempfile.TemporaryDirectory(prefix="polymath-") as folder:
            self.learner.model.save_pretrained(folder)
            for path in Path(folder).iterdir():
                self.logger.artifact(f"model/{path.name}", path.read_bytes())

    def _diverged(self) -> TrialResult:
        """Ends early: the loss after the last one recorded was NaN or infinite."""
        self.logger.tag("diverged_after_step", str(len(self.losses)))
        if self.losses:
            self.logger.artifact("loss.png", artifacts.loss_curve_png(self.config, self.losses))
        return TrialResult(config=self.config, outcome="diverged", metrics={}, losses=self.losses)
