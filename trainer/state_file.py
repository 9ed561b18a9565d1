"""A state in one safetensors file: tensors by name, and as texts of its header all else in JSON and a caller's notes.

Nothing in it can run code. Texts and tensors have checksums: a file that a dying machine left full of zeros still has
the right length.
"""

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from trainer.errors import first_line

State = dict[str, Any]  # name -> a tensor, or what JSON holds

FACTS = "facts"  # the text with all that is no tensor
NOTES = "note"  # the folder of the caller's texts
CHECKSUM = "checksum"  # of the texts, among the texts; of the tensors, among the tensors
MAX_HEADER = 100_000_000  # bytes; safetensors reads no longer ones
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL"}


class StateError(ValueError):
    """A file from which nothing can go on; one line says why."""


def write_state(path: Path, state: State, notes: Mapping[str, str] = {}) -> None:
    """Writes a state and the caller's texts; the file appears at once, when it is whole.

    Raises:
        ValueError: for notes of 100 MB.
        OSError: when the file cannot be written.
    """
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    tensors = dict(sorted(tensors.items(), key=lambda entry: -entry[1].element_size()))  # so all lie aligned
    facts = {name: value for name, value in state.items() if name not in tensors}
    texts = {FACTS: json.dumps(facts), **under(NOTES, notes)}
    texts[CHECKSUM] = _text_checksum(texts)
    written = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with written.open("wb") as file:
            _write_safetensors(file, tensors, texts)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], texts: Mapping[str, str]) -> None:
    """The format of huggingface.co/docs/safetensors, one tensor at a time.

    The library's own writer leaves a file of a name of its choice behind when the process is killed, and fetches all
    tensors from a GPU before it writes the first.
    """
    header: dict[str, Any] = {"__metadata__": texts}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header[CHECKSUM] = {"dtype": "U8", "shape": [4], "data_offsets": [end, end + 4]}
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    if len(content) > MAX_HEADER:
        raise ValueError(f"notes: {len(content):,} bytes do not fit; give less than {MAX_HEADER:,} in all")
    file.write(len(content).to_bytes(8, "little") + content)
    checksum = zlib.crc32(texts[CHECKSUM].encode())
    for name, tensor in tensors.items():
        data = _bytes(tensor)
        checksum = _checksum(name, data, checksum)
        file.write(data)
    file.write(checksum.to_bytes(4, "little"))


def read_state(path: Path, identity: State) -> State:
    """The state in a file, its tensors on the CPU, without what it has in common with a trial of this identity."""
    with _opened(path) as file:
        texts = _texts(path, file)
        try:
            facts: State = dict(json.loads(texts[FACTS]))
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise StateError(f"{path}: this is no saved state ({first_line(error)})") from None
        for name, here in identity.items():
            if (there := facts.pop(name, None)) != here:
                raise StateError(f"{path}: the state is of something else ({name}: {there!r} there, {here!r} here)")
        tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    written = tensors.pop(CHECKSUM, torch.empty(0))
    checksum = zlib.crc32(texts[CHECKSUM].encode())
    for name, tensor in tensors.items():
        checksum = _checksum(name, _bytes(tensor), checksum)
    if written.tolist() != list(checksum.to_bytes(4, "little")):
        raise StateError(f"{path}: the tensors in this file are damaged")
    return facts | tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise StateError(f"{path}: this file is damaged ({first_line(error)})") from None


def _texts(path: Path, file: Any) -> dict[str, str]:
    texts: dict[str, str] = file.metadata() or {}
    if CHECKSUM not in texts:
        raise StateError(f"{path}: this is no saved state")
    if texts[CHECKSUM] != _text_checksum({name: text for name, text in texts.items() if name != CHECKSUM}):
        raise StateError(f"{path}: the texts in this file are damaged")
    return texts


def _text_checksum(texts: Mapping[str, str]) -> str:
    checksum = 0
    for name, text in sorted(texts.items()):
        checksum = _checksum(name, text.encode(), checksum)
    return str(checksum)


def _checksum(name: str, content: bytes | memoryview, before: int) -> int:
    return zlib.crc32(content, zlib.crc32(name.encode(), before))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """What a tensor holds, row by row; of one that lies so on the CPU without a copy."""
    return tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def read_notes(path: Path) -> dict[str, str]:
    """The caller's texts in a file; of the rest only the header is read.

    Raises:
        StateError: when it is damaged, or no state at all.
        OSError: when there is no such file, or it cannot be read.
    """
    with _opened(path) as file:
        return part(_texts(path, file), NOTES)


def under(folder: str, entries: Mapping[Any, Any]) -> State:
    """The entries, each under ``folder/name``."""
    return {f"{folder}/{name}": value for name, value in entries.items()}


def part(state: Mapping[str, Any], folder: str) -> State:
    """The entries that are under a folder, by the rest of their names."""
    start = f"{folder}/"
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
