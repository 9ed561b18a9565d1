"""What is pre-trained on what, and how long (PretrainConfig)."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from trainer.commandline import setting
from trainer.config import MAX_COUNT, MAX_LEARNING_RATE, positive
from trainer.encoding import NUM_SPECIAL
from trainer.errors import UserError, one_of
from trainer.pretraining.artificial import LANGUAGES
from trainer.pretraining.sizes import SIZES
from trainer.pretraining.texts import name_of

MIN_LENGTH = 4  # tokens: two between the special ones
MIN_VOCABULARY = 100
WARMUP_SHARE = 0.1  # of the steps


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything that decides a pre-training's numbers; where it runs is not in here.

    The objective is the masked language modelling of BERT (Devlin et al. 2019, arXiv 1810.04805, sections 3.1 and A.2),
    with full sequences as RoBERTa has them (Liu et al. 2019, arXiv 1907.11692, section 4.2).

    Raises:
        UserError: on construction, naming the field, its value and what is allowed.
    """

    corpus: str = setting(
        "nested",
        help="what to learn: a text file, a folder of text files, the name of a Hugging Face text data set (NAME, or "
        f"NAME:CONFIG), or generated: {', '.join(LANGUAGES)}",
    )
    model: str = setting(
        "bert-base-uncased", help="Hugging Face name or local folder, for architecture and tokenizer, not for weights"
    )
    size: str | None = setting(
        None, help=f"width and depth: {', '.join(SIZES)} (Turc et al. 2019); auto: as the model's config.json says"
    )
    vocabulary_size: int | None = setting(
        None, help="tokens of a tokenizer of the model's kind, trained on the corpus; auto: the model's own tokenizer"
    )
    num_kinds: int | None = setting(
        None, help="generated corpora: how many different tokens they use; auto: all ordinary ones", unit="tokens"
    )
    num_steps: int = setting(10_000, help="training steps", unit="steps")
    checkpoint_steps: tuple[int, ...] | None = setting(
        None,
        help="steps after which the model is kept, with commas, e.g. 0,200,1000; 0 is the untrained model; the last "
        "step is always kept; auto: 0 and the last",
    )
    batch_size: int = setting(256, help="sequences in a training step", unit="sequences")
    micro_batch_size: int | None = setting(
        None,
        help="sequences that go through the model at once, on all GPUs together; their gradients are added up; auto: "
        "the whole batch",
        unit="sequences",
    )
    max_length: int = setting(128, help="length of every sequence, its two special tokens counted", unit="tokens")
    learning_rate: float = setting(1e-4, help="peak learning rate, after the warm-up; then linear decay to 0")
    num_warmup_steps: int | None = setting(None, help="linear warm-up; auto: a tenth of the steps", unit="steps")
    weight_decay: float = setting(0.01, help="AdamW's, of all weights but biases and normalisation")
    seed: int = setting(0, help="seeds new weights, generated sequences, their order, masks and dropout")

    def __post_init__(self) -> None:
        if not self.corpus:
            raise UserError("corpus: '' is not allowed; give a file, a folder or a name")
        if not self.model:
            raise UserError("model: '' is not allowed; give a Hugging Face name or a local folder")
        if self.size is not None:
            one_of("size", self.size, SIZES)
        for name in ("num_steps", "batch_size", "micro_batch_size", "num_kinds"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        positive("learning_rate", self.learning_rate, MAX_LEARNING_RATE)
        if not 0 <= self.weight_decay <= 1:
            raise UserError(f"weight_decay: {self.weight_decay} is not allowed; give a number from 0 to 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed: {self.seed} is not allowed; give a whole number from 0 to {2**32 - 1}")
        if self.max_length < MIN_LENGTH:
            raise UserError(f"max_length: {self.max_length} is not allowed; give {MIN_LENGTH} tokens or more")
        self._check_steps()
        self._check_corpus()

    def _check_steps(self) -> None:
        if self.num_warmup_steps is None:
            object.__setattr__(self, "num_warmup_steps", max(1, round(WARMUP_SHARE * self.num_steps)))
        if not 0 <= (self.num_warmup_steps or 0) <= self.num_steps:
            raise UserError(
                f"num_warmup_steps: {self.num_warmup_steps} is not allowed; give 0 to num_steps, {self.num_steps}"
            )
        steps = (0,) if self.checkpoint_steps is None else self.checkpoint_steps
        try:
            numbers = {int(step) for step in steps}  # a command line gives them as texts
        except ValueError:
            raise UserError(
                f"checkpoint_steps: {','.join(map(str, steps))!r} is not allowed; give whole numbers with commas"
            ) from None
        if wrong := [step for step in sorted(numbers) if not 0 <= step <= self.num_steps]:
            raise UserError(
                f"checkpoint_steps: {wrong[0]} is not allowed; give steps from 0 to num_steps, {self.num_steps}"
            )
        object.__setattr__(self, "checkpoint_steps", tuple(sorted(numbers | {self.num_steps})))

    def _check_corpus(self) -> None:
        if self.is_generated:
            if self.vocabulary_size is not None:
                raise UserError(
                    f"vocabulary_size: {self.vocabulary_size} is not allowed, {self.corpus!r} has no text that a "
                    "tokenizer could be trained on; leave it out, and give num_kinds to use fewer tokens"
                )
            if self.corpus != "uniform" and self.max_length % 2:
                raise UserError(
                    f"max_length: {self.max_length} is not allowed, brackets come in pairs; give an even number"
                )
            return
        if self.num_kinds is not None:
            raise UserError(f"num_kinds: for generated corpora ({', '.join(LANGUAGES)}) alone; leave it out")
        if self.vocabulary_size is not None and not MIN_VOCABULARY <= self.vocabulary_size <= MAX_COUNT:
            raise UserError(
                f"vocabulary_size: {self.vocabulary_size} is not allowed; give {MIN_VOCABULARY} tokens or more"
            )

    @property
    def config(self) -> "PretrainConfig":
        """What is trained alone, without what an entry point adds: where it runs, and where its models go."""
        return PretrainConfig(**{field.name: getattr(self, field.name) for field in fields(PretrainConfig)})

    @property
    def is_generated(self) -> bool:
        """Whether the corpus is an artificial language."""
        return self.corpus in LANGUAGES

    @property
    def corpus_name(self) -> str:
        """What the corpus is called: ``nested``, ``english`` for ``text/english``, ``wikitext`` for a data set."""
        return self.corpus if self.is_generated else name_of(self.corpus)

    @property
    def content_length(self) -> int:
        """Tokens of a sequence between its special ones."""
        return self.max_length - NUM_SPECIAL

    @property
    def smallest_micro_batch(self) -> int:
        """The fewest sequences that go through the model at once."""
        most = min(self.micro_batch_size or self.batch_size, self.batch_size)
        return self.batch_size % most or most

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """The steps after which the model is kept, rising; the last is among them."""
        return self.checkpoint_steps or ()

    def settings(self) -> dict[str, Any]:
        """What is recorded: the fields that play a part, name -> value."""
        return {name: value for name, value in asdict(self).items() if value is not None}
