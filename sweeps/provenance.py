"""What a later reader needs to repeat a sweep: versions and the commit, as tags."""

import getpass
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeps.recorded import PREFIX

PACKAGES = ("torch", "transformers", "ray", "optuna", "mlflow", "numpy", "pytorch_optimizer")


def provenance_tags() -> dict[str, str]:
    """Tags with the Python and package versions and, in a git checkout, the commit and whether it was changed."""
    tags = {f"{PREFIX}version.python": platform.python_version()}
    # MLflow's own names: its UI shows who made a run, and from what.
    tags |= {"mlflow.user": getpass.getuser(), "mlflow.source.name": "polymath", "mlflow.source.type": "LOCAL"}
    for package in PACKAGES:
        try:
            tags[f"{PREFIX}version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags[f"{PREFIX}git_dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def _git(*arguments: str) -> str:
    """Output of a git command in the project's folder; empty where git or its repository is absent."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
