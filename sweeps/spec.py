"""What a user asks of a sweep (SweepOptions) and the cells that follow from it (SweepSpec)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from sweeps.checkpoints import steps_of_each
from sweeps.grids import GRIDS, OVER_CHECKPOINTS, SETTINGS, Axes, read_learning_rates
from sweeps.own_grids import OWN, find_grid
from sweeps.provenance import without_secrets
from sweeps.recorded import BY_VALID, CRITERIA
from trainer.commandline import setting
from trainer.config import INITS, Subject, TrialConfig, check_init, positive
from trainer.errors import UserError, one_of
from trainer.rivals import RIVALS
from trainer.tasks import TASKS

MAX_SEEDS = 10_000
MAX_CELLS = 100_000
TITLE = ("init", "optimizer", "learning_rate", "seed")  # what every trial is called by


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Subject):
    """The parameters of ``mlflow run . -e sweep`` and of ``python -m sweeps``.

    Raises:
        UserError: on construction, naming the parameter, its value and what is allowed.
    """

    inits: tuple[str, ...] | None = setting(
        None,
        help=f"where the weights come from, with commas: {', '.join(INITS)}; auto: the first three, with a checkpoint "
        f"all four, in the grids {' and '.join(OVER_CHECKPOINTS)} scratch and checkpoint, of a rival scratch",
    )
    grid: str = setting(
        "search",
        help="quick: 2 learning rates at Adam; compare: Adam at 1e-5, 6 mappings or 3 seeds; search: 5 optimizers x 9 "
        "learning rates x 3 seeds; fraction: compare on 1 % of the data until the training loss is low; mapping: "
        "compare under every mapping; steps: every step of a checkpoint; corpora: several checkpoints, given with "
        f"commas, at checkpoint_step or each one's last step; or {OWN}",
    )
    select_by: str = setting(
        BY_VALID, help=f"the score whose mean over seeds chooses a setting: {' or '.join(CRITERIA)}"
    )
    seeds: int | None = setting(
        None,
        help="how many seeds: 3 means seeds 0, 1, 2 for weights, data order and mapping alike; auto: the grid's own",
    )
    learning_rates: tuple[float, ...] | None = setting(
        None, help="learning rates, with commas, in the place of the grid's own; auto: the grid's own", unit="per step"
    )
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
    storage: str | None = setting(
        None,
        help="folder or URI, e.g. s3://BUCKET/PATH, in which unfinished trials keep their state, shared by all "
        "machines of a cluster; auto: a folder of each machine's own",
    )
    rerun_diverged: bool = setting(False, help="whether cells whose trial diverged before are run again: true or false")
    save_model: bool = setting(False, help="whether each trial's tested model is logged to its run: true or false")
    dry_run: bool = setting(False, help="only print the cells, and run nothing: true or false")
    name: str | None = setting(None, help="the sweep's name in MLflow; auto: from task, grid and model")

    def __post_init__(self) -> None:
        for name, value in SETTINGS.get(self.grid, {}).items():
            taken = name == "train_fraction" and self.max_train_examples is not None
            if getattr(self, name) is None and not taken:
                object.__setattr__(self, name, value)
        # As given: cells fill in what is left open themselves, since it may hang on an axis.
        object.__setattr__(self, "_given", {field.name: getattr(self, field.name) for field in fields(Subject)})
        object.__setattr__(self, "_asked", {"seed": self.seeds is not None, "init": self.inits is not None})
        super().__post_init__()
        one_of("select_by", self.select_by, CRITERIA)
        self._check_checkpoint()
        self._check_inits()
        self._check_learning_rates()
        if self.seeds is not None:
            positive("seeds", self.seeds, MAX_SEEDS)
        positive("cpus_per_trial", self.cpus_per_trial)
        if self.gpus_per_trial is not None and not self.gpus_per_trial >= 0:
            raise UserError(f"gpus_per_trial: {self.gpus_per_trial} is not allowed; give 0, 1 or a fraction of 1")
        if self.storage and without_secrets(self.storage) != self.storage:
            raise UserError(
                "storage: a URI is recorded as it is; leave out its keys, and give them in the environment, e.g. "
                "AWS_ACCESS_KEY_ID"
            )
        if self.save_model and self.is_rival and not RIVALS[self.model].optimizer:
            raise UserError(f"save_model: true is not allowed, {self.model} keeps no weights; leave it out")

    def _check_checkpoint(self) -> None:
        is_over = self.grid in OVER_CHECKPOINTS
        if is_over and self.is_rival:
            raise UserError(f"grid: {self.grid!r} is not allowed, {self.model} has no weights from text")
        if is_over and not self.checkpoint:
            raise UserError(f"grid: {self.grid!r} needs a checkpoint; give its folder, URI or name as checkpoint")
        several = self.grid != "corpora" and "," in (self.checkpoint or "")
        if several and not Path(self.checkpoint or "").expanduser().is_dir():
            raise UserError(f"checkpoint: {self.checkpoint!r} names several; give one, or give them to grid=corpora")

    def _check_inits(self) -> None:
        if self.inits is None:
            object.__setattr__(self, "inits", self._usual_inits())
        if not self.inits:
            raise UserError(f"inits: none given; allowed: {', '.join(INITS)}, comma-separated")
        for init in self.inits:
            check_init("inits", init, self)
        if len(set(self.inits)) < len(self.inits):
            raise UserError(f"inits: {','.join(self.inits)} names one of them twice; give each once")

    def _usual_inits(self) -> tuple[str, ...]:
        if self.is_rival:
            return ("scratch",)
        if self.grid in OVER_CHECKPOINTS:
            return ("scratch", "checkpoint")
        return tuple(init for init in INITS if init != "checkpoint" or self.checkpoint)

    def _check_learning_rates(self) -> None:
        if self.learning_rates is None:
            return
        if self.is_rival and not RIVALS[self.model].optimizer:
            raise UserError(f"learning_rates: not allowed, {self.model} is not trained in steps; leave them out")
        object.__setattr__(self, "learning_rates", read_learning_rates(self.learning_rates))

    @cached_property
    def corpora(self) -> dict[str, int | None]:
        """The checkpoints of the grid ``corpora``, and the step of each; see :func:`steps_of_each`."""
        return steps_of_each(self.checkpoint or "", self.checkpoint_step)

    def spec(self) -> "SweepSpec":
        """The sweep's cells.

        Raises:
            UserError: for a grid that is not there, or with a cell that no trial can be.
        """
        axes = find_grid(self)
        given: dict[str, Any] = self._given  # type: ignore[attr-defined]
        own = {field.name for field in fields(Subject) if given[field.name] not in (field.default, None)}
        if self.grid == "corpora":
            own -= {"checkpoint", "checkpoint_step"}  # the axes are made of them
        if clash := [name for name in axes if name in own and axes[name] != (given[name],)]:
            raise UserError(
                f"{clash[0]}: the grid {self.grid!r} lays it out itself; leave it out, or choose another grid"
            )
        asked: dict[str, bool] = self._asked  # type: ignore[attr-defined]
        laid_out = {"seed": range(self.seeds or 0), "init": self.inits or ()}
        for name, values in laid_out.items():
            is_free = not self.is_rival and ".py:" not in self.grid  # a function has seen what was asked
            if asked[name] and is_free and axes[name] != tuple(values):
                raise UserError(f"{name}s: the grid {self.grid!r} has its own; leave this out, or give another grid")
        base = {name: value for name, value in given.items() if name not in axes}
        return SweepSpec(base=base, axes=axes, steps=self.corpora if self.grid == "corpora" else {})

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
        return folder.absolute() if folder.is_dir() and not self.is_rival else None

    def title(self) -> str:
        """The sweep's name in MLflow."""
        grid = self.grid if self.grid in GRIDS else Path(self.grid).name
        return self.name or f"{Path(self.task).name} {grid} {Path(self.model).name}"


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A grid over trial configs: the product of the axes, every cell with the same base.

    Points that differ in nothing that plays a part in their trial are one cell, the first of them: the steps of a
    checkpoint, say, in a trial from scratch.

    Attributes:
        steps: checkpoint -> its step, where checkpoints that have different ones are an axis: with no other is it a
            point of the grid.

    Raises:
        UserError: on construction, for too many cells, or a cell that no trial can be.
    """

    base: Mapping[str, Any]
    axes: Axes
    steps: Mapping[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = prod(map(len, self.axes.values()))
        if size > MAX_CELLS:
            raise UserError(f"grid: {size:,} cells are too many; give fewer values or seeds, at most {MAX_CELLS:,}")
        _ = self.cells

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def cells(self) -> dict[str, TrialConfig]:
        """Cell key -> config, in the order in which they are to run."""
        cells = dict[str, TrialConfig]()
        for config in map(self.config, self._product()):
            cells.setdefault(cell_key(config), config)
        return cells

    def _product(self) -> Iterator[dict[str, Any]]:
        points = (dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values()))
        if not self.steps:
            return points
        return (point for point in points if point["checkpoint_step"] == self.steps[point["checkpoint"]])

    def points(self) -> list[dict[str, Any]]:
        """The cells' places on the axes, in the order in which they are to run."""
        return [{name: getattr(config, name) for name in self.axes} for config in self.cells.values()]

    def config(self, point: Mapping[str, Any]) -> TrialConfig:
        """The cell at a point."""
        return TrialConfig(**{**self.base, **point})

    @property
    def sizes(self) -> str:
        """How many cells there are, and why: ``12 trials = 2 learning rates x 6 seeds``."""
        settings = [config.settings() for config in self.cells.values()]
        counts = {name: len({row[name] for row in settings if name in row}) for name in self.axes}
        several = [
            f"{count} {name.replace('_', ' ')}s" if name in (*TITLE, "mapping") else f"{count} values of {name}"
            for name, count in counts.items()
            if count > 1
        ]
        words = f"{len(self)} trial{'s' * (len(self) > 1)}" + (f" = {' x '.join(several)}" if several else "")
        return words + (", without repeats" if len(self) < prod(max(1, count) for count in counts.values()) else "")

    def name(self, point: Mapping[str, Any]) -> str:
        """What the cell at a point is called: ``scratch adam 1e-05 seed 0``, and the other axes it differs on."""
        return cell_name(self.config(point), self.more_axes)

    @property
    def more_axes(self) -> tuple[str, ...]:
        """The axes, beside the usual ones, on which cells differ."""
        return tuple(name for name, values in self.axes.items() if name not in TITLE and len(values) > 1)


def cell_name(config: TrialConfig, more: tuple[str, ...] = ()) -> str:
    """A trial in words: ``scratch adam 1e-05 seed 0``; then the fields named, where they play a part."""
    settings = config.settings()
    words = [settings["init"]]
    if "optimizer" in settings:
        words += [settings["optimizer"], f"{settings['learning_rate']:g}"]
    words.append(f"seed {settings['seed']}")
    return " ".join(words + [f"{name.replace('_', ' ')} {settings[name]}" for name in more if name in settings])


def cell_key(config: TrialConfig) -> str:
    """16 hex digits that name a cell: a SHA-256 of its whole config."""
    return hashlib.sha256(json.dumps(config.settings(), sort_keys=True).encode()).hexdigest()[:16]
