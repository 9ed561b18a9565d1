"""``python -m sweeps.train``: one trial in this process, recorded in MLflow; no Ray."""

import os
from collections.abc import Sequence

from sweeps.connection import client, shown
from sweeps.provenance import provenance_tags
from sweeps.tracking import open_run, start_trial
from trainer.commandline import run
from trainer.settings import read_settings


def main(arguments: Sequence[str]) -> int:
    """Trains one trial into the run that ``mlflow run`` made, or a new one, and prints its scores."""
    settings = read_settings(arguments, "python -m sweeps.train", "Train one model on one task, recorded in MLflow.")
    from trainer.trial import Trial, load_dataset

    config = settings.config
    title = f"{config.task} {config.init} {config.optimizer} {config.learning_rate:g} seed {config.seed}"
    uri, mlflow_run = open_run(title, os.environ.get("MLFLOW_RUN_ID"), provenance_tags())
    run_id = mlflow_run.info.run_id
    print(f"recorded in run {run_id} of {shown(uri)}", flush=True)
    logger = start_trial(client(uri), run_id, config, load_dataset(config.task, settings.folder))
    try:
        for report in Trial(config, logger, data_dir=settings.folder):
            print(f"epoch {report.epoch}, step {report.step}: valid {report.valid_score:.4f}", flush=True)
            if report.result is not None:
                logger.finish(report.result)
                print(f"{report.result.outcome}, test {report.result.metrics.get('test/score', float('nan')):.4f}")
    except BaseException as error:
        logger.fail(error)
        raise
    return 0


if __name__ == "__main__":
    run(main)
