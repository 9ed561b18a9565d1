"""What ``python -m trainer.describe`` promises: true numbers in few lines, a picture, and a quick start."""

import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import refusal, run_module
from trainer.describe import describe, main
from trainer.describe_picture import picture
from trainer.tasks.dna import SPLICE
from trainer.tasks.glue import MRPC
from trainer.tasks.music import segmented
from trainer.tasks.own import own_task
from trainer.tasks.protein import LOCALIZATION
from trainer.tasks.task import Dataset, Split


def split(sequences: Sequence[str], labels: Sequence[float], **more: object) -> Split:
    return Split(sequences=tuple(sequences), labels=np.array(labels), **more)  # type: ignore[arg-type]


def dataset(train: Split, valid: Split, test: Split, **changed: object) -> Dataset:
    fixed: dict[str, object] = {"symbols": "ACGT", "classes": ("up", "down"), "split": "as given", "note": ""}
    given = fixed | {"source": "my.csv", "train": train, "valid": valid, "test": test} | changed
    return Dataset(**given)  # type: ignore[arg-type]


def entries(lines: Sequence[str]) -> dict[str, list[str]]:
    """The lines by the word that stands before them."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        name = line[:10].strip() or name
        found.setdefault(name, []).append(line[10:])
    return found


def words(line: str) -> list[str]:
    return line.split()


CLASSED = dataset(
    split(["A" * length for length in range(1, 101)], [0] * 30 + [1] * 70),
    split(["CA", "AAA", "TT", "G"], [0, 0, 0, 1]),
    split(["AC", "CC", "A" * 200, "A"], [0, 0, 0, 1]),
    note="28 % subset",
    facts={"skipped_files": "2"},
)
TASK = own_task("my.csv")


def test_lines_state_what_the_dataset_holds() -> None:
    said = entries(describe(TASK, CLASSED, 80))
    assert said["data"] == ["my.csv", "28 % subset"]
    assert said["examples"] == ["108: train 100, valid 4, test 4 (as given)"]
    assert [words(line) for line in said["classes"][:-1]] == [
        ["2", "train", "valid", "test"],
        ["up", "30", "3", "3"],
        ["down", "70", "1", "1"],
    ]
    assert said["classes"][-1] == "always guessing 'down', the most frequent in train: 25.0 % right on test"
    assert said["symbols"] == ["4: A C G T"]
    assert said["lengths"][0] == "min 1, 5 % 2, 25 % 20, median 47, 75 % 74, 95 % 96, max 200 (symbols)"
    assert said["lengths"][1] == "cut at 80: 21 (19.4 %) are longer and lose their end"
    assert said["facts"] == ["skipped files: 2"]
    assert said["beware"] == [
        "train has no symbol C, G, T",
        "1 of 4 sequences of valid are in train too",
        "1 of 4 sequences of test are in train too",
    ]


def test_nothing_is_cut_at_the_longest_and_proteins_lose_their_middle() -> None:
    assert entries(describe(TASK, CLASSED, 200))["lengths"][1] == "cut at 200: none is longer"
    assert entries(describe(TASK, CLASSED, 199))["lengths"][1].startswith("cut at 199: 1 (0.9 %) are longer")
    assert entries(describe(LOCALIZATION, CLASSED, 199))["lengths"][1].endswith("lose their middle")


def test_classes_that_a_split_lacks_or_that_have_one_example_are_named() -> None:
    made = dataset(
        split(["A"] * 10, [0, 1] * 5),
        split(["C"], [2]),
        split(["C"] * 2, [0, 1]),
        classes=("a", "b", "c"),
        symbols="AC",
    )
    beware = entries(describe(TASK, made, 10))["beware"]
    assert "there is only one example of c" in beware
    assert "train has no example of c" in beware
    assert "valid has no example of a, b" in beware
    assert "test has no example of c" in beware


def test_many_classes_are_the_twelve_most_frequent_and_the_sum_of_the_rest() -> None:
    labels = [label for label in range(40) for _ in range(label + 1)]
    whole = split(["A"] * len(labels), labels)
    made = dataset(whole, whole, whole, classes=tuple(f"class {label}" for label in range(40)), symbols="A")
    lines = entries(describe(TASK, made, 10))["classes"]
    assert [line.split("  ")[0] for line in lines[1:-1]] == [f"class {39 - n}" for n in range(12)] + ["and 28 more"]
    assert words(lines[-2])[-1] == str(sum(range(1, 29)))
    assert lines[-1].startswith("always guessing 'class 39'") and f"{100 * 40 / len(labels):.1f} %" in lines[-1]


def test_numbers_are_told_by_their_spread_in_each_split() -> None:
    train = split(["A"] * 101, [number / 4 for number in range(101)])
    made = dataset(train, split(["C"] * 2, [1.0, 3.0]), split(["C"] * 2, [-1e6, 1e6]), classes=(), symbols="AC")
    head, *rows = [words(line) for line in entries(describe(TASK, made, 10))["numbers"]]
    assert head == ["min", "5", "%", "25", "%", "median", "75", "%", "95", "%", "max", "mean", "std"]
    assert rows[0] == ["train", "0", "1.25", "6.25", "12.5", "18.75", "23.75", "25", "12.5", "7.289"]
    assert rows[1][0] == "valid" and rows[1][-2:] == ["2", "1"]
    assert rows[2][1] == "-1e+06"


def test_symbols_are_shown_by_name_and_so_that_they_can_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("sequence,label\n" + "".join(f'"word{n % 50} \te\u0301x",{n % 2}\n' for n in range(200)))
    task = own_task(str(path), separator="tab")
    assert entries(describe(task, task.load(), 10))["symbols"][0].startswith("51: ")
    task = own_task(str(path), separator="space")
    symbols = " ".join(entries(describe(task, task.load(), 10))["symbols"])
    assert symbols.startswith("51: e\u0301x word0 word1 word10") and symbols.endswith(" ...")
    assert len(symbols.split()) == 42
    task = own_task(str(path))
    said = entries(describe(task, task.load(), 10))
    assert said["symbols"][0].startswith("19: '\\t' ' ' 0 1 2")
    assert said["beware"][-1] == "a blank is a symbol here; for words give separator=space"


def test_pieces_are_counted_and_so_are_their_segments() -> None:
    train = segmented(["A" * 300, "B" * 300, "A" * 10], [0, 1, 0])
    held_out = segmented(["C" * 300, "D" * 128], [0, 1])
    made = dataset(train, held_out, held_out, symbols="ABCD")
    said = entries(describe(TASK, made, 128))
    assert said["pieces"] == [
        "5: train 3, valid = test 2 (as given)",
        "cut into segments: train 5, valid = test 3",
    ]
    assert [words(line)[-2:] for line in said["classes"][1:3]] == [["2", "1"], ["1", "1"]]
    assert "always guessing 'up', the most frequent in train: 50.0 % right" in said["classes"][3]


def test_text_is_measured_in_words_of_both_sentences_and_cut_in_tokens() -> None:
    train = split(["one two", "three"], [0, 1], seconds=("three four five", "six"))
    test = split(["one two", "three"], [0, 1], seconds=("three four five", "seven"))
    said = entries(describe(MRPC, dataset(train, test, test, symbols=""), 128))
    assert said["examples"] == ["4: train 2, valid = test 2 (as given)"]
    assert said["symbols"] == ["text, for the model's tokenizer"]
    assert said["lengths"][0].startswith("min 2, ") and said["lengths"][0].endswith("max 5 (words)")
    assert said["lengths"][1] == "cut at 128 tokens, special ones counted, at the end"
    assert said["beware"] == ["1 of 2 sequences of valid = test are in train too"]


def size(content: bytes) -> tuple[int, int]:
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.parametrize("num_classes", [1, 2, 3, 12, 13, 60])
def test_picture_is_a_png_of_1000_by_500_pixels_for_any_number_of_classes(num_classes: int) -> None:
    names = tuple(f"${number}_{{$ \\frac 日本 {'long ' * 9}" for number in range(num_classes))
    whole = split(["A" * (n + 1) for n in range(60)], [n % num_classes for n in range(60)])
    assert size(picture("$my_{$task", TASK, dataset(whole, whole, whole, classes=names), 30)) == (1000, 500)


@pytest.mark.parametrize("labels", [[0.0, 1e15], [1.0, 1.0000000000000002], [-1e-300, 0.0]])
@pytest.mark.parametrize("lengths", [[60, 60], [1, 2], [3, 40_000]])
def test_picture_bears_every_spread_of_numbers_and_lengths(labels: list[float], lengths: list[int]) -> None:
    whole = split(["A" * length for length in [lengths[0]] * 30 + [lengths[1]]], labels * 15 + labels[:1])
    made = dataset(whole, whole, whole, classes=())
    assert size(picture("/a/b/my.csv", TASK, made, 512)) == (1000, 500)
    assert len(describe(TASK, made, 512)) < 15


def test_picture_shows_text_and_pieces() -> None:
    texts = split(["one two", "three"], [0, 1])
    assert size(picture("mrpc", MRPC, dataset(texts, texts, texts, symbols=""), 128)) == (1000, 500)
    pieces = segmented(["A" * 300, "B" * 300], [0, 1])
    assert size(picture("pieces", TASK, dataset(pieces, pieces, pieces), 128)) == (1000, 500)


def test_command_prints_the_lines_and_writes_the_picture(
    dna_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "splice.png"
    assert main(["--task", "splice", "--data-dir", str(dna_files), "--output", str(output), "--max-length=50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "task      splice (dna)"
    assert lines[1:-1] == describe(SPLICE, SPLICE.load(dna_files), 50)
    assert lines[-1] == f"picture   {output}"
    assert any("cut at 50: 200 (100.0 %) are longer" in line for line in lines)
    assert len(lines) <= 15
    assert size(output.read_bytes()) == (1000, 500)


def test_command_reads_own_files_as_told_and_leaves_the_picture_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("sequence,label\n" + "".join(f"a-b{n % 2},{n % 3}\n" for n in range(30)))
    assert main(["--task", "my.csv", "--separator=-", "--labels", "numbers", "--output", "none"]) == 0
    said = entries(capsys.readouterr().out.splitlines())
    assert said["task"] == ["my.csv (own)"] and said["symbols"] == ["3: a b0 b1"] and "numbers" in said
    assert [path.name for path in tmp_path.iterdir()] == ["my.csv"]


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("--max-length=0", "max_length: 0 is not allowed; give at least 1"),
        ("--output=my.pdf", "output: 'my.pdf' is not allowed; give a name that ends in .png, or none"),
        ("--output=/nowhere/my.png", "output: '/nowhere/my.png' cannot be written"),
        ("--labels=number", "did you mean 'numbers'?"),
        ("--task=splice --labels=klasses", "labels: unknown value 'klasses'; allowed: auto, classes, numbers"),
        ("--task=splice --labels=numbers", "labels: this is for your own files, and 'splice' is none; leave it out"),
        ("--task=splice --separator=-", "separator: this is for your own files, and 'splice' is none; leave it out"),
        ("--tasks=h4", "unknown option '--tasks=h4'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, option: str, part: str) -> None:
    path = tmp_path / "my.csv"
    path.write_text("sequence,label\n" + "".join(f"AC,{n % 2}\n" for n in range(30)))
    assert part in refusal(lambda: main(["--task", str(path), *option.split()]))


def test_module_ends_with_status_2_and_one_line() -> None:
    ended = run_module("trainer.describe", "--task", "splise")
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: task: unknown value 'splise'") and ended.stderr.count("\n") == 1


def test_describing_does_not_wait_for_torch() -> None:
    code = "import sys, trainer.describe; print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_real_splice_file_is_described(real_data: Path) -> None:
    said = entries(describe(SPLICE, SPLICE.load(real_data), 60))
    assert said["examples"] == ["3,190: train 2,870, valid 160, test 160 (90/5/5 at random by seed 0)"]
    counts = np.array([[int(cell.replace(",", "")) for cell in words(line)[1:]] for line in said["classes"][1:4]])
    assert counts.sum(axis=1).tolist() == [767, 768, 1655]
    assert said["symbols"] == ["8: A C G T D N R S"]
