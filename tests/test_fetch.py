"""Downloads of whole tasks by the command: each file's state, and one line for what goes wrong."""

import hashlib
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import files_in, refusal
from tests.http_server import CONTENT, GUARD_S, Server, blob_id
from tests.test_archives import FILES, zipped
from trainer import fetch
from trainer.sources import Layout, Source
from trainer.tasks import TASKS
from trainer.tasks.dna import Histone

pytestmark = pytest.mark.usefixtures("loopback")

HOME = "https://example.org/data"


class TestFetch:
    """``python -m trainer.fetch``."""

    @pytest.fixture(autouse=True)
    def only_these_tasks(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in list(TASKS):
            monkeypatch.delitem(TASKS, name)
        self.monkeypatch = monkeypatch
        self.put("h3", server.source_for("dna/H3.txt"))
        self.put("h4", server.source_for("dna/H4.txt"))
        self.put("made")

    def put(self, name: str, *files: Source, alternatives: tuple[Layout, ...] = ()) -> None:
        """Makes a stand-in task of these files."""
        task = Histone(files=files, alternatives=alternatives, num_examples=1)
        self.monkeypatch.setitem(TASKS, name, task)

    def rows(self, capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], list[str]]:
        """The lines of the table, split into columns, and the error lines."""
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        return [re.split(r" {2,}", line) for line in printed.out.splitlines()], errors

    def test_downloads_what_is_missing(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        assert fetch.main(["--tasks", "h3,h4,h3,made", "--data-dir", str(tmp_path)]) == 0
        rows, errors = self.rows(capsys)
        assert rows == [
            ["h3", "dna/H3.txt", "present", "0.26 MB", str(tmp_path / "H3.txt")],
            ["h4", "dna/H4.txt", "downloaded", "0.26 MB", server.source.url],
            ["made", "-", "generated", "-", "-"],
        ]
        assert errors == []
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
        self.put("h3", lost)
        monkeypatch.setenv("POLYMATH_DATA", str(tmp_path))
        assert fetch.main(["--tasks", "h3,h4"]) == 1
        rows, (error,) = self.rows(capsys)
        assert [(row[0], row[2]) for row in rows] == [("h3", "missing"), ("h4", "downloaded")]
        assert lost.url in error and str(tmp_path / "dna" / "H3.txt") in error

    def test_a_form_that_is_there_in_part_is_completed(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.put("both", server.source_for("dna/H3.txt"), server.source_for("dna/H4.txt"))
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        assert fetch.main(["--tasks", "both", "--data-dir", str(tmp_path)]) == 0
        rows, _ = self.rows(capsys)
        assert [row[2] for row in rows] == ["present", "downloaded"]
        assert server.paths == ["/dna/H4.txt"]

    def test_another_form_that_is_there_is_enough(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tuple(Source(path=f"glue/CoLA/{part}.tsv", homepage=HOME) for part in ("train", "dev"))
        self.put("cola", Source(path="glue/cola/train.parquet", url=server.url("cola")), alternatives=(own,))
        (tmp_path / "CoLA").mkdir()
        for part in ("train", "dev"):
            (tmp_path / "CoLA" / f"{part}.tsv").write_bytes(b"x" * 10_000)
        assert fetch.main(["--tasks", "cola", "--data-dir", str(tmp_path)]) == 0
        rows, _ = self.rows(capsys)
        assert rows == [
            ["cola", source.path, "present", "0.01 MB", str(tmp_path / "CoLA" / Path(source.path).name)]
            for source in own
        ]
        assert server.paths == []

    def test_another_form_is_downloaded_where_the_first_cannot_be(
        self, server: Server, tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lost = Source(path="a.txt", url=f"http://127.0.0.1:{closed_port}/a.txt")
        archive = server.serve("set.zip", zipped(FILES))
        sha256 = hashlib.sha256(zipped(FILES)).hexdigest()
        other = tuple(Source(path=f"music/{name}", url=archive, sha256=sha256, unpack="music") for name in FILES)
        self.put("composer", lost, alternatives=(other,))
        assert fetch.main(["--tasks", "composer", "--data-dir", str(tmp_path)]) == 0
        rows, errors = self.rows(capsys)
        assert [(row[1], row[2], row[4]) for row in rows] == [(file.path, "downloaded", archive) for file in other]
        assert fetch.main(["--tasks", "composer", "--data-dir", str(tmp_path)]) == 0
        rows, _ = self.rows(capsys)
        assert [row[2] for row in rows] == ["present"] * len(other)
        assert server.paths == ["/set.zip"] and errors == []

    def test_what_can_only_be_had_by_hand_says_where(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.put("fold", Source(path="protein/a.fa", homepage=HOME))
        assert fetch.main(["--tasks", "fold,made", "--data-dir", str(tmp_path)]) == 1
        rows, (error,) = self.rows(capsys)
        assert rows[0] == ["fold", "protein/a.fa", "missing", "-", f"by hand from {HOME}"]
        assert error.startswith("error: fold: ") and HOME in error

    def test_list_downloads_nothing(self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        assert fetch.main(["--list", "true", "--data-dir", str(tmp_path)]) == 0
        rows, errors = self.rows(capsys)
        assert [(row[0], row[2]) for row in rows] == [("h3", "present"), ("h4", "missing"), ("made", "generated")]
        assert rows[1][4] == server.source.url
        assert errors == [] and server.paths == [] and files_in(tmp_path) == {"H3.txt"}

    def test_an_unreachable_host_is_asked_once_for_all_tasks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[str] = []

        def swallow(address: tuple[str, int], *_: Any, **__: Any) -> None:
            asked.append(address[0])
            raise TimeoutError

        monkeypatch.setattr("urllib3.util.connection.create_connection", swallow)
        for number in range(16):
            home = f"http://127.0.0.{number % 3 + 1}"
            files = [Source(path=f"{number}/{part}.txt", url=f"{home}/{number}/{part}") for part in "ab"]
            self.put(f"task{number}", *files)
        monkeypatch.setenv("NO_PROXY", "*")
        names = ",".join(f"task{number}" for number in range(16))
        assert fetch.main(["--tasks", names, "--data-dir", str(tmp_path)]) == 1
        rows, errors = self.rows(capsys)
        assert sorted(asked) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        assert len(rows) == 32 and len(errors) == 16
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_written_is_one_line(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "dna").touch()
        assert fetch.main(["--tasks", "h4", "--data-dir", str(tmp_path)]) == 1
        _, (error,) = self.rows(capsys)
        assert "cannot be written" in error and server.paths == []

    def test_all_is_every_task(self) -> None:
        assert fetch.Settings().names == ("h3", "h4", "made")

    @pytest.mark.parametrize(("tasks", "part"), [("maed", "did you mean 'made'"), ("all,h5", "'h5'"), (",", "tasks")])
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
        monkeypatch.setattr(fetch, "mismatch", interrupt)
        monkeypatch.setattr(fetch, "threading", SimpleNamespace(Event=lambda: stopped))
        (tmp_path / "H3.txt").write_bytes(CONTENT)
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch_all([(TASKS["h3"].files,), ((server.source,),)], tmp_path)
        assert files_in(tmp_path) <= {"H3.txt", "dna/H4.txt.part"}
