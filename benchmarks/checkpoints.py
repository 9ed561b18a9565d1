"""What it costs to save a trial's state after every evaluation, against the training between two evaluations.

    python -m benchmarks.checkpoints --model ../shared/models/all-MiniLM-L6-v2 --data-dir ../shared/data

A few steps are trained, so that the optimizer has its state; then the state is saved and restored in turn. Medians over
the rounds. The file goes to the system's temporary folder and most likely stays in the memory of the machine: a disk or
an object store adds the time that these bytes take.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commandline import parse, run, setting
from trainer.config import TrialConfig
from trainer.logger import SilentLogger
from trainer.state import read_notes
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


def measure(trial: Trial, restored: Trial, path: Path, num_rounds: int) -> tuple[float, float, float]:
    """Median seconds to save a state, to read its notes and to restore it."""
    actions = (lambda: trial.save(path, {"journal": JOURNAL}), lambda: read_notes(path), lambda: restored.restore(path))
    rounds = [[timed(action) for action in actions] for _ in range(num_rounds)]
    save, notes, restore = (statistics.median(column) for column in zip(*rounds, strict=True))
    return save, notes, restore


def main(arguments: Sequence[str]) -> int:
    """Prints a line for the state after a better score, and one for a state with best weights of an earlier epoch."""
    settings = parse(Settings, arguments, program="python -m benchmarks.checkpoints", description=__doc__ or "")
    whole = begin(settings, None)
    epoch_s = whole.num_train / whole.rehearse()
    trial, restored = begin(settings, NUM_EXAMPLES), begin(settings, NUM_EXAMPLES)
    next(trial)
    print(f"training on the {whole.num_train:,} examples of {settings.task} for an epoch takes about {epoch_s:.0f} s")
    print(f"{'a state':<28}  {'size':>8}  {'save':>8}  {'notes':>8}  {'restore':>8}  {'save / epoch':>12}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        for name, best_epoch in (("whose weights are the best", trial.epoch), ("with earlier best weights", 0)):
            trial.best_epoch = best_epoch  # decides whether the best weights are written beside the current ones
            seconds = measure(trial, restored, path, settings.num_rounds)
            times = "  ".join(f"{median:>6.2f} s" for median in seconds)
            size, share = path.stat().st_size / 1e6, seconds[0] / epoch_s
            print(f"{name:<28}  {size:>5.0f} MB  {times}  {share:>12.2%}", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
