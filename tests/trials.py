"""A trial's config, its results and an error, for tests of what is recorded of them."""

import uuid
from pathlib import Path

from sweeps.cell_record import CellRecord
from sweeps.keys import cell_keys
from sweeps.spec import SweepOptions, SweepSpec
from sweeps.storage import Storage
from sweeps.supplies import Supplies
from sweeps.tracking import SweepRecord
from sweeps.trial_logger import TrialLogger
from sweeps.worker import Place
from trainer.config import TrialConfig, TrialResult
from trainer.tasks.task import Dataset

DONE = TrialResult(config=TrialConfig(task="splice"), outcome="finished", metrics={"test/score": 0.5}, losses=[])
DIVERGED = TrialResult(config=TrialConfig(task="splice"), outcome="diverged", metrics={}, losses=[])
PATIENCE_S = 30  # for what happens at once unless the code is broken


def config(init: str = "scratch") -> TrialConfig:
    return TrialConfig(task="splice", init=init)


def failure(message: str) -> RuntimeError:
    """An error with a traceback."""
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


def start_trial(sweep: SweepRecord, config: TrialConfig, dataset: Dataset, key: str = "") -> TrialLogger:
    """The logger of a trial, its run open; of a cell of its own unless a key is given."""
    logger = CellRecord(sweep, config, dataset, key or uuid.uuid4().hex[:16]).logger()
    assert logger.wait_open(PATIENCE_S)
    return logger


def finish(logger: TrialLogger, result: TrialResult = DONE) -> str:
    """Ends a trial; returns its run's id when all of it is in the store."""
    logger.finish(result)
    assert logger.wait(PATIENCE_S) and logger.run_id
    return logger.run_id


def small_place(
    sweep: SweepRecord, dataset: Dataset, data_dir: Path, model: Path, storage: Path, num_epochs: int
) -> tuple[SweepSpec, Place]:
    """A sweep of short trials on splice, and where they run."""
    options = SweepOptions(
        task="splice",
        model=str(model),
        num_epochs=num_epochs,
        max_train_examples=64,
        data_dir=str(data_dir),
        grid="compare",
    )
    spec = options.spec()
    place = Place(
        base=dict(spec.base),
        record=sweep,
        keys=cell_keys(options, spec, dataset, sweep.tracking_uri),
        data_digest=dataset.digest,
        supplies=Supplies.local(options),
        storage=Storage(str(storage)),
        num_threads=1,
    )
    return spec, place
