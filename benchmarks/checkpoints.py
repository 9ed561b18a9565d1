"""What it costs to save a trial's state after every evaluation, against the training between two evaluations.

    python -m benchmarks.checkpoints --model ../shared/models/all-MiniLM-L6-v2 --data-dir ../shared/data

A few steps are trained, so that the optimizer has its state; then the state is saved and restored in turn: after a
better score, when the weights are the best ones too, and with the best weights of an earlier epoch beside them. The
file goes to the system's temporary folder and most likely stays in the memory of the machine: a disk or an object store
adds the time that these bytes take.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Report
from trainer.commandline import parse, run, setting
from trainer.config import TrialConfig
from trainer.logger import SilentLogger
from trainer.state_file import read_notes
from trainer.trial import Trial

NUM_EXAMPLES = 64  # trained on before the first save
JOURNAL = '{"metric": "train/loss", "steps": [1, 2, 3], "values": [1.0, 1.0, 1.0]}\n' * 20_000  # a long trial's: 1.5 MB


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure with."""

    model: str = setting("bert-base-uncased", help="Hugging Face name or local folder of the model, or hilbert-cnn")
    task: str = setting("splice", help="the task whose epochs lie between two saves")
    data_dir: str | None = setting(None, help="folder with the task's files; auto: the cache", none="auto")
    optimizer: str = setting("adam", help="the optimizer, whose state is saved too")
    num_rounds: int = setting(5, help="how often the state is saved and restored", unit="rounds")
    quick: bool = setting(False, help="one round")
    output: str | None = setting(None, help="file for the figures as JSON", none="none")


def begin(settings: Settings, num_examples: int | None) -> Trial:
    config = TrialConfig(
        task=settings.task, model=settings.model, optimizer=settings.optimizer, max_train_examples=num_examples
    )
    return Trial(config, SilentLogger(), data_dir=Path(settings.data_dir) if settings.data_dir else None)


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(trial: Trial, restored: Trial, path: Path, num_rounds: int) -> list[tuple[float, float, float]]:
    """Seconds of every round: to save a state, to read its notes, to restore it."""
    notes = {"journal": JOURNAL}
    return [
        (timed(lambda: trial.save(path, notes)), timed(lambda: read_notes(path)), timed(lambda: restored.restore(path)))
        for _ in range(num_rounds)
    ]


def main(arguments: Sequence[str]) -> int:
    """Prints the rows of both states."""
    settings = parse(Settings, arguments, program="python -m benchmarks.checkpoints", description=__doc__ or "")
    report = Report(program="benchmarks.checkpoints", settings=settings)
    whole = begin(settings, None)
    epoch_s = whole.num_train / whole.rehearse()
    trial, restored = begin(settings, NUM_EXAMPLES), begin(settings, NUM_EXAMPLES)
    next(trial)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        for name, best_epoch in (("weights are the best", trial.epoch), ("earlier best weights", 0)):
            trial.best_epoch = best_epoch  # decides whether the best weights are written beside the current ones
            rounds = measure(trial, restored, path, 1 if settings.quick else settings.num_rounds)
            save, notes, restore = zip(*rounds, strict=True)
            report.values(f"{name}: size", unit="MB", values=[path.stat().st_size / 1e6])
            report.values(f"{name}: save", unit="s", values=save)
            report.values(f"{name}: save, of an epoch", unit="%", values=[100 * seconds / epoch_s for seconds in save])
            report.values(f"{name}: read notes", unit="s", values=notes)
            report.values(f"{name}: restore", unit="s", values=restore)
    report.note(f"an epoch of the {whole.num_train:,} examples of {settings.task} takes about {epoch_s:.0f} s")
    return report.finish()


if __name__ == "__main__":
    run(main)
