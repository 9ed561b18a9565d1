"""Opens the tracking store, and says in one line what is wrong with it.

MLflow is imported here only when a store is opened: the import takes seconds.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainer.errors import UserError, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow repeats a request that fails for minutes; at the start of a command one wants to hear of it sooner.
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
REMEDY = "set MLFLOW_TRACKING_URI to a store, e.g. sqlite:////home/me/mlflow.db or http://HOST:5000"


@lru_cache
def client(uri: str) -> "MlflowClient":
    """The process's client for a tracking store."""
    os.environ.update(QUIET)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def current_uri() -> str:
    """The URI that ``MLFLOW_TRACKING_URI`` names, else MLflow's default; SQLite paths absolute: workers move about."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    path = _local_path(uri)
    if path is None or path.is_absolute() or not uri.startswith("sqlite"):
        return uri
    return f"{uri.partition(':')[0]}:///{path.resolve()}"


def open_existing_store() -> "MlflowClient":
    """A client for the current store, for a command that only reads.

    Raises:
        UserError: when the store cannot be opened, or the URI names a file or folder that is not there; MLflow itself
            would make an empty one.
    """
    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    uri = current_uri()
    path = _local_path(uri)
    if path is not None and not path.exists():
        raise UserError(f"MLFLOW_TRACKING_URI: there is no tracking store {shown(uri)}; {REMEDY}")
    with answering(uri):
        return client(uri)


def shown(uri: str) -> str:
    """A tracking URI that may be printed: without user name, password and query.

    Databases take passwords with an unescaped ``/``, ``?`` or ``@``: all that stands before the last ``@`` goes.
    """
    if not uri.startswith(("sqlite", "file")):
        uri = re.sub(r"^([\w+.-]+://).*@", r"\1", uri)
    return uri.partition("?")[0]


def _local_path(uri: str) -> Path | None:
    """The file or folder behind a URI of SQLite's or of a plain path; None for a server or a database in memory."""
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.scheme.startswith("sqlite"):
        name = path.removeprefix("/")
        return Path(name) if name and name != ":memory:" else None
    return Path(path) if parts.scheme in ("", "file") and not uri.startswith("databricks") else None


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turns a store's refusal or silence inside the block into one line that shows no password.

    Raises:
        UserError: for whatever MLflow, its database or its artifact store raised.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        reason = _without_password(first_line(_cause(error)), uri)
        raise UserError(f"MLFLOW_TRACKING_URI: no answer from {shown(uri)} ({reason}); {REMEDY}") from None


@contextmanager
def impatient() -> Iterator[None]:
    """Inside the block MLflow gives up on a server that does not answer after seconds, not minutes."""
    before = {name: os.environ.get(name) for name in IMPATIENCE}
    os.environ.update({name: value for name, value in IMPATIENCE.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _cause(error: BaseException) -> BaseException:
    """The operating system's "connection refused" behind MLflow's "max retries exceeded"; else the error itself."""
    root = error
    while (earlier := root.__cause__ or root.__context__) is not None:
        root = earlier
    return root if isinstance(root, OSError) else error


def _without_password(text: str, uri: str) -> str:
    credentials = re.match(r"[\w+.-]+://[^:@/]*:(.*)@", uri)
    text = text.replace(uri, shown(uri))
    for password in {credentials[1], unquote(credentials[1])} - {""} if credentials else ():
        text = text.replace(password, "***")
    return text
