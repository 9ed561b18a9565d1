"""What a trial is (TrialConfig) and what came out of it (TrialResult)."""

import math
from dataclasses import dataclass
from typing import Literal

from trainer.commandline import setting
from trainer.errors import UserError, one_of
from trainer.mapping import MAPPINGS
from trainer.optimizers import OPTIMIZERS
from trainer.tasks import TASKS

Init = Literal["pretrained", "reinit-embeddings", "scratch"]
INITS: tuple[Init, ...] = ("pretrained", "reinit-embeddings", "scratch")

Outcome = Literal["finished", "diverged"]


def positive(parameter: str, value: float) -> None:
    """Refuses a number that is not above zero (NaN included), naming the parameter."""
    if not 0 < value < math.inf:
        raise UserError(f"{parameter}: {value} is not allowed; give a number above 0")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a trial's numbers, and nothing else: where it runs and reads is not in here.

    Defaults are the paper's (section 3.2 and appendix of arXiv 2103.07162).

    Raises:
        UserError: on construction, naming the field, its value and what is allowed.
    """

    task: str = setting("h4", help=f"the task to learn: {', '.join(TASKS)}")
    model: str = setting("bert-base-uncased", help="Hugging Face name or local folder of the model")
    init: str = setting("pretrained", help=f"where the weights come from: {', '.join(INITS)}")
    mapping: str = setting("random", help=f"how symbols become subword tokens: {', '.join(MAPPINGS)}")
    optimizer: str = setting("adam", help=f"one of {', '.join(OPTIMIZERS)}")
    learning_rate: float = setting(1e-5, help="peak learning rate, decayed linearly to 0", unit="per step")
    seed: int = setting(0, help="seeds new weights, dropout, data order and the random mapping")
    batch_size: int = setting(32, help="examples in a training step", unit="examples")
    num_epochs: int | None = setting(None, help="passes over the training data; auto: the task's own", unit="epochs")
    patience: int = setting(3, help="stop after this many evaluations without a better valid score", unit="evaluations")
    max_train_examples: int | None = setting(
        None, help="train on this many examples only, the same ones for every seed", unit="examples", none="all"
    )

    def __post_init__(self) -> None:
        one_of("task", self.task, TASKS)
        one_of("init", self.init, INITS)
        one_of("mapping", self.mapping, MAPPINGS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        if not self.model:
            raise UserError("model: '' is not allowed; give a Hugging Face name or a local folder")
        if self.num_epochs is None:
            object.__setattr__(self, "num_epochs", TASKS[self.task].num_epochs)
        for name in ("learning_rate", "batch_size", "num_epochs", "patience", "max_train_examples"):
            value = getattr(self, name)
            if value is not None:
                positive(name, value)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed: {self.seed} is not allowed; give a whole number from 0 to {2**32 - 1}")


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What came out of one trial.

    Attributes:
        outcome: ``diverged`` when a training loss became NaN or infinite; then there are no metrics.
        metrics: ``<split>/<metric>`` and ``<split>/score`` of the chosen epoch, ``best_epoch`` and
            ``examples_per_second`` (training only).
        losses: training loss of every step, in nats.
    """

    config: TrialConfig
    outcome: Outcome
    metrics: dict[str, float]
    losses: list[float]

    def __post_init__(self) -> None:
        if (self.outcome == "finished") != ("test/score" in self.metrics):
            raise ValueError(f"outcome {self.outcome!r} does not go with metrics {sorted(self.metrics)}")
