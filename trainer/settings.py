"""The command line of a single trial."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from trainer.checkpoints import URI, find_checkpoint
from trainer.commandline import parse, setting
from trainer.config import NEEDS_OWN_WEIGHTS, TrialConfig
from trainer.data import check_data, load_dataset
from trainer.describe import describe
from trainer.errors import UserError
from trainer.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class TrialSettings(TrialConfig):
    """A trial's config and where its data lies."""

    data_dir: str | None = setting(
        None, help="folder with the task's files; auto: the cache folder, filled by download"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint and self.init != "checkpoint":
            raise UserError(f"checkpoint: given, but init is {self.init!r}; give init=checkpoint, or leave it out")

    @property
    def config(self) -> TrialConfig:
        """What is trained, without where its data lies."""
        return TrialConfig(**{field.name: getattr(self, field.name) for field in fields(TrialConfig)})

    @property
    def folder(self) -> Path | None:
        """The data folder; None for the cache folder."""
        return Path(self.data_dir) if self.data_dir else None


def read_settings(arguments: Sequence[str], program: str, description: str) -> TrialSettings:
    """The settings of one trial; its data and model are looked at before torch takes its seconds to import.

    Of a user's own data, says what was understood.

    Raises:
        UserError: for a wrong option, and for data or a model that cannot be used.
    """
    settings = parse(TrialSettings, arguments, program=program, description=description)
    dataset = load_dataset(settings.definition, settings.folder)
    _, max_length = check_data(settings, dataset, needs_weights=settings.init in NEEDS_OWN_WEIGHTS)
    if settings.init == "checkpoint" and not URI.match(settings.checkpoint or ""):
        find_checkpoint(settings.checkpoint or "", settings.checkpoint_step)
    if settings.task not in TASKS:
        print(*describe(settings.definition, dataset, max_length), sep="\n", flush=True)
    return settings
