"""The families of models that probes look into, as their labels tell them."""

import re

PRETRAINED, SCRATCH, FINE_TUNED = "pretrained", "scratch", "fine-tuned"
ADDRESS = "runs:/"  # what a run's model goes by that has no name of its own: it may be fine-tuned


def family(label: str) -> str:
    """The family of a model, by what its label begins with."""
    if re.fullmatch(r"scratch( seed \d+|:\d+)?( \(\d+\))?", label):
        return SCRATCH
    return FINE_TUNED if label.startswith((FINE_TUNED, ADDRESS)) else PRETRAINED
