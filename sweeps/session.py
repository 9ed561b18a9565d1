"""Ray for one sweep, started while the sweep is being opened: both take seconds, and neither waits for the other."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from sweeps.cluster import Resources, is_local, ray_session
from sweeps.spec import SweepOptions


class RaySession:
    """Ray, which is there once :meth:`start` was called, and gone when the block is left."""

    def __init__(self, options: SweepOptions) -> None:
        self.options = options
        self._session: AbstractContextManager[Resources]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")
        self._started: Future[Resources] | None = None

    def __enter__(self) -> Self:
        return self

    def start(self, num_cells: int) -> None:
        """Starts Ray on this machine, and does not wait for it; or joins the cluster that was asked for.

        Args:
            num_cells: how many trials there are to run.

        Raises:
            UserError: when the cluster cannot be joined, or is not fit for the sweep.
        """
        if self._started is None:
            self._session = ray_session(self.options, num_cells)
            self._started = self._thread.submit(self._session.__enter__)
            if not is_local(self.options):
                self._started.result()

    def resources(self) -> Resources:
        """What each trial takes, once Ray is there.

        Raises:
            RuntimeError: when it was never started.
            Exception: what went wrong when it started.
        """
        if self._started is None:
            raise RuntimeError("Ray was not started")
        return self._started.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The thread stays until Ray has ended: Linux ends Ray's processes with the thread that started them.
        with self._thread:
            if self._started is not None and self._started.exception() is None:
                self._session.__exit__(None, None, None)
