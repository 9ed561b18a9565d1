"""The parts of a probe, each a model or a pair of them: one after the other here, or side by side through Ray."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sweeps.cluster import own_address, ray_nodes
from sweeps.supplies import Parcel
from trainer.errors import UserError, first_line
from trainer.probes.config import ProbeConfig

if TYPE_CHECKING:
    from trainer.probes.probe import Measured, Part, Tell

QUARTERS = 4  # of a part, after each of which a pipe gets a line
LOOK_S = 0.5  # between looks at how far workers are
TELL_S = 0.2  # between two tellings of a worker


class ProbeProgress:
    """Shows how far every part is: bars on a terminal, plain lines in a pipe. Use as a context manager."""

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed} of {task.total}"),
        )
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal
        )
        self._names = names
        self._tasks = [self._bar.add_task(name, total=None) for name in names]
        self._quarters = [0] * len(names)

    def __enter__(self) -> "ProbeProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, part: int, done: int, total: int) -> None:
        """A part has done so many of its passes."""
        self._bar.update(self._tasks[part], completed=done, total=total)
        quarter = done * QUARTERS // total
        if quarter > self._quarters[part] and not self.console.is_terminal:
            self.console.print(f"{self._names[part]}: {done} of {total}", markup=False)
        self._quarters[part] = max(quarter, self._quarters[part])


def measure_all(
    config: ProbeConfig, parts: "Sequence[Part]", *, ray_address: str | None, num_workers: int | None
) -> "list[Measured]":
    """Measures every part; in this process where there is one, or one worker.

    Args:
        ray_address: of a cluster; None for this machine.
        num_workers: parts side by side; None for as many as there are GPUs, or CPUs.

    Raises:
        UserError: when a part meets a user's mistake, or there is no cluster at the address.
    """
    from trainer.probes.probe import measure

    address = own_address(ray_address)
    num_cpus = os.cpu_count() or 1
    with ProbeProgress([" - ".join(part.labels) for part in parts]) as progress:
        if address is not None or min(len(parts), num_cpus, num_workers or num_cpus) > 1:
            return _through_ray(config, parts, address, num_workers, progress)
        return [measure(config, part, partial(progress.tell, number)) for number, part in enumerate(parts)]


def _through_ray(
    config: ProbeConfig, parts: "Sequence[Part]", address: str | None, num_workers: int | None, progress: ProbeProgress
) -> "list[Measured]":
    with ray_nodes(address) as (nodes, _):
        import ray

        counts = {kind: [int(node["Resources"].get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU")}
        cpus, gpus = (sum(of_nodes) for of_nodes in counts.values())
        side_by_side = min(len(parts), num_workers or gpus or cpus)
        num_threads = max(1, min(cpus // side_by_side, *counts["CPU"]))
        resources: dict[str, Any] = {"num_cpus": num_threads, "num_gpus": 1 if gpus else 0}
        board: Any = ray.remote(num_cpus=0)(Board).remote()
        parcels = _parcels(parts) if address else {}
        work = ray.remote(**resources)(_work)
        waiting = list(enumerate(parts))
        running: dict[Any, int] = {}
        found: dict[int, Measured] = {}
        while waiting or running:
            while waiting and len(running) < (num_workers or len(parts)):
                number, part = waiting.pop(0)
                running[work.remote(config, part, number, num_threads, board, parcels)] = number
            ended, _ = ray.wait(list(running), timeout=LOOK_S)
            for number, told in ray.get(board.read.remote()).items():
                progress.tell(number, *told)
            for reference in ended:
                found[running.pop(reference)] = _result(reference)
    return [found[number] for number in range(len(parts))]


def _result(reference: Any) -> "Measured":
    import ray

    try:
        measured: Measured = ray.get(reference)
    except ray.exceptions.RayError as error:
        if isinstance(cause := getattr(error, "cause", None), UserError):
            raise UserError(str(cause)) from None
        if isinstance(error, ray.exceptions.RayTaskError):
            raise
        reason = first_line(error)
        raise UserError(f"num_workers: a worker has died ({reason}); give fewer, memory may be short") from None
    return measured


class Board:
    """Where workers write how far they are; an actor of Ray's."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[int, int]] = {}

    def write(self, part: int, done: int, total: int) -> None:
        """A part has done so many of its passes."""
        self._told[part] = done, total

    def read(self) -> dict[int, tuple[int, int]]:
        """What has been written since the last time."""
        told, self._told = self._told, {}
        return told


def _parcels(parts: "Sequence[Part]") -> dict[Path, Parcel]:
    """The models' files in Ray's object store, for machines that have no such folders; of new models no weights."""
    needs_weights: dict[Path, bool] = {}
    for model in (model for part in parts for model in part.models):
        needs_weights[model.folder] = needs_weights.get(model.folder, False) or not model.is_new
    return {folder: Parcel.of(folder, weights=needed) for folder, needed in needs_weights.items()}


def _work(
    config: ProbeConfig, part: "Part", number: int, num_threads: int, board: Any, parcels: Mapping[Path, Parcel]
) -> "Measured":
    """What a worker of Ray's does."""
    from trainer.probes.probe import measure

    if parcels:
        models = tuple(replace(model, folder=parcels[model.folder].unpacked()) for model in part.models)
        part = replace(part, models=models)
    return measure(config, part, _seldom(partial(board.write.remote, number)), num_threads)


def _seldom(tell: "Tell") -> "Tell":
    """Tells a few times a second, and the end."""
    last = 0.0

    def now_and_then(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > TELL_S:
            last = time.monotonic()
            tell(done, total)

    return now_and_then
