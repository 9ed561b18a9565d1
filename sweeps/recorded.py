"""The names under which a sweep is recorded in the tracking store: the contract with ``analysis``.

A sweep is a run with ``KIND = "sweep"``; its trials are child runs (``mlflow.parentRunId``) with
``KIND = "trial"``. Params are the fields of ``trainer.config.TrialConfig``; metrics are named
``<split>/<metric>``, with the task's headline metric repeated as ``<split>/score``.
"""

PREFIX = "polymath."  # of every tag that is ours
KIND = "polymath.kind"  # "sweep" or "trial"
CELL = "polymath.cell"  # trial: hash of its whole config
AXES = "polymath.axes"  # sweep: JSON object, axis name -> list of values; their product is the grid
BASE = "polymath.base"  # sweep: JSON object, the TrialConfig fields that all cells share
OUTCOME = "polymath.outcome"  # trial: "finished", "diverged" or "failed"
FAILURE = "polymath.failure"  # failed trial: the error in one line
METRIC = "polymath.metric"  # both: the headline metric's name, e.g. "accuracy"
DATA_NOTE = "polymath.data_note"  # both: what a reader of its numbers must know of the data, if anything
DATA_DIGEST = "polymath.data_digest"  # both: digest of the data as read and split
SPLIT = "polymath.split"  # both: how train, valid and test were drawn

PARENT = "mlflow.parentRunId"  # MLflow's own name for the parent of a nested run
