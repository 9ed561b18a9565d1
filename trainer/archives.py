"""Unpacking a downloaded archive: nothing outside its folder, no bombs, and nothing half unpacked in place."""

import errno
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

MAX_RATIO = 100  # unpacked bytes to the archive's own; text and MIDI files reach about 10
MAX_BYTES = 4 << 30
MAX_ENTRIES = 100_000
MAX_PADDING = 1 << 20  # bytes after a tar's last entry; tar itself writes 10 KiB at most
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)


class ArchiveError(Exception):
    """An archive that is damaged or must not be unpacked; says in a few words why."""


def is_inside(path: str) -> bool:
    """Whether a relative path, with "/" on every platform, names something inside its folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in path and ":" not in parts[0]


def unpack(archive: Path, folder: Path, wanted: PurePosixPath) -> None:
    """Unpacks a zip or tar archive (also .gz, .bz2, .xz) into a folder, in one step for each of its top-level entries.

    What lies in the folder already is kept; an entry that is there as a folder gets the files that it lacks. The wanted
    file comes last, so that whoever finds it finds the others.

    Args:
        archive: the file, of any name.
        folder: on the same disk as the archive.
        wanted: a file that must be in the archive.

    Raises:
        ArchiveError: for a damaged archive, one without the wanted file, one with an entry that leads out of the
            folder, is a link or a device, or is encrypted, and one that unpacks to too much. Nothing is left of it.
        OSError: where the folder cannot be written.
    """
    staging = archive.with_name(f".{archive.name}.unpacked")
    shutil.rmtree(staging, ignore_errors=True)  # of an unpacking that was killed
    staging.mkdir()
    try:
        _extract(archive, staging)
        if not (staging / wanted).is_file():
            raise ArchiveError(f"there is no {wanted} in the archive")
        _settle(staging, folder, wanted.parts)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: Path, staging: Path) -> None:
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        if is_zip:
            _extract_zip(archive, staging)
        else:
            _extract_tar(archive, staging)
    except _DAMAGED as error:
        raise ArchiveError(f"the archive is damaged ({' '.join(str(error).split())[:200]})") from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise ArchiveError(f"the archive has two entries of one name ({Path(error.filename).name})") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.ENAMETOOLONG):  # None: gzip's and bz2's own errors
            raise
        raise ArchiveError(f"the archive is damaged ({error.strerror or error})") from None


def _extract_zip(archive: Path, staging: Path) -> None:
    allowance = _Allowance(archive)
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if entry.filename.startswith("__MACOSX/"):  # what macOS adds of its own
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was not made on Unix
            allowance.take(entry.filename, entry.file_size, is_plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if entry.flag_bits & 1:
                raise ArchiveError(f"the archive is encrypted ({entry.filename!r})")
            opened.extract(entry, staging)


def _extract_tar(archive: Path, staging: Path) -> None:
    allowance = _Allowance(archive)
    with tarfile.open(archive) as opened:
        for entry in opened:
            if PurePosixPath(entry.name) == PurePosixPath("."):  # the folder itself
                continue
            allowance.take(entry.name, entry.size, is_plain=entry.isreg() or entry.isdir())
            _extract_plain(opened, entry, staging / entry.name)
        if opened.fileobj is not None and len(opened.fileobj.read(MAX_PADDING)) == MAX_PADDING:
            raise ArchiveError("the archive is damaged (much follows its last entry)")  # else: its check sum was read


def _extract_plain(opened: tarfile.TarFile, entry: tarfile.TarInfo, place: Path) -> None:
    """Writes a folder or a file, without its owner and mode. (tarfile's own filter came with Python 3.11.4.)"""
    if entry.isdir():
        place.mkdir(parents=True, exist_ok=True)
    elif (content := opened.extractfile(entry)) is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with content, place.open("xb") as file:
            shutil.copyfileobj(content, file)


class _Allowance:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path) -> None:
        self.num_bytes = min(MAX_RATIO * archive.stat().st_size, MAX_BYTES)
        self.num_entries = MAX_ENTRIES

    def take(self, name: str, num_bytes: int, *, is_plain: bool) -> None:
        """Allows one more entry, or raises ArchiveError."""
        if not is_inside(name):
            raise ArchiveError(f"{name!r} in the archive leads out of its folder")
        if not is_plain:
            raise ArchiveError(f"{name!r} in the archive is a link or a device")
        self.num_bytes -= num_bytes
        self.num_entries -= 1
        if self.num_bytes < 0:
            raise ArchiveError(f"the archive unpacks to more than {MAX_RATIO} times its size, or {MAX_BYTES >> 30} GiB")
        if self.num_entries < 0:
            raise ArchiveError(f"the archive has more than {MAX_ENTRIES} entries")


def _settle(staging: Path, folder: Path, last: tuple[str, ...]) -> None:
    """Moves what is in staging into folder, unless it is there; of two folders what is in them; last the path given."""
    first_of_last = last[0] if last else None
    for entry in sorted(staging.iterdir(), key=lambda entry: entry.name == first_of_last):
        place = folder / entry.name
        if entry.is_dir() and place.is_dir():
            _settle(entry, place, last[1:] if entry.name == first_of_last else ())
        elif not os.path.lexists(place):
            entry.rename(place)
