"""Opens the tracking store, and says in one line what is wrong with it.

MLflow is imported here only when a store is opened: the import takes seconds.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
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
# Where a request is repeated by us: MLflow tries once, and an upload may take as long as MLflow allows it.
UPLOAD = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
ONE_TRY = {**UPLOAD, "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
LAST_TRY = {**UPLOAD, "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}  # of a command that was told to end
CHANGED = frozenset({*IMPATIENCE, *ONE_TRY})  # what is set in the environment, for a while
# How a server says that it, its database or a proxy in front of it cannot serve now.
UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
UNAVAILABLE_STATUS = (408, 429, 500, 502, 503, 504)
# MLflow reports these as bad requests: no connection free or alive, two requests that insert the same at once.
TRANSIENT = re.compile(r"QueuePool limit|already closed|Can't reconnect|UniqueViolation|UNIQUE constraint failed")
QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
_borrowed = Counter[str]()  # settings in the environment -> the number of blocks of impatient() that need them
_lock = threading.Lock()
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


def is_new_store() -> bool:
    """Whether the current store is a database file that is yet to be made; found out without importing MLflow."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if not given and any(Path("mlruns").glob("*/meta.yaml")):
        return False  # of an earlier MLflow, and still its default where it is there
    uri = given or "sqlite:///mlflow.db"
    path = _local_path(uri)
    return uri.startswith("sqlite") and path is not None and not path.exists()


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
        reason = _without_password(first_line(root_cause(error)), uri)
        raise UserError(f"MLFLOW_TRACKING_URI: no answer from {shown(uri)} ({reason}); {REMEDY}") from None


def users_settings() -> dict[str, str]:
    """What the user has set of the settings that :func:`impatient` changes."""
    with _lock:
        return {name: os.environ[name] for name in CHANGED if name in os.environ and not _borrowed[name]}


def take_settings(given: Mapping[str, str], *, is_shared_machine: bool) -> None:
    """In a worker: takes what its driver gives it for the environment.

    Args:
        given: the driver's :func:`users_settings` among them.
        is_shared_machine: whether the worker has all else from the driver, which may have been impatient meanwhile.
    """
    os.environ.update(given)
    for name in CHANGED - given.keys() if is_shared_machine else ():
        os.environ.pop(name, None)


@contextmanager
def impatient(settings: Mapping[str, str] = ONE_TRY) -> Iterator[None]:
    """Inside the block MLflow gives up on a server that does not answer after seconds, not minutes.

    What the user has set stays as it is. MLflow reads its settings from the environment at each request, so other
    threads feel this too; the last one to leave its block puts everything back.
    """
    with _lock:
        names = [name for name in settings if name in _borrowed or name not in os.environ]
        _borrowed.update(names)
        os.environ.update({name: settings[name] for name in names if _borrowed[name] == 1})
    try:
        yield
    finally:
        with _lock:
            _borrowed.subtract(names)
            for name in [name for name in names if not _borrowed[name]]:
                del _borrowed[name]
                os.environ.pop(name, None)


def is_outage(error: BaseException) -> bool:
    """Whether the tracking server, its database or the way to it is away for a while; False for a refusal."""
    import requests
    import urllib3
    from mlflow.exceptions import MlflowException
    from sqlalchemy import exc

    away = (
        *(ConnectionError, TimeoutError, urllib3.exceptions.HTTPError, exc.OperationalError, exc.InterfaceError),
        *(exc.TimeoutError, requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError),
        requests.exceptions.ChunkedEncodingError,
    )
    if isinstance(error, UserError):
        return False
    if isinstance(error, MlflowException) and error.error_code != "INTERNAL_ERROR":  # the server did answer
        return error.error_code in UNAVAILABLE or bool(TRANSIENT.search(error.message))
    for cause in _chain(error):
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return cause.response.status_code in UNAVAILABLE_STATUS
        if isinstance(cause, away):
            return True
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of: MLflow wraps what its HTTP client and its database raise."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def root_cause(error: BaseException) -> BaseException:
    """The operating system's "connection refused" behind MLflow's "max retries exceeded"; else the error itself."""
    *_, root = _chain(error)
    return root if isinstance(root, OSError) else error


def _without_password(text: str, uri: str) -> str:
    credentials = re.match(r"[\w+.-]+://[^:@/]*:(.*)@", uri)
    text = text.replace(uri, shown(uri))
    for password in {credentials[1], unquote(credentials[1])} - {""} if credentials else ():
        text = text.replace(password, "***")
    return text
