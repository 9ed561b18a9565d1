"""A real Ray cluster on the loopback interface: a head and more nodes, each a process tree and an address of its own.

Linux answers to all of 127.0.0.0/8, so every node has an address of its own without any set-up. Nodes share nothing but
the token and the code that is installed: not the temporary folder, not the working folder, not POLYMATH_DATA.
"""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

START_S = 60  # how long a node may take to come up
HAS_JOBS = all(importlib.util.find_spec(name) for name in ("aiohttp_cors", "grpc", "opencensus", "prometheus_client"))
needs_jobs = pytest.mark.skipif(not HAS_JOBS, reason="Ray's job server is not installed: pip install 'ray[default]'")


class RayCluster:
    """Starts the nodes, and stops them at the end of a ``with`` block; node 0 is the head.

    Args:
        folder: for the nodes' folders and logs and the token; its path is to be short, Ray puts sockets into it.
        num_nodes: the head among them; each has one CPU.
        head_cpus: 0 keeps work off the head.
    """

    def __init__(self, folder: Path, num_nodes: int, *, head_cpus: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.token_file = folder / "token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        # Several ports are taken at once, or the same one would be found twice.
        self.port, self.dashboard_port = free_ports(2)
        self.nodes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(num_nodes):
                self.add_node(num_cpus=head_cpus if number == 0 else 1)
        except BaseException:
            self.stop()
            raise

    @property
    def address(self) -> str:
        """HOST:PORT for ``ray_address``."""
        return f"127.0.0.2:{self.port}"

    @property
    def jobs_address(self) -> str:
        """For ``ray job submit --address``, where the job server is installed."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a driver needs in its environment to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def home(self, number: int) -> Path:
        """The folder of one node: ``work`` in it is where it was started, ``data`` its POLYMATH_DATA."""
        return self.folder / f"n{number}"

    def add_node(self, num_cpus: int = 1) -> int:
        """Starts one more node and waits until it is up; returns its number."""
        number = len(self.nodes)
        home = self.home(number)
        (home / "work").mkdir(parents=True)
        with (home / "log").open("wb") as log:
            node = subprocess.Popen(
                self._command(number, num_cpus),
                cwd=home / "work",
                env=self._node_environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # all that the node starts stays in its session, workers too
            )
        self.nodes.append(node)
        self._wait_for(number)
        return number

    def _command(self, number: int, num_cpus: int) -> list[str]:
        listen, grpc, metrics, environment, client = free_ports(5)
        options: dict[str, object] = {
            "node-ip-address": f"127.0.0.{2 + number}",
            "num-cpus": num_cpus,
            "num-gpus": 0,
            "object-store-memory": 200_000_000,
            "temp-dir": self.home(number) / "t",
            "dashboard-agent-listen-port": listen,
            "dashboard-agent-grpc-port": grpc,
            "metrics-export-port": metrics,
            "runtime-env-agent-port": environment,
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        if number == 0:
            options |= {"port": self.port, "dashboard-host": "127.0.0.1", "dashboard-port": self.dashboard_port}
            options |= {"include-dashboard": HAS_JOBS}
            options |= {"ray-client-server-port": client} if importlib.util.find_spec("grpc") else {}
        else:
            options |= {"address": self.address}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += [f"--{name}={value}" for name, value in options.items()]
        return command + ["--head"] * (number == 0)

    def _node_environment(self, home: Path) -> dict[str, str]:
        """This process's environment without what a test has set for itself."""
        dropped = ("RAY_", "MLFLOW_", "POLYMATH_", "TUNE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        beside = Path(sys.executable).parent  # where `mlflow` and `ray` are
        autoscaler, dashboard = free_ports(2)
        return {
            **kept,
            **self.environment,
            "PATH": f"{beside}:{os.environ['PATH']}",
            "POLYMATH_DATA": str(home / "data"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "1000",  # a dead node is noticed after 5 s, not 15
            "AUTOSCALER_METRIC_PORT": str(autoscaler),
            "DASHBOARD_METRIC_PORT": str(dashboard),
        }

    def _wait_for(self, number: int) -> None:
        log = self.home(number) / "log"
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if self.nodes[number].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"node {number} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def kill_node(self, number: int) -> None:
        """The node is gone from one moment to the next, as a machine whose power fails: SIGKILL for all it started.

        The head hears of it within seconds. A node that is dead already stays so.
        """
        while left := processes_of_session(self.nodes[number].pid):
            for process_id in left:
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
            time.sleep(0.01)
        self.nodes[number].wait()

    def stop(self) -> None:
        """Ends every node that is left, the head last."""
        for number in reversed(range(len(self.nodes))):
            self.kill_node(number)

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    taken = [socket.socket() for _ in range(count)]
    try:
        for one in taken:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in taken]
    finally:
        for one in taken:
            one.close()


def processes_of_session(session_id: int) -> list[int]:
    """The ids of all processes in a session that live, its leader among them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # After the name, which may hold blanks: state, parent, group, session.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session_id and fields[0] != "Z":
                    found.append(int(folder.name))
    return found
