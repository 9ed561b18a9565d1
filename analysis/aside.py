"""MLflow's client in a process of its own: its import takes more than a second, in which this one can read."""

import multiprocessing
import signal
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from analysis.client import Client


class Aside:
    """Makes a run in a store, once; the process that does so begins at once."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        context = multiprocessing.get_context("spawn")  # which has nothing of this one's open connections
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=_serve, args=(pipe, tracking_uri), daemon=True)
        self._process.start()
        pipe.close()  # so that the end of the process is the end of the pipe

    def new_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Makes a run that has ended, and returns its id; where the process is gone, without it."""
        try:
            self._pipe.send((experiment_id, name, dict(tags)))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            return Client(self._uri).new_run(experiment_id, name, tags)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, tracking_uri: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to all of a command: the parent's to answer
    client = Client(tracking_uri)
    with suppress(Exception):  # to import all that it takes; what is wrong with the store shows when it counts
        client.experiments()
    with suppress(EOFError):
        wanted = pipe.recv()
        try:
            pipe.send(client.new_run(*wanted))
        except Exception as error:
            pipe.send(error)
