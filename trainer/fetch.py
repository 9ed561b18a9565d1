"""``python -m trainer.fetch``: downloads the tasks' files before a sweep does, and checks those that are there."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainer.commandline import parse, run, setting
from trainer.errors import UserError, one_of
from trainer.sources import Report, Source, cache_folder, download, find, git_blob, progress
from trainer.tasks import TASKS

NUM_PARALLEL = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which files to fetch, and where to.

    Raises:
        UserError: for a task that does not exist, or none at all.
    """

    tasks: tuple[str, ...] = setting(("all",), help=f"tasks to fetch, with commas: all, {', '.join(TASKS)}")
    data_dir: str | None = setting(
        None, help="folder to look in and download to; auto: the cache folder (POLYMATH_DATA), as training does"
    )

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UserError(f"tasks: '' is not allowed; give all, or some of {', '.join(TASKS)}")
        for name in self.tasks:
            one_of("tasks", name, ("all", *TASKS))

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks meant, each once, in the order given."""
        return tuple(TASKS) if "all" in self.tasks else tuple(dict.fromkeys(self.tasks))

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data_dir).expanduser() if self.data_dir else cache_folder()


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What became of one file: its state, where it is (None: nowhere), where it is from, and what went wrong."""

    state: str
    path: Path | None
    origin: str
    problem: str = ""


def fetch(source: Source, folder: Path, report: Report) -> Fetched:
    """Finds and checks a file, or downloads it; a user's own version is kept. Never raises for a failed download."""
    try:
        if (path := find(source, folder)) is None:
            return Fetched(state="downloaded", path=download(source, folder, report), origin=source.url)
        state = "present" if git_blob(path) == source.git_blob else "differs from upstream (kept)"
        return Fetched(state=state, path=path, origin=str(path))
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{source.path}: '{error.filename}' cannot be read ({error.strerror}); check its permissions"
    return Fetched(state="missing", path=None, origin=source.url, problem=problem)


def fetch_all(sources: Sequence[Source], folder: Path) -> list[Fetched]:
    """Fetches several files at a time; Ctrl-C ends every download at its next piece, for a later start to resume."""
    stopped = threading.Event()
    with progress() as report, ThreadPoolExecutor(NUM_PARALLEL) as pool:

        def report_or_stop(source: Source, num_bytes: int, num_total: int | None) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            report(source, num_bytes, num_total)

        try:
            return list(pool.map(lambda source: fetch(source, folder, report_or_stop), sources))
        except KeyboardInterrupt:
            stopped.set()
            raise


def _size(path: Path | None) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB" if path else "-"


def main(arguments: Sequence[str]) -> int:
    """Fetches, prints one line a file, and returns 1 if some are missing."""
    settings = parse(
        Settings, arguments, program="python -m trainer.fetch", description="Download the tasks' data files."
    )
    sources = list({source.path: source for name in settings.names for source in TASKS[name].files}.values())
    fetched = dict(zip(sources, fetch_all(sources, settings.folder), strict=True))
    rows = []
    for name in settings.names:
        for source in TASKS[name].files:
            result = fetched[source]
            rows.append((name, source.path, result.state, _size(result.path), result.origin))
        if not TASKS[name].files:
            rows.append((name, "-", "generated", "-", "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for task, file, state, size, origin in rows:
        print(f"{task:<{widths[0]}}  {file:<{widths[1]}}  {state:<{widths[2]}}  {size:>{widths[3]}}  {origin}")
    problems = [result.problem for result in fetched.values() if result.problem]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    run(main)
