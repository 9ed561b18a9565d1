"""The texts of a corpus, document by document: from files, from folders, or from a Hugging Face data set."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.digests import file_digest
from trainer.errors import UserError, first_line, near
from trainer.pretraining.artificial import LANGUAGES

if TYPE_CHECKING:
    from datasets import IterableDataset

ENDINGS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
COLUMN = "text"  # of JSON lines and of data sets
LINES_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 2_000_000  # of such lines, if they are long
RECORDS_AT_ONCE = 1000
TIMEOUT_S = 20.0  # until the hub answers
ALLOWED = (
    "give a text file, a folder of text files, the name of a Hugging Face text data set, or one of "
    f"{', '.join(LANGUAGES)}"
)


class Texts(Protocol):
    """Documents, each as its lines."""

    @property
    def digest(self) -> str:
        """Names the content."""

    @property
    def is_endless(self) -> bool:
        """Whether it may be far longer than what a pre-training reads, so that only as much as needed is read."""

    def documents(self) -> Iterator[Iterable[str]]:
        """The lines of each document in turn; one is to be read before the next.

        Raises:
            UserError: when something cannot be read.
        """


def find_texts(corpus: str) -> Texts:
    """The texts that a user names.

    Raises:
        UserError: when there is nothing of that name.
    """
    path = Path(corpus).expanduser()
    if path.is_dir():
        files = tuple(sorted(file for file in path.rglob("*") if _ending(file) and file.is_file()))
        if not files:
            raise UserError(f"corpus: {corpus!r} has no file that ends in {', '.join(ENDINGS)}; give one with text")
        return FileTexts(files=files)
    if path.is_file():
        if not _ending(path):
            raise UserError(f"corpus: {corpus!r} is no text; give a file that ends in {', '.join(ENDINGS)}")
        return FileTexts(files=(path,))
    name, _, config = corpus.partition(":")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or _ending(path):
        raise UserError(f"corpus: there is no {corpus!r}{_hint(path)}; {ALLOWED}")
    return HubTexts(name=name, config=config or None)


def name_of(corpus: str) -> str:
    """What the texts that a user names are called: ``english`` for ``text/english/`` and ``english.txt.gz``."""
    path = Path(corpus.partition(":")[0]).expanduser()
    name = path.resolve().name if path.name in ("", "..") else path.name
    return name[: len(name) - len(_ending(path))] or corpus


def _ending(path: Path) -> str:
    """Which of the endings a file has; nothing where it is no text."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _hint(path: Path) -> str:
    """The nearest name to one that is not there."""
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    return near(path.name, [*LANGUAGES, *siblings])


@dataclass(frozen=True, kw_only=True)
class FileTexts:
    """Files in UTF-8: a ``.txt`` is one document, in a ``.jsonl`` each line's ``text`` is one; both may be gzipped."""

    files: tuple[Path, ...]
    is_endless: bool = False

    @cached_property
    def digest(self) -> str:
        content = sha256()
        for path in self.files:
            try:
                content.update(f"{_ending(path)} {file_digest(path)}\n".encode())
            except OSError as error:
                raise _unreadable(path, error) from None
        return content.hexdigest()[:16]

    def documents(self) -> Iterator[Iterable[str]]:
        for path in self.files:
            if ".jsonl" in _ending(path):
                yield from (text.splitlines() for text in _json_texts(path))
            else:
                yield _lines(path)


def _lines(path: Path) -> Iterator[str]:
    opened: Any = gzip.open if _ending(path).endswith(".gz") else open
    number = 0
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if b"\0" in line:
                    raise UserError(f"corpus: {path}, line {number}: no text; give a text file in UTF-8")
                yield line.decode("utf-8" if number > 1 else "utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError(f"corpus: {path}, line {number}: not UTF-8; convert the file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"corpus: {path} cannot be read ({first_line(error)}); copy the file again")


def _json_texts(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[COLUMN]
            if not isinstance(text, str):
                raise TypeError(f"{COLUMN} is {type(text).__name__}")
            text.encode()  # JSON can spell what is no Unicode, half a surrogate pair
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f'corpus: {path}, line {number}: no JSON object with a "{COLUMN}" ({first_line(error)}); '
                "write one a line"
            ) from None
        yield text


@dataclass(frozen=True, kw_only=True)
class HubTexts:
    """The split ``train`` of a Hugging Face data set, read as it comes (huggingface.co/docs/datasets/stream).

    A record is a document: its ``text``, or the one column of texts that there is.
    """

    name: str
    config: str | None
    is_endless: bool = True

    @cached_property
    def _revision(self) -> str:
        """The commit at which it is read."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

        try:
            return str(HfApi().dataset_info(self.name, timeout=TIMEOUT_S).sha)
        except (RepositoryNotFoundError, HFValidationError):
            raise self._not_there("the Hugging Face hub has no data set of that name that you may read") from None
        except Exception as error:  # the library and what it stands on raise many types
            raise self._not_there(f"the Hugging Face hub cannot be reached ({first_line(error)})") from None

    @cached_property
    def _dataset(self) -> "IterableDataset":
        revision = self._revision
        try:
            from datasets import load_dataset

            return load_dataset(self.name, self.config, revision=revision, split="train", streaming=True)
        except Exception as error:
            raise UserError(
                f"corpus: the data set {self.name!r} cannot be opened ({_sentence(error)}); give another, or "
                f"{self.name}:CONFIG for one of its configs"
            ) from None

    def _not_there(self, why: str) -> UserError:
        return UserError(f"corpus: {self.name!r} is no file or folder, and {why}{_hint(Path(self.name))}; {ALLOWED}")

    @cached_property
    def _column(self) -> str:
        features: dict[str, Any] = self._dataset.features or next(iter(self._dataset), {})
        kinds = {name: getattr(kind, "dtype", type(kind).__name__) for name, kind in features.items()}
        texts = [name for name, kind in kinds.items() if kind in ("string", "large_string", "str")]
        if COLUMN in texts:
            return COLUMN
        if len(texts) != 1:
            found = ", ".join(features) or "none"
            raise UserError(f"corpus: {self.name!r} has no column {COLUMN!r} (it has {found}); give another data set")
        return texts[0]

    @property
    def digest(self) -> str:
        return sha256(f"{self.name}:{self.config} {self._column} {self._revision}".encode()).hexdigest()[:16]

    def documents(self) -> Iterator[Iterable[str]]:
        column = self._column
        try:
            for records in self._dataset.select_columns(column).iter(RECORDS_AT_ONCE):
                yield from ((text or "").splitlines() for text in records[column])
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"corpus: {self.name!r} cannot be read ({_sentence(error)}); try again later") from None


def _sentence(error: Exception) -> str:
    """What an exception says in several lines, in one."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def lines_of(texts: Texts) -> Iterator[str | None]:
    """The lines of all documents, those that are blank left out; None after each document that has any."""
    for document in texts.documents():
        has_lines = False
        for line in document:
            if line.strip():
                has_lines = True
                yield line
        if has_lines:
            yield None


def batches(lines: Iterable[str | None]) -> Iterator[list[str | None]]:
    """Some thousand lines at once, of whichever documents."""
    batch: list[str | None] = []
    num_characters = 0
    for line in lines:
        batch.append(line)
        num_characters += len(line or "")
        if len(batch) == LINES_AT_ONCE or num_characters > CHARACTERS_AT_ONCE:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch
