"""The figures of what was recorded: drawn for print, as PNG and SVG."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from analysis.figure_bars import draw_test_scores
from analysis.figure_curves import draw_losses, draw_valid_scores
from analysis.figure_grid import draw_grids
from analysis.figure_steps import draw_steps
from analysis.figure_style import house_style
from analysis.select import Selection
from analysis.store import read_history
from analysis.tables import lines_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

DOTS_PER_INCH = 200


def draw(client: "MlflowClient", selections: Sequence[Selection]) -> dict[str, Figure]:
    """Every figure that there is data for, by name:

    - ``test-scores``: bars, with error bars, the rival's red line and the paper's figures;
    - ``training-loss``: over steps, mean and band;
    - ``valid-score-on-part``: over steps, of trials on a part of the training data;
    - ``pretraining-steps``: test score against the pre-training step of a checkpoint;
    - ``search-TASK``: the grid of a search as heat maps.

    Where there is more than a page takes, names end in ``-1``, ``-2``, ...

    Args:
        selections: as :func:`analysis.select.select` returns them; histories are read of the runs at the chosen
            settings.
    """
    lines = lines_of(selections)
    history = partial(read_history, client)
    with house_style():
        return {
            **draw_test_scores(lines),
            **draw_losses(history, lines),
            **draw_valid_scores(history, lines),
            **draw_steps(lines),
            **draw_grids(lines),
        }


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Writes ``NAME.png`` and ``NAME.svg`` of each figure into a folder, and returns their paths.

    The same figures make the same bytes.

    Raises:
        OSError: when the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a task's name; in SVG any font has it
        for name, figure in figures.items():
            png, svg = folder / f"{name}.png", folder / f"{name}.svg"
            figure.savefig(png, dpi=DOTS_PER_INCH)
            figure.savefig(svg, metadata={"Date": None})
            paths += [png, svg]
    return paths
