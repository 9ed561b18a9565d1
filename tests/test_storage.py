"""Where unfinished trials keep their state: whole files under names, in a folder or in an object store."""

import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeps.storage import Storage
from tests.conftest import ROOT, files_in, refusal


@pytest.fixture(params=["folder", "file", "remote", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """A folder, the same by URI, and a file system that only pyarrow reaches (fsspec's, in memory)."""
    if request.param in ("folder", "file"):
        yield Storage(f"{'file://' * (request.param == 'file')}{tmp_path}/states")
        return
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

    if request.param == "object store":
        monkeypatch.setattr("sweeps.storage.OBJECT_STORES", ("py::fsspec+memory",))
    yield Storage(f"fsspec+memory://{tmp_path}/states")
    left = [path for path in MemoryFileSystem.store if not path.endswith(".state")]
    MemoryFileSystem.store.clear()
    assert not left, "nothing but whole files under their names"


def writing(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def read(storage: Storage, name: str) -> bytes | None:
    with storage.fetched(name) as path:
        return None if path is None else path.read_bytes()


def test_what_was_saved_last_is_what_is_fetched(storage: Storage) -> None:
    assert read(storage, "a0/b1") is None
    storage.save("a0/b1", writing(b"first"))
    storage.save("a0/b2", writing(b"other"))
    storage.save("a0/b1", writing(b"second"))
    assert (read(storage, "a0/b1"), read(storage, "a0/b2")) == (b"second", b"other")


def test_what_is_deleted_is_gone_and_nothing_is_no_error(storage: Storage) -> None:
    storage.delete("never")
    storage.save("a0", writing(b"content"))
    storage.save("a0b", writing(b"neighbour"))
    storage.delete("a0")
    storage.delete("a0")
    assert (read(storage, "a0"), read(storage, "a0b")) == (None, b"neighbour")


def test_a_save_that_breaks_off_leaves_what_was_there(storage: Storage) -> None:
    def break_off(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise InterruptedError

    storage.save("a0", writing(b"whole"))
    for name in ("a0", "a1"):
        with pytest.raises(InterruptedError):
            storage.save(name, break_off)
    assert (read(storage, "a0"), read(storage, "a1")) == (b"whole", None)


def test_who_reads_is_not_disturbed_by_a_save_meanwhile(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.save("a0", writing(b"before"))
    with storage.fetched("a0") as path:
        assert path is not None
        with path.open("rb") as file:
            storage.save("a0", writing(b"after"))
            assert file.read() == b"before"


def test_it_travels_to_workers_in_other_folders(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save("a0", writing(b"content"))
    sent = pickle.dumps(storage)
    monkeypatch.chdir("/")
    assert read(pickle.loads(sent), "a0") == b"content"  # noqa: S301


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("states")
    monkeypatch.chdir("/")
    storage.save("a0", writing(b"content"))
    assert files_in(tmp_path) == {"states/a0.state"}


@pytest.mark.parametrize(
    "name", ["", "/", "..", "../a", "a/../b", "/etc/a", "a//b", "a/", "A", "a.b", "a b", "a\n", "ä"]
)
def test_names_that_could_lead_elsewhere_are_refused(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        storage.save(name, writing(b"content"))
    with pytest.raises(ValueError, match="is not allowed"), storage.fetched(name):
        pass
    with pytest.raises(ValueError, match="is not allowed"):
        storage.delete(name)


def test_a_folder_is_nobody_elses_to_read(tmp_path: Path) -> None:
    Storage(f"{tmp_path}/parent/states").save("a0/b1", writing(b"content"))
    for folder in ("parent/states", "parent/states/a0"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_what_a_killed_save_left_goes_with_the_file(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    process_id = os.fork()
    if process_id == 0:
        storage.save("a0", lambda path: path.touch() or os._exit(0))  # type: ignore[func-returns-value]
    os.waitpid(process_id, 0)
    (left,) = files_in(tmp_path)
    assert left.startswith(".a0.state.")
    assert read(storage, "a0") is None
    storage.delete("a0")
    assert files_in(tmp_path) == set()


def test_a_place_that_can_be_written_passes_and_stays_empty(storage: Storage, tmp_path: Path) -> None:
    storage.check()
    assert files_in(tmp_path) == set()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refusal(Storage(f"{tmp_path}/file/states").check)
    assert said.startswith(f"storage: '{tmp_path}/file/states' cannot be written (") and "give a folder" in said
    assert "storage: 'gopher://host/path' cannot be written" in refusal(Storage("gopher://host/path").check)


@pytest.mark.parametrize("rest", ["bucket/path?allow_bucket_creation=perhaps", "no bucket/path"])
def test_no_password_is_shown(rest: str) -> None:
    storage = Storage(f"s3://AKIAKEY:hush@{rest}")
    for text in (repr(storage), refusal(storage.check)):
        assert f"s3://{rest.partition('?')[0]}" in text
        assert "hush" not in text and "AKIAKEY" not in text


def test_importing_it_is_cheap() -> None:
    code = "import sys, sweeps.storage as s; s.Storage('x'); print(sys.modules.keys() & {'pyarrow', 'torch', 'ray'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_keys_in_a_uri_are_refused_since_it_is_recorded() -> None:
    from sweeps.spec import SweepOptions
    from tests.conftest import refusal

    said = refusal(lambda: SweepOptions(storage="s3://AKIAEXAMPLE:hunter2@bucket/path"))
    assert said.startswith("storage: ") and "in the environment" in said and "hunter2" not in said
    assert SweepOptions(storage="s3://bucket/path").storage == "s3://bucket/path"
