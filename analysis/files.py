"""The files of a report: its tables in every format and its figures, in a folder and in the tracking store."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.report import Report
from trainer.errors import UserError

TABLES, FIGURES = "tables", "figures"  # folders in a run's artifacts


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Inside the block files are written into a folder.

    Raises:
        UserError: when they cannot.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"output: cannot write to {folder} ({error.strerror}); give another folder") from None


def write(report: Report, drawn: Iterable[Path], stem: str, folder: Path) -> dict[str, list[Path]]:
    """Writes ``<stem>.md``, ``.csv``, ``.tex`` and ``.html`` into the folder.

    Args:
        drawn: the figures' files; the page shows the ``.svg`` ones.

    Returns:
        The paths of all files, under TABLES and FIGURES.
    """
    from analysis.html import page
    from analysis.render import latex, markdown, table_csv

    texts = {"md": markdown(report.sheets), "csv": table_csv(report.sheets), "tex": latex(report.sheets)}
    figures = [*drawn]
    pictures = {path.stem: path.read_bytes() for path in figures if path.suffix == ".svg"}
    texts["html"] = page(report.sheets, f"Polymath: {stem}", pictures)
    paths = [folder / f"{stem}.{ending}" for ending in texts]
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return {TABLES: paths, FIGURES: figures}
