"""Models of another kind that are compared with language models, by name: `-P model=hilbert-cnn`, `-P model=kmer`."""

from dataclasses import dataclass

from trainer.errors import UserError
from trainer.tasks.task import Dataset, Task

BASES = "ACGTU"
AMBIGUITY_CODES = "RYSWKMBDHVN"  # IUPAC's, doi.org/10.1093/nar/13.9.3021
MIN_BASES = 3


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A model of another kind that is compared with language models.

    Attributes:
        disciplines: whose tasks it takes; of users' own tasks (``own``) it may take some only, see :func:`check_rival`.
        idle: fields of ``TrialConfig`` that play no part in it, and so are not recorded.
        optimizer, learning_rate: what it is trained with where nothing else is asked; "" and None where they are idle.
        about: the paper, with its URL.
    """

    disciplines: tuple[str, ...]
    idle: frozenset[str]
    optimizer: str = ""
    learning_rate: float | None = None
    about: str


RIVALS: dict[str, Rival] = {
    "hilbert-cnn": Rival(
        disciplines=("dna", "own"),
        idle=frozenset({"mapping", "shift_by", "keep_special_tokens", "checkpoint", "checkpoint_step"}),
        # The authors' code has Adam at 0.003 for batches of 300; batches are of 32 here.
        optimizer="adam",
        learning_rate=1e-3,
        about="Yin et al., An image representation based convolutional network for DNA classification, ICLR 2018, "
        "arxiv.org/abs/1806.04931",
    ),
    "kmer": Rival(
        disciplines=("dna", "protein", "music", "toy", "own"),
        idle=frozenset(
            {
                *("mapping", "shift_by", "keep_special_tokens", "checkpoint", "checkpoint_step"),
                *("optimizer", "learning_rate", "batch_size", "num_epochs", "patience", "stop_at_loss"),
            }
        ),
        about="linear models of k-mer counts, after the spectrum kernel of Leslie et al., Pac. Symp. Biocomput. 2002, "
        "psb.stanford.edu/psb-online/proceedings/psb02/leslie.pdf",
    ),
}


def check_rival(model: str, task: Task, dataset: Dataset) -> None:
    """Refuses data that a rival cannot learn from, before any trial is started.

    Args:
        model: a key of ``RIVALS``.

    Raises:
        UserError: naming the model and what it takes.
    """
    rival = RIVALS[model]
    if task.discipline not in rival.disciplines:
        allowed = ", ".join(rival.disciplines)
        raise UserError(
            f"model: {model!r} takes no {task.discipline} task; allowed: {allowed}; give another task, or another model"
        )
    if model == "hilbert-cnn":
        _check_bases(dataset)


def _check_bases(dataset: Dataset) -> None:
    """Refuses symbols that are not all letters of DNA or RNA, MIN_BASES bases or more among them."""
    remedy = "model=kmer takes any symbols"
    if dataset.symbol_names:
        raise UserError(
            f"model: 'hilbert-cnn' reads letters, and these symbols are words; leave out the separator, or {remedy}"
        )
    letters = set(dataset.symbols.upper())
    if wrong := letters.difference(BASES, AMBIGUITY_CODES):
        raise UserError(
            f"model: 'hilbert-cnn' cannot read the symbol {min(wrong)!r}; allowed: {', '.join(BASES)} and, for what is "
            f"not known exactly, {', '.join(AMBIGUITY_CODES)}; {remedy}"
        )
    if len(letters.intersection(BASES)) < MIN_BASES:
        raise UserError(
            f"model: 'hilbert-cnn' reads DNA, and of its bases {', '.join(BASES)} fewer than {MIN_BASES} are among the "
            f"symbols {', '.join(dataset.symbols)}; {remedy}"
        )
