"""Downloads against a real server on the loopback: whole or not at all, resumed, checked, and one at a time."""

import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import files_in, refusal
from tests.http_server import CHUNK, CONTENT, GUARD_S, Server, blob_id
from trainer import downloads
from trainer.downloads import download, git_blob
from trainer.sources import Source
from trainer.tasks import TASKS

REPOSITORY = Path(__file__).parents[1]
SPLICE_FILE = REPOSITORY.parent / "shared" / "data" / "dna" / "splice.txt"

pytestmark = pytest.mark.usefixtures("loopback")


def test_download_gives_the_verified_file_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    path = download(server.source, tmp_path)
    assert path == tmp_path / "dna" / "H4.txt"
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path) == {"dna/H4.txt"}
    assert server.ranges == [None]


def test_file_that_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "dna").mkdir()
    (tmp_path / "dna" / "H4.txt").write_text("the user's own")
    assert download(server.source, tmp_path).read_text() == "the user's own"
    assert server.ranges == []


def test_cut_download_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [CHUNK, CHUNK]
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]
    assert server.num_bytes_sent == len(CONTENT)


def test_resumed_by_a_later_start_after_every_attempt_was_cut(server: Server, tmp_path: Path) -> None:
    server.cuts = [CHUNK, 0, 0]
    message = refusal(lambda: download(server.source, tmp_path))
    assert "the connection was cut" in message and "start again to resume" in message
    assert files_in(tmp_path) == {"dna/H4.txt.part"}
    assert len(server.ranges) == downloads.NUM_ATTEMPTS
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={CHUNK}-"
    assert server.num_bytes_sent == len(CONTENT)


def test_server_without_ranges_is_asked_for_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    server.cuts = [CHUNK]
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CHUNK}-"]
    assert server.num_bytes_sent == CHUNK + len(CONTENT)


def test_wrong_content_is_refused_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>please log in</html>"
    message = refusal(lambda: download(server.source, tmp_path))
    for part in ("dna/H4.txt", server.source.url, blob_id(server.content), blob_id(CONTENT), "data_dir"):
        assert part in message
    assert files_in(tmp_path) == set()
    assert server.ranges == [None]


def test_wrong_content_after_a_cut_is_refused_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * len(CONTENT)
    server.cuts = [CHUNK]
    assert blob_id(server.content) in refusal(lambda: download(server.source, tmp_path))
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("length", [1, CHUNK, len(CONTENT), len(CONTENT) + 1])
def test_garbage_left_as_part_is_replaced(server: Server, tmp_path: Path, length: int) -> None:
    part = tmp_path / "dna" / "H4.txt.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * length)
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert files_in(tmp_path) == {"dna/H4.txt"}
    assert server.ranges == [f"bytes={length}-", None]


def test_whole_part_is_taken_without_another_byte(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "dna" / "H4.txt.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert download(server.source, tmp_path).read_bytes() == CONTENT
    assert server.num_bytes_sent == 0


def test_closed_port_is_one_line_with_file_url_and_place(closed_port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port}/H4.txt"
    message = refusal(lambda: download(Source(path="dna/H4.txt", url=url, git_blob=blob_id(CONTENT)), tmp_path))
    for part in ("dna/H4.txt:", url, str(tmp_path / "dna" / "H4.txt"), "Connection refused", "data_dir"):
        assert part in message
    assert files_in(tmp_path) == set()


def test_without_a_network_one_attempt_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    num_asked = 0

    def no_such_host(*_: object, **__: object) -> None:
        nonlocal num_asked
        num_asked += 1
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    message = refusal(lambda: download(TASKS["h4"].files[0], tmp_path))
    assert "Name or service not known" in message
    assert num_asked == 1


def test_connection_that_never_comes_is_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits: list[float] = []

    def swallow(_: object, timeout: float, *__: object, **___: object) -> None:
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr("urllib3.util.connection.create_connection", swallow)
    message = refusal(lambda: download(TASKS["h4"].files[0], tmp_path))
    assert f"no connection within {downloads.CONNECT_TIMEOUT_S:g} s" in message
    assert waits == [downloads.CONNECT_TIMEOUT_S]


def test_silent_server_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "READ_TIMEOUT_S", 0.05)
    end = threading.Event()
    server.holds = [lambda: end.wait(GUARD_S)] * downloads.NUM_ATTEMPTS
    try:
        assert "the server was silent for 0.05 s" in refusal(lambda: download(server.source, tmp_path))
    finally:
        end.set()
    assert not (tmp_path / "dna" / "H4.txt").exists()


@pytest.mark.parametrize(("statuses", "num_requests"), [([503, 429], 3), ([404], 1), ([500, 500, 500], 3)])
def test_only_passing_refusals_are_asked_again(
    server: Server, tmp_path: Path, statuses: list[int], num_requests: int
) -> None:
    server.statuses = list(statuses)
    if len(statuses) < num_requests:
        assert download(server.source, tmp_path).read_bytes() == CONTENT
    else:
        assert f"answered {statuses[-1]}" in refusal(lambda: download(server.source, tmp_path))
    assert len(server.ranges) == num_requests


def test_threads_at_once_share_one_download(server: Server, tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def load(_: int) -> bytes:
        start.wait(GUARD_S)
        return download(server.source, tmp_path).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, range(4))) == [CONTENT] * 4
    assert server.ranges == [None]
    assert files_in(tmp_path) == {"dna/H4.txt"}


def test_second_process_waits_for_the_first(server: Server, tmp_path: Path) -> None:
    release = threading.Event()
    started = threading.Event()
    server.holds = [lambda: release.wait(GUARD_S)]
    program = (
        "import sys; from pathlib import Path;"
        "from trainer.downloads import download; from trainer.sources import Source;"
        "download(Source(path=sys.argv[1], url=sys.argv[2], git_blob=sys.argv[3]), Path(sys.argv[4]))"
    )
    source = server.source
    arguments = [sys.executable, "-c", program, source.path, source.url, source.git_blob, str(tmp_path)]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(download, source, tmp_path, lambda *_: started.set())
        try:
            assert started.wait(GUARD_S)
            with subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as second:
                assert second.stderr is not None
                assert second.stderr.readline().startswith("waiting for another download of")
                assert files_in(tmp_path) == {"dna/H4.txt.part", "dna/.H4.txt.lock"}
                release.set()
                assert second.stderr.read() == ""
            assert second.returncode == 0
        finally:
            release.set()
        assert first.result().read_bytes() == CONTENT
    assert server.ranges == [None]
    assert files_in(tmp_path) == {"dna/H4.txt"}


def test_lock_left_by_a_killed_process_is_in_nobodys_way(server: Server, tmp_path: Path) -> None:
    (tmp_path / "dna").mkdir()
    (tmp_path / "dna" / ".H4.txt.lock").touch()
    assert download(server.source, tmp_path).read_bytes() == CONTENT


def test_folder_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "dna").write_text("a file where a folder should be")
    assert "cannot be written" in refusal(lambda: download(server.source, tmp_path))
    assert server.ranges == []


def test_in_a_pipe_a_download_is_one_line(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(server.source, tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"downloading dna/H4.txt from {server.source.url}\n"


@pytest.mark.parametrize("path", ["../H4.txt", "dna/../../H4.txt", "/etc/H4.txt", "", ".", "dna\\..\\H4.txt", "C:/H4"])
def test_path_out_of_the_folder_is_refused(path: str) -> None:
    assert repr(path) in refusal(lambda: Source(path=path, url="http://127.0.0.1/", git_blob=blob_id(b"")))


def test_git_blob_of_known_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert git_blob(file) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    file.write_bytes(b"hello\n")
    assert git_blob(file) == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_blob_equals_git_hash_object(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    command = ["git", "hash-object", "--no-filters", str(file)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert git_blob(file) == told


@pytest.mark.skipif(not SPLICE_FILE.is_file(), reason="needs ../shared/data/dna/splice.txt")
def test_shared_splice_file_is_upstreams() -> None:
    assert git_blob(SPLICE_FILE) == TASKS["splice"].files[0].git_blob
