"""``python -m sweeps.train``: one trial in this process, recorded in MLflow; no Ray."""

import os
from collections.abc import Sequence
from pathlib import Path

from sweeps import recorded
from sweeps.cell_record import spool_folder
from sweeps.checkpoints import check_checkpoint, checkpoint_folder, corpus_of, fetch_model
from sweeps.connection import client, current_uri, shown
from sweeps.provenance import provenance_tags
from sweeps.spec import cell_name
from sweeps.tracking import describe_trial, open_run
from sweeps.trial_logger import Opened, TrialLogger
from trainer.commandline import parse, run
from trainer.settings import TrialSettings, read_settings

PROGRAM, DESCRIPTION = "python -m sweeps.train", "Train one model on one task, recorded in MLflow."
LAST_WORDS_S = 5.0  # that a failed trial's record may take


def main(arguments: Sequence[str]) -> int:
    """Trains one trial into a run of its own and prints its scores.

    ``mlflow run`` has made a run and recorded there, for good, what it was given as text ("auto", "1e-4"). The trial's
    run, with the settings as they are, then stands under that one, as a sweep's trials do.
    """
    fetch_model(parse(TrialSettings, arguments, program=PROGRAM, description=DESCRIPTION).model)
    settings = read_settings(arguments, PROGRAM, DESCRIPTION)
    from trainer.data import load_dataset
    from trainer.trial import begin_trial

    config = settings.config
    dataset = load_dataset(config.definition, settings.folder)
    check_checkpoint(config, current_uri())
    folder = spool_folder("train")
    given, tags = os.environ.get("MLFLOW_RUN_ID"), provenance_tags()
    title = f"{Path(config.task).name} {cell_name(config)}"
    uri, opened = open_run(title, given, tags)
    store, run_id = client(uri), opened.info.run_id
    if given:
        child = {**tags, recorded.PARENT: given}
        run_id = store.create_run(opened.info.experiment_id, tags=child, run_name=cell_name(config)).info.run_id
    describe_trial(store, run_id, config, dataset, {})
    logger = TrialLogger(store, lambda: Opened(run_id=run_id, num_recorded={}), folder)
    print(f"recorded in run {run_id} of {shown(uri)}", flush=True)
    try:
        checkpoint = checkpoint_folder(config, uri)
        if corpus := corpus_of(checkpoint):
            logger.tag(recorded.CORPUS.removeprefix(recorded.PREFIX), corpus)
        for report in begin_trial(config, logger, data_dir=settings.folder, checkpoint_folder=checkpoint):
            logger.check()
            print(f"epoch {report.epoch}, step {report.step}: valid {report.valid_score:.4f}", flush=True)
            if report.result is not None:
                logger.finish(report.result)
                metrics = report.result.metrics
                scores = [f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("test/")]
                print(", ".join([report.result.outcome, *scores]), flush=True)
        logger.wait(None)
    except BaseException as error:
        logger.fail(error)
        logger.wait(LAST_WORDS_S)
        raise
    return 0


if __name__ == "__main__":
    run(main)
