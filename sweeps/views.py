"""How the MLflow UI shows a sweep: its trials with the columns that matter, best valid score first.

By default the UI shows neither params nor metrics. It keeps a choice of columns that can be shared as a tag of the
experiment (``mlflow.sharedViewState.*``); we record one for each sweep, and a link to it in the sweep's description.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeps import recorded

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEW = "mlflow.sharedViewState."
DESCRIPTION = "mlflow.note.content"
COLUMN_WIDTHS = {
    "params.`init`": 135,
    "params.`optimizer`": 88,
    "params.`learning_rate`": 108,
    "params.`seed`": 60,
    "metrics.`valid/score`": 98,
    "metrics.`test/score`": 98,
}
RUN_WIDTHS = {"attributes.`Run Name`": 268, "runDateAndNestInfo": 130, "duration": 82}


def view_state(run_id: str, more_axes: Sequence[str] = ()) -> dict[str, Any]:
    """The UI's own description of a runs table: what it filters, how it sorts, and its columns in pixels.

    Args:
        more_axes: params that trials differ on beside the usual ones.
    """
    widths = {**{f"params.`{name}`": 110 for name in more_axes}, **COLUMN_WIDTHS}
    return {
        "searchFilter": f"tags.`{recorded.MEMBER}{run_id}` = 'true'",
        "orderByKey": "metrics.`valid/score`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": list(widths),
        "columnOrder": [*RUN_WIDTHS, *widths],
        "columnWidths": RUN_WIDTHS | widths,
    }


def view_path(experiment_id: str, run_id: str) -> str:
    """Where the UI shows the sweep's view: what follows the server's address."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={run_id}&workflowType=machine_learning"


def save_view(store: "MlflowClient", experiment_id: str, run_id: str, more_axes: Sequence[str] = ()) -> None:
    """Records the sweep's view, and a link to it in the sweep's description."""
    store.set_experiment_tag(experiment_id, VIEW + run_id, json.dumps(view_state(run_id, more_axes)))
    link = view_path(experiment_id, run_id).removeprefix("/")
    store.set_tag(run_id, DESCRIPTION, f"[All trials of this sweep, best valid score first]({link})")
