"""What trials read, as workers get it: from this machine's files, or through Ray with none of them at hand."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from sweeps.spec import SweepOptions
from sweeps.supplies import Parcel, Received, Supplies
from tests.conftest import files_in, refusal
from trainer import data
from trainer.config import TrialConfig
from trainer.data import load_dataset, provide_dataset
from trainer.digests import folder_digest
from trainer.logger import SilentLogger
from trainer.tasks import TASKS
from trainer.trial import Trial, begin_trial

if TYPE_CHECKING:
    from trainer.tasks.task import Dataset

pytestmark = [
    # Ray opens files and sockets that it closes at exit only.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("ray_here", "cache"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This machine's cache folder, the test's own; what was provided is forgotten after it."""
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    data._provided.clear()


@pytest.fixture
def driver(tmp_path: Path, dna_files: Path, tiny_model: Path) -> Path:
    """A folder with data, a model and a checkpoint, to be there only while the sweep is prepared."""
    folder = tmp_path / "driver"
    shutil.copytree(dna_files, folder / "data")
    shutil.copytree(tiny_model, folder / "model")
    shutil.copytree(tiny_model, folder / "checkpoints/step-20")
    return folder


def asked(driver: Path, **more: object) -> SweepOptions:
    settings = {"task": "splice", "model": str(driver / "model"), "data_dir": str(driver / "data"), "num_epochs": 1}
    return SweepOptions(**{**settings, "grid": "compare", "max_train_examples": 64, **more})  # type: ignore[arg-type]


def ship(options: SweepOptions) -> Supplies:
    """What a driver does; after it, its files are gone."""
    assert options.data_folder is not None
    dataset = options.definition.load(options.data_folder)
    supplies = Supplies.shipped(options, options.spec(), dataset)
    shutil.rmtree(options.data_folder.parent)
    return supplies


def train(config: TrialConfig, received: Received) -> dict[str, float]:
    trial = Trial(
        config,
        SilentLogger(),
        data_dir=received.data_dir,
        model_folder=received.model_folder,
        checkpoint_folder=received.checkpoint_folder,
    )
    (*_, last) = trial
    assert last.result is not None
    return {name: value for name, value in last.result.metrics.items() if name != "examples_per_second"} | {
        f"loss {step}": loss for step, loss in enumerate(last.result.losses)
    }


@pytest.mark.parametrize("init", ["pretrained", "scratch", "checkpoint"])
def test_what_was_shipped_trains_to_the_same_numbers_as_the_files(driver: Path, init: str, tracking_uri: str) -> None:
    options = asked(driver, inits=(init,), checkpoint=str(driver / "checkpoints"))
    (config, *_) = options.spec().cells.values()
    expected = train(config, Supplies.local(options).receive(config, tracking_uri))
    supplies = ship(options)
    received = supplies.receive(config, tracking_uri)
    assert str(driver) not in str(received)
    assert train(config, received) == expected


def test_workers_on_this_machine_read_its_files(driver: Path, tracking_uri: str, cache: Path) -> None:
    options = asked(driver, inits=("scratch",))
    (config, *_) = options.spec().cells.values()
    received = Supplies.local(options).receive(config, tracking_uri)
    assert received == Received(data_dir=driver / "data", model_folder=driver / "model", checkpoint_folder=None)
    assert not cache.exists()


@pytest.mark.parametrize("model", ["kmer", "hilbert-cnn"])
def test_a_rival_needs_data_alone(driver: Path, model: str, tracking_uri: str, cache: Path) -> None:
    options = asked(driver, model=model)
    (config, *_) = options.spec().cells.values()
    received = ship(options).receive(config, tracking_uri)
    assert received == Received(data_dir=None, model_folder=None, checkpoint_folder=None)
    (*_, last) = begin_trial(config, SilentLogger())
    assert last.result is not None and last.result.outcome == "finished"
    assert not cache.exists()


def test_a_users_own_file_need_not_be_on_the_workers_machine(
    driver: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{'ACGT' * 5}{'AC'[number % 2] * 9},{number % 2}" for number in range(60)]
    (driver / "data/mine.csv").write_text("\n".join(["sequence,label", *lines]))
    monkeypatch.chdir(driver / "data")
    options = asked(driver, task="mine.csv", data_dir=None, inits=("scratch",))
    (config, *_) = options.spec().cells.values()
    supplies = ship(options)
    monkeypatch.chdir("/")
    assert "test/score" in train(config, supplies.receive(config, tracking_uri))


def test_weights_are_sent_only_if_a_cell_starts_from_them(driver: Path) -> None:
    dataset = TASKS["splice"].load(driver / "data")

    def sent(*inits: str) -> set[str]:
        options = asked(driver, inits=inits)
        model = Supplies.shipped(options, options.spec(), dataset).model
        assert model is not None
        return set(model.files)

    assert sent("pretrained", "scratch") - sent("scratch") == {"model.safetensors"}
    assert "config.json" in sent("scratch")


def test_a_machine_unpacks_a_model_once_and_leaves_no_scraps(tiny_model: Path, cache: Path) -> None:
    parcel = Parcel.of(tiny_model)
    place = parcel.unpacked()
    assert place == cache / "models" / folder_digest(tiny_model)
    assert files_in(place) == set(parcel.files) and folder_digest(place) == folder_digest(tiny_model)
    written = (place / "config.json").stat().st_mtime_ns
    assert parcel.unpacked() == place and (place / "config.json").stat().st_mtime_ns == written
    assert {path.name for path in (cache / "models").iterdir()} == {place.name}


def test_many_workers_at_once_find_one_whole_model(tiny_model: Path, cache: Path) -> None:
    import ray

    parcel = Parcel.of(tiny_model)

    @ray.remote(num_cpus=0.25)
    def unpack(parcel: Parcel) -> tuple[str, str]:
        place = parcel.unpacked()
        return str(place), folder_digest(place)

    def on_own_cache(parcel: Parcel) -> "ray.ObjectRef[tuple[str, str]]":
        return unpack.options(runtime_env={"env_vars": {"POLYMATH_DATA": str(cache)}}).remote(parcel)

    found = set(ray.get([on_own_cache(parcel) for _ in range(8)]))
    assert found == {(str(cache / "models" / parcel.digest), parcel.digest)}
    assert {path.name for path in (cache / "models").iterdir()} == {parcel.digest}


def test_a_spoilt_model_in_the_cache_is_unpacked_again(tiny_model: Path) -> None:
    parcel = Parcel.of(tiny_model)
    place = parcel.unpacked()
    (place / "config.json").write_text("{}")
    (place / "model.safetensors").unlink()
    assert folder_digest(parcel.unpacked()) == parcel.digest


def test_content_that_is_not_what_was_sent_is_refused_and_not_kept(tiny_model: Path, cache: Path) -> None:
    import ray

    parcel = Parcel.of(tiny_model)
    files = {**parcel.files, "config.json": ray.put(np.frombuffer(b"{}", dtype=np.uint8))}
    with pytest.raises(ValueError, match="arrived with digest"):
        Parcel(digest=parcel.digest, files=files).unpacked()
    assert files_in(cache) == set()


@pytest.mark.parametrize("name", ["../config.json", "/tmp/config.json", "sub/config.json", "..", "", "..\\config.json"])
def test_names_that_lead_out_of_the_folder_are_refused(name: str, cache: Path) -> None:
    import ray

    content = ray.put(np.zeros(1, dtype=np.uint8))
    with pytest.raises(ValueError, match="is not allowed"):
        Parcel(digest="0123456789abcdef", files={name: content}).unpacked()
    with pytest.raises(ValueError, match="is not allowed"):
        Parcel(digest=name, files={"config.json": content}).unpacked()
    assert files_in(cache) == set()


def test_a_cache_folder_that_cannot_be_written_is_one_line(tiny_model: Path, cache: Path) -> None:
    cache.write_text("a file")
    assert refusal(Parcel.of(tiny_model).unpacked).startswith(f"POLYMATH_DATA: '{cache}/models' on ")


def test_data_provided_takes_the_place_of_files_and_of_data_provided_before(dna_files: Path, tiny_model: Path) -> None:
    config = TrialConfig(task="splice", init="scratch")
    whole = TASKS["splice"].load(dna_files)
    half = whole.first_train_examples(90)

    def encoded(dataset: "Dataset") -> torch.Tensor:
        provide_dataset(config.definition, None, dataset)
        assert load_dataset(config.definition, None) is dataset
        return torch.from_numpy(data.encode_dataset(config, None, tiny_model)["train"].ids_NT.astype(np.int64))

    assert len(encoded(whole)) == len(whole.train) != 90
    assert len(encoded(half)) == 90
