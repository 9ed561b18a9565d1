"""The names under which a sweep is recorded in the tracking store: the contract with ``analysis``.

A sweep is a run with ``KIND = "sweep"``; its trials are child runs (``mlflow.parentRunId``) with
``KIND = "trial"``. Params are the fields of ``trainer.config.TrialConfig``; metrics are named
``<split>/<metric>``, with the task's headline metric repeated as ``<split>/score``. A probe is a run with
``KIND = "probe"``; among its params are ``kind``, ``task`` and ``models``.
"""

PREFIX = "polymath."  # of every tag that is ours
KIND = "polymath.kind"  # "sweep", "trial" or "probe"
CELL = "polymath.cell"  # trial of a sweep: its key in the cell ledger, see sweeps.ledger
MEMBER = "polymath.sweep."  # trial: followed by a sweep's run id, "true" where that sweep counts it as its own
DRIVER = "polymath.driver"  # trial: run id of the sweep that opened its run
CLAIM = "polymath.claim."  # trial: params, followed by 0, 1, ...: "<run id of the sweep> <process> <id>" of who has it
RETRIES = "polymath.retries"  # trial: how often its sweep had to begin again after a failure
RETRY = "polymath.retry."  # trial: followed by 1, 2, ...: why it was taken up again, in one line
HEARTBEAT = "polymath.heartbeat"  # sweep: a JSON object that changes while its driver lives
NUMBERS = "polymath.numbers"  # trial: trainer.version.NUMBERS
SELECT_BY = "polymath.select_by"  # sweep: the score by which a setting is chosen, one of CRITERIA
OUTCOME = "polymath.outcome"  # trial: "finished", "diverged" or "failed"
FAILURE = "polymath.failure"  # failed trial: the error in one line
METRIC = "polymath.metric"  # both: the headline metric's name, e.g. "accuracy"
DATA_NOTE = "polymath.data_note"  # both: what a reader of its numbers must know of the data, if anything
DATA_DIGEST = "polymath.data_digest"  # both: digest of the data as read and split
SPLIT = "polymath.split"  # both: how train, valid and test were drawn
CORPUS = (
    "polymath.corpus"  # trial from a checkpoint: the name of what it was pre-trained on, where the checkpoint says so
)

PARENT = "mlflow.parentRunId"  # MLflow's own name for the parent of a nested run

# Artifact of a sweep: what it is to run. A JSON object with "shared", the params that all cells have alike, and
# "cells", a list with each cell's other params; all as the text that its trial records.
CELLS = "cells.json"

# Artifact of a probe: what it found. A JSON object with "kind", "task", "models" (their labels), "num_examples",
# "num_tokens" and "results", a list with an entry for each model or pair of models; all numbers are finite or null.
PROBE = "probe.json"

BY_VALID = "valid/score"
BY_TRAIN = "train/score"
CRITERIA = (BY_VALID, BY_TRAIN)  # a selection reads one of these, and never a test score
