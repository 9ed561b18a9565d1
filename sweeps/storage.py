"""Where unfinished trials keep their state: a folder that all machines share, or an object store.

Importing this module is cheap; pyarrow comes in when an object store is used.
"""

import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sweeps.connection import shown
from trainer.checkpoints import URI
from trainer.errors import UserError, first_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

NAME = re.compile(r"[0-9a-z]+(/[0-9a-z]+)*")
SUFFIX = ".state"
CHUNK = 16 * 2**20  # bytes asked of an object store at once
OBJECT_STORES = ("s3", "gcs", "abfs")  # what pyarrow calls those in which a file appears at once, when it is whole
REMEDY = "give a folder that can be written, or a URI such as s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH"


class Storage:
    """Files under names, each put there whole or not at all; the last one saved under a name counts.

    It may be pickled. Each machine opens it by itself, an object store with its own credentials
    (arrow.apache.org/docs/python/filesystems.html).

    Args:
        place: a folder, or a URI that pyarrow knows: s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH.
    """

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        is_folder = not URI.match(place) or parts.scheme == "file"
        self.folder = Path(unquote(parts.path) if parts.scheme == "file" else place) if is_folder else None
        if self.folder is not None:
            self.folder = self.folder.expanduser().absolute()  # workers run elsewhere
        self.place = place if self.folder is None else str(self.folder)

    def __repr__(self) -> str:
        return f"Storage({shown(self.place)!r})"

    @property
    def is_local(self) -> bool:
        """Whether it is a folder: other machines see it only where it is on a shared file system."""
        return self.folder is not None

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Puts a file under a name, in place of the one that is there.

        Args:
            name: parts of digits and lower-case letters, joined by ``/``.
            write: is given the path of a local file to be made.

        Raises:
            OSError: when the file cannot be stored; what was there before is still there.
            ValueError: for a name of another form.
        """
        if self.folder is not None:
            _save_locally(self.folder, _checked(name), write)
            return
        with tempfile.TemporaryDirectory(prefix="polymath-state-") as folder:
            written = Path(folder, "state")
            write(written)
            _upload(self.place, _checked(name), written)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path | None]:
        """The local path of the file under a name, to be read inside the block; None where there is nothing.

        Raises:
            OSError: when the storage cannot be read.
            ValueError: for a name of another form.
        """
        if self.folder is not None:
            path = self.folder / _checked(name)
            yield path if path.is_file() else None
            return
        with tempfile.TemporaryDirectory(prefix="polymath-state-") as folder:
            yield _download(self.place, _checked(name), Path(folder, "state"))

    def delete(self, name: str) -> None:
        """Removes the file under a name, and what broken attempts to save it have left; nothing where there is none.

        Raises:
            OSError: when it is there and cannot be removed.
            ValueError: for a name of another form.
        """
        if self.folder is not None:
            path = self.folder / _checked(name)
            for left in [path, *path.parent.glob(f".{path.name}.*")]:
                left.unlink(missing_ok=True)
            return
        filesystem, path_there = _open(self.place, _checked(name))
        with suppress(FileNotFoundError):
            filesystem.delete_file(path_there)

    def check(self) -> None:
        """Looks whether files can be put there and read again.

        Raises:
            UserError: when they cannot.
        """
        name = f"check{uuid.uuid4().hex}"
        try:
            self.save(name, lambda path: path.touch())
            with self.fetched(name) as path:
                if path is None:
                    raise FileNotFoundError("what is written there cannot be found again")
            self.delete(name)
        # pyarrow's own errors are ValueErrors and NotImplementedErrors too; a file system may lack its package.
        except (OSError, ValueError, NotImplementedError, ImportError) as error:
            place = shown(self.place)
            reason = first_line(error).replace(self.place, place)
            raise UserError(f"storage: {place!r} cannot be written ({reason}); {REMEDY}") from None


def _checked(name: str) -> str:
    """The file's path below the storage's place.

    Raises:
        ValueError: for a name that could lead elsewhere.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} is not allowed; give parts of digits and lower-case letters, joined by /")
    return name + SUFFIX


def _save_locally(place: Path, name: str, write: Callable[[Path], None]) -> None:
    path = place / name
    place.parent.mkdir(parents=True, exist_ok=True)
    for folder in reversed([path.parent, *path.parent.parents][: name.count("/") + 1]):
        folder.mkdir(mode=0o700, exist_ok=True)
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(written)
        with written.open("rb") as file:
            os.fsync(file.fileno())  # else a machine that dies may leave an empty file under the name
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


@lru_cache
def _filesystem(place: str) -> "tuple[FileSystem, str]":
    """The file system behind a URI, opened once a process, and the path in it."""
    from pyarrow.fs import FileSystem

    filesystem, path = FileSystem.from_uri(place)
    return filesystem, path.rstrip("/")


def _open(place: str, name: str) -> "tuple[FileSystem, str]":
    filesystem, path = _filesystem(place)
    return filesystem, f"{path}/{name}"


def _upload(place: str, name: str, written: Path) -> None:
    filesystem, path = _open(place, name)
    if filesystem.type_name in OBJECT_STORES:
        _copy(_local(), str(written), filesystem, path)
        return
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    arriving = f"{path}.{uuid.uuid4().hex}"
    _copy(_local(), str(written), filesystem, arriving)
    filesystem.move(arriving, path)


def _download(place: str, name: str, target: Path) -> Path | None:
    """Fetches a file to a local path; None where there is none."""
    from pyarrow.fs import FileType

    filesystem, path = _open(place, name)
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    _copy(filesystem, path, _local(), str(target))
    return target


def _local() -> "FileSystem":
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


def _copy(source: "FileSystem", path: str, target: "FileSystem", path_there: str) -> None:
    """Copies a file between file systems, a chunk at a time."""
    from pyarrow.fs import copy_files

    copy_files(path, path_there, source_filesystem=source, destination_filesystem=target, chunk_size=CHUNK)
