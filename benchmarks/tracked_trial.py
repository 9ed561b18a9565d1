"""A trial in a process of its own, recorded in one of several ways, and what of its time the recording took."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweeps.cell_record import CellRecord
from sweeps.tracking import SweepRecord
from sweeps.trial_logger import text_of
from sweeps.worker import OPENING_S
from trainer.config import TrialConfig, TrialResult
from trainer.data import load_dataset
from trainer.logger import Logger, SilentLogger

PATIENCE_S = 600.0  # for the other trials to begin
_barrier: threading.Barrier | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial to be run.

    Attributes:
        way: how it is recorded, a name in WAYS.
    """

    way: str
    config: TrialConfig
    data_dir: Path
    record: SweepRecord


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A trial that was run.

    Attributes:
        seconds: from its begin until all of it is recorded.
        lost_s: of these, what its training thread spent in calls of its logger and waiting for the record.
        opening_s: of this, until its run was open.
        closing_s: of this, after its end.
        cpu_s: CPU time of the process.
        tracking_cpu_s: of this, what the recording took, in whichever thread.
        run_id: empty when nothing was recorded.
    """

    seconds: float
    lost_s: float
    opening_s: float
    closing_s: float
    cpu_s: float
    tracking_cpu_s: float
    losses: tuple[float, ...]
    run_id: str


class Clocked:
    """A logger whose caller's time is taken: seconds that pass, and CPU seconds."""

    def __init__(self) -> None:
        self.seconds = self.cpu_s = 0.0
        self.logger: Logger = SilentLogger()

    @contextmanager
    def clock(self) -> Iterator[None]:
        started, cpu = time.perf_counter(), time.thread_time()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu_s += time.thread_time() - cpu

    def params(self, values: Mapping[str, object]) -> None:
        with self.clock():
            self.logger.params(values)

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        with self.clock():
            self.logger.metrics(name, values, steps)

    def tag(self, name: str, value: str) -> None:
        with self.clock():
            self.logger.tag(name, value)

    def artifact(self, name: str, content: bytes) -> None:
        with self.clock():
            self.logger.artifact(name, content)


class PlainLogger:
    """Each thing by the call that MLflow has for it, when it happens, as its tutorials do.

    What the store refuses, since others keep it locked too long, is lost; where nobody catches that, so is the trial.
    """

    def params(self, values: Mapping[str, object]) -> None:
        import mlflow

        self._try(lambda: mlflow.log_params({name: text_of(value) for name, value in values.items()}))

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        import mlflow

        for value, step in zip(values, steps, strict=True):
            self._try(partial(mlflow.log_metric, name, value, step))

    def tag(self, name: str, value: str) -> None:
        import mlflow

        self._try(lambda: mlflow.set_tag(name, value))

    def artifact(self, name: str, content: bytes) -> None:
        import mlflow

        with TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            self._try(lambda: mlflow.log_artifacts(folder))

    def _try(self, action: Callable[[], object]) -> None:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            action()


class SilentWay:
    """Records nothing."""

    def __init__(self, job: Job) -> None:
        self.logger: Logger = SilentLogger()

    def ready(self) -> None:
        """Before the first step."""

    def end(self, result: TrialResult) -> str:
        """Returns the run's id once it is complete."""
        return ""


class PolymathWay:
    """As a sweep's worker does: a thread claims, describes and writes the run; the model is built meanwhile."""

    def __init__(self, job: Job) -> None:
        dataset = load_dataset(job.config.definition, job.data_dir)
        self.logger = CellRecord(job.record, job.config, dataset, uuid.uuid4().hex[:16]).logger()

    def ready(self) -> None:
        self.logger.wait_open(OPENING_S)

    def end(self, result: TrialResult) -> str:
        self.logger.finish(result)
        self.logger.wait(None)
        return str(self.logger.run_id)


class PlainWay:
    """MLflow's fluent API, each call waiting for the store."""

    def __init__(self, job: Job) -> None:
        import mlflow

        mlflow.set_tracking_uri(job.record.tracking_uri)
        self.run_id = mlflow.start_run(experiment_id=job.record.experiment_id).info.run_id
        self.logger: Logger = PlainLogger()

    def ready(self) -> None:
        pass

    def end(self, result: TrialResult) -> str:
        import mlflow

        mlflow.end_run()
        return self.run_id


WAYS: dict[str, Callable[[Job], Any]] = {"silent": SilentWay, "polymath": PolymathWay, "plain": PlainWay}


def set_up(barrier: threading.Barrier) -> None:
    """Readies a process: a barrier that all of them wait at before they begin."""
    global _barrier
    _barrier = barrier


def run_trial(job: Job) -> Measured:
    """Trains it, when as many others are ready."""
    from trainer.trial import Trial

    assert _barrier is not None
    _barrier.wait(PATIENCE_S)
    started, cpu, own_cpu = time.perf_counter(), time.process_time(), time.thread_time()
    clocked = Clocked()
    with clocked.clock():
        way = WAYS[job.way](job)
    clocked.logger = way.logger
    trial = Trial(job.config, clocked, data_dir=job.data_dir, num_threads=1)
    with clocked.clock():
        way.ready()
    opening_s = clocked.seconds
    *_, report = trial
    until_end_s = clocked.seconds
    with clocked.clock():
        run_id = way.end(report.result)
    cpu_s = time.process_time() - cpu
    others_cpu_s = cpu_s - (time.thread_time() - own_cpu)
    return Measured(
        seconds=time.perf_counter() - started,
        lost_s=clocked.seconds,
        opening_s=opening_s,
        closing_s=clocked.seconds - until_end_s,
        cpu_s=cpu_s,
        tracking_cpu_s=clocked.cpu_s + others_cpu_s,
        losses=tuple(trial.losses),
        run_id=run_id,
    )
