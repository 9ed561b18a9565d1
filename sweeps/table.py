"""The tables and figures of a run that has ended, made by ``analysis`` from the tracking store alone."""

import os
import subprocess
import sys

from sweeps.connection import shown


def begin_table(tracking_uri: str, run_id: str) -> "subprocess.Popen[bytes]":
    """Prints and logs them, in a process of their own."""
    print(flush=True)
    command = [sys.executable, "-m", "analysis", "--sweep", run_id, "--output", "none"]
    command += ["--allow-missing", "true"]  # the sweep's own status says whether a trial failed
    return subprocess.Popen(command, env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri})


def end_table(table: "subprocess.Popen[bytes]", tracking_uri: str, path: str) -> None:
    """Waits for them, and says where to see the runs: at a path of MLflow's UI."""
    table.wait()
    uri = shown(tracking_uri)
    if uri.startswith("http"):
        print(f"\nto compare the runs in a browser: {uri.rstrip('/')}{path}")
    else:
        print(f"\nto compare the runs in a browser: mlflow ui --backend-store-uri {uri}")
        print(f"then open http://127.0.0.1:5000{path}")
