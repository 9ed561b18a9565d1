"""``python -m trainer``: one trial without a cluster or a tracking server, for a first look and for debugging."""

from collections.abc import Sequence

from trainer.commandline import run
from trainer.logger import ConsoleLogger
from trainer.settings import read_settings


def main(arguments: Sequence[str]) -> int:
    """Trains one trial and prints its scores."""
    settings = read_settings(arguments, "python -m trainer", "Train one model on one task, recorded nowhere.")
    from trainer.trial import begin_trial

    for report in begin_trial(settings.config, ConsoleLogger(), data_dir=settings.folder):
        if report.result is not None:
            print(f"{report.result.outcome} after epoch {report.epoch}")
            for name, value in report.result.metrics.items():
                print(f"{name:<20} {value:.4f}")
    return 0


if __name__ == "__main__":
    run(main)
