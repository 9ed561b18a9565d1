"""What a trial is (TrialConfig) and what came out of it (TrialResult)."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.commandline import setting
from trainer.errors import UserError, one_of
from trainer.mapping import MAPPINGS, TEXT_MAPPINGS
from trainer.optimizers import OPTIMIZERS
from trainer.tasks import OWN, TASKS, find_task
from trainer.tasks.own import LABELS, is_path_by_form
from trainer.tasks.task import Task

Init = Literal["pretrained", "reinit-embeddings", "scratch"]
INITS: tuple[Init, ...] = ("pretrained", "reinit-embeddings", "scratch")

Outcome = Literal["finished", "diverged"]

MIN_TEXT_LENGTH = 8  # tokens: room for the special ones and something of each sentence
MAX_COUNT = 2**31 - 1
MAX_LEARNING_RATE = 1e38  # what fits in 32 bits
MAX_SHIFT = 65535  # once around the largest vocabulary


def positive(parameter: str, value: float, most: float = MAX_COUNT) -> None:
    """Refuses a number that is not above zero (NaN included) or more than fits, naming the parameter."""
    if not value > 0:
        raise UserError(f"{parameter}: {value} is not allowed; give a number above 0")
    if value > most:
        raise UserError(f"{parameter}: {value} is not allowed; give at most {most:g}")


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
    model: str = setting("bert-base-uncased", help="Hugging Face name or local folder of the model")
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
    max_train_examples: int | None = setting(
        None, help="train on this many examples only, the same ones for every seed", unit="examples", none="all"
    )

    def __post_init__(self) -> None:
        task = self.definition
        if self.task not in TASKS and not is_path_by_form(self.task):
            object.__setattr__(self, "task", f"./{self.task}")  # a folder here is to be one on other machines too
        if not self.model:
            raise UserError("model: '' is not allowed; give a Hugging Face name or a local folder")
        own: dict[str, Any] = {
            "mapping": "identity" if task.is_text else "random",
            "num_epochs": task.num_epochs,
            "max_length": task.max_length,
        }
        for name, value in own.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        one_of("mapping", self.mapping or "", TEXT_MAPPINGS if task.is_text else MAPPINGS)
        for name in ("batch_size", "num_epochs", "patience", "max_train_examples", "max_length"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        if not 0 < abs(self.shift_by) <= MAX_SHIFT:
            raise UserError(f"shift_by: {self.shift_by} is not allowed; give a whole number from 1 to {MAX_SHIFT}")
        if task.is_text and (self.max_length or 0) < MIN_TEXT_LENGTH:
            raise UserError(f"max_length: {self.max_length} is not allowed; give {MIN_TEXT_LENGTH} tokens or more")

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

    init: str = setting("pretrained", help=f"where the weights come from: {', '.join(INITS)}")
    optimizer: str = setting("adam", help=f"one of {', '.join(OPTIMIZERS)}")
    learning_rate: float = setting(1e-5, help="peak learning rate, decayed linearly to 0", unit="per step")
    seed: int = setting(0, help="seeds new weights, dropout, data order and the random mapping or permutation")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("init", self.init, INITS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        positive("learning_rate", self.learning_rate, MAX_LEARNING_RATE)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed: {self.seed} is not allowed; give a whole number from 0 to {2**32 - 1}")

    def settings(self) -> dict[str, Any]:
        """What is recorded: the fields that play a part in this trial, name -> value."""
        idle = set()
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
        return {name: value for name, value in asdict(self).items() if name not in idle}


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
