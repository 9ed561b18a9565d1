"""A real HTTP server on the loopback, which goes wrong where a test says so."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

from trainer import downloads
from trainer.sources import Source

CHUNK = downloads._CHUNK_BYTES
CONTENT = bytes(range(256)) * (4 * CHUNK // 256)
AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)
GUARD_S = 60.0  # ends a test that would hang; no outcome depends on it


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    """Answers requests in a thread while the block lasts."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Serves the content of a path, with Range; the server says what goes wrong."""

    server: "Server"

    def do_GET(self) -> None:
        content = self.server.contents.get(self.path, self.server.content)
        first = 0
        asked = self.headers.get("Range")
        with self.server.lock:
            self.server.ranges.append(asked)
            self.server.paths.append(self.path)
            status = self.server.statuses.pop(0) if self.server.statuses else None
            cut = self.server.cuts.pop(0) if self.server.cuts else None
            hold = self.server.holds.pop(0) if self.server.holds else None
        if self.path in self.server.redirects:
            self.head(302, Location=self.server.redirects[self.path])
            return
        if asked and self.server.knows_ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if status is None and first >= len(content) > 0:
            status = 416
        if status is not None:
            self.send_error(status)
            return
        length = {"Content-Length": str(len(content) - first)} if self.server.tells_length else {}
        self.head(206 if asked and self.server.knows_ranges else 200, **length)
        if hold is not None:
            hold()
        body = content[first:][:cut]
        with self.server.lock:
            self.server.num_bytes_sent += len(body)
        self.wfile.write(body)

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | self.server.headers.get(self.path, {})).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Counts what it is asked and sends; the lists say what happens to the next requests, first to last."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content  # of every path that is not in contents
        self.contents: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}  # path -> more of them
        self.redirects: dict[str, str] = {}  # path -> where it sends to
        self.tells_length = True
        self.knows_ranges = True
        self.statuses: list[int] = []  # answers instead of the content
        self.cuts: list[int] = []  # bytes of the body after which the connection ends
        self.holds: list[Callable[[], object]] = []  # called between head and body
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.num_bytes_sent = 0
        self.lock = threading.Lock()

    @property
    def source(self) -> Source:
        return self.source_for("dna/H4.txt")

    def source_for(self, path: str) -> Source:
        return Source(path=path, url=self.url(path), git_blob=blob_id(CONTENT))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def serve(self, path: str, content: bytes) -> str:
        """Serves a content at a path; returns its address."""
        self.contents[f"/{path}"] = content
        return self.url(path)
