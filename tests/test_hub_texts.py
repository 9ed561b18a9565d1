"""Text data sets of the Hugging Face hub: the requests and the loading are real, the hub is a server here."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import refusal, run_module
from tests.dataset_server import DatasetHub
from tests.http_server import serving
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import MAX_HELD_OUT, Text, open_corpus
from trainer.pretraining.texts import find_texts

TWO_CONFIGS = b"""---
configs:
- config_name: old
  data_files: old/*.parquet
- config_name: new
  data_files: new/*.parquet
- config_name: same
  data_files: new/*.parquet
---
"""


def parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def json_lines(*records: dict[str, object]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[DatasetHub]:
    """A hub with data sets in several forms."""
    with serving(DatasetHub()) as hub:
        poems = [{"id": number, "text": f"poem {number}\na line"} for number in range(2500)]
        hub.repositories |= {
            "somebody/poems": {"train.jsonl": json_lines(*poems), "test.jsonl": json_lines({"id": 0, "text": "other"})},
            "somebody/two": {
                "README.md": TWO_CONFIGS,
                "old/train.parquet": parquet(content=["first", None, "third"], number=[1, 2, 3]),
                "new/train.parquet": parquet(content=["not read"] * 2, text=["new one", "new two"]),
            },
            "somebody/pairs": {"train.parquet": parquet(question=["why"], answer=["so"])},
            "somebody/numbers": {"train.parquet": parquet(number=[1])},
            "somebody/tests": {"test.jsonl": json_lines({"text": "x"})},
            "somebody/nothing": {"README.md": b"empty"},
        }
        yield hub


@pytest.fixture
def hub(server: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetHub:
    """The same, as the libraries' one hub, with an empty cache."""
    point_to(server.url, monkeypatch)
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    server.asked.clear()
    return server


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import HfFileSystem, constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
    HfFileSystem.clear_instance_cache()


def documents(name: str) -> list[list[str]]:
    return [list(document) for document in find_texts(name).documents()]


def test_every_record_of_the_split_train_is_a_document(hub: DatasetHub) -> None:
    assert documents("somebody/poems") == [[f"poem {number}", "a line"] for number in range(2500)]


def test_a_config_stands_after_the_colon(hub: DatasetHub) -> None:
    assert documents("somebody/two:new") == [["new one"], ["new two"]]


def test_the_one_column_of_texts_is_read_whatever_its_name(hub: DatasetHub) -> None:
    assert documents("somebody/two:old") == [["first"], [], ["third"]]


def test_the_digest_names_the_data_set_its_config_and_its_commit(hub: DatasetHub) -> None:
    names = ["somebody/poems", "somebody/two:old", "somebody/two:new", "somebody/two:same"]
    digests = {find_texts(name).digest for name in names}
    assert len(digests) == 4
    assert find_texts(names[0]).digest in digests


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("somebody/poem", "no data set of that name that you may read"),
        ("somebody/two", "pick one among the available configs: ['old', 'new', 'same']"),
        ("somebody/two:newer", "BuilderConfig 'newer' not found. Available: ['old', 'new', 'same']"),
        ("somebody/pairs", "has no column 'text' (it has question, answer)"),
        ("somebody/numbers", "has no column 'text' (it has number)"),
        ("somebody/tests", "Bad split: train. Available splits: ['test']"),
        ("somebody/nothing", "cannot be opened"),
    ],
)
def test_a_data_set_that_cannot_be_read_is_one_line(hub: DatasetHub, name: str, said: str) -> None:
    message = refusal(lambda: find_texts(name).digest)
    assert message.startswith("corpus: ")
    assert name.partition(":")[0] in message
    assert said in message


def test_a_name_near_a_folder_or_a_language_is_answered_with_it(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "books/english").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'nested'?" in refusal(lambda: find_texts("nestd").digest)
    assert "did you mean 'english'?" in refusal(lambda: find_texts("books/englsh").digest)


def test_without_a_network_there_is_one_line_after_one_try(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(f"http://127.0.0.1:{closed_port}", monkeypatch)
    monkeypatch.setattr("time.sleep", _never)
    message = refusal(lambda: find_texts("somebody/poems").digest)
    assert "'somebody/poems' is no file or folder, and the Hugging Face hub cannot be reached" in message


def _never(seconds: float) -> None:
    raise AssertionError(f"waits for {seconds} s before another try")


def test_only_as_much_as_is_needed_is_read(
    hub: DatasetHub, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("trainer.pretraining.texts.LINES_AT_ONCE", 100)

    def num_tokens(num_steps: int) -> int:
        config = PretrainConfig(
            corpus="somebody/poems", model=str(tiny_model), num_steps=num_steps, batch_size=10, max_length=12
        )
        corpus = open_corpus(config)[0]
        assert isinstance(corpus, Text)
        return len(corpus.tokens_M)

    short, long = num_tokens(10), num_tokens(10_000)
    assert (10 * 10 + MAX_HELD_OUT) * 10 <= short < long / 3


def test_the_command_trains_on_a_data_set_by_name(server: DatasetHub, tiny_model: Path, tmp_path: Path) -> None:
    settings = {
        "corpus": "somebody/poems",
        "model": str(tiny_model),
        "num-steps": "2",
        "batch-size": "4",
        "max-length": "16",
        "output": str(tmp_path / "out"),
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "POLYMATH_DATA": str(tmp_path / "cache")}
    ended = run_module("trainer.pretrain", *options, NO_PROXY="127.0.0.1", **environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("poems: ")
    about = json.loads((tmp_path / "out/step-2/polymath.json").read_text())
    assert about["corpus"] == "poems"


def test_a_data_set_that_goes_away_while_it_is_read_is_one_line(hub: DatasetHub) -> None:
    hub.repositories["somebody/gone"] = {"train.jsonl": json_lines({"text": "x"})}
    texts = find_texts("somebody/gone")
    assert texts.digest
    del hub.repositories["somebody/gone"]
    message = refusal(lambda: list(texts.documents()))
    assert message.startswith("corpus: 'somebody/gone' cannot be read (")
    assert message.endswith("try again later")
