"""The grids: which values each axis of a sweep takes.

A grid is a function from what a user asks of a sweep to axes (name -> values); the sweep runs their product. The last
axis varies fastest, so a sweep that is still running already holds whole comparisons. A user's own grid is a YAML file
or a Python function; see :mod:`sweeps.own_grids`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sweeps.checkpoints import list_steps
from trainer.config import MAX_LEARNING_RATE, positive_numbers
from trainer.errors import UserError
from trainer.mapping import TEXT_MAPPINGS
from trainer.optimizers import OPTIMIZERS
from trainer.rivals import RIVALS

if TYPE_CHECKING:
    from sweeps.spec import SweepOptions

Axes = dict[str, tuple[Any, ...]]
Grid = Callable[["SweepOptions"], Axes]

NUM_MAPPINGS = 6  # of symbols, each drawn by a seed (section 4 of arXiv 2103.07162)
NUM_SEEDS = 3  # of the appendix's grid search, and of GLUE


def _log_spaced(first_exponent: float, last_exponent: float) -> list[float]:
    """Five powers of ten, evenly spaced in the exponent, to six significant digits."""
    step = (last_exponent - first_exponent) / 4
    return [float(f"{10 ** (first_exponent + step * point):.6g}") for point in range(5)]


# Appendix of arXiv 2103.07162: a coarse pass and a finer one inside it; they share a point, so 9 in all.
SEARCH_LEARNING_RATES = tuple(sorted({*_log_spaced(-4, -7), *_log_spaced(-5, -6)}, reverse=True))


def read_learning_rates(given: Iterable[object]) -> tuple[float, ...]:
    """The learning rates that a user gives in the place of a grid's own; on a command line they are texts.

    Raises:
        UserError: when there are none, or one that no trial can have, or one twice.
    """
    return positive_numbers("learning_rates", given, MAX_LEARNING_RATE)


def seeds(options: "SweepOptions", default: int) -> tuple[int, ...]:
    """The seeds asked for, or the grid's own number of them; one where nothing is drawn by it."""
    if options.is_rival and not RIVALS[options.model].optimizer and options.train_fraction is None:
        return (0,)
    return tuple(range(options.seeds or default))


def chosen(options: "SweepOptions") -> Axes:
    """The one optimizer and learning rate that the paper's grid search chose; a rival's are its own authors'."""
    if not options.is_rival:
        return {"optimizer": ("adam",), "learning_rate": (1e-5,)}
    rival = RIVALS[options.model]
    return {"optimizer": (rival.optimizer,), "learning_rate": (rival.learning_rate,)} if rival.optimizer else {}


def search(options: "SweepOptions") -> Axes:
    """The paper's grid search: 5 optimizers x 9 learning rates x 3 seeds."""
    return {
        "seed": seeds(options, NUM_SEEDS),
        "optimizer": tuple(OPTIMIZERS),
        "learning_rate": SEARCH_LEARNING_RATES,
        "init": options.inits or (),
    }


def compare(options: "SweepOptions") -> Axes:
    """The paper's comparison at the chosen setting: six mappings of symbols, three seeds of text."""
    number = NUM_SEEDS if options.definition.is_text else NUM_MAPPINGS
    return {"seed": seeds(options, number), **chosen(options), "init": options.inits or ()}


def fraction(options: "SweepOptions") -> Axes:
    """The comparison on a share of the training data, see ``SETTINGS``."""
    return {"seed": seeds(options, NUM_SEEDS), **chosen(options), "init": options.inits or ()}


def mapping(options: "SweepOptions") -> Axes:
    """The comparison under every mapping: of text its three, of symbols random, frequent and unused tokens."""
    names = tuple(TEXT_MAPPINGS) if options.definition.is_text else ("random", "frequent", "unused")
    return {"seed": seeds(options, NUM_SEEDS), **chosen(options), "mapping": names, "init": options.inits or ()}


def steps(options: "SweepOptions") -> Axes:
    """Every step that was kept of one pre-training run, beside a model from scratch (section 3.5 of the first version,
    4.4.2 of the second: when does what is learned from text begin to help?).

    Raises:
        UserError: when the checkpoint has no steps, or they cannot be listed.
    """
    checkpoint = options.checkpoint or ""
    kept = tuple(list_steps(checkpoint))
    if not kept:
        raise UserError(
            f"checkpoint: {checkpoint!r} has no steps for the grid 'steps'; give what has folders step-N, or a name on "
            "the Hugging Face hub with * for the step's number"
        )
    return {
        "seed": seeds(options, NUM_SEEDS),
        **chosen(options),
        "checkpoint_step": kept,
        "init": options.inits or (),
    }


def corpora(options: "SweepOptions") -> Axes:
    """Pre-training runs on different corpora, each at one step, beside a model from scratch: what has to be read?"""
    return {
        "seed": seeds(options, NUM_SEEDS),
        **chosen(options),
        "checkpoint": tuple(options.corpora),
        "checkpoint_step": tuple(dict.fromkeys(options.corpora.values())),
        "init": options.inits or (),
    }


def quick(options: "SweepOptions") -> Axes:
    """A first look: Adam at two learning rates."""
    return {
        "seed": seeds(options, 1),
        "optimizer": ("adam",),
        "learning_rate": (3e-4, 1e-4),
        "init": options.inits or (),
    }


GRIDS: dict[str, Grid] = {
    "quick": quick,
    "search": search,
    "compare": compare,
    "fraction": fraction,
    "mapping": mapping,
    "steps": steps,
    "corpora": corpora,
}

# Those over checkpoints, which need one.
OVER_CHECKPOINTS = ("steps", "corpora")

# What a grid sets beside its axes, where the user does not.
SETTINGS: dict[str, dict[str, float]] = {
    # Appendix of the first version: 1 % of the data, until the training loss is near zero.
    "fraction": {"train_fraction": 0.01, "stop_at_loss": 0.05},
}
