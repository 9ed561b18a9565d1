"""A session for downloads in which a host that cannot be reached is asked once, whoever needs it next."""

import threading
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError


class AskOnce(HTTPAdapter):
    """Sends requests, redirected ones too; for a host that could not be reached before, its error again at once.

    The first request to a host goes alone, so that of several threads one finds out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[str, requests.ConnectionError | None] = {}  # host -> why it cannot be reached
        self._turns: dict[str, threading.Lock] = {}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        host = urlsplit(request.url or "").netloc
        turn = self._turns.setdefault(str(host), threading.Lock())
        with nullcontext() if host in self._errors else turn:
            if error := self._errors.get(str(host)):
                raise type(error)(*error.args, request=request)
            try:
                return super().send(request, *args, **kwargs)
            except requests.ConnectionError as error:
                if is_unreachable(error):
                    self._errors[str(host)] = error
                raise
            finally:
                self._errors.setdefault(str(host), None)


def is_unreachable(error: requests.RequestException) -> bool:
    """Whether there was no connection: refused, no such host, no route, a bad certificate, or silence."""
    return isinstance(error, requests.ConnectTimeout) or bool(error.args and isinstance(error.args[0], MaxRetryError))


def open_session() -> requests.Session:
    """A session to be shared by all downloads of one run, also by several threads."""
    session = requests.Session()
    adapter = AskOnce()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
