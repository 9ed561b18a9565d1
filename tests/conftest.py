"""What tests share: a tiny model, DNA files in upstream's format, real data if it is at hand, Ray, stores, a server."""

import os
import socket
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sweeps.tracking import SweepRecord
    from tests.http_server import Server
    from trainer.tasks.task import Dataset

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data, in upstream's layout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real data is not at hand: ../shared/data is missing")
    return folder


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder with real vocabularies and configurations."""
    folder = SHARED / "models"
    if not folder.is_dir():
        pytest.skip("real models are not at hand: ../shared/models is missing")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers and 32 hidden units with a vocabulary of 1,100 tokens, its weights drawn by a seed."""
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny-bert", num_tokens=1100)


@pytest.fixture(scope="session")
def tiny_model_for_music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with tokens for 128 pitches."""
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny-bert", num_tokens=1200)


def write_tiny_bert(folder: Path, num_tokens: int) -> Path:
    """Its vocabulary has letters and digits, so that a text is more than unknown words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    pieces = [piece for letter in string.ascii_lowercase + string.digits for piece in (letter, f"##{letter}")]
    pieces += [f"word{place}" for place in range(1000 + len(pieces), num_tokens)]
    words = [special.get(place, f"[unused{place}]") for place in range(1000)] + pieces
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=num_tokens,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    model = BertModel(config)
    for parameter in model.parameters():  # unlike a fresh draw, so that tests can tell the inits apart
        parameter.data *= 3
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dna_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with generated DNA files in upstream's layout, 200 examples each; the label is in the content."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "dna").mkdir()
    rng = np.random.default_rng(0)

    def sequence(length: int, letter: str) -> str:
        return "".join(rng.choice([*"ACGT", letter, letter], size=length))

    splice = []
    for number in range(200):
        name, letter = [("EI", "A"), ("IE", "C"), ("N", "G")][number % 3]
        splice.append(f"{name},    RECORD-{number},    {sequence(60, letter)}\n")
    (folder / "dna/splice.txt").write_text("".join(splice))
    for name in ("H3", "H4", "H3K9ac"):
        records = [f">{name}_{n}\n{sequence(500 - n % 2 * 100, 'AC'[n % 2])}\n{n % 2}\n" for n in range(200)]
        (folder / f"dna/{name}.txt").write_text("".join(records))
    return folder


@pytest.fixture(scope="session")
def task_files(dna_files: Path) -> Path:
    """The same folder with generated files of every other discipline too."""
    from tests.glue_files import write_glue
    from tests.midi_files import write_music
    from tests.protein_files import write_proteins

    for write in (write_glue, write_proteins, write_music):
        write(dna_files)
    return dna_files


@pytest.fixture(scope="session")
def glue_forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated files of every GLUE task in both forms; tests only read them."""
    from tests.glue_files import write_glue, write_glue_parquet

    folder = tmp_path_factory.mktemp("glue")
    write_glue(folder)
    write_glue_parquet(folder)
    return folder


@pytest.fixture
def glue_folder(tmp_path: Path) -> Path:
    """Such a folder with tab-separated files, for one test to spoil."""
    from tests.glue_files import write_glue

    write_glue(tmp_path)
    return tmp_path


@pytest.fixture
def pitch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached pitches, the test's own."""
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache/pitches"


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One Ray with two CPUs for all tests of this session; sweeps that find it use it."""
    from sweeps.environment import LOOPBACK, RAY_SETTINGS

    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ.update(RAY_SETTINGS | LOOPBACK)
    import ray

    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real SQLite tracking store, set up once; tests use experiments of their own in it."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("tracking")
    uri = f"sqlite:///{folder}/mlflow.db"
    before = Path.cwd()
    os.chdir(folder)  # MLflow puts the default artifact folder here
    try:
        MlflowClient(uri).search_experiments()
    finally:
        os.chdir(before)
    return uri


@pytest.fixture
def experiment(
    tracking_uri: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """The id of a new experiment for one test, in the session's store, set as MLflow's current one."""
    from mlflow import MlflowClient

    name = f"{request.node.name} {tmp_path}"
    made = MlflowClient(tracking_uri).create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", made)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return made


@pytest.fixture
def store(tracking_uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


@pytest.fixture
def splice_dataset(dna_files: Path) -> "Dataset":
    from trainer.tasks import TASKS

    return TASKS["splice"].load(dna_files)


@pytest.fixture
def sweep(experiment: str, splice_dataset: "Dataset") -> "SweepRecord":
    """An open sweep in the real store."""
    from sweeps.spec import SweepOptions
    from sweeps.tracking import open_sweep

    options = SweepOptions(task="splice", inits=("pretrained", "scratch"), grid="compare")
    return open_sweep(options, options.spec(), splice_dataset, None)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads from the loopback pass by any proxy, and are tried again at once."""
    from trainer import downloads

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "RETRY_WAIT_S", 0)


@pytest.fixture
def server() -> Iterator["Server"]:
    from tests.http_server import CONTENT, Server, serving

    with serving(Server(CONTENT)) as served:
        yield served


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def refusal(action: Callable[[], object]) -> str:
    """The one line that a user gets for a mistake."""
    from trainer.errors import UserError

    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m ...`` in the repository root, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
