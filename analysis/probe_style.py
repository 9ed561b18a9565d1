"""How the models of probes look in figures: by their family, and within it by their place.

Colour, line, marker and hatch differ between any two of the first three of a family, and four of the fine-tuned.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.lines import Line2D

from analysis import figure_style as style
from analysis.figure_style import CORPORA, OTHERS, STYLES, Style
from analysis.probe_families import FINE_TUNED, PRETRAINED, SCRATCH, family
from analysis.probes import Probe

Looks = dict[str, Style]

FAMILIES = {
    PRETRAINED: (STYLES["pretrained"], CORPORA["flat"], OTHERS[2]),
    SCRATCH: (STYLES["scratch"], OTHERS[1], OTHERS[3]),
    FINE_TUNED: (STYLES["checkpoint"], OTHERS[0], STYLES["reinit-embeddings"], CORPORA["uniform"]),
}
LONGEST, LONGEST_OF_PAIR = 44, 27  # characters of a model's name in a figure, and where it has another's beside it


def looks_of(probes: Iterable[Probe]) -> Looks:
    """A style for each model's label, families in the order of FAMILIES; in a family by name."""
    labels = {label for probe in probes for label in probe.content.models}
    return {
        label: looks[place % len(looks)]
        for name, looks in FAMILIES.items()
        for place, label in enumerate(sorted(one for one in labels if family(one) == name))
    }


def short(label: str, longest: int = LONGEST) -> str:
    """A label for a figure, without its middle where it is long.

    Matplotlib would leave out of a legend what begins with ``_``.
    """
    end = longest // 2
    cut = label if len(label) <= longest else f"{label[: longest - end - 1]}…{label[-end:]}"
    return f" {cut}" if cut.startswith("_") else cut


def pair_look(first: Style, second: Style) -> dict[str, Any]:
    """A pair's line has the colour of its first model, and the dashes and markers of its second."""
    face = {"marker": second.marker, "markerfacecolor": second.color, "markeredgecolor": second.color}
    return {**style.line_look(second), "color": first.color, **face}


def pair_handle(first: Style, second: Style, models: Sequence[str]) -> Line2D:
    """For a legend."""
    label = " and ".join(short(model, LONGEST_OF_PAIR) for model in models)
    return Line2D([], [], label=label, **pair_look(first, second))
