"""A real MLflow server and a real PostgreSQL, on the loopback, to be killed and started again."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

START_S = 90  # in which a server must answer, on a busy machine
POLL_S = 0.05
# MLflow's server: no reports to its makers, no processes for jobs that nobody asks for.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class _Server:
    """A process in a group of its own; a context manager that starts and kills it."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.command, self.log, self.environment = command, log, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until(self.answers)

    def answers(self) -> bool:
        raise NotImplementedError

    def kill(self) -> None:
        """Kills the whole group with -9, as a power cut would; nothing when it is down."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        """SIGSTOP makes it hang, SIGCONT go on."""
        if self.process is not None:
            os.killpg(self.process.pid, number)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        assert self.process is not None
        for _ in range(int(START_S / POLL_S)):
            if condition():
                return
            try:
                self.process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        raise RuntimeError(f"{self.command[0]} does not answer:\n{self.log.read_text()[-2000:]}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class MlflowServer(_Server):
    """``mlflow server`` on a port that stays the same over restarts; it also keeps the artifacts.

    Args:
        folder: for its artifacts, its log and, without a ``backend_uri``, its SQLite database.
        backend_uri: of another database.
        environment: what it needs to know to reach that.
    """

    def __init__(self, folder: Path, backend_uri: str | None = None, environment: Mapping[str, str] = {}) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        options = {
            "--backend-store-uri": backend_uri or f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination": str(folder / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(port),
            "--workers": "1",
        }
        words = [word for option in options.items() for word in option]
        command = [sys.executable, "-m", "mlflow", "server", *words]
        super().__init__(command, folder / "server.log", {**QUIET, **environment})

    def answers(self) -> bool:
        try:
            with build_opener(ProxyHandler({})).open(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


class Postgres(_Server):
    """PostgreSQL with a database ``mlflow``, from Debian's packages; its data is removed at the end.

    Its folder is not a test's own: PostgreSQL refuses to run as root, and other users cannot enter that.

    Attributes:
        uri: without the password.
        environment: with the password.
    """

    def __init__(self) -> None:
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
        if self.programs is None:
            pytest.skip("PostgreSQL is not installed: /usr/lib/postgresql/*/bin is missing")
        self.folder = Path(tempfile.mkdtemp(prefix="polymath-postgres-"))
        self.as_user: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.port = free_port()
        environment = {"PGPASSWORD": secrets.token_hex(8)}
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "fsync": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [
            *self.as_user,
            f"{self.programs}/postgres",
            "-D",
            f"{self.folder}/data",
            "-p",
            str(self.port),
            *words,
        ]
        super().__init__(command, self.folder / "server.log", environment)
        self._set_up()

    def _set_up(self) -> None:
        password = self.folder / "password"
        password.write_text(self.environment["PGPASSWORD"])
        password.chmod(0o644)
        options = ["--auth=scram-sha-256", "--username=mlflow", f"--pwfile={password}", "--no-sync", "--encoding=UTF8"]
        self._run("initdb", "-D", f"{self.folder}/data", *options)

    def start(self) -> None:
        super().start()
        found = self._run("psql", *self._where, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database")
        if "mlflow" not in found.split():
            self._run("createdb", *self._where, "mlflow")

    def answers(self) -> bool:
        command = [f"{self.programs}/pg_isready", *self._where, "-q"]
        return subprocess.run(command, check=False).returncode == 0

    @property
    def _where(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow"]

    def _run(self, program: str, *words: str) -> str:
        return subprocess.run(
            [*self.as_user, f"{self.programs}/{program}", *words],
            env={**os.environ, **self.environment},
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.folder)
