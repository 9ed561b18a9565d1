"""What tells a downloaded file to be the right one, which hosts are asked for it, and what a failure leaves."""

import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from urllib3.util import connection

from tests.conftest import files_in, refusal
from tests.http_server import CHUNK, CONTENT, Server, blob_id
from trainer import downloads
from trainer.downloads import download
from trainer.hosts import open_session
from trainer.sources import Source

pytestmark = pytest.mark.usefixtures("loopback")


def unchecked(server: Server, path: str, content: bytes) -> Source:
    return Source(path=path, url=server.serve(path, content))


def test_sha256_is_checked(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.txt", b"content")
    right, wrong = hashlib.sha256(b"content").hexdigest(), "0" * 64
    message = refusal(lambda: download(Source(path="a.txt", url=url, sha256=wrong), tmp_path))
    assert f"its SHA-256 is {right} instead of {wrong}" in message
    assert files_in(tmp_path) == set()
    assert download(Source(path="a.txt", url=url, sha256=right), tmp_path).read_bytes() == b"content"


@pytest.mark.parametrize("is_right", [True, False])
def test_the_sha256_that_hugging_face_tells_before_a_redirect_is_checked(
    server: Server, tmp_path: Path, is_right: bool
) -> None:
    source = unchecked(server, "a.parquet", b"")
    server.redirects["/a.parquet"] = server.serve("lfs/a", b"content")
    told = hashlib.sha256(b"content" if is_right else b"other").hexdigest()
    server.headers["/a.parquet"] = {"X-Linked-ETag": f'"{told}"'}
    if is_right:
        assert download(source, tmp_path).read_bytes() == b"content"
    else:
        assert f"instead of {told}" in refusal(lambda: download(source, tmp_path))
    assert files_in(tmp_path) == ({"a.parquet"} if is_right else set())


def test_a_linked_etag_that_is_no_sha256_says_nothing(server: Server, tmp_path: Path) -> None:
    server.headers["/a.txt"] = {"X-Linked-ETag": f'"{blob_id(b"content")}"'}
    assert download(unchecked(server, "a.txt", b"content"), tmp_path).read_bytes() == b"content"


def test_without_any_checksum_the_length_must_be_told_and_right(server: Server, tmp_path: Path) -> None:
    source = unchecked(server, "a.txt", b"content")
    server.cuts = [3] * downloads.NUM_ATTEMPTS
    assert "the connection was cut" in refusal(lambda: download(source, tmp_path))
    server.tells_length = False
    assert "does not tell its length" in refusal(lambda: download(source, tmp_path))
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize("etag", ["", '"first"'])
def test_without_a_checksum_only_what_is_surely_of_the_same_content_is_resumed(
    server: Server, tmp_path: Path, etag: str
) -> None:
    source = unchecked(server, "a.txt", b"old" * CHUNK)
    server.headers["/a.txt"] = {"ETag": etag} if etag else {}
    server.cuts = [CHUNK, 0, 0]
    refusal(lambda: download(source, tmp_path))
    assert server.ranges == ([None, *[f"bytes={CHUNK}-"] * 2] if etag else [None] * 3)
    server.headers["/a.txt"] = {"ETag": '"second"'}
    server.contents["/a.txt"] = b"new" * CHUNK
    assert download(source, tmp_path).read_bytes() == b"new" * CHUNK
    assert files_in(tmp_path) == {"a.txt"}


def test_without_a_checksum_a_cut_download_is_resumed_by_its_etag(server: Server, tmp_path: Path) -> None:
    source = unchecked(server, "a.txt", CONTENT)
    server.headers["/a.txt"] = {"ETag": '"the same"'}
    server.cuts = [CHUNK, 0, 0]
    refusal(lambda: download(source, tmp_path))
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert server.num_bytes_sent == len(CONTENT)
    assert files_in(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.txt", "a.txt"])
def test_only_http_is_asked_even_after_a_redirect(server: Server, tmp_path: Path, url: str) -> None:
    assert repr(url) in refusal(lambda: Source(path="a.txt", url=url))
    if "://" in url:
        server.redirects["/a.txt"] = url
        refusal(lambda: download(Source(path="a.txt", url=server.url("a.txt")), tmp_path))
        assert files_in(tmp_path) == set()


def test_host_that_cannot_be_reached_is_asked_once_by_all(
    server: Server, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    second = threading.Event()  # never set: the others wait for the first one's answer
    connect = connection.create_connection

    def counted(address: tuple[str, int], *arguments: Any, **more: Any) -> socket.socket:
        asked.append(address[1])
        if address[1] == closed_port:
            second.set() if asked.count(closed_port) > 1 else second.wait(0.2)
        return connect(address, *arguments, **more)

    monkeypatch.setattr(connection, "create_connection", counted)
    server.redirects["/moved.txt"] = f"http://127.0.0.1:{closed_port}/elsewhere.txt"
    session = open_session()
    gone = [Source(path=f"{name}.txt", url=f"http://127.0.0.1:{closed_port}/{name}.txt") for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        attempts = [pool.submit(download, source, tmp_path, lambda *_: None, session) for source in gone]
        assert ["Connection refused" in str(attempt.exception()) for attempt in attempts] == [True] * 4
    moved = Source(path="moved.txt", url=server.url("moved.txt"))
    assert "Connection refused" in refusal(lambda: download(moved, tmp_path, session=session))
    assert asked.count(closed_port) == 1
    assert download(server.source, tmp_path, session=session).read_bytes() == CONTENT
    assert files_in(tmp_path) == {"dna/H4.txt"}


def test_failed_download_leaves_no_empty_folders_but_the_data_folder(tmp_path: Path, closed_port: int) -> None:
    source = Source(path="glue/cola/train.parquet", url=f"http://127.0.0.1:{closed_port}/")
    refusal(lambda: download(source, tmp_path / "data"))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_folder_that_another_failed_download_takes_away_is_made_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir
    taken: list[Path] = []

    def mkdir_and_lose_it_once(path: Path, *arguments: Any, **more: Any) -> None:
        mkdir(path, *arguments, **more)
        if path.name == "dna" and not taken:
            taken.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose_it_once)
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert taken
