"""``python -m sweeps.pretrain``: one pre-training, recorded in MLflow, its models as artifacts of its run.

The same command again goes on with a pre-training that was interrupted, in the same run.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps import recorded
from sweeps.checkpoints import fetch_model
from sweeps.cluster import local_gpus, own_address
from sweeps.connection import LAST_TRY, answering, client, current_uri, impatient, shown
from sweeps.heartbeat import BEAT_S, LEASE_S, Heartbeat, Watch, heartbeat_of_now
from sweeps.ledger import OPEN, CellRun, cell_runs
from sweeps.pretrain_group import check_group, train_in_group
from sweeps.pretrain_worker import CHECKPOINTS, Job, clear_states, train
from sweeps.provenance import provenance_files, provenance_tags
from sweeps.tracking import find_experiment
from trainer.commandline import parse, run, setting
from trainer.config import positive
from trainer.digests import folder_digest
from trainer.errors import UserError
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus
from trainer.version import PRETRAINING_NUMBERS

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from trainer.pretraining.corpus import Corpus

RUNS_ALREADY = "corpus: this pre-training runs already, in run {}; wait for it, or stop it"


@dataclass(frozen=True, kw_only=True)
class Settings(PretrainConfig):
    """The parameters of ``mlflow run . -e pretrain`` and of ``python -m sweeps.pretrain``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    num_workers: int | None = setting(
        None, help="processes that share every step, a GPU each where there are GPUs; auto: as many as GPUs, else 1"
    )
    num_threads: int | None = setting(None, help="CPU threads of each; auto: all of this machine's", unit="threads")
    ray_address: str | None = setting(
        None, help="Ray cluster to run on, e.g. auto or HOST:PORT; local: this machine alone", none="local"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_workers", "num_threads"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        check_group(self.num_workers, self)


def main(arguments: Sequence[str]) -> int:
    """Pre-trains a model, or goes on with it, and says where it is."""
    settings = parse(
        Settings,
        arguments,
        program="python -m sweeps.pretrain",
        description="Pre-train a masked language model on a corpus, recorded in MLflow.",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what is half written is put away
    config = settings.config
    fetch_model(config.model)
    corpus, folder = open_corpus(config)
    given, uri = os.environ.pop("MLFLOW_RUN_ID", None), current_uri()  # workers must not inherit it
    with answering(uri), impatient():
        store = client(uri)
        experiment_id = find_experiment(store, given)
        if given:
            store.set_tag(given, "mlflow.runName", f"pretrain {config.corpus_name}")
        key = key_of(config, corpus, folder)
        before = find_run(store, experiment_id, key)
    if before is not None and before.is_done():
        if before.outcome == "diverged":
            raise UserError(
                f"learning_rate: {config.learning_rate} diverged before, in run {before.run_id}; give another"
            )
        clear_states(store, before.run_id)
        print(f"done already, in run {before.run_id} of {shown(uri)}; {how_to_use(config, before.run_id)}")
        return 0
    with answering(uri), impatient():
        run_id = taken_up(store, before) if before else new_run(store, experiment_id, config, corpus, key, given)
        give_way(store, experiment_id, key, run_id)
    print(f"{config.corpus_name}: {corpus.about}")
    print(f"{'goes on' if before else 'recorded'} in run {run_id} of {shown(uri)}", flush=True)
    job = Job(config=config, tracking_uri=uri, run_id=run_id, num_threads=settings.num_threads or os.cpu_count() or 1)
    with Heartbeat(store, run_id), _closing(store, run_id):
        if own_address(settings.ray_address) is None and (settings.num_workers or local_gpus()) <= 1:
            train(job)
        else:
            train_in_group(job, settings.num_workers, settings.ray_address)
    print(how_to_use(config, run_id))
    return 0


@contextmanager
def _closing(store: "MlflowClient", run_id: str) -> Iterator[None]:
    """Ends the run as KILLED by SIGTERM or Ctrl-C, and says how to go on; no error leaves it open."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # the latter is Ray Train's answer to Ctrl-C
        with suppress(Exception), impatient(LAST_TRY):
            store.set_terminated(run_id, "KILLED")
        print("stopped; to go on from the last step that was kept, run the same command", flush=True)
        raise KeyboardInterrupt from None
    except BaseException:
        with suppress(Exception), impatient(LAST_TRY):
            if store.get_run(run_id).info.status in OPEN:
                store.set_terminated(run_id, "FAILED")
        raise


def give_way(store: "MlflowClient", experiment_id: str, key: str, run_id: str) -> None:
    """Of two that open a run for the same pre-training at once, the later one gives way.

    Raises:
        UserError: when that is this one; its run is deleted.
    """
    for other in cell_runs(store, experiment_id, key):  # oldest first
        if other.run_id == run_id:
            return
        if other.is_open and _lives(store, other.run_id):
            store.delete_run(run_id)
            raise UserError(RUNS_ALREADY.format(other.run_id))


def taken_up(store: "MlflowClient", before: CellRun) -> str:
    """Opens a run again that came to nothing; returns its id."""
    store.update_run(before.run_id, status="RUNNING")
    for name in {recorded.OUTCOME, recorded.FAILURE} & before.tags.keys():
        store.delete_tag(before.run_id, name)
    return before.run_id


def how_to_use(config: PretrainConfig, run_id: str) -> str:
    """What can be done with the models."""
    return (
        f"its models: runs:/{run_id}/{CHECKPOINTS}/step-N with N {', '.join(map(str, config.kept_steps))}; to compare "
        f"them: mlflow run . -e sweep -P grid=steps -P model=runs:/{run_id}/{CHECKPOINTS}/step-{config.num_steps} "
        f"-P checkpoint=runs:/{run_id}/{CHECKPOINTS} -P task=splice"
    )


def key_of(config: PretrainConfig, corpus: "Corpus", folder: "Path") -> str:
    """16 hex digits that name a pre-training: its settings, its corpus, its tokenizer and config, our version."""
    settings = config.settings() | {"corpus": corpus.digest, "model": folder_digest(folder, weights=False)}
    whole = json.dumps([settings, PRETRAINING_NUMBERS], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def find_run(store: "MlflowClient", experiment_id: str, key: str) -> CellRun | None:
    """The newest run of a pre-training that is done, or that can be gone on with.

    Raises:
        UserError: when somebody is training it now.
    """
    runs = cell_runs(store, experiment_id, key)
    if done := [found for found in runs if found.is_done()]:
        return done[-1]
    for found in runs:
        if found.is_open and _lives(store, found.run_id):
            raise UserError(RUNS_ALREADY.format(found.run_id))
    return runs[-1] if runs else None


def _lives(store: "MlflowClient", run_id: str) -> bool:
    """Whether the process that trains a run still shows its heartbeat; seen at once on its own machine."""
    watch = Watch(store, Heartbeat(store, ""))
    watch.heartbeat.up_since = time.monotonic()
    first = store.get_run(run_id).data.tags.get(recorded.HEARTBEAT, "")
    end = time.monotonic() + LEASE_S + BEAT_S
    while not watch.gone([run_id]):
        if time.monotonic() > end or store.get_run(run_id).data.tags.get(recorded.HEARTBEAT, "") != first:
            return True
        time.sleep(1)
    return False


def new_run(
    store: "MlflowClient", experiment_id: str, config: PretrainConfig, corpus: "Corpus", key: str, given: str | None
) -> str:
    """Makes the run of a pre-training; under the one that ``mlflow run`` made, where there is one.

    ``mlflow run`` has recorded there, for good, what it was given as text.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    tags = {**provenance_tags(), recorded.KIND: "pretrain", recorded.CELL: key, recorded.CORPUS: config.corpus_name}
    tags |= {recorded.DATA_DIGEST: corpus.digest, recorded.HEARTBEAT: heartbeat_of_now()}
    if given:
        tags[recorded.PARENT] = given
    title = f"{config.corpus_name} {config.num_steps} steps seed {config.seed}"
    run_id = str(store.create_run(experiment_id, tags=tags, run_name=title).info.run_id)
    params = [Param(name, _text(value)) for name, value in config.settings().items()]
    store.log_batch(run_id, params=params)
    source = json.dumps({"uri": config.corpus})
    data = Dataset(
        name=config.corpus_name,
        digest=corpus.digest,
        source_type="local",
        source=source,
        profile=json.dumps({"content": corpus.about}),
    )
    store.log_inputs(run_id, [DatasetInput(dataset=data, tags=[InputTag("mlflow.data.context", "train")])])
    for name, text in provenance_files().items():
        store.log_text(run_id, text, name)
    return run_id


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    run(main)
