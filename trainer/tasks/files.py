"""Reading data files: their lines, FASTA records, and a check of the symbols; every error names file and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import near
from trainer.tasks.task import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """The file's content without a byte order mark and trailing blanks.

    Raises:
        DataError: for a file that cannot be read or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(path, None, f"the file cannot be read ({error.strerror})") from None
    content = content.removeprefix(BYTE_ORDER_MARK).rstrip()
    if not content:
        raise DataError(path, None, "the file is empty; delete it and run `python -m trainer.fetch` to get it again")
    return content


def read_lines(path: Path, encoding: str = "ascii") -> list[str]:
    """The file's lines without trailing blank ones.

    Lines end as on Unix, Windows or the old Mac; where there are line feeds, only these end a line.

    Args:
        encoding: "ascii" or "utf-8".

    Raises:
        DataError: for a file that cannot be read, is empty or is not text in this encoding.
    """
    content = read_bytes(path)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "ASCII" if encoding == "ascii" else "UTF-8"
        raise DataError(path, line, f"this is not {name} text; is it the right file?") from None
    return [line.removesuffix("\r") for line in text.split("\n" if "\n" in text else "\r")]


def check_symbols(path: Path, lines: Sequence[int], sequences: Sequence[str], symbols: str) -> None:
    """Refuses empty sequences and those with a symbol that is not allowed.

    Args:
        lines: where each sequence stands (its first line).
        symbols: the allowed ones, ASCII.

    Raises:
        DataError: for the first such sequence.
    """
    is_clean = not "".join(sequences).encode().translate(None, delete=symbols.encode())
    if is_clean and all(sequences):
        return
    allowed = set(symbols)
    for line, sequence in zip(lines, sequences, strict=True):
        if not sequence:
            raise DataError(path, line, "the sequence is empty; remove the record or complete it")
        if not allowed.issuperset(sequence):
            position = next(place for place, symbol in enumerate(sequence) if symbol not in allowed)
            symbol = sequence[position]
            raise DataError(
                path,
                line,
                f"wrong symbol {symbol!r} at position {position + 1}; allowed: {', '.join(symbols)}"
                f"{near(symbol, symbols)}",
            )


@dataclass(frozen=True, kw_only=True)
class Record:
    """A FASTA record: what follows ``>`` on its first line, its sequence, and the number of that line."""

    header: str
    sequence: str
    line: int


def read_fasta(path: Path) -> list[Record]:
    """The records of a FASTA file; a sequence may run over several lines, and be empty.

    Raises:
        DataError: for a file that cannot be read, is empty, is not ASCII or does not begin with ``>``.
    """
    lines = read_lines(path)
    starts = [number for number, line in enumerate(lines) if line.startswith(">")]
    if not starts or starts[0] != 0:
        raise DataError(path, 1, f"{lines[0][:20]!r} where a FASTA header was expected, e.g. '>NAME LABEL'")
    ends = [*starts[1:], len(lines)]
    return [
        Record(
            header=lines[start][1:].strip(),
            sequence=lines[start + 1].strip()
            if end == start + 2
            else "".join(line.strip() for line in lines[start + 1 : end]),
            line=start + 1,
        )
        for start, end in zip(starts, ends, strict=True)
    ]
