"""``python -m sweeps.probe``: looks into models with one of five probes, recorded in MLflow."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweeps.checkpoints import fetch_model
from sweeps.cluster import knock, own_address
from sweeps.connection import answering, client, current_uri, impatient, shown
from sweeps.probe_record import called, closing, describe_probe, log_measured, log_probe, open_probe
from sweeps.probe_workers import measure_all
from sweeps.table import begin_table, end_table
from trainer.commandline import parse, run, setting
from trainer.config import positive
from trainer.probes.config import ProbeConfig, is_scratch
from trainer.probes.models import find_models, named_models


@dataclass(frozen=True, kw_only=True)
class Settings(ProbeConfig):
    """The parameters of ``mlflow run . -e probe`` and of ``python -m sweeps.probe``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    data_dir: str | None = setting(
        None, help="folder with the task's files; auto: the cache folder, filled by download"
    )
    num_workers: int | None = setting(
        None, help="models, or pairs of them, side by side; auto: as many as there are GPUs, or CPUs"
    )
    ray_address: str | None = setting(
        None, help="Ray cluster to run on, e.g. auto or HOST:PORT; local: this machine alone", none="local"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_workers is not None:
            positive("num_workers", self.num_workers)

    @cached_property
    def config(self) -> ProbeConfig:
        """The settings that decide the numbers."""
        return ProbeConfig(**{name: getattr(self, name) for name in ProbeConfig.__dataclass_fields__})


def main(arguments: Sequence[str]) -> int:
    """Measures, records, and prints the table."""
    settings = parse(
        Settings,
        arguments,
        program="python -m sweeps.probe",
        description="Look into models with one of five probes, recorded in MLflow.",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the run is closed
    config = settings.config
    given, uri = os.environ.pop("MLFLOW_RUN_ID", None), current_uri()  # workers must not inherit it
    if address := own_address(settings.ray_address):
        knock(address)
    labels = fetch_models(config, uri)

    from trainer.probes.inputs import read_inputs

    models = find_models(config, labels)
    folder = Path(settings.data_dir).expanduser() if settings.data_dir else None
    inputs, dataset = read_inputs(config, models, folder)
    with answering(uri), impatient():
        store = client(uri)
        record = open_probe(store, config, dataset, given)
    with closing(store, record.run_id):
        with answering(uri), impatient():
            describe_probe(store, record.run_id, config, dataset, inputs.max_length)
        models_said = f"{len(models)} model{'s' * (len(models) > 1)}"
        print(f"{config.kind} of {models_said} on {config.num_drawn} examples of {config.task}, {config.split}")
        print(f"recorded in run {record.run_id} of {shown(uri)}", flush=True)
        from trainer.probes.probe import parts_of

        parts = parts_of(config, models, inputs)
        measured = measure_all(config, parts, ray_address=settings.ray_address, num_workers=settings.num_workers)
        with answering(uri):
            log_probe(store, record.run_id, config, [model.label for model in models], inputs.num_tokens, measured)
            log_measured(store, record.run_id, config, measured)
    page = f"/#/experiments/{record.experiment_id}/runs/{record.run_id}"
    end_table(begin_table(uri, record.run_id), uri, page)
    return 0


def fetch_models(config: ProbeConfig, tracking_uri: str) -> Mapping[str, str]:
    """Brings those models here that lie in the tracking store; returns what to call them.

    Raises:
        UserError: when one is not there.
    """
    names = [name for name in (*config.models, config.architecture or "") if name and not is_scratch(name)]
    with named_models():
        for name in names:
            fetch_model(name)
    return {name: label for name in names if (label := called(name, config, tracking_uri))}


if __name__ == "__main__":
    run(main)
