"""A server on the loopback that answers as the Hugging Face hub does, to what huggingface_hub asks of it."""

import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.http_server import blob_id

Files = dict[str, bytes]
CONVERTER = "SFconvertbot"
CONVERSION = "Adding `safetensors` variant of this model"


def files_of(folder: Path, **renamed: str) -> Files:
    """The files of a model folder, as a repository has them.

    Args:
        renamed: a file's stem -> its name in the repository.
    """
    return {renamed.get(path.stem, path.name): path.read_bytes() for path in folder.iterdir()}


class Hub(ThreadingHTTPServer):
    """Repositories, and what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, Files]] = {}  # name -> revision -> files
        self.discussions: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: Files) -> None:
        self.repositories[name] = {"main": files}

    def offer(self, name: str, files: Files, author: str = CONVERTER, title: str = CONVERSION) -> str:
        """Opens a pull request; returns its revision."""
        offers = self.discussions.setdefault(name, [])
        offers.append(
            {
                "title": title,
                "num": len(offers) + 1,
                "author": {"name": author},
                "createdAt": "2024-01-01T00:00:00.000Z",
                "status": "open",
                "repo": {"name": name, "type": "model"},
                "isPullRequest": True,
            }
        )
        revision = f"refs/pr/{len(offers)}"
        self.repositories[name][revision] = files
        return revision


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, is_head: bool) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(f"{self.command} {self.path}")
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        try:
            headers, body = self._found(words, {name: values[0] for name, values in parse_qs(parts.query).items()})
        except KeyError:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_head:
            self.wfile.write(body)

    def _found(self, words: list[str], query: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        match words:
            case ["api", "models"]:
                return {}, json.dumps(self._models(**query)).encode()
            case ["api", "models", owner, name, "discussions"]:
                found = self.server.discussions.get(f"{owner}/{name}", [])  # whatever is asked, as some mirrors do
                return {}, json.dumps({"discussions": found, "count": len(found), "start": 0}).encode()
            case ["api", "models", owner, name, *rest]:
                kind, revision = rest if rest else ("revision", "main")
                return {}, json.dumps(self._listed(f"{owner}/{name}", kind, revision)).encode()
            case [owner, name, "resolve", commit, file]:
                content = self._files(f"{owner}/{name}", commit)[file]
                return {"X-Repo-Commit": commit, "ETag": f'"{blob_id(content)}"'}, content
        raise KeyError(words)

    def _models(self, search: str = "", author: str = "", **more: str) -> list[dict[str, str]]:
        names = self.server.repositories
        return [{"id": name} for name in names if name.startswith(f"{author}/") and search.lower() in name.lower()]

    def _files(self, name: str, revision: str) -> Files:
        revisions = self.server.repositories[name]
        return next(files for key, files in revisions.items() if revision in (key, commit_of(name + key)))

    def _listed(self, name: str, kind: str, revision: str) -> Any:
        files = self._files(name, revision)
        if kind == "tree":
            return [
                {"type": "file", "path": file, "size": len(content), "oid": blob_id(content)}
                for file, content in files.items()
            ]
        siblings = [{"rfilename": file, "blobId": blob_id(content)} for file, content in files.items()]
        return {"id": name, "sha": commit_of(name + revision), "siblings": siblings}
