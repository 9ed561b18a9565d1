"""What a user asks of a sweep (SweepOptions) and the cells that follow from it (SweepSpec)."""

import hashlib
import json
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from sweeps.grids import GRIDS, Axes
from trainer.commandline import setting
from trainer.config import INITS, Subject, TrialConfig, positive
from trainer.errors import UserError, one_of
from trainer.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Subject):
    """The parameters of ``mlflow run . -e sweep`` and of ``python -m sweeps``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    inits: tuple[str, ...] = setting(INITS, help="where the weights come from, comma-separated")
    grid: str = setting(
        "search",
        help="quick: 2 learning rates at Adam; compare: Adam at 1e-5; search: 5 optimizers x 9 learning rates",
    )
    seeds: int = setting(1, help="how many seeds: 3 means seeds 0, 1, 2 for weights, data order and mapping alike")
    data_dir: str | None = setting(
        None, help="folder with the task's files; auto: the cache folder, filled by download"
    )
    cpus_per_trial: int = setting(1, help="CPU threads that each trial uses", unit="threads")
    gpus_per_trial: float | None = setting(
        None, help="share of a GPU that each trial uses, e.g. 0.25; auto: 1 where there are GPUs, else 0", unit="GPUs"
    )
    ray_address: str | None = setting(
        None, help="Ray cluster to run on, e.g. auto or HOST:PORT; local: this machine alone", none="local"
    )
    save_model: bool = setting(False, help="whether each trial's tested model is logged to its run: true or false")
    name: str | None = setting(None, help="the sweep's name in MLflow; auto: from task, grid and model")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("grid", self.grid, GRIDS)
        if not self.inits:
            raise UserError(f"inits: none given; allowed: {', '.join(INITS)}, comma-separated")
        for init in self.inits:
            one_of("inits", init, INITS)
        if len(set(self.inits)) < len(self.inits):
            raise UserError(f"inits: {','.join(self.inits)} names one of them twice; give each once")
        positive("seeds", self.seeds)
        positive("cpus_per_trial", self.cpus_per_trial)
        if self.gpus_per_trial is not None and not self.gpus_per_trial >= 0:
            raise UserError(f"gpus_per_trial: {self.gpus_per_trial} is not allowed; give 0, 1 or a fraction of 1")

    def base(self) -> dict[str, Any]:
        """The trial settings that all cells share."""
        config = TrialConfig(**{field.name: getattr(self, field.name) for field in fields(Subject)})
        return {name: value for name, value in config.settings().items() if name not in self.axes()}

    def axes(self) -> Axes:
        """The grid's axes, with the inits and seeds asked for."""
        return GRIDS[self.grid](self.inits, self.seeds)

    @property
    def data_folder(self) -> Path | None:
        """The data folder, absolute, since workers run elsewhere; None for the cache folder.

        The path of an own task is relative to it, and without it to the folder that we are in.
        """
        if self.data_dir:
            return Path(self.data_dir).expanduser().absolute()
        return None if self.task in TASKS else Path.cwd()

    @property
    def model_folder(self) -> Path | None:
        """The model's folder, absolute; None for a Hugging Face name, which each machine looks up by itself."""
        folder = Path(self.model).expanduser()
        return folder.absolute() if folder.is_dir() else None

    def title(self) -> str:
        """The sweep's name in MLflow."""
        return self.name or f"{Path(self.task).name} {self.grid} {Path(self.model).name}"


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A grid over trial configs: the product of the axes, every cell with the same base."""

    base: dict[str, Any]
    axes: Axes

    def points(self) -> list[dict[str, Any]]:
        """The cells' places on the axes, in the order in which they are to run."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]

    def config(self, point: dict[str, Any]) -> TrialConfig:
        """The cell at a point."""
        return TrialConfig(**self.base, **point)


def cell_key(config: TrialConfig) -> str:
    """16 hex digits that name a cell: a SHA-256 of its whole config."""
    return hashlib.sha256(json.dumps(config.settings(), sort_keys=True).encode()).hexdigest()[:16]
