"""A real HTTP server on the loopback that serves one content, and goes wrong where a test says so."""

import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trainer import sources
from trainer.sources import Source

CHUNK = sources._CHUNK_BYTES
CONTENT = bytes(range(256)) * (4 * CHUNK // 256)
GUARD_S = 60.0  # ends a test that would hang; no outcome depends on it


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's content, with Range; the server says what goes wrong."""

    server: "Server"

    def do_GET(self) -> None:
        first, last_byte = 0, len(self.server.content)
        asked = self.headers.get("Range")
        with self.server.lock:
            self.server.ranges.append(asked)
            status = self.server.statuses.pop(0) if self.server.statuses else None
            cut = self.server.cuts.pop(0) if self.server.cuts else None
            hold = self.server.holds.pop(0) if self.server.holds else None
        if asked and self.server.knows_ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if status is None and first >= last_byte > 0:
            status = 416
        if status is not None:
            self.send_error(status)
            return
        self.send_response(206 if asked and self.server.knows_ranges else 200)
        self.send_header("Content-Length", str(last_byte - first))
        self.end_headers()
        if hold is not None:
            hold()
        body = self.server.content[first:][:cut]
        with self.server.lock:
            self.server.num_bytes_sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Counts what it is asked and sends; the lists say what happens to the next requests, first to last."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.knows_ranges = True
        self.statuses: list[int] = []  # answers instead of the content
        self.cuts: list[int] = []  # bytes of the body after which the connection ends
        self.holds: list[Callable[[], object]] = []  # called between head and body
        self.ranges: list[str | None] = []
        self.num_bytes_sent = 0
        self.lock = threading.Lock()

    @property
    def source(self) -> Source:
        return self.source_for("dna/H4.txt")

    def source_for(self, path: str) -> Source:
        return Source(path=path, url=f"http://127.0.0.1:{self.server_port}/{path}", git_blob=blob_id(CONTENT))
