"""Texts of a corpus: every document and line of files and folders, and one clear line for what cannot be read."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import refusal
from trainer.pretraining import texts as module
from trainer.pretraining.texts import FileTexts, batches, find_texts, lines_of, name_of

POEM = ["ನೀರು ಹರಿಯುತ್ತದೆ", "a second line", "and a third"]


def documents(corpus: Path) -> list[list[str]]:
    return [list(document) for document in find_texts(str(corpus)).documents()]


def json_lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text, "id": 3}) + "\n" for text in texts).encode()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["poem.txt", "poem.txt.gz", "v1.0.TXT"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str, newline: str, mark: str) -> None:
    path = write(tmp_path / name, (mark + newline.join(POEM)).encode())
    assert documents(path) == [POEM]


@pytest.mark.parametrize("name", ["poems.jsonl", "poems.jsonl.gz", "poems.txt.jsonl"])
def test_each_json_line_is_a_document(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, json_lines("\n".join(POEM), "", "alone") + b"\n\n")
    assert documents(path) == [POEM, [], ["alone"]]


def test_a_folder_is_read_with_its_subfolders_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "c/d/e.txt.gz"):
        write(tmp_path / name, name.encode())
    write(tmp_path / "a/b.jsonl", json_lines("one", "two"))
    write(tmp_path / "a/README.md", b"not read")
    (tmp_path / "folder.txt").mkdir()
    assert documents(tmp_path) == [["one"], ["two"], ["a/z.txt"], ["b.txt"], ["c/d/e.txt.gz"]]


def test_what_a_corpus_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "books").mkdir()
    monkeypatch.chdir(tmp_path / "books")
    names = {
        "../text/english": "english",
        "text/english/": "english",
        "wiki.txt.gz": "wiki",
        "v1.2": "v1.2",
        ".": "books",
        "Salesforce/wikitext:wikitext-2-v1": "wikitext",
    }
    assert {corpus: name_of(corpus) for corpus in names} == names


def digest(path: Path) -> str:
    return find_texts(str(path)).digest


def test_the_digest_names_content_and_form_and_not_the_place(tmp_path: Path) -> None:
    content = json_lines("one")
    first = digest(write(tmp_path / "a/x.jsonl", content))
    assert digest(write(tmp_path / "b/y.jsonl", content)) == first
    assert digest(tmp_path / "a") == first
    assert digest(write(tmp_path / "x.txt", content)) != first
    assert digest(write(tmp_path / "x.jsonl", json_lines("two"))) != first
    write(tmp_path / "a/z.txt", b"more")
    assert digest(tmp_path / "a") != first


def test_blank_lines_and_documents_without_a_line_leave_no_trace(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"one\n\n \t\ntwo\n")
    write(tmp_path / "b.txt", b"\n\n")
    write(tmp_path / "c.txt", b"")
    write(tmp_path / "d.txt", b"three")
    assert list(lines_of(find_texts(str(tmp_path)))) == ["one", "two", None, "three", None]


def test_batches_hold_every_line_once_and_neither_too_many_nor_too_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_AT_ONCE", 3)
    monkeypatch.setattr(module, "CHARACTERS_AT_ONCE", 10)
    lines = ["a", None, "b", "c" * 11, None, "d", "e" * 6, "f" * 6, "g"]
    found = list(batches(lines))
    assert [line for batch in found for line in batch] == lines
    assert [len(batch) for batch in found] == [3, 1, 3, 2]


def gzipped_but_cut(content: bytes) -> bytes:
    return gzip.compress(content * 100)[:-20]


def gzipped_but_spoiled(content: bytes) -> bytes:
    spoiled = bytearray(gzip.compress(bytes(range(256)) * 100))
    spoiled[30:60] = b"\xff" * 30
    return bytes(spoiled)


LATIN = "naïve\n".encode("latin-1")
BROKEN: dict[str, tuple[str, bytes, list[str]]] = {
    "not UTF-8": ("a.txt", b"good\n" * 3 + LATIN + b"good\n", ["a.txt, line 4", "not UTF-8", "convert"]),
    "not UTF-8, far down": ("a.txt", b"good\n" * 99_999 + LATIN, ["a.txt, line 100000", "not UTF-8"]),
    "binary": ("a.txt", b"\x7fELF\x02\0\0\0\n", ["a.txt, line 1", "no text"]),
    "UTF-16": ("a.txt", "text".encode("utf-16-le"), ["a.txt, line 1", "no text"]),
    "no gzip": ("a.txt.gz", b"plain text\n", ["a.txt.gz", "cannot be read", "copy the file again"]),
    "cut gzip": ("a.txt.gz", gzipped_but_cut(b"text\n"), ["a.txt.gz", "cannot be read"]),
    "spoiled gzip": ("a.jsonl.gz", gzipped_but_spoiled(b""), ["a.jsonl.gz", "cannot be read"]),
    "no JSON": ("a.jsonl", json_lines("x") + b"{'text': 3}\n", ["a.jsonl, line 2", '"text"', "write one a line"]),
    "no text in it": ("a.jsonl", b'{"body": "x"}\n', ["a.jsonl, line 1", '"text"']),
    "no object": ("a.jsonl", b'["text"]\n', ["a.jsonl, line 1", '"text"']),
    "a number": ("a.jsonl", b'{"text": 3}\n', ["a.jsonl, line 1", "text is int"]),
    "half a surrogate pair": ("a.jsonl", b'{"text": "\\ud800"}\n', ["a.jsonl, line 1", "surrogates"]),
    "deep": ("a.jsonl", b"[" * 100_000, ["a.jsonl, line 1", '"text"']),
}


@pytest.mark.parametrize(("name", "content", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_text_is_refused_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, said: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(lambda: list(lines_of(find_texts(str(tmp_path)))))
    assert message.startswith("corpus: ")
    for words in said:
        assert words in message


def test_a_file_that_went_away_is_one_line(tmp_path: Path) -> None:
    gone = FileTexts(files=(tmp_path / "gone.txt",))
    attempts: list[Callable[[], object]] = [lambda: gone.digest, lambda: list(lines_of(gone))]
    for attempt in attempts:
        message = refusal(attempt)
        assert "gone.txt cannot be read (FileNotFoundError" in message


def test_a_name_that_is_not_there_is_met_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "english/a.txt", b"text")
    message = refusal(lambda: find_texts(str(tmp_path / "englsh")))
    assert "did you mean 'english'?" in message
    assert "give a text file, a folder of text files" in message
    assert "did you mean 'a.txt'?" in refusal(lambda: find_texts(str(tmp_path / "english/b.txt")))
    assert "there is no 'books.txt'" in refusal(lambda: find_texts("books.txt"))


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/README.md", b"text")
    assert "has no file that ends in .txt, .txt.gz, .jsonl, .jsonl.gz" in refusal(lambda: find_texts(str(tmp_path)))


def test_a_file_that_is_no_text_by_its_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "book.pdf", b"text")
    assert "is no text; give a file that ends in .txt" in refusal(lambda: find_texts(str(path)))
