"""One trial: a config trained once, as an iterator that yields a report per evaluation.

Protocol (section 3 and appendix of arXiv 2103.07162): everything is fine-tuned, the learning rate decays linearly
to 0 without warm-up, nothing is clipped, and the checkpoint with the best valid score is tested; on GLUE, whose dev
set is valid and test at once, the final one. On a fraction of the data a trial goes on until its training loss is low.
"""

import math
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LinearLR

from trainer import artifacts
from trainer.assembly import assemble
from trainer.config import Report, TrialConfig, TrialResult, epochs_per_evaluation
from trainer.data import load_dataset, training_part
from trainer.logger import Logger
from trainer.loop import Examples, Learner, predict, train_epoch
from trainer.metrics import headline, named, score
from trainer.objectives import objective_of
from trainer.optimizers import build_optimizer
from trainer.packing import prepare
from trainer.state import restore_state, save_state

REHEARSED_STEPS = 4
LOSSES_PER_CHECK = 25  # steps between looks at the losses; on a GPU each look waits for the device


class Trial:
    """One config trained once: iterate over it for a :class:`Report` per evaluation.

    Args:
        config: what to train.
        logger: told everything that happens.
        data_dir: folder with the task's files; None for the cache folder.
        model_folder: where config.model lies when its name alone does not say it on this machine.
        num_threads: CPU threads to compute with; None for torch's own choice.
        checkpoint_folder: where the weights of config.checkpoint lie when they are not in a folder of that name.
        save_model: whether the tested model is handed to the logger.
        scores_train: whether the tested model is scored on the training examples too.

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
        checkpoint_folder: Path | None = None,
        num_threads: int | None = None,
        save_model: bool = False,
        scores_train: bool = False,
    ) -> None:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.config, self.logger = config, logger
        self.save_model, self.scores_train = save_model, scores_train
        logger.params(config.settings())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = config.definition
        self.dataset = training_part(load_dataset(self.task, data_dir), config)
        self.metrics = self.task.metrics_for(self.dataset)
        self.num_train = len(self.dataset.train)
        self.num_epochs = config.num_epochs or self.task.num_epochs
        self.objective = objective_of(self.dataset)
        self._assemble(data_dir, model_folder, checkpoint_folder)
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

    def _assemble(self, *folders: Path | None) -> None:
        """Puts the examples on the device, and the model with what trains it."""
        config = self.config
        self.assembly = assemble(config, self.dataset, self.objective.num_outputs, *folders)
        model, takes = self.assembly.model, self.assembly.takes
        is_packed = takes.reads_first_token and self.device.type == "cpu"
        if is_packed:
            prepare(model, takes)
        self.examples = {
            name: Examples(
                split, self.objective.targets(getattr(self.dataset, name).labels), self.device, is_packed=is_packed
            )
            for name, split in self.assembly.encoded.items()
        }
        model.to(self.device)
        optimizer = build_optimizer(config.optimizer, model.parameters(), config.learning_rate)
        num_steps = self.num_epochs * math.ceil(self.num_train / config.batch_size)
        self.learner = Learner(
            model=model,
            takes=takes,
            objective=self.objective,
            optimizer=optimizer,
            schedule=LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=num_steps),
            device=self.device,
        )

    def __iter__(self) -> Iterator[Report]:
        return self

    def __next__(self) -> Report:
        """Trains one epoch and evaluates; the last report carries the result."""
        if self.result is not None:
            raise StopIteration
        is_sound = self._train_until_evaluation()
        scores = self._evaluate("valid")[0] if is_sound else {}
        if not scores:
            self.result = self._diverged()
            return self._report(math.nan)
        self._log({**named("valid", scores), "epoch": self.epoch})
        is_final = self.task.checkpoint == "final"
        if is_final or not self.best_scores or headline(scores) > headline(self.best_scores):
            self.best_epoch, self.best_scores = self.epoch, scores
            if not is_final:
                weights = self.learner.model.state_dict()
                self.best_weights = {name: tensor.clone() for name, tensor in weights.items()}
        if reason := self._reason_to_stop():
            self.logger.tag("stopped_by", reason)
            self.result = self._finished()
        return self._report(headline(scores))

    def save(self, path: Path, notes: Mapping[str, str] = {}) -> None:
        """Writes all that decides how the trial goes on into a safetensors file; the trial itself is not changed.

        Args:
            path: of the file, which appears at once, when it is whole.
            notes: the caller's own texts, kept beside it for :func:`trainer.state.read_notes`.

        Raises:
            ValueError: when the trial has ended, or for notes of 100 MB.
            OSError: when the file cannot be written.
        """
        save_state(self, path, notes)

    def restore(self, path: Path) -> None:
        """Goes on as the trial of the same config that was saved would have; on the same hardware, bit for bit.

        Raises:
            StateError: when the file is damaged or another trial's; this one, which must be new, then is as it was.
            OSError: when the file cannot be read.
        """
        restore_state(self, path)

    def _reason_to_stop(self) -> str:
        """Why training is over: ``loss``, ``num_epochs`` or ``patience``; empty while it is not."""
        if self._is_learned():
            return "loss"
        if self.epoch == self.num_epochs:
            return "num_epochs"
        is_patient = self.config.stop_at_loss is not None or self.epoch - self.best_epoch < self.config.patience
        return "" if is_patient else "patience"

    def _is_learned(self) -> bool:
        """Whether the last epoch's mean loss is below what was asked for."""
        num_steps = math.ceil(self.num_train / self.config.batch_size)
        threshold = self.config.stop_at_loss
        return threshold is not None and float(np.mean(self.losses[-num_steps:])) < threshold

    def _train_until_evaluation(self) -> bool:
        """The epochs before the next evaluation; False as soon as a loss is seen to be NaN or infinite."""
        for _ in range(epochs_per_evaluation(self.config, self.num_train, len(self.dataset.valid))):
            self.epoch += 1
            if not self._train_epoch():
                return False
            if self.epoch == self.num_epochs or self._is_learned():
                break
        return True

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

    def rehearse(self) -> float:
        """Trains a few steps and returns examples per second, the first one not counted; of no other use afterwards."""
        batch_size = min(self.config.batch_size, self.num_train)
        order_N = torch.randint(self.num_train, (batch_size * (1 + REHEARSED_STEPS),), generator=self.data_order)
        steps = train_epoch(self.learner, self.examples["train"], order_N, batch_size)
        next(steps).item()  # waits for the device
        started = time.perf_counter()
        list(steps)[-1].item()
        return REHEARSED_STEPS * batch_size / (time.perf_counter() - started)

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
        train_scores = self._evaluate("train")[0] if self.scores_train else {}
        metrics = {
            **(named("train", train_scores) if train_scores else {}),
            **named("valid", self.best_scores),
            **named("test", scores),
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
            self.assembly.save(Path(folder))
            for path in Path(folder).iterdir():
                self.logger.artifact(f"model/{path.name}", path.read_bytes())

    def _diverged(self) -> TrialResult:
        """Ends early: the loss after the last one recorded was NaN or infinite."""
        self.logger.tag("diverged_after_step", str(len(self.losses)))
        if self.losses:
            self._log_loss_curve()
        return TrialResult(config=self.config, outcome="diverged", metrics={}, losses=self.losses)


def begin_trial(
    config: TrialConfig, logger: Logger, *, data_dir: Path | None = None, scores_train: bool = False, **place: Any
) -> Iterator[Report]:
    """The trial of a config, whatever kind of model it names.

    Args:
        place: where a model that is trained in steps lies and runs; see :class:`Trial`.
    """
    if config.model != "kmer":
        return Trial(config, logger, data_dir=data_dir, scores_train=scores_train, **place)
    from trainer.rivals.kmer import KmerTrial

    dataset = training_part(load_dataset(config.definition, data_dir), config)
    return KmerTrial(config, logger, dataset, config.definition.metrics_for(dataset), scores_train=scores_train)
