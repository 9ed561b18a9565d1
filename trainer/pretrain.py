"""``python -m trainer.pretrain``: one pre-training on the console, without MLflow or Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commandline import parse, run, setting
from trainer.config import positive
from trainer.errors import UserError, first_line
from trainer.logger import SilentLogger
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.corpus import open_corpus

if TYPE_CHECKING:
    from trainer.pretraining.pretraining import Pretraining, Stop


@dataclass(frozen=True, kw_only=True)
class Settings(PretrainConfig):
    """A pre-training's config, and where its models go."""

    output: str = setting("pretrained", help="folder in which the models are kept, as step-N")
    num_threads: int = setting(2, help="CPU threads", unit="threads")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("num_threads", self.num_threads)
        if not self.output:
            raise UserError("output: '' is not allowed; give a folder")


def main(arguments: Sequence[str]) -> int:
    """Pre-trains a model; one that was interrupted goes on."""
    settings = parse(
        Settings,
        arguments,
        program="python -m trainer.pretrain",
        description="Pre-train a masked language model on a corpus.",
    )
    config, folder = settings.config, Path(settings.output).expanduser()
    corpus, model_folder = open_corpus(config)
    make_folder(folder)
    print(f"{config.corpus_name}: {corpus.about}", flush=True)

    from trainer.pretraining.keep import STATE, save_model, step_folder
    from trainer.pretraining.pretraining import DivergedError, Pretraining
    from trainer.state_file import StateError

    pretraining = Pretraining(config, corpus, model_folder, SilentLogger(), num_threads=settings.num_threads)
    state = folder / STATE
    if state.is_file():
        try:
            pretraining.restore(state)
        except StateError as error:
            raise UserError(f"output: {error}; give another folder, or remove it") from None
        past = [step for step in config.kept_steps if step <= pretraining.step]
        if lost := [step for step in past if not (folder / step_folder(step)).is_dir()]:
            raise UserError(f"output: {str(folder)!r} is past step {lost[0]} and has not kept it; give another folder")
        print(f"goes on after step {pretraining.step}", flush=True)
    try:
        for stop in pretraining:
            print(line_of(pretraining, stop), flush=True)
            if stop.is_kept:
                save_model(pretraining, folder / step_folder(stop.step))
                pretraining.save(state)
    except DivergedError as error:
        raise UserError(f"learning_rate: {config.learning_rate} is not allowed here: {error}") from None
    print(f"kept steps {', '.join(map(str, config.kept_steps))} in {folder}")
    return 0


def make_folder(folder: Path) -> None:
    """Makes the folder in which models are kept.

    Raises:
        UserError: when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: {str(folder)!r} cannot be made ({first_line(error)}); give another folder") from None


def line_of(pretraining: "Pretraining", stop: "Stop") -> str:
    """What is said at a stop."""
    kept = ", kept" if stop.is_kept else ""
    return (
        f"step {stop.step:>7,} of {pretraining.config.num_steps:,}, {pretraining.seconds:,.0f} s: held-out loss "
        f"{stop.held_out_loss:.3f}, masked accuracy {stop.masked_accuracy:.1%}{kept}"
    )


if __name__ == "__main__":
    run(main)
