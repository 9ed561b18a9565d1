"""What a model folder holds, in sixteen digits: two folders with the same digest give the same model."""

import hashlib
from functools import lru_cache
from pathlib import Path

from trainer.checkpoints import INDEX_FILE

DESCRIBING = (".json", ".txt", ".model")  # configuration and tokenizer
WEIGHTS = ".safetensors"


def model_files(folder: Path, weights: bool = True) -> list[Path]:
    """The files directly in a folder that make a model, by name; where weights are left out, without their index too.

    Raises:
        OSError: when the folder cannot be read.
    """

    def counts(path: Path) -> bool:
        if path.suffix == WEIGHTS or path.name == INDEX_FILE:
            return weights
        return path.suffix in DESCRIBING

    return sorted(path for path in folder.iterdir() if counts(path) and path.is_file())


def folder_digest(folder: Path, weights: bool = True) -> str:
    """16 hex digits of SHA-256 over the names and contents of a model's files; each is read once a process.

    Args:
        weights: whether the weights count; a model that is drawn anew is made by the other files alone.

    Raises:
        OSError: when a file cannot be read.
    """
    content = hashlib.sha256()
    for path in model_files(folder, weights):
        content.update(f"{path.name}\n{file_digest(path)}\n".encode())
    return content.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content in hex digits; read once a process, as long as the file does not change.

    Raises:
        OSError: when it cannot be read.
    """
    state = path.stat()
    return _file_digest(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
