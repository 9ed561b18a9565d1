"""Downloads: a file arrives whole, checked and unpacked, or not at all, and a later start resumes it.

Why not pooch: it starts every interrupted download again from the first byte, and it cannot check git blob ids, the
only checksums that the DNA files' upstream publishes.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from trainer.archives import ArchiveError, unpack
from trainer.errors import UserError

if TYPE_CHECKING:
    import requests

    from trainer.sources import Source

CONNECT_TIMEOUT_S = 4.0  # for each of the host's addresses (GitHub has four), where a firewall swallows everything
READ_TIMEOUT_S = 30.0  # between two pieces of an answer, not for the whole of it
NUM_ATTEMPTS = 3
RETRY_WAIT_S = 0.5  # before the second attempt; twice that before the third
_CHUNK_BYTES = 1 << 16

Report = Callable[["Source", int, int | None], None]
"""Called as a download goes on: the source, bytes so far, bytes in all (None where the server does not say)."""


class DownloadError(UserError):
    """A file that cannot be had from its url; ``reason`` is the short form of the message."""

    reason = ""


def _failure(source: "Source", reason: str, remedy: str) -> DownloadError:
    error = DownloadError(f"{source.path}: could not be downloaded from {source.url}: {reason}; {remedy}")
    error.reason = f"{source.url}: {reason}"
    return error


def git_blob(path: Path) -> str:
    """The id (40 hex digits) that ``git hash-object`` gives the file; reads it in pieces."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def mismatch(path: Path, git_blob_id: str, sha256: str) -> str:
    """In a few words which of the checksums (those that are not "") the file does not have, or ""."""
    if git_blob_id and (got := git_blob(path)) != git_blob_id:
        return f"its git blob id is {got} instead of {git_blob_id}"
    if sha256:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != sha256:
            return f"its SHA-256 is {got} instead of {sha256}"
    return ""


def download(
    source: "Source", folder: Path, report: Report | None = None, session: "requests.Session | None" = None
) -> Path:
    """Downloads a source into a folder in upstream's layout, unless it is there already.

    The bytes go to ``<file>.part``, which a later call resumes. Only when they are as expected does the file get its
    name, in one step, or is the archive unpacked (see :func:`trainer.archives.unpack`) and deleted. They have to have
    the source's git blob id or SHA-256, else the SHA-256 that Hugging Face's ``X-Linked-ETag`` tells, else the length
    that the server tells. One download of a file runs at a time: the others wait for it, on the lock of
    ``.<file>.lock`` (which the system drops with its process, even a killed one), and then find the file.

    Args:
        source: what to download; it has a url.
        folder: the data folder; made if it is not there.
        report: told of every piece; without it a progress bar, or in a pipe one line, on stderr.
        session: that of the other downloads of this run, so that each unreachable host is asked once.

    Raises:
        DownloadError: when the file cannot be had or is not the one expected.
        UserError: when it cannot be written.
    """
    from trainer.hosts import open_session

    target, arrival = folder / source.path, folder / source.arrival
    part = arrival.with_name(f"{arrival.name}.part")
    try:
        if target.is_file():
            return target
        with (
            _alone(arrival, folder),
            nullcontext(report) if report else progress() as shown,
            nullcontext(session) if session else open_session() as asked,
        ):
            if not target.is_file():
                _complete(source, part, folder, shown, asked)
                _put_in_place(source, part, folder)
    except OSError as error:
        raise UserError(
            f"{source.path}: {str(error.filename or target)!r} cannot be written ({error.strerror}); "
            "make room there, mend its permissions, or set POLYMATH_DATA to another folder"
        ) from None
    return target


def _put_in_place(source: "Source", part: Path, folder: Path) -> None:
    """Gives a complete part its name, or unpacks it and deletes it."""
    target = folder / source.path
    if source.unpack is None:
        part.replace(target)
    else:
        try:
            unpack(part, part.parent, PurePosixPath(source.path).relative_to(source.unpack))
        except ArchiveError as error:
            _discard(part)
            raise _failure(source, str(error), source.by_hand(folder)) from None
    _discard(part)
    if not target.is_file():
        raise _failure(source, f"something else lies at {target}", "move it away and start again")


@contextmanager
def _alone(target: Path, folder: Path) -> Iterator[None]:
    """Holds the file's lock, among threads and processes (fcntl: on Linux and macOS, where Ray runs).

    Makes the folders above it, and takes away those of them in the data folder that stayed empty.
    """
    import fcntl

    path = target.with_name(f".{target.name}.lock")
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("ab")
        except FileNotFoundError:
            continue  # another download, which failed, has just taken the folder away
        with lock:
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
                with suppress(OSError):  # not empty
                    for parent in target.relative_to(folder).parents[:-1]:
                        (folder / parent).rmdir()
            return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _complete(source: "Source", part: Path, folder: Path, report: Report, session: "requests.Session") -> None:
    """Brings part to the whole content of the url, in at most NUM_ATTEMPTS requests, or raises DownloadError."""
    import requests

    problem = ""
    for attempt in range(NUM_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_WAIT_S * attempt)
        try:
            num_resumed, problem = _stream(source, part, report, session)
        except requests.RequestException as error:
            problem, passing = _reason(error)
            if not passing:
                break
            continue
        if not problem:
            return
        _discard(part)
        if not num_resumed:  # else what lay there was wrong: start again
            break
    resume = "start again to resume, or " if part.exists() else ""
    raise _failure(source, problem, resume + source.by_hand(folder))


def _stream(source: "Source", part: Path, report: Report, session: "requests.Session") -> tuple[int, str]:
    """Sends one request for what part lacks and writes the answer.

    Where nothing tells the content's checksum, an earlier part is only resumed if the server's ETag is still the same.

    Returns:
        How many earlier bytes were kept, and what is wrong with the whole, or "".
    """
    import requests

    noted = _etag_file(part)
    is_checked = bool(source.git_blob or source.sha256)
    num_bytes = part.stat().st_size if part.exists() and (is_checked or noted.exists()) else 0
    headers = {"Accept-Encoding": "identity"}  # a range of a compressed answer would not fit what is there
    if num_bytes:
        headers["Range"] = f"bytes={num_bytes}-"
    timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with session.get(source.url, headers=headers, stream=True, timeout=timeout) as response:
        sha256 = source.sha256 if is_checked else _linked_sha256(response)
        can_check = is_checked or bool(sha256)
        if num_bytes and response.status_code == requests.codes.requested_range_not_satisfiable:
            # part is as long as the file, or longer
            return num_bytes, mismatch(part, source.git_blob, sha256) if can_check else "its length is wrong"
        response.raise_for_status()
        if not can_check and not {"Content-Length", "Transfer-Encoding"} & response.headers.keys():
            return 0, "the server does not tell its length"
        num_resumed = num_bytes if response.status_code == requests.codes.partial_content else 0
        if not is_checked:
            etag = sha256 or response.headers.get("ETag", "")
            if num_resumed and etag != noted.read_text():
                return num_resumed, "it has changed meanwhile"
            noted.write_text(etag) if etag else noted.unlink(missing_ok=True)
        _write(source, part, num_resumed, response, report)
    return num_resumed, mismatch(part, source.git_blob, sha256)


def _write(source: "Source", part: Path, num_bytes: int, response: "requests.Response", report: Report) -> None:
    """Writes an answer to part behind its first num_bytes; raises where it is shorter than the server told."""
    length = response.headers.get("Content-Length", "")
    num_total = num_bytes + int(length) if length.isdigit() else None
    report(source, num_bytes, num_total)
    with part.open("ab" if num_bytes else "wb") as file:
        for piece in response.iter_content(_CHUNK_BYTES):
            file.write(piece)
            num_bytes += len(piece)
            report(source, num_bytes, num_total)
        file.flush()
        os.fsync(file.fileno())


def _linked_sha256(response: "requests.Response") -> str:
    """What Hugging Face tells of a large file: its SHA-256, in the first answer of a chain of redirects; else ""."""
    for answer in (*response.history, response):
        etag = answer.headers.get("X-Linked-ETag", "").removeprefix("W/").strip('"')
        if re.fullmatch("[0-9a-f]{64}", etag):
            return etag
    return ""


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _discard(part: Path) -> None:
    for path in (part, _etag_file(part)):
        path.unlink(missing_ok=True)


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
        text = re.sub(r".*\[Errno -?\d+\] ", "", str(cause.reason)).rstrip(")")
        return f"no connection, {text.rpartition(': ')[2]}", False
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

        def report(source: "Source", num_bytes: int, num_total: int | None) -> None:
            if source.arrival not in shown:
                shown[source.arrival] = bars.add_task(source.arrival, total=num_total)
                if not console.is_terminal:
                    print(f"downloading {source.arrival} from {source.url}", file=sys.stderr)
            bars.update(shown[source.arrival], completed=num_bytes, total=num_total)

        yield report
