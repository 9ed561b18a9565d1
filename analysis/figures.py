"""The figures of what was recorded: drawn for print, as PNG and SVG."""

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

from matplotlib.figure import Figure

from analysis.figure_bars import draw_test_scores
from analysis.figure_curves import draw_losses, draw_valid_scores
from analysis.figure_grid import draw_grids, searches
from analysis.figure_steps import draw_steps
from analysis.figure_style import house_style
from analysis.select import Selection
from analysis.source import Store
from analysis.store import read_history
from analysis.tables import lines_of

DOTS_PER_INCH = 200


def draw(store: Store, selections: Sequence[Selection], *, max_searches: int | None = None) -> dict[str, Figure]:
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
        max_searches: where there are more, no ``search-TASK`` is drawn; None: all are.
    """
    lines = lines_of(selections)
    are_few = max_searches is None or len(searches(lines)) <= max_searches
    history = partial(read_history, store)
    with house_style():
        return {
            **draw_test_scores(lines),
            **draw_losses(history, lines),
            **draw_valid_scores(history, lines),
            **draw_steps(lines),
            **(draw_grids(lines) if are_few else {}),
        }


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Writes ``NAME.png`` and ``NAME.svg`` of each figure into a folder, and returns their paths.

    The same figures make the same bytes.

    Raises:
        OSError: when the folder cannot be written to.
    """
    with saving(figures, folder) as paths:
        return [*paths]


@contextmanager
def saving(figures: Mapping[str, Figure], folder: Path) -> Iterator[Iterator[Path]]:
    """:func:`save`, giving the paths as files are ready; where there are cores for it, processes of their own write.

    Raises:
        OSError: at the beginning, or with the paths, when the folder cannot be written to.
    """
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    if (num_processes := min(len(figures), _num_free_cores())) < 2:
        _inherit(figures)
        yield (path for name in figures for path in _save(folder, name))
        return
    with warnings.catch_warnings():
        # Of Python 3.12 on: it counts the idle threads of numerical libraries, which have no part in drawing.
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        pool = ProcessPoolExecutor(
            num_processes, multiprocessing.get_context("fork"), initializer=_begin_child, initargs=(figures,)
        )
        found = pool.map(partial(_save, folder), figures)
    with pool:
        yield _flat(found)


def _flat(found: Iterable[list[Path]]) -> Iterator[Path]:
    try:
        yield from chain.from_iterable(found)
    except BrokenProcessPool:
        raise OSError("a process that draws was ended from outside") from None


def _num_free_cores() -> int:
    """How many processes may be forked: none where other threads run, whose locks a child would find closed."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


_figures: Mapping[str, Figure] = {}  # of this process; a child has those of its parent, without any copying


def _inherit(figures: Mapping[str, Figure]) -> None:
    global _figures
    _figures = figures


def _begin_child(figures: Mapping[str, Figure]) -> None:
    _inherit(figures)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A child does not see that its parent was killed: it waits for work, and would for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _save(folder: Path, name: str) -> list[Path]:
    figure, paths = _figures[name], [folder / f"{name}.png", folder / f"{name}.svg"]
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a task's name; in SVG any font has it
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")  # once for both files
        figure.savefig(paths[0], dpi=DOTS_PER_INCH)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
