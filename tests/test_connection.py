"""The address of the tracking store: without its password, and the same from every folder."""

from pathlib import Path

import pytest

from sweeps.connection import current_uri, shown
from sweeps.tracking import SweepRecord


def test_a_password_is_not_shown() -> None:
    uri = "postgresql://me:secret@db:5432/mlflow"
    record = SweepRecord(tracking_uri=uri, experiment_id="0", run_id="run", tags={})
    assert "secret" not in repr(record)
    assert shown(uri) == "postgresql://db:5432/mlflow"
    assert shown("https://me:p%40ss@host:5000/path") == "https://host:5000/path"


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////home/me/mlflow.db", "mlruns"])
def test_an_address_without_a_password_is_shown_whole(uri: str) -> None:
    assert shown(uri) == uri


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite:///folder/mlflow.db", "sqlite:///{here}/folder/mlflow.db"),
        ("sqlite:////somewhere/mlflow.db", "sqlite:////somewhere/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_a_relative_sqlite_path_becomes_absolute(
    given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in other folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert current_uri() == expected.format(here=Path.cwd())


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://me:pa/ss@db:5432/x", "postgresql://db:5432/x"),
        ("postgresql://me:p?a#s@s@db/x?sslmode=on", "postgresql://db/x"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_odd_passwords_are_not_shown_and_paths_are(uri: str, said: str) -> None:
    assert shown(uri) == said
