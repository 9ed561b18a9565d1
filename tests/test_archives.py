"""Archives: unpacked whole and inside their folder, or refused with nothing left."""

import gzip
import io
import random
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath
from zlib import crc32

import pytest

from tests.conftest import files_in, refusal
from tests.http_server import CHUNK, GUARD_S, Server
from trainer import archives
from trainer.archives import ArchiveError, unpack
from trainer.downloads import download
from trainer.sources import Source, locate

pytestmark = pytest.mark.usefixtures("loopback")

FILES = {"set/index.csv": b"name\n", "set/a.mid": random.Random(0).randbytes(3 * CHUNK), "set/2004/b.mid": b"b"}
WANTED = PurePosixPath("set/index.csv")


def zipped(files: dict[str, bytes], mode: int = 0) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def tarred(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, compression: str = "gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zipped,
    "tar.gz": tarred,
    "tar": lambda files: tarred(files, compression=""),
}


def refused(content: bytes, folder: Path) -> str:
    """Why an archive is not unpacked; nothing may be left of it, in the folder or beside it."""
    inside = folder / "data"
    inside.mkdir()
    (inside / "archive").write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        unpack(inside / "archive", inside, WANTED)
    assert files_in(folder) == {"data/archive"} and list(inside.iterdir()) == [inside / "archive"]
    return str(caught.value)


# Unpacking


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_is_unpacked_whole(tmp_path: Path, kind: str) -> None:
    (tmp_path / "archive").write_bytes(MAKERS[kind](FILES))
    unpack(tmp_path / "archive", tmp_path, WANTED)
    assert files_in(tmp_path) == {"archive", *FILES}
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../out.txt", "set/../../out.txt", "/tmp/out.txt", "C:/out.txt", "..\\out.txt"])
def test_an_entry_that_leads_out_of_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    assert "leads out of its folder" in refused(MAKERS[kind](FILES | {name: b"x"}), tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=str
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert "'set/odd' in the archive is a link or a device" in refused(tarred({"set/odd": b""}, kind), tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    assert "is a link or a device" in refused(zipped({"set/odd": b"/etc/passwd"}, stat.S_IFLNK | 0o777), tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(tmp_path: Path, kind: str) -> None:
    bomb = MAKERS[kind]({"set/index.csv": bytes(50_000_000)})
    assert len(bomb) * archives.MAX_RATIO < 50_000_000
    assert "unpacks to more than 100 times its size" in refused(bomb, tmp_path)


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    bomb = zipped({"set/index.csv": bytes(50_000_000)})
    lie = bomb.replace((50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lie != bomb
    assert "damaged" in refused(lie, tmp_path)


@pytest.mark.parametrize("kind", MAKERS)
def test_too_many_entries_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    assert "more than 2 entries" in refused(MAKERS[kind](FILES), tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"set/index.csv": b"x"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    assert "encrypted" in refused(bytes(content), tmp_path)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_without_the_wanted_file_is_refused(tmp_path: Path, kind: str) -> None:
    assert "there is no set/index.csv" in refused(MAKERS[kind]({"set/other.csv": b"x"}), tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_truncated_archive_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    content = MAKERS[kind](FILES)
    assert "damaged" in refused(content[: int(len(content) * share)], tmp_path)


def test_a_wrong_checksum_at_the_end_of_a_gzip_is_seen(tmp_path: Path) -> None:
    plain = tarred(FILES, compression="")
    content = gzip.compress(plain)
    assert content[-8:-4] == crc32(plain).to_bytes(4, "little")
    assert "damaged" in refused(content[:-8] + bytes(4) + content[-4:], tmp_path)


@pytest.mark.parametrize("kind", MAKERS)
def test_arbitrary_damage_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    content = MAKERS[kind](FILES | {"set/a.mid": b"short"})
    rng = random.Random(0)
    for number in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 5])):
            damaged[rng.randrange(len(content))] = rng.randrange(256)
        folder = tmp_path / str(number) / "data"
        folder.mkdir(parents=True)
        (folder / "archive").write_bytes(damaged)
        try:
            unpack(folder / "archive", folder, WANTED)
        except ArchiveError as error:
            assert "\n" not in str(error)
            assert files_in(tmp_path / str(number)) == {"data/archive"}


# What is there already


def test_files_that_are_there_are_kept_and_missing_ones_added(tmp_path: Path) -> None:
    (tmp_path / "set" / "2004").mkdir(parents=True)
    (tmp_path / "set" / "2004" / "b.mid").write_text("my own")
    (tmp_path / "set" / "more.mid").touch()
    (tmp_path / "archive").write_bytes(zipped(FILES))
    unpack(tmp_path / "archive", tmp_path, WANTED)
    assert files_in(tmp_path) == {"archive", "set/more.mid", *FILES}
    assert (tmp_path / "set/2004/b.mid").read_text() == "my own"
    assert (tmp_path / "set/a.mid").read_bytes() == FILES["set/a.mid"]


@pytest.mark.parametrize("wanted", ["index.csv", "a.mid"])
@pytest.mark.parametrize("is_there", [False, True])
def test_an_interrupted_unpacking_leaves_nothing_that_looks_whole(
    tmp_path: Path, is_there: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_there:
        (tmp_path / "set").mkdir()
    (tmp_path / "archive").write_bytes(zipped(FILES))
    rename = Path.rename

    def killed_at_the_wanted_file(path: Path, target: Path) -> Path:
        if path.name in (wanted, "set"):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed_at_the_wanted_file)
        unpack(tmp_path / "archive", tmp_path, PurePosixPath("set", wanted))
    assert files_in(tmp_path) == {"archive", *(set(FILES) - {f"set/{wanted}"} if is_there else set())}
    unpack(tmp_path / "archive", tmp_path, PurePosixPath("set", wanted))
    assert files_in(tmp_path) == {"archive", *FILES}


# Downloads that are archives


def source_of(server: Server, content: bytes, path: str = "music/set/index.csv", **checks: str) -> Source:
    return Source(path=path, url=server.serve("files/set.zip", content), unpack="music", **checks)


def test_an_archive_is_downloaded_once_for_all_its_files_and_deleted(server: Server, tmp_path: Path) -> None:
    layout = tuple(source_of(server, zipped(FILES), f"music/{name}") for name in FILES)
    paths = [download(source, tmp_path) for source in layout]
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert server.paths == ["/files/set.zip"]
    assert files_in(tmp_path) == {f"music/{name}" for name in FILES}
    assert locate((layout,), tmp_path) == tuple(paths)


def test_a_cut_archive_is_resumed(server: Server, tmp_path: Path) -> None:
    content = zipped(FILES)
    server.cuts = [CHUNK, 0, 0]
    source = source_of(server, content, sha256=sha256(content).hexdigest())
    assert "start again to resume" in refusal(lambda: download(source, tmp_path))
    assert files_in(tmp_path) == {"music/set.zip.part"}
    assert download(source, tmp_path).read_bytes() == FILES["set/index.csv"]
    assert server.num_bytes_sent == len(content)
    assert files_in(tmp_path) == {f"music/{name}" for name in FILES}


@pytest.mark.parametrize("content", [b"<html>please log in</html>", zipped({"other.csv": b""}), zipped(FILES)[:-30]])
def test_an_archive_that_will_not_do_is_one_line_and_leaves_nothing(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    source = source_of(server, content)
    message = refusal(lambda: download(source, tmp_path))
    for part in ("music/set/index.csv: could not be downloaded", source.url, "archive", str(tmp_path / "music")):
        assert part in message
    assert files_in(tmp_path) == set()


def test_an_archive_with_the_wrong_sha256_is_not_unpacked(server: Server, tmp_path: Path) -> None:
    source = source_of(server, zipped(FILES), sha256="0" * 64)
    assert "SHA-256" in refusal(lambda: download(source, tmp_path))
    assert files_in(tmp_path) == set()


def test_something_else_in_the_way_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "set").touch()
    message = refusal(lambda: download(source_of(server, zipped(FILES)), tmp_path))
    assert "something else lies at" in message and str(tmp_path / "music" / "set" / "index.csv") in message
    assert files_in(tmp_path) == {"music/set"}


def test_of_several_at_once_one_downloads_and_unpacks(server: Server, tmp_path: Path) -> None:
    start = threading.Barrier(3)
    sources = [source_of(server, zipped(FILES), f"music/{name}") for name in FILES]

    def load(source: Source) -> bytes:
        start.wait(GUARD_S)
        return download(source, tmp_path).read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(load, sources)) == list(FILES.values())
    assert server.paths == ["/files/set.zip"]
    assert files_in(tmp_path) == {f"music/{name}" for name in FILES}


@pytest.mark.parametrize(("path", "folder", "url"), [("a/b", "c", "x.zip"), ("a/b", "../a", "x.zip"), ("a/b", "a", "")])
def test_a_folder_that_cannot_hold_the_file_is_refused(path: str, folder: str, url: str) -> None:
    assert repr(folder) in refusal(lambda: Source(path=path, url=f"http://127.0.0.1/{url}", unpack=folder))
