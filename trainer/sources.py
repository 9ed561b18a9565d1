"""Where a data file comes from, and how it gets onto this machine whole or not at all.

Why not pooch: it starts every interrupted download again from the first byte, and it cannot check git blob ids, the
only checksums that the DNA files' upstream publishes.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from trainer.errors import UserError, near

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 4.0  # for each of the host's addresses (GitHub has four), where a firewall swallows everything
READ_TIMEOUT_S = 30.0  # between two pieces of an answer, not for the whole of it
NUM_ATTEMPTS = 3
RETRY_WAIT_S = 0.5  # before the second attempt; twice that before the third
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of upstream's.

    Attributes:
        path: where it lies in a data folder in upstream's layout, e.g. "dna/H4.txt"; "/" on every platform.
        url: where to download it.
        git_blob: 40 hex digits, the SHA-1 of ``blob SIZE\\0`` and the content.

    Raises:
        UserError: for a path that would lead out of the data folder.
    """

    path: str
    url: str
    git_blob: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.path or ":" in parts[0]:
            raise UserError(f"path: {self.path!r} is not allowed; give a file's path inside the data folder")


Report = Callable[[Source, int, int | None], None]
"""Called as a download goes on: the source, bytes so far, bytes in all (None where the server does not say)."""


def cache_folder() -> Path:
    """The folder for downloaded data: ``POLYMATH_DATA``, else ``polymath`` in the user's cache folder."""
    if given := os.environ.get("POLYMATH_DATA"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "polymath"


def git_blob(path: Path) -> str:
    """The id (40 hex digits) that ``git hash-object`` gives the file; reads it in pieces."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def find(source: Source, folder: Path) -> Path | None:
    """The source's file in a folder of upstream's layout or in a flat one, or None."""
    candidates = (folder / source.path, folder / PurePosixPath(source.path).name)
    return next((path for path in candidates if path.is_file()), None)


def locate(source: Source, data_dir: Path | None) -> Path:
    """The source's file on this machine.

    Args:
        source: which file.
        data_dir: the user's own data folder: its file is taken as it is (a subset is fine), nothing is downloaded or
            checked. Without one, the file in :func:`cache_folder`, downloaded if it is not there yet.

    Raises:
        UserError: for a folder or file that is not there, or a download that failed.
    """
    if data_dir is None:
        return download(source, cache_folder())
    folder = data_dir.expanduser()
    try:
        if (found := find(source, folder)) is not None:
            return found
        raise UserError(_not_there(source, folder))
    except OSError as error:
        raise UserError(f"data_dir: {str(folder)!r} cannot be read ({error.strerror}); check its permissions") from None


def _not_there(source: Source, folder: Path) -> str:
    remedy = f"download it from {source.url}, or leave data_dir out to have it downloaded"
    name = PurePosixPath(source.path).name
    if folder.is_dir():
        present = [entry.name for entry in folder.iterdir()]
        hint = near(name, present)
        return f"data_dir: {str(folder)!r} holds neither {source.path} nor {name}{hint}; {remedy}"
    if folder.exists():
        return f"data_dir: {str(folder)!r} is a file; give the folder that holds {source.path}, or leave data_dir out"
    parent = folder.absolute().parent
    siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    hint = near(folder.name, siblings)
    return f"data_dir: there is no folder {str(folder)!r}{hint}; give the one that holds {source.path}; {remedy}"


def download(source: Source, folder: Path, report: Report | None = None) -> Path:
    """Downloads a source into a folder in upstream's layout, unless it is there already.

    The bytes go to ``<file>.part``, which a later call resumes. Only when they have the source's git blob id does the
    file get its name, in one step. One download of a file runs at a time: the others wait for it, on the lock of
    ``.<file>.lock`` (which the system drops with its process, even a killed one), and then find the file.

    Args:
        source: what to download.
        folder: the data folder; made if it is not there.
        report: told of every piece; without it a progress bar, or in a pipe one line, on stderr.

    Raises:
        UserError: when the file cannot be had or written, or is not the one expected.
    """
    target = folder / source.path
    part = target.with_name(f"{target.name}.part")
    try:
        if target.is_file():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target), nullcontext(report) if report else progress() as shown:
            if not target.is_file():
                _complete(source, part, target, shown)
                part.replace(target)
    except OSError as error:
        raise UserError(
            f"{source.path}: {str(error.filename or target)!r} cannot be written ({error.strerror}); "
            "make room there, mend its permissions, or set POLYMATH_DATA to another folder"
        ) from None
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Holds the file's lock, among threads and processes (fcntl: on Linux and macOS, where Ray runs)."""
    import fcntl

    path = target.with_name(f".{target.name}.lock")
    while True:
        with path.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another download of {target}", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(path, lock.fileno()):
                continue  # the one before took the lock file away; a newcomer may hold a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _complete(source: Source, part: Path, target: Path, report: Report) -> None:
    """Brings part to the source's whole content, in at most NUM_ATTEMPTS requests, or raises UserError."""
    import requests

    problem = ""
    for attempt in range(NUM_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_WAIT_S * attempt)
        try:
            num_resumed = _stream(source, part, report)
        except requests.RequestException as error:
            problem, passing = _reason(error)
            if not passing:
                break
            continue
        got = git_blob(part)
        if got == source.git_blob:
            return
        part.unlink()
        problem = f"its git blob id is {got} instead of {source.git_blob}"
        if not num_resumed:  # else what lay there was wrong: start again
            break
    resume = "start again to resume, or " if part.exists() else ""
    raise UserError(
        f"{source.path}: could not be downloaded from {source.url}: {problem}; "
        f"{resume}put the file at {target} by hand, or give the folder that holds it as data_dir"
    )


def _stream(source: Source, part: Path, report: Report) -> int:
    """Sends one request for what part lacks and writes the answer; returns how many earlier bytes were kept."""
    import requests

    num_bytes = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a range of a compressed answer would not fit what is there
    if num_bytes:
        headers["Range"] = f"bytes={num_bytes}-"
    timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with requests.get(source.url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return num_bytes  # part is as long as the file, or longer: its blob id decides
        response.raise_for_status()
        num_resumed = num_bytes = num_bytes if response.status_code == requests.codes.partial_content else 0
        length = response.headers.get("Content-Length", "")
        num_total = num_bytes + int(length) if length.isdigit() else None
        report(source, num_bytes, num_total)
        with part.open("ab" if num_resumed else "wb") as file:
            for piece in response.iter_content(_CHUNK_BYTES):
                file.write(piece)
                num_bytes += len(piece)
                report(source, num_bytes, num_total)
            file.flush()
            os.fsync(file.fileno())
    return num_resumed


def _reason(error: "requests.RequestException") -> tuple[str, bool]:
    """What went wrong, in a few words, and whether another attempt may go better."""
    import requests
    from urllib3.exceptions import MaxRetryError, ReadTimeoutError

    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return f"the server answered {status} {error.response.reason}", status in (408, 429) or status >= 500
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S:g} s", False
    cause = error.args[0] if error.args else error
    if isinstance(error, requests.ReadTimeout) or isinstance(cause, ReadTimeoutError):
        return f"the server was silent for {READ_TIMEOUT_S:g} s", True
    if isinstance(cause, MaxRetryError):  # refused, no such host, no route, a bad certificate: no use in asking again
        return f"no connection, {str(cause.reason).rpartition(': ')[2]}", False
    passing = isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
    return ("the connection was cut" if passing else " ".join(str(error).split())), passing


@contextmanager
def progress() -> Iterator[Report]:
    """Shows downloads on stderr: on a terminal a bar for each file, in a pipe a line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def report(source: Source, num_bytes: int, num_total: int | None) -> None:
            if source.path not in shown:
                shown[source.path] = bars.add_task(source.path, total=num_total)
                if not console.is_terminal:
                    print(f"downloading {source.path} from {source.url}", file=sys.stderr)
            bars.update(shown[source.path], completed=num_bytes, total=num_total)

        yield report
