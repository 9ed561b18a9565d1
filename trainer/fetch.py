"""``python -m trainer.fetch``: downloads the tasks' files before a sweep does, and checks those that are there."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commandline import parse, run, setting
from trainer.downloads import Report, mismatch, progress
from trainer.errors import UserError, one_of
from trainer.hosts import open_session
from trainer.sources import Layout, Source, cache_folder, find, find_layout, nearest_layout, obtain
from trainer.tasks import TASKS

if TYPE_CHECKING:
    import requests

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
    list: bool = setting(False, help="only list what is there and what is missing, and download nothing")

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
class File:
    """What became of one file: its state, where it is (None: nowhere), and where it is from."""

    source: Source
    state: str
    path: Path | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What became of a task's files, and in one line what went wrong, or ""."""

    files: tuple[File, ...]
    problem: str = ""


def look(source: Source, folder: Path) -> File:
    """Finds a file and checks it where its checksum is known."""
    if (path := find(source, folder)) is None:
        return File(source=source, state="missing", path=None, origin=source.origin)
    is_own = source.unpack is None and mismatch(path, source.git_blob, source.sha256)
    state = "differs from upstream (kept)" if is_own else "present"
    return File(source=source, state=state, path=path, origin=str(path))


def look_all(layouts: Sequence[Layout], folder: Path) -> Fetched:
    """Finds and checks the first layout that is whole, or else the one of which the largest share is there."""
    try:
        found = find_layout(layouts, folder)
        layout = nearest_layout(layouts, folder) if found is None else tuple(found)
        return Fetched(files=tuple(look(source, folder) for source in layout))
    except OSError as error:
        missing = tuple(File(source=source, state="missing", path=None, origin=source.origin) for source in layouts[0])
        problem = f"{layouts[0][0].path}: '{error.filename}' cannot be read ({error.strerror}); check its permissions"
        return Fetched(files=missing, problem=problem)


def fetch(layouts: Sequence[Layout], folder: Path, report: Report, session: "requests.Session") -> Fetched:
    """Finds and checks a task's files, or downloads them; a user's own version is kept. Never raises for a failure."""
    there = look_all(layouts, folder)
    if there.problem or all(file.path for file in there.files):
        return there
    before = {source for layout in layouts for source in layout if find(source, folder)}
    try:
        found = obtain(layouts, folder, report, session)
    except UserError as error:
        return Fetched(files=look_all(layouts, folder).files, problem=str(error))
    files = (
        look(source, folder)
        if source in before
        else File(source=source, state="downloaded", path=path, origin=source.url)
        for source, path in found.items()
    )
    return Fetched(files=tuple(files))


def fetch_all(tasks: Sequence[Sequence[Layout]], folder: Path) -> list[Fetched]:
    """Fetches several tasks at a time; Ctrl-C ends every download at its next piece, for a later start to resume."""
    stopped = threading.Event()
    with open_session() as session, progress() as report, ThreadPoolExecutor(NUM_PARALLEL) as pool:

        def report_or_stop(source: Source, num_bytes: int, num_total: int | None) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            report(source, num_bytes, num_total)

        try:
            return list(pool.map(lambda layouts: fetch(layouts, folder, report_or_stop, session), tasks))
        except KeyboardInterrupt:
            stopped.set()
            raise


def rows(name: str, fetched: Fetched) -> list[tuple[str, str, str, str, str]]:
    """The task's lines of the table: task, file, state, size, where from."""
    lines = []
    for file in fetched.files:
        size = f"{file.path.stat().st_size / 1e6:.2f} MB" if file.path else "-"
        lines.append((name, file.source.path, file.state, size, file.origin))
    return lines or [(name, "-", "generated", "-", "-")]


def main(arguments: Sequence[str]) -> int:
    """Fetches, prints one line a file, and returns 1 if some are missing."""
    settings = parse(
        Settings, arguments, program="python -m trainer.fetch", description="Download the tasks' data files."
    )
    tasks = [(TASKS[name].files, *TASKS[name].alternatives) for name in settings.names]
    if settings.list:
        results = [look_all(layouts, settings.folder) for layouts in tasks]
    else:
        results = fetch_all(tasks, settings.folder)
    table = [row for name, fetched in zip(settings.names, results, strict=True) for row in rows(name, fetched)]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for task, file, state, size, origin in table:
        print(f"{task:<{widths[0]}}  {file:<{widths[1]}}  {state:<{widths[2]}}  {size:>{widths[3]}}  {origin}")
    failed = {name: fetched.problem for name, fetched in zip(settings.names, results, strict=True) if fetched.problem}
    for name, problem in failed.items():
        print(f"error: {name}: {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
