"""What a probe is asked: its kind, the models that it looks into, and the inputs that they read."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainer.commandline import setting
from trainer.config import TrialConfig, positive, positive_numbers
from trainer.errors import UserError, one_of
from trainer.mapping import MAPPINGS, TEXT_MAPPINGS
from trainer.rivals import RIVALS
from trainer.tasks import OWN, TASKS
from trainer.tasks.own import LABELS
from trainer.tasks.task import Task

# Kind -> what it measures. Section 4.3 and 4.4 and appendix F of arXiv 2103.07162v2.
KINDS = {
    "pwcca": "how alike two models' hidden states are (projection-weighted CCA, and linear CKA)",
    "attention": "how far apart two models' attention maps are, head by head",
    "isometry": "singular values of the Jacobian from word embeddings to the first token's output",
    "gradients": "how alike the gradients of different minibatches are",
    "perturbation": "how much the first token's output changes with noise on all parameters",
}
OF_PAIRS = ("pwcca", "attention")  # these compare two models; the others look into one
SCRATCH = "scratch"  # in a list of models, alone or with a seed: scratch:1
SPLITS = ("train", "valid", "test")
NUM_EXAMPLES = {"isometry": 10}  # a Jacobian takes as long as hundreds of forward passes
IDLE = {  # settings that play a part in some kinds only
    "num_examples": ("pwcca", "attention", "isometry", "perturbation"),
    "num_batches": ("gradients",),
    "batch_size": ("gradients", "perturbation"),
    "ridge": ("pwcca",),
    "noise_stds": ("perturbation",),
    "num_draws": ("perturbation",),
    "dropout": ("gradients", "perturbation"),
}
MAX_RIDGE = 1.0
MAX_STD = 1e6
MAX_DIGITS = 10  # of a seed


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Everything that decides a probe's numbers.

    Raises:
        UserError: on construction, naming the field, its value and what is allowed.
    """

    kind: str = setting(help=", ".join(KINDS))
    models: tuple[str, ...] = setting(
        help="the models, with commas: Hugging Face names or local folders, scratch or scratch:SEED, or what is in a "
        "tracking store, as runs:/RUN_ID/model of a trial"
    )
    task: str = setting("h4", help=f"the task whose examples they read: {', '.join(TASKS)}, or {OWN}")
    architecture: str | None = setting(
        None, help="name or folder of the model that scratch is built like; auto: the first that is not scratch"
    )
    separator: str | None = setting(None, help="own task: what stands between symbols; see sweep", none="none")
    labels: str = setting("auto", help=f"own task: what its labels are: {', '.join(LABELS)}")
    mapping: str | None = setting(
        None,
        help=f"how symbols become subword tokens ({', '.join(MAPPINGS)}), or what becomes of a text's tokens "
        f"({', '.join(TEXT_MAPPINGS)}); auto: random, and identity for text",
    )
    shift_by: int = setting(1000, help="mapping shift: how far each token id is moved", unit="ids")
    keep_special_tokens: bool = setting(False, help="mappings shift and permutation: whether special tokens stay")
    max_length: int | None = setting(
        None, help="longest sequence; auto: the task's own, or what all models take", unit="symbols; text: tokens"
    )
    split: str | None = setting(None, help=f"whose examples: {', '.join(SPLITS)}; auto: valid, for gradients train")
    num_examples: int | None = setting(
        None, help=f"how many, drawn by seed; auto: 100, for isometry {NUM_EXAMPLES['isometry']}", unit="examples"
    )
    batch_size: int = setting(32, help="gradients, perturbation: examples in a minibatch", unit="examples")
    num_batches: int = setting(32, help="gradients: how many minibatches; all pairs are compared", unit="minibatches")
    ridge: float = setting(
        0.0, help="pwcca: added to the diagonal of both covariances, in units of each one's largest entry"
    )
    noise_stds: tuple[float, ...] = setting(
        (1e-2, 1e-4, 1e-6, 1e-8), help="perturbation: standard deviations of the noise, with commas"
    )
    num_draws: int = setting(3, help="perturbation: how often noise is drawn for each", unit="draws")
    dropout: bool = setting(
        False, help="gradients, perturbation: whether dropout is on; as in training, it drowns small changes"
    )
    seed: int = setting(
        0, help="seeds the choice of examples, the random mapping or permutation, new classifiers and the noise"
    )

    def __post_init__(self) -> None:
        one_of("kind", self.kind, tuple(KINDS))
        self._check_models()
        for name in ("num_examples", "batch_size", "num_batches", "num_draws"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        object.__setattr__(self, "noise_stds", positive_numbers("noise_stds", self.noise_stds, MAX_STD))
        if not 0 <= self.ridge <= MAX_RIDGE:
            raise UserError(f"ridge: {self.ridge} is not allowed; give a number from 0 to {MAX_RIDGE:g}")
        if self.kind == "gradients" and self.num_batches < 2:
            raise UserError("num_batches: 1 is not allowed, pairs are compared; give 2 or more")
        own: dict[str, Any] = {
            "split": "train" if self.kind == "gradients" else "valid",
            "num_examples": NUM_EXAMPLES.get(self.kind, 100),
            "mapping": self._subject().mapping,  # which checks the task and the mapping
        }
        for name, value in own.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        one_of("split", self.split or "", SPLITS)

    def _check_models(self) -> None:
        if len(self.models) < (least := 2 if self.kind in OF_PAIRS else 1):
            wanted = "two or more: it compares pairs" if least == 2 else "one or more"
            raise UserError(f"models: {','.join(self.models) or 'none'} given, and {self.kind} needs {wanted}")
        for name, model in (*(("models", model) for model in self.models), ("architecture", self.architecture)):
            if model in RIVALS:
                raise UserError(f"{name}: {model!r} is not allowed, it is no language model and has nothing to probe")
        same = [(SCRATCH, scratch_seed(model)) if is_scratch(model) else model for model in self.models]
        if twice := [model for model, key in zip(self.models, same, strict=True) if same.count(key) > 1]:
            raise UserError(f"models: {twice[-1]!r} is there twice; give each once")

    def _subject(self, model: str = "bert-base-uncased") -> TrialConfig:
        return TrialConfig(
            task=self.task,
            separator=self.separator,
            labels=self.labels,
            model=model,
            init=SCRATCH,
            mapping=self.mapping,
            shift_by=self.shift_by,
            keep_special_tokens=self.keep_special_tokens,
            max_length=self.max_length,
            seed=self.seed,
        )

    def subject(self, model: str) -> TrialConfig:
        """What a trial of a model on the same inputs would be asked, of which reading and encoding data take heed."""
        return self._subject(model)

    @cached_property
    def definition(self) -> Task:
        """The task itself."""
        return self._subject().definition

    @property
    def num_drawn(self) -> int:
        """How many examples are read: of gradients, what their minibatches take."""
        return self.num_batches * self.batch_size if self.kind == "gradients" else self.num_examples or 0

    def settings(self) -> dict[str, Any]:
        """What is recorded: the fields that play a part in this kind, name -> value."""
        idle = {name for name, kinds in IDLE.items() if self.kind not in kinds}
        given = self._subject().settings()  # leaves out what plays no part in the task or its mapping
        idle |= {name for name in ("separator", "labels", "shift_by", "keep_special_tokens") if name not in given}
        if not any(map(is_scratch, self.models)):
            idle.add("architecture")
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in idle}
        return {**values, "task": given["task"], "max_length": self.max_length or self.definition.max_length}


def is_scratch(model: str) -> bool:
    """Whether an entry of the list of models asks for new weights."""
    return model.partition(":")[0] == SCRATCH


def scratch_seed(model: str) -> int:
    """The seed of ``scratch:SEED``; 0 of ``scratch`` alone.

    Raises:
        UserError: when it is none.
    """
    _, colon, seed = model.partition(":")
    if not colon:
        return 0
    if not (seed.isascii() and seed.isdigit() and len(seed) <= MAX_DIGITS and int(seed) < 2**32):
        raise UserError(
            f"models: {model!r} has no seed that is a whole number from 0 to {2**32 - 1}; give e.g. scratch:1"
        )
    return int(seed)
