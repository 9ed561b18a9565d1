"""The files of a report: its tables in every format and its figures, in a folder and in the tracking store."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.report import Report
from sweeps import recorded
from trainer.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

TABLES, FIGURES = "tables", "figures"  # folders in a run's artifacts


def write(report: Report, figures: "Mapping[str, Figure]", stem: str, folder: Path) -> dict[str, list[Path]]:
    """Writes ``<stem>.md``, ``.csv``, ``.tex`` and ``.html`` into the folder, and figures into ``figures/`` in it.

    Returns:
        The paths of what was written, under TABLES and FIGURES.

    Raises:
        UserError: when the folder cannot be written to.
    """
    from analysis.figures import save
    from analysis.html import page
    from analysis.render import latex, markdown, table_csv

    try:
        drawn = save(figures, folder / FIGURES) if figures else []
        pictures = {path.stem: path.read_bytes() for path in drawn if path.suffix == ".svg"}
        texts = {
            "md": markdown(report.sheets),
            "csv": table_csv(report.sheets),
            "tex": latex(report.sheets),
            "html": page(report.sheets, f"Polymath: {stem}", pictures),
        }
        paths = [folder / f"{stem}.{ending}" for ending in texts]
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"output: cannot write to {folder} ({error.strerror}); give another folder") from None
    return {TABLES: paths, FIGURES: drawn}


def log(client: "MlflowClient", files: Mapping[str, list[Path]], run_id: str | None, experiment_id: str) -> str:
    """Logs the files as artifacts to the run given, else to a new one, and returns its id."""
    new = run_id is None
    if run_id is None:
        run_id = client.create_run(experiment_id, run_name="compare", tags={recorded.KIND: "compare"}).info.run_id
    for folder, paths in files.items():
        for path in paths:
            client.log_artifact(run_id, str(path), folder)
    if new:
        client.set_terminated(run_id)
    return run_id
