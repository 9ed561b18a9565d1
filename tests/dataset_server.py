"""A server on the loopback that answers as the Hugging Face hub does, to what the library ``datasets`` asks of it."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.http_server import blob_id
from tests.hub_server import Files, commit_of


class DatasetHub(ThreadingHTTPServer):
    """Data sets of one revision each, and what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Files] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class MissingError(LookupError):
    """What there is not, by the hub's name for it."""


class Handler(BaseHTTPRequestHandler):
    server: DatasetHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        words = [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]
        status, body = 200, b""
        headers: dict[str, str] = {}
        try:
            headers, body = self._found(words, asked)
        except MissingError as error:
            status, headers = 404, {"X-Error-Code": str(error)}
        wanted = self.headers.get("Range")
        if wanted and status == 200:
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            headers |= {"Content-Range": f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"}
            status, body = 206, body[first : last + 1]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _found(self, words: list[str], asked: bytes) -> tuple[dict[str, str], bytes]:
        match words:
            case ["api", "datasets", owner, name, *rest]:
                return {}, json.dumps(self._described(f"{owner}/{name}", rest, asked)).encode()
            case ["datasets", owner, name, "resolve", revision, *path]:
                content = self._files(f"{owner}/{name}").get("/".join(path))
                if content is None:
                    raise MissingError("EntryNotFound")
                return {"X-Repo-Commit": revision, "ETag": f'"{blob_id(content)}"'}, content
        raise MissingError("RepoNotFound")

    def _described(self, name: str, words: list[str], asked: bytes) -> Any:
        files = self._files(name)
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
            for path, content in files.items()
        ]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries += [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in folders]
        match words:
            case [] | ["revision", _]:
                siblings = [{"rfilename": path} for path in files]
                return {"id": name, "sha": commit_of(name), "siblings": siblings, "tags": []}
            case ["paths-info", _]:
                wanted = json.loads(asked)["paths"]
                return [entry for entry in entries if entry["path"] in wanted]
            case ["tree", _, *path]:
                inside = "/".join([*path, ""]) if path else ""
                if inside and f"{inside.rstrip('/')}" not in folders:
                    raise MissingError("EntryNotFound")
                return [entry for entry in entries if str(entry["path"]).startswith(inside)]
        raise MissingError("EntryNotFound")

    def _files(self, name: str) -> Files:
        if name not in self.server.repositories:
            raise MissingError("RepoNotFound")
        return self.server.repositories[name]
