"""What a trial is (TrialConfig) and what came out of it (TrialResult)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from trainer.commandline import setting
from trainer.errors import UserError, one_of
from trainer.mapping import MAPPINGS, TEXT_MAPPINGS
from trainer.optimizers import OPTIMIZERS
from trainer.rivals import RIVALS
from trainer.tasks import OWN, TASKS, find_task
from trainer.tasks.own import LABELS, is_path_by_form
from trainer.tasks.task import Task

Init = Literal["pretrained", "reinit-embeddings", "scratch", "checkpoint"]
INITS: tuple[Init, ...] = ("pretrained", "reinit-embeddings", "scratch", "checkpoint")

NEEDS_OWN_WEIGHTS = frozenset({"pretrained", "reinit-embeddings"})  # the other inits read the model's config alone

Outcome = Literal["finished", "diverged"]

MIN_TEXT_LENGTH = 8  # tokens: room for the special ones and something of each sentence
MAX_COUNT = 2**31 - 1
MAX_LEARNING_RATE = 1e38  # what fits in 32 bits
MAX_EPOCHS_TO_LOSS = 1000  # of a few examples: what ends such a trial is its loss
TRAINING_COST = 3  # of an example, over that of evaluating one: forward, and backward for weights and activations
MAX_SHIFT = 65535  # once around the largest vocabulary


def check_init(parameter: str, init: str, subject: "Subject") -> None:
    """Refuses an init that is unknown, or that the model or the lack of a checkpoint does not allow."""
    one_of(parameter, init, INITS)
    if subject.is_rival and init != "scratch":
        raise UserError(f"{parameter}: {init!r} is not allowed, {subject.model} has no weights from text; give scratch")
    if init == "checkpoint" and not subject.checkpoint:
        raise UserError(f"{parameter}: 'checkpoint' needs to be told of which; give a folder or URI as checkpoint")


def positive(parameter: str, value: float, most: float = MAX_COUNT) -> None:
    """Refuses a number that is not above zero (NaN included) or more than fits, naming the parameter."""
    if not value > 0:
        raise UserError(f"{parameter}: {value} is not allowed; give a number above 0")
    if value > most:
        raise UserError(f"{parameter}: {value} is not allowed; give at most {most:g}")


def positive_numbers(parameter: str, given: Iterable[object], most: float) -> tuple[float, ...]:
    """The numbers of a list; on a command line they are texts.

    Raises:
        UserError: naming the parameter, when there are none, or one that is not above zero or too large, or one twice.
    """
    texts = [str(value) for value in given]
    try:
        values = tuple(map(float, texts))
    except ValueError:
        values = ()
    if not values:
        raise UserError(f"{parameter}: {','.join(texts)!r} is not allowed; give numbers above 0, comma-separated")
    for value in values:
        positive(parameter, value, most)
    if len(set(values)) < len(values):
        raise UserError(f"{parameter}: {','.join(texts)} names one of them twice; give each once")
    return values


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is learned and how long: what a trial and a whole sweep are asked alike.

    Raises:
        UserError: on construction, naming the field, its value and what is allowed.
    """

    task: str = setting("h4", help=f"the task to learn: {', '.join(TASKS)}, or {OWN}")
    separator: str | None = setting(
        None, help="own task: what stands between symbols, e.g. - or space; none: each character is one", none="none"
    )
    labels: str = setting("auto", help=f"own task: what its labels are: {', '.join(LABELS)}")
    model: str = setting(
        "bert-base-uncased",
        help="Hugging Face name or local folder of the model; in a tracking store runs:/RUN_ID/PATH; or a rival: "
        + ", ".join(RIVALS),
    )
    checkpoint: str | None = setting(
        None,
        help="init checkpoint: folder of a pre-training run's model, or of one folder step-N for each step; in a "
        "tracking store runs:/RUN_ID/PATH; or a Hugging Face name, with * for the step, *k for thousands",
        none="none",
    )
    checkpoint_step: int | None = setting(None, help="init checkpoint: which step of it", unit="steps", none="none")
    mapping: str | None = setting(
        None,
        help=f"how symbols become subword tokens ({', '.join(MAPPINGS)}), or what becomes of a text's tokens "
        f"({', '.join(TEXT_MAPPINGS)}); auto: random, and identity for text",
    )
    shift_by: int = setting(1000, help="mapping shift: how far each token id is moved", unit="ids")
    keep_special_tokens: bool = setting(
        False, help="mappings shift and permutation: whether special tokens stay; the paper maps them too"
    )
    max_length: int | None = setting(
        None, help="longest sequence, longer ones are cut; auto: the task's own", unit="symbols; text: tokens"
    )
    batch_size: int = setting(32, help="examples in a training step", unit="examples")
    num_epochs: int | None = setting(None, help="passes over the training data; auto: the task's own", unit="epochs")
    patience: int = setting(
        3, help="stop after this many evaluations without a better valid score; text: never", unit="evaluations"
    )
    stop_at_loss: float | None = setting(
        None,
        help="train until an epoch's mean training loss is below this, whatever the valid score; num_epochs is then "
        f"the most (auto: {MAX_EPOCHS_TO_LOSS})",
        none="none",
    )
    max_train_examples: int | None = setting(
        None, help="train on this many examples only, the same ones for every seed", unit="examples", none="all"
    )
    train_fraction: float | None = setting(
        None, help="train on this share of the examples, from 0 to 1, drawn by seed from every class alike", none="all"
    )

    def __post_init__(self) -> None:
        task = self.definition
        if self.task not in TASKS and not is_path_by_form(self.task):
            object.__setattr__(self, "task", f"./{self.task}")  # a folder here is to be one on other machines too
        if not self.model:
            raise UserError("model: '' is not allowed; give a Hugging Face name or a local folder")
        own: dict[str, Any] = {
            "mapping": "identity" if task.is_text else "random",
            "num_epochs": task.num_epochs if self.stop_at_loss is None else MAX_EPOCHS_TO_LOSS,
            "max_length": task.max_length,
        }
        for name, value in own.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        one_of("mapping", self.mapping or "", TEXT_MAPPINGS if task.is_text else MAPPINGS)
        for name in ("batch_size", "num_epochs", "patience", "max_train_examples", "max_length"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        self._check_training_data()
        if not 0 < abs(self.shift_by) <= MAX_SHIFT:
            raise UserError(f"shift_by: {self.shift_by} is not allowed; give a whole number from 1 to {MAX_SHIFT}")
        if task.is_text and (self.max_length or 0) < MIN_TEXT_LENGTH:
            raise UserError(f"max_length: {self.max_length} is not allowed; give {MIN_TEXT_LENGTH} tokens or more")

    def _check_training_data(self) -> None:
        if self.stop_at_loss is not None:
            positive("stop_at_loss", self.stop_at_loss, MAX_LEARNING_RATE)
        if self.checkpoint_step is not None and not 0 <= self.checkpoint_step <= MAX_COUNT:
            raise UserError(f"checkpoint_step: {self.checkpoint_step} is not allowed; give a whole number from 0")
        if self.train_fraction is None:
            return
        positive("train_fraction", self.train_fraction, 1)
        if self.max_train_examples is not None:
            raise UserError("train_fraction: give this or max_train_examples, not both")

    @property
    def is_rival(self) -> bool:
        """Whether the model is of another kind than a language model."""
        return self.model in RIVALS

    @property
    def definition(self) -> Task:
        """The task itself.

        Raises:
            UserError: when there is none of this name.
        """
        return find_task(self.task, self.separator, self.labels)


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Subject):
    """Everything that decides a trial's numbers, and nothing else: where it runs and reads is not in here.

    Defaults are the paper's (section 3.2 and appendix of arXiv 2103.07162).

    Raises:
        UserError: on construction, naming the field, its value and what is allowed.
    """

    init: str = setting(
        "auto", help=f"where the weights come from: {', '.join(INITS)}; auto: pretrained, a rival scratch"
    )
    optimizer: str = setting("adam", help=f"one of {', '.join(OPTIMIZERS)}")
    learning_rate: float = setting(1e-5, help="peak learning rate, decayed linearly to 0", unit="per step")
    seed: int = setting(0, help="seeds new weights, dropout, data order and the random mapping or permutation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init == "auto":
            object.__setattr__(self, "init", "scratch" if self.is_rival else "pretrained")
        check_init("init", self.init, self)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        positive("learning_rate", self.learning_rate, MAX_LEARNING_RATE)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed: {self.seed} is not allowed; give a whole number from 0 to {2**32 - 1}")

    def settings(self) -> dict[str, Any]:
        """What is recorded: the fields that play a part in this trial, name -> value."""
        idle = set(RIVALS[self.model].idle) if self.is_rival else set()
        if self.init != "checkpoint":
            idle |= {"checkpoint", "checkpoint_step"}
        idle |= {name for name in ("checkpoint_step", "stop_at_loss", "train_fraction") if getattr(self, name) is None}
        if self.stop_at_loss is not None:
            idle.add("patience")
        if self.separator is None:
            idle.add("separator")
        if self.task in TASKS:
            idle.add("labels")
        if self.mapping != "shift":
            idle.add("shift_by")
        if self.mapping not in ("shift", "permutation"):
            idle.add("keep_special_tokens")
        if self.max_length == self.definition.max_length:
            idle.add("max_length")
        return {name: value for name, value in vars(self).items() if name not in idle}


def epochs_per_evaluation(config: TrialConfig, num_train: int, num_valid: int) -> int:
    """How many epochs lie between two evaluations: one; towards a low loss on few examples as many as take about as
    long as an evaluation does.
    """
    return 1 if config.stop_at_loss is None else max(1, round(num_valid / (TRAINING_COST * num_train)))


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What came out of one trial.

    Attributes:
        outcome: ``diverged`` when a training loss became NaN or infinite; then there are no metrics.
        metrics: ``<split>/<metric>`` and ``<split>/score`` of the chosen epoch, ``best_epoch`` and
            ``examples_per_second`` (training only).
        losses: training loss of every step; in nats, or where a number is predicted its mean squared error in units of
            the training labels' variance.
    """

    config: TrialConfig
    outcome: Outcome
    metrics: dict[str, float]
    losses: list[float]

    def __post_init__(self) -> None:
        if (self.outcome == "finished") != ("test/score" in self.metrics):
            raise ValueError(f"outcome {self.outcome!r} does not go with metrics {sorted(self.metrics)}")


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
