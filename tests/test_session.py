"""Ray that starts in the background: what its workers have imported, and that it ends with its sweep."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from sweeps.session import RaySession
from sweeps.spec import SweepOptions
from tests.conftest import ROOT
from trainer.errors import UserError

# In a process of its own: the tests' Ray is another.
SCRIPT = """
import json, os, sys
from sweeps.session import RaySession
from sweeps.spec import SweepOptions

before = dict(os.environ)
with RaySession(SweepOptions(task="splice")) as session:
    session.start(num_cells=100)
    session.start(num_cells=100)
    resources = session.resources()
    import ray

    def look():
        return "sweeps.preload" in sys.modules and "torch" in sys.modules

    preloaded = ray.get([ray.remote(look).remote() for _ in range(2)])
    folder = ray._private.worker._global_node.get_session_dir_path()
print(json.dumps({
    "preloaded": preloaded,
    "resources": resources.cpus,
    "folder": folder,
    "is_initialized": ray.is_initialized(),
    "python_path": os.environ.get("PYTHONPATH") == before.get("PYTHONPATH"),
}))
"""


@pytest.mark.slow
def test_workers_import_ahead_and_ray_ends_with_the_block() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["preloaded"] == [True, True] and told["resources"] == 1
    assert not told["is_initialized"] and told["python_path"]
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(told["folder"].encode() in command for command in running), "none of its processes is left"


def test_a_sweep_that_needs_no_ray_starts_none() -> None:
    with RaySession(SweepOptions(task="splice")) as session, pytest.raises(RuntimeError, match="was not started"):
        session.resources()


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    options = SweepOptions(task="splice", ray_address="127.0.0.1:1")
    refused = pytest.raises(UserError, match="ray_address: no Ray cluster answers")
    with (
        patch.dict(os.environ),  # it leaves Ray's settings there
        patch("ray.is_initialized", return_value=False),  # the tests' own
        RaySession(options) as session,
        refused,
    ):
        session.start(num_cells=1)
