"""Downloads of whole tasks by the command: each file's state, and one line for what goes wrong."""

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from tests.conftest import files_in, refusal
from tests.http_server import CONTENT, GUARD_S, Server, blob_id
from trainer import fetch
from trainer.sources import Source
from trainer.tasks import TASKS
from trainer.tasks.dna import Histone

pytestmark = pytest.mark.usefixtures("loopback")


class TestFetch:
    """``python -m trainer.fetch``."""

    TASK_FILES: ClassVar = {"h3": "dna/H3.txt", "h4": "dna/H4.txt"}

    @pytest.fixture(autouse=True)
    def tasks(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, path in self.TASK_FILES.items():
            monkeypatch.setitem(TASKS, name, Histone(files=(server.source_for(path),), num_examples=1))
        monkeypatch.setitem(TASKS, "made", Histone(files=(), num_examples=1))

    def rows(self, capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], str]:
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        return [re.split(r" {2,}", line) for line in lines], printed.err

    def test_downloads_what_is_missing(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        assert fetch.main(["--tasks", "h3,h4,h3,made", "--data-dir", str(tmp_path)]) == 0
        rows, _ = self.rows(capsys)
        assert rows == [
            ["h3", "dna/H3.txt", "present", "0.26 MB", str(tmp_path / "H3.txt")],
            ["h4", "dna/H4.txt", "downloaded", "0.26 MB", server.source.url],
            ["made", "-", "generated", "-", "-"],
        ]
        assert (tmp_path / "dna" / "H4.txt").read_bytes() == CONTENT

    def test_own_version_is_kept(self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "H3.txt").write_bytes(b"a subset")
        assert fetch.main(["--tasks", "h3", "--data-dir", str(tmp_path)]) == 0
        (row,), _ = self.rows(capsys)
        assert row[2] == "differs from upstream (kept)"
        assert (tmp_path / "H3.txt").read_bytes() == b"a subset"
        assert server.ranges == []

    def test_one_failure_does_not_stop_the_others(
        self, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lost = Source(path="dna/H3.txt", url=f"http://127.0.0.1:{closed_port}/", git_blob=blob_id(CONTENT))
        monkeypatch.setitem(TASKS, "h3", Histone(files=(lost,), num_examples=1))
        monkeypatch.setenv("POLYMATH_DATA", str(tmp_path))
        assert fetch.main(["--tasks", "h3,h4"]) == 1
        rows, errors = self.rows(capsys)
        assert [(row[0], row[2]) for row in rows] == [("h3", "missing"), ("h4", "downloaded")]
        (error,) = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert lost.url in error and str(tmp_path / "dna" / "H3.txt") in error

    def test_all_is_every_task(self) -> None:
        assert fetch.Settings().names == tuple(TASKS)

    @pytest.mark.parametrize(
        ("tasks", "part"), [("splcie", "did you mean 'splice'"), ("all,h5", "'h5'"), (",", "tasks")]
    )
    def test_mistaken_task_is_one_line(self, tasks: str, part: str) -> None:
        assert part in refusal(lambda: fetch.main(["--tasks", tasks]))

    def test_ctrl_c_ends_the_other_downloads(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, stopped = threading.Event(), threading.Event()

        def send_once_stopped() -> None:
            asked.set()
            stopped.wait(GUARD_S)

        def interrupt(*_: object) -> None:
            asked.wait(GUARD_S)
            raise KeyboardInterrupt

        server.holds = [send_once_stopped]
        monkeypatch.setattr(fetch, "git_blob", interrupt)
        monkeypatch.setattr(fetch, "threading", SimpleNamespace(Event=lambda: stopped))
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch_all([TASKS["h3"].files[0], server.source], tmp_path)
        assert files_in(tmp_path) <= {"H3.txt", "dna/H4.txt.part"}
