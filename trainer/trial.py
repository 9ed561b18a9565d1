"""One trial: a config trained once, as an iterator that yields a report per evaluation.

Protocol (section 3 and appendix of arXiv 2103.07162): everything is fine-tuned, the learning rate decays linearly
to 0 without warm-up, nothing is clipped, and the checkpoint with the best valid score is tested; on GLUE, whose dev
set is valid and test at once, the final one.
"""

import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LinearLR

from trainer import artifacts
from trainer.config import TrialConfig, TrialResult
from trainer.data import encode_dataset, load_dataset
from trainer.logger import Logger
from trainer.loop import Examples, Learner, predict, train_epoch
from trainer.metrics import score
from trainer.models import build_model, find_model, read_inputs
from trainer.objectives import objective_of
from trainer.optimizers import build_optimizer

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


def _headline(scores: dict[str, float]) -> float:
    return next(iter(scores.values()))


def _named(split: str, scores: dict[str, float]) -> dict[str, float]:
    """Metrics under the names by which they are logged, with the headline one as the split's score."""
    return {f"{split}/score": _headline(scores), **{f"{split}/{name}": value for name, value in scores.items()}}


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
        logger.params(config.settings())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = config.definition
        self.dataset = load_dataset(self.task, data_dir)
        self.metrics = self.task.metrics_for(self.dataset)
        folder = model_folder or find_model(config.model, needs_weights=config.init != "scratch")
        self.num_train = min(len(self.dataset.train), config.max_train_examples or len(self.dataset.train))
        self.num_epochs = config.num_epochs or self.task.num_epochs
        self.objective = objective_of(self.dataset, self.num_train)
        self.examples = {
            name: Examples(encoded, self.objective.targets(getattr(self.dataset, name).labels), self.device)
            for name, encoded in encode_dataset(config, data_dir, folder).items()
        }
        self.learner = self._build_learner(folder)
        self.data_order = torch.Generator().manual_seed(config.seed)
        self.losses: list[float] = []
        self.epoch = 0
        self.best_epoch, self.best_scores, self.best_weights = 0, dict[str, float](), dict[str, torch.Tensor]()
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
        num_outputs = self.objective.num_outputs
        model = build_model(folder, init=config.init, num_outputs=num_outputs, seed=config.seed)
        model.to(self.device)  # type: ignore[arg-type]
        optimizer = build_optimizer(config.optimizer, model.parameters(), config.learning_rate)
        num_steps = self.num_epochs * math.ceil(self.num_train / config.batch_size)
        schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=num_steps)
        return Learner(
            model=model,
            takes=read_inputs(model.config),
            objective=self.objective,
            optimizer=optimizer,
            schedule=schedule,
            device=self.device,
        )

    def __iter__(self) -> Iterator[Report]:
        return self

    def __next__(self) -> Report:
        """Trains one epoch and evaluates; the last report carries the result."""
        if self.result is not None:
            raise StopIteration
        self.epoch += 1
        scores = self._evaluate("valid")[0] if self._train_epoch() else {}
        if not scores:
            self.result = self._diverged()
            return self._report(math.nan)
        self._log({**_named("valid", scores), "epoch": self.epoch})
        is_final = self.task.checkpoint == "final"
        if is_final or not self.best_scores or _headline(scores) > _headline(self.best_scores):
            self.best_epoch, self.best_scores = self.epoch, scores
            if not is_final:
                weights = self.learner.model.state_dict()
                self.best_weights = {name: tensor.clone() for name, tensor in weights.items()}
        if self.epoch == self.num_epochs or self.epoch - self.best_epoch >= self.config.patience:
            self.result = self._finished()
        return self._report(_headline(scores))

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

    def _evaluate(self, split: str) -> tuple[dict[str, float], np.ndarray]:
        """The task's metrics on a split (none when the model's output is NaN) and the predictions behind them."""
        predictions = predict(self.learner, self.examples[split])
        if not np.isfinite(predictions).all():
            return {}, predictions
        return score(self.metrics, getattr(self.dataset, split), predictions), predictions

    def _finished(self) -> TrialResult:
        """Scores the chosen checkpoint on test: the one time that test is read."""
        if self.best_weights:
            self.learner.model.load_state_dict(self.best_weights)
        scores, predictions = self._evaluate("test")
        if not scores:
            return self._diverged()
        metrics = {
            **_named("valid", self.best_scores),
            **_named("test", scores),
            "best_epoch": self.best_epoch,
            "examples_per_second": self.epoch * self.num_train / self.seconds,
        }
        self._log(metrics)
        for name, content in artifacts.predictions(self.dataset, predictions).items():
            self.logger.artifact(f"predictions/{name}", content)
        self._log_loss_curve()
        if self.save_model:
            self._log_model()
        return TrialResult(config=self.config, outcome="finished", metrics=metrics, losses=self.losses)

    def _log_loss_curve(self) -> None:
        picture = artifacts.loss_curve_png(self.config, self.losses, self.objective.unit)
        self.logger.artifact("loss.png", picture)

    def _log_model(self) -> None:
        with tempfile.TemporaryDirectory(prefix="polymath-") as folder:
            self.learner.model.save_pretrained(folder)
            for path in Path(folder).iterdir():
                self.logger.artifact(f"model/{path.name}", path.read_bytes())

    def _diverged(self) -> TrialResult:
        """Ends early: the loss after the last one recorded was NaN or infinite."""
        self.logger.tag("diverged_after_step", str(len(self.losses)))
        if self.losses:
            self._log_loss_curve()
        return TrialResult(config=self.config, outcome="diverged", metrics={}, losses=self.losses)
