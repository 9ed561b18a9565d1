"""Corpora as sequences of token ids: every token once and in order, tokenised once, held out or trained on, by step."""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, files_in, refusal
from trainer.models import read_tokenizer, read_vocabulary
from trainer.pretraining import tokens
from trainer.pretraining.artificial import is_nested
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import MAX_HELD_OUT, Text, open_corpus
from trainer.pretraining.texts import Texts, find_texts
from trainer.pretraining.tokens import tokenized, trained_tokenizer

CONTENT_LENGTH = 6
KANNADA_LINES = 800


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which tokenised text is kept, the test's own."""
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache/corpora"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with two documents of 1,001 tokens of the tiny model in all, every word another one."""
    folder = tmp_path / "text"
    folder.mkdir()
    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrst" for c in "uvw"]
    (folder / "a.txt").write_text("\n".join(" ".join(words[first : first + 7]) for first in range(0, 200, 7)))
    (folder / "b.txt").write_text(" ".join(words[200:]))
    return folder


@pytest.fixture(scope="session")
def kannada(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first lines of the Kannada text."""
    path = tmp_path_factory.mktemp("kannada") / "wiki.txt"
    with (real_data / "text/kannada/wiki.txt").open(encoding="utf-8") as file:
        path.write_text("".join(line for line, _ in zip(file, range(KANNADA_LINES), strict=False)), encoding="utf-8")
    return path


def config(corpus: Path | str, model: Path, **changed: Any) -> PretrainConfig:
    settings = {"num_steps": 5, "batch_size": 4, "max_length": CONTENT_LENGTH + 2} | changed
    return PretrainConfig(corpus=str(corpus), model=str(model), **settings)


def opened(corpus: Path | str, model: Path, **changed: Any) -> Text:
    found = open_corpus(config(corpus, model, **changed))[0]
    assert isinstance(found, Text)
    return found


def plain_ids(folder: Path, model: Path) -> list[int]:
    """The token ids of a folder's files as a reader of the promise would make them."""
    tokenizer = read_tokenizer(model)
    ids: list[int] = []
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            ids += tokenizer(line, add_special_tokens=False)["input_ids"]
        ids.append(tokenizer.sep_token_id)
    return ids


def refuse(*arguments: Any, **keywords: Any) -> Any:
    raise AssertionError("tokenised again")


def test_a_text_becomes_its_tokens_with_the_end_token_after_each_document(text: Path, tiny_model: Path) -> None:
    expected = plain_ids(text, tiny_model)
    assert expected.count(102) == 2
    found = tokenized(find_texts(str(text)), tiny_model, 0)
    assert found.tolist() == expected
    assert isinstance(found, np.memmap)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_how_many_lines_are_tokenised_at_once_changes_nothing(
    text: Path, tiny_model: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.pretraining.texts.LINES_AT_ONCE", at_once)
    assert tokenized(find_texts(str(text)), tiny_model, 0).tolist() == plain_ids(text, tiny_model)


def test_many_short_documents_are_tokenised_together(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": f"word{number}"}) for number in range(1072, 1100)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    tokenizer = read_tokenizer(tiny_model)
    calls = []

    class Counting:
        sep_token_id = 102

        def __len__(self) -> int:
            return len(tokenizer)

        def __call__(self, lines: list[str], **settings: Any) -> Any:
            calls.append(lines)
            return tokenizer(lines, **settings)

    monkeypatch.setattr(tokens, "read_tokenizer", lambda _: Counting())
    found = tokenized(find_texts(str(tmp_path / "a.jsonl")), tiny_model, 0)
    assert len(calls) == 1
    assert found.reshape(28, -1)[:, -1].tolist() == [102] * 28


def test_long_lines_are_not_cut_whatever_the_tokenizer_was_saved_with(tmp_path: Path, real_models: Path) -> None:
    model = real_models / "all-MiniLM-L6-v2"  # its tokenizer.json says truncation to 128 tokens and padding
    (tmp_path / "a.txt").write_text("the " * 1000 + "\nthe")
    found = tokenized(find_texts(str(tmp_path / "a.txt")), model, 0)
    assert np.unique_counts(found).counts.tolist() == [1, 1001]


@pytest.mark.parametrize(("num_tokens", "kind"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_an_id_takes_two_bytes_unless_the_vocabulary_needs_four(
    text: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, num_tokens: int, kind: type
) -> None:
    class Wide:
        sep_token_id = num_tokens - 1

        def __len__(self) -> int:
            return num_tokens

        def __call__(self, lines: list[str], **settings: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[number] for number in range(len(lines))]}

    monkeypatch.setattr(tokens, "read_tokenizer", lambda _: Wide())
    found = tokenized(find_texts(str(text)), tiny_model, 0)
    assert found.dtype == kind
    assert found.tolist() == [*range(29), num_tokens - 1, 29, num_tokens - 1]


def test_a_text_is_tokenised_once(text: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = tokenized(find_texts(str(text)), tiny_model, 0)
    monkeypatch.setattr(tokens, "_token_ids", refuse)
    again = tokenized(find_texts(str(text)), tiny_model, 0)
    assert again.tolist() == first.tolist()
    assert len(files_in(cache)) == 1
    assert next(cache.iterdir()).stat().st_mode & 0o055 == 0o055  # others of the machine may read it


def test_other_content_or_another_tokenizer_is_not_taken_for_the_same(
    text: Path, tiny_model: Path, tiny_model_for_music: Path, cache: Path
) -> None:
    first = tokenized(find_texts(str(text)), tiny_model, 0)
    tokenized(find_texts(str(text)), tiny_model_for_music, 0)
    assert len(files_in(cache)) == 2
    (text / "b.txt").write_text("word1090 " * 30)
    assert tokenized(find_texts(str(text)), tiny_model, 0).tolist() != first.tolist()


class Endless:
    """Documents without end, as of a data set on the hub."""

    digest, is_endless = "0" * 16, True

    def __init__(self) -> None:
        self.num_read = 0

    def documents(self) -> Iterator[list[str]]:
        while True:
            self.num_read += 1
            assert self.num_read < 1_000_000, "read on and on"
            yield ["abc"]


def test_of_an_endless_text_only_what_is_needed_is_read(tiny_model: Path) -> None:
    texts: Texts = Endless()
    assert len(tokenized(texts, tiny_model, 10_000)) >= 10_000
    assert texts.num_read < 6_000  # type: ignore[attr-defined]
    assert len(tokenized(texts, tiny_model, 40_000)) >= 40_000  # a longer pre-training reads more


MAKER = """
import sys
from pathlib import Path
from trainer.pretraining.texts import find_texts
from trainer.pretraining.tokens import tokenized
from trainer.pretraining import tokens
texts, model = find_texts(sys.argv[1]), Path(sys.argv[2])
ids = tokens._token_ids
def held(*arguments):
    print("began", flush=True)
    sys.stdin.readline()
    yield from ids(*arguments)
tokens._token_ids = held
print(sum(tokenized(texts, model, 0).tolist()))
"""


def test_two_processes_that_tokenise_the_same_text_at_once_both_have_it(
    text: Path, tiny_model: Path, cache: Path
) -> None:
    command = [sys.executable, "-c", MAKER, str(text), str(tiny_model)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second,
    ):
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "began\n"
        found = {process.communicate("go\n", timeout=120)[0] for process in (first, second)}
        assert (first.returncode, second.returncode) == (0, 0)
    assert found == {f"{sum(plain_ids(text, tiny_model))}\n"}
    assert len(list(cache.iterdir())) == 1


def test_sequences_are_full_in_order_and_lose_nothing_but_the_rest(text: Path, tiny_model: Path) -> None:
    corpus = opened(text, tiny_model)
    ids = plain_ids(text, tiny_model)
    num_sequences = len(ids) // CONTENT_LENGTH
    expected = np.array(ids[: num_sequences * CONTENT_LENGTH]).reshape(-1, CONTENT_LENGTH)
    held_out = np.setdiff1d(np.arange(num_sequences), corpus.train)
    assert (corpus.held_out_VT[:, 1:-1] == expected[held_out]).all()
    assert len(held_out) == round(num_sequences / 20)
    read = epochs(corpus, 1)[0]
    assert sorted(read[:, 1:-1].tolist()) == sorted(expected[corpus.train].tolist())
    for ids_BT in (corpus.batch(0), corpus.held_out_VT):
        assert ids_BT.dtype == np.int64
        assert ids_BT.shape[1] == CONTENT_LENGTH + 2
        assert (ids_BT[:, 0] == 101).all() and (ids_BT[:, -1] == 102).all()


def epochs(corpus: Text, number: int) -> list[np.ndarray]:
    """The sequences of the first epochs, each epoch's in the order in which they are trained on."""
    size, length = corpus.config.batch_size, len(corpus.train)
    rows = np.concatenate([corpus.batch(step) for step in range(-(-number * length // size))])
    return [rows[epoch * length : (epoch + 1) * length] for epoch in range(number)]


def test_each_epoch_reads_every_training_sequence_once_in_another_order(text: Path, tiny_model: Path) -> None:
    corpus = opened(text, tiny_model)
    rows = [list(map(tuple, epoch)) for epoch in epochs(corpus, 3)]
    assert len({*rows[0]}) == len(corpus.train)  # every sequence is another one
    assert sorted(rows[0]) == sorted(rows[1]) == sorted(rows[2])
    assert rows[0] != rows[1] != rows[2] != rows[0]
    assert not {*rows[0]} & set(map(tuple, corpus.held_out_VT))


@pytest.mark.parametrize("name", ["text", "flat", "nested"])
def test_what_a_step_reads_hangs_on_seed_and_step_alone(text: Path, tiny_model: Path, name: str) -> None:
    corpus = text if name == "text" else name

    def batches(seed: int, steps: list[int]) -> dict[int, list[list[int]]]:
        found = open_corpus(config(corpus, tiny_model, seed=seed, batch_size=300))[0]
        return {step: found.batch(step).tolist() for step in steps}

    forwards, backwards = batches(1, [0, 1, 13, 14]), batches(1, [14, 13, 1, 0])
    assert forwards == backwards
    assert len({json.dumps(batch) for batch in forwards.values()}) == 4
    assert batches(2, [0])[0] != forwards[0]


def test_the_held_out_sequences_are_spread_over_a_long_text_and_512_at_most(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "a.txt").write_text("abcde\n" * 20_000)
    corpus = opened(tmp_path / "a.txt", tiny_model)
    held_out = np.setdiff1d(np.arange(len(corpus.train) + MAX_HELD_OUT), corpus.train)
    assert len(corpus.held_out_VT) == MAX_HELD_OUT == 512
    assert held_out[0] == 0
    assert np.ptp(np.diff(held_out)) <= 1


def test_two_sequences_are_enough_and_one_is_not(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a " * (2 * CONTENT_LENGTH - 1))  # and the end token
    corpus = opened(path, tiny_model)
    assert (len(corpus.train), len(corpus.held_out_VT)) == (1, 1)
    assert corpus.batch(3).shape == (4, CONTENT_LENGTH + 2)
    path.write_text("a " * (2 * CONTENT_LENGTH - 2))
    message = refusal(lambda: opened(path, tiny_model))
    assert "has 11 tokens, and two sequences of 6 tokens are needed; give more text, or a smaller max_length" in message


def test_an_empty_file_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    assert "a.txt' has no text" in refusal(lambda: opened(tmp_path / "a.txt", tiny_model))


def test_generated_sequences_have_their_languages_structure_over_ordinary_tokens(tiny_model: Path) -> None:
    corpus, folder = open_corpus(config("nested", tiny_model, num_kinds=7))
    assert folder == tiny_model
    ids_BT = np.concatenate([corpus.batch(0), corpus.batch(1), corpus.held_out_VT])
    assert all(map(is_nested, ids_BT[:, 1:-1]))
    assert len(np.unique(ids_BT[:, 1:-1])) == 7
    assert ids_BT[:, 1:-1].min() >= 1000
    assert {*ids_BT[:, 0]} == {101} and {*ids_BT[:, -1]} == {102}
    every = open_corpus(config("uniform", tiny_model, batch_size=1000))[0].batch(0)
    assert np.unique(every[:, 1:-1]).tolist() == read_vocabulary(tiny_model).ordinary_ids().tolist()


def test_generated_sequences_never_come_again_and_those_held_out_not_at_all(tiny_model: Path) -> None:
    corpus = open_corpus(config("uniform", tiny_model, batch_size=1000, max_length=18))[0]
    rows = [tuple(row) for step in range(10) for row in corpus.batch(step)]  # from three blocks
    assert len({*rows, *map(tuple, corpus.held_out_VT)}) == 10_000 + MAX_HELD_OUT


def test_the_digest_names_what_is_learned(text: Path, tiny_model: Path) -> None:
    kinds = [{}, {"num_kinds": 7}, {"seed": 1, "num_kinds": 7}]
    generated = {open_corpus(config("flat", tiny_model, **more))[0].digest for more in kinds}
    written = {opened(text, tiny_model, seed=seed).digest for seed in (0, 1)}
    assert len(generated) == 3
    assert len(written) == 1  # the seed orders a text, and config says the seed


def without_format_marks(line: str) -> str:
    """BERT drops joiners, which are no vowels; several spaces are one."""
    line = "".join(mark for mark in line if unicodedata.category(mark) != "Cf")
    return "".join(unicodedata.normalize("NFKC", line).lower().split())


@pytest.mark.parametrize(
    ("model", "kind"),
    [("bert-base-uncased", "WordPiece"), ("roberta-base", "BPE"), ("albert-base-v1", "Unigram")],
)
def test_a_tokenizer_of_the_models_kind_is_trained_and_keeps_vowel_signs(
    kannada: Path, real_models: Path, model: str, kind: str
) -> None:
    folder = trained_tokenizer(find_texts(str(kannada)), real_models / model, 2000)
    tokenizer, original = read_tokenizer(folder), read_tokenizer(real_models / model)
    assert type(tokenizer) is type(original)
    assert type(tokenizer.backend_tokenizer.model).__name__ == kind
    assert len(tokenizer) == 2000
    assert {*tokenizer.all_special_tokens} == {*original.all_special_tokens} == {*tokenizer.get_added_vocab()}
    lines = kannada.read_text(encoding="utf-8").splitlines()
    ids = tokenizer(lines, add_special_tokens=False)["input_ids"]
    unknown = np.mean(np.concatenate(ids) == tokenizer.unk_token_id)
    assert unknown < 0.001
    known = [(line, row) for line, row in zip(lines, ids, strict=True) if tokenizer.unk_token_id not in row]
    decoded = [without_format_marks(str(tokenizer.decode(row))) for _, row in known]
    assert np.mean([a == without_format_marks(line) for a, (line, _) in zip(decoded, known, strict=True)]) > 0.99


@pytest.mark.parametrize("model", ["bert-base-uncased", "roberta-base", "albert-base-v1"])
def test_a_trained_tokenizers_folder_is_a_whole_architecture(kannada: Path, real_models: Path, model: str) -> None:
    corpus, folder = open_corpus(config(kannada, real_models / model, vocabulary_size=2000))
    vocabulary = read_vocabulary(folder)
    before, after = (json.loads((where / "config.json").read_text()) for where in (real_models / model, folder))
    assert after["vocab_size"] == len(vocabulary.tokens) == 2000
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"}
    assert (vocabulary.begin_id, vocabulary.end_id) == (after.get("bos_token_id", 2), after.get("eos_token_id", 3))
    assert vocabulary.pad_id == after["pad_token_id"]
    assert vocabulary.ordinary_ids().tolist() == list(range(1000, 2000))
    ids_BT = corpus.batch(0)
    assert (ids_BT[:, 0] == vocabulary.begin_id).all() and (ids_BT[:, -1] == vocabulary.end_id).all()


def test_a_tokenizer_is_trained_once_for_a_text_and_a_size(
    text: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = find_texts(str(text))
    first = trained_tokenizer(texts, tiny_model, 100)
    assert trained_tokenizer(texts, tiny_model, 110) != first
    monkeypatch.setattr(tokens, "train_tokenizer", refuse)
    assert trained_tokenizer(texts, tiny_model, 100) == first


TRAINER = """
import sys
from pathlib import Path
from trainer.digests import folder_digest
from trainer.pretraining.texts import find_texts
from trainer.pretraining.tokens import trained_tokenizer
for model in sys.argv[2:]:
    print(folder_digest(trained_tokenizer(find_texts(sys.argv[1]), Path(model), 1000)))
"""


def test_the_same_text_gives_the_same_tokenizer_in_every_process(
    kannada: Path, real_models: Path, tmp_path: Path
) -> None:
    models = [str(real_models / model) for model in ("bert-base-uncased", "roberta-base", "albert-base-v1")]
    printed = []
    for seed in "12":  # of the order of Python's sets
        environment = {**os.environ, "POLYMATH_DATA": str(tmp_path / seed), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", TRAINER, str(kannada), *models]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        printed.append(ended.stdout.split())
    assert len(printed[0]) == 3
    assert printed[0] == printed[1]


def test_no_tokens_are_spent_on_characters_that_are_never_inside_a_word(tmp_path: Path, real_models: Path) -> None:
    (tmp_path / "a.txt").write_text("模型学习模型。模型: small (words) ನೀರು\n" * 3, encoding="utf-8")
    folder = trained_tokenizer(find_texts(str(tmp_path / "a.txt")), real_models / "bert-base-chinese", 100)
    inner = {token for token in read_vocabulary(folder).tokens if token.startswith("##")}
    assert {"##m", "##ರ"} <= inner
    assert not inner & {f"##{mark}" for mark in "模型学习。:()"}


def test_a_mistake_in_the_text_stays_one_while_a_tokenizer_is_trained(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\nna\xefve\n")
    message = refusal(lambda: open_corpus(config(tmp_path / "a.txt", tiny_model, vocabulary_size=100)))
    assert "a.txt, line 2: not UTF-8" in message


def test_a_vocabulary_that_cannot_hold_the_texts_characters_is_refused(kannada: Path, real_models: Path) -> None:
    model = real_models / "bert-base-uncased"
    message = refusal(lambda: open_corpus(config(kannada, model, vocabulary_size=100)))
    assert message.startswith("vocabulary_size: 100 is not allowed")
    assert "give more" in message


@pytest.mark.parametrize("model", ["bert-base-uncased", "albert-base-v1", "bert-base-chinese"])
def test_a_script_that_the_tokenizer_does_not_know_is_refused(kannada: Path, real_models: Path, model: str) -> None:
    message = refusal(lambda: open_corpus(config(kannada, real_models / model)))
    assert "% of the tokens of" in message
    assert "give vocabulary_size, e.g. 30000, to train one on the text, or another model" in message


def test_a_bytewise_tokenizer_knows_every_script(kannada: Path, real_models: Path) -> None:
    corpus, folder = open_corpus(config(kannada, real_models / "roberta-base"))
    assert folder == (real_models / "roberta-base").resolve()
    assert len(corpus.batch(0)) == 4
