"""The address of the tracking store: without its password, and the same from every folder."""

import os
from pathlib import Path

import pytest

from sweeps.connection import current_uri, impatient, is_new_store, shown, take_settings, users_settings
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


def test_a_worker_keeps_what_the_user_has_set_and_nothing_of_its_drivers_impatience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users, borrowed = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    monkeypatch.setenv(users, "77")
    monkeypatch.delenv(borrowed, raising=False)
    with impatient():
        given, inherited = users_settings(), dict(os.environ)
    assert given == {users: "77"} and inherited[borrowed] == "0"
    monkeypatch.setenv(borrowed, inherited[borrowed])
    take_settings({**given, "MLFLOW_TRACKING_TOKEN": "t"}, is_shared_machine=False)
    assert os.environ[borrowed] == "0", "another machine's own"
    take_settings(given, is_shared_machine=True)
    assert os.environ[users] == "77" and borrowed not in os.environ
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")


@pytest.mark.parametrize(
    ("uri", "is_new"),
    [
        ("sqlite:///{}/new.db", True),
        ("sqlite:///{}/there.db", False),
        ("sqlite:///:memory:", False),
        ("http://127.0.0.1:1", False),
        ("", True),
    ],
)
def test_a_store_is_new_when_its_file_is_yet_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, is_new: bool
) -> None:
    (tmp_path / "there.db").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    assert is_new_store() == is_new
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "mlruns/0").mkdir(parents=True)
    (tmp_path / "mlruns/0/meta.yaml").touch()
    assert not is_new_store(), "MLflow goes on with the files of an earlier version"
