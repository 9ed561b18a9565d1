"""What may not happen whatever is recorded or configured: foreign code runs, a server is open, a secret is written.

Names and files that others put into the tracking store are in test_hostile.py, archives in test_archives.py.
"""

import ast
import base64
import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("trainer", "sweeps", "analysis")

# Nothing recorded is ever run

# Functions that run code which is in the data they read, by their full names; "*" ends a module all of which does.
RUN_DATA = (
    *("pickle.*", "cPickle.*", "_pickle.*", "dill.*", "cloudpickle.*", "joblib.*", "marshal.*", "shelve.*", "runpy.*"),
    *("torch.load", "torch.jit.load", "torch.hub.*", "numpy.fromregex", "pandas.read_pickle", "code.*"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader"),
    *("eval", "exec", "compile", "__import__", "builtins.*", "os.system", "os.popen", "subprocess.getoutput"),
)
LOADS_A_MODEL = {"load_model", "pyfunc", "from_pretrained", "load_context", "load_state_dict", "load_file", "unpickle"}


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, full name) of every function and class that a file names, through whatever it imported it as."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            yield node.lineno, (modules.get(first) or first) + dot + rest


def runs_data(name: str) -> bool:
    """Whether a full name is of RUN_DATA."""
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in RUN_DATA)


def shouts(tree: ast.AST) -> Iterator[int]:
    """Lines in which a safe function is told to be unsafe."""
    unsafe = {"allow_pickle": True, "trust_remote_code": True, "shell": True, "weights_only": False}
    unsafe["use_safetensors"] = False
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in unsafe:
            is_other_way = isinstance(node.value, ast.Constant) and node.value.value is not unsafe[node.arg]
            if not is_other_way:
                yield node.value.lineno


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(x)",
        "from pickle import load as read\nread(x)",
        "import torch as t\nt.load(x, weights_only=True)",
        "import numpy as np\nnp.load(x, allow_pickle=flag)",
        "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)",
        "eval(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
    ],
)
def test_these_rules_see_what_they_forbid(text: str) -> None:
    tree = ast.parse(text)
    assert any(runs_data(name) for _, name in used(tree)) or list(shouts(tree))


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_ours_reads_data_in_a_way_that_can_run_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [f"{path}:{line} {name}" for line, name in used(tree) if runs_data(name)] == []
    assert [f"{path}:{line}" for line in shouts(tree)] == []


@pytest.mark.parametrize("path", sources("analysis"), ids=lambda path: path.name)
def test_analysis_never_loads_a_model_that_was_tracked(path: Path) -> None:
    names = {name for _, name in used(ast.parse(path.read_text()))}
    assert not [name for name in names if LOADS_A_MODEL & set(name.split("."))]
    assert not [name for name in names if name.startswith(("mlflow.pytorch", "mlflow.transformers", "safetensors"))]


# Servers listen on the loopback

OPEN = re.compile(r"0\.0\.0\.0|\[::\]")
HOST = re.compile(r"--(?:host|dashboard-host|node-ip-address|http-host|bind|listen)[ =\"',]+([^\s\"',]+)")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# Where a server listens beyond the loopback, inside a cluster's own network, and what keeps others out.
WITHIN_A_CLUSTER = {
    "cluster/slurm.sh": "$head",  # Ray's head, for the workers; a token for this job alone
    "docs/tracking-server.md": "10.0.0.5",  # MLflow's server, for the workers; what it lets in is said there
}
COMMANDS = [
    *(ROOT / name for name in ("Makefile", "MLproject", "README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for path in (ROOT / "cluster").rglob("*") if path.is_file()),
    *sources(*PACKAGES, "benchmarks"),
]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_server_that_we_start_or_tell_to_start_is_open_to_the_network(path: Path) -> None:
    name, text = path.relative_to(ROOT).as_posix(), path.read_text()
    assert OPEN.findall(text) == []
    for host in HOST.findall(text):
        assert host in LOOPBACK or host == WITHIN_A_CLUSTER.get(name), f"{name}: {host}"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_ray_that_is_started_by_hand_has_a_token(path: Path) -> None:
    text = path.read_text()
    if re.search(r"^[^#`\n]*\bray start\b", text, re.MULTILINE):
        assert "RAY_AUTH_MODE" in text or "authOptions" in text


LISTEN = "0A"
SESSION = """
from sweeps.cluster import ray_session
from sweeps.spec import SweepOptions
with ray_session(SweepOptions(task="splice", gpus_per_trial=0)):
    import ray
    ray.get(ray.remote(lambda: None).remote())
    print("ready", flush=True)
    input()
"""


def listening(marker: str) -> set[str]:
    """Addresses, in the kernel's hexadecimal, on which processes with a word in their environment listen for TCP."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (process / "environ").read_text(errors="replace"):
                inodes |= {str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()}
        except OSError:  # it has ended, or is another user's
            continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == LISTEN and f"socket:[{line[9]}]" in inodes}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens where")
def test_the_ray_that_a_sweep_starts_listens_on_the_loopback_alone() -> None:
    marker = f"POLYMATH_TEST_MARKER={os.getpid()}-ray"
    environment = {**os.environ, **dict([marker.split("=")])}
    environment.pop("RAY_ADDRESS", None)
    with subprocess.Popen(
        [sys.executable, "-c", SESSION],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None and session.stdin is not None
        assert session.stdout.readline() == "ready\n"
        found = listening(marker)
        session.stdin.write("\n")
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}  # v4, v6, mapped
    assert found and found <= loopback


# Secrets are written nowhere

SECRET = "Marker4Secrets"
FORMS = [SECRET.encode(), base64.b64encode(f"someone:{SECRET}".encode())[4:20]]


class Guard(ThreadingHTTPServer):
    """Lets those through to a tracking server who know the password, but for requests that it is to refuse."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.behind = (host, port)
        self.refused: Callable[[str, str], bool] = lambda method, path: False
        self.num_let_in = 0

    @property
    def uri(self) -> str:
        return f"http://someone:{SECRET}@127.0.0.1:{self.server_address[1]}"


class Door(BaseHTTPRequestHandler):
    server: Guard

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        credentials = base64.b64encode(f"someone:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") not in (f"Basic {credentials}", f"Bearer {SECRET}"):
            return self.send_error(401)
        if self.server.refused(self.command, self.path):
            return self.send_error(403)
        self.server.num_let_in += 1
        behind = http.client.HTTPConnection(*self.server.behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "authorization")}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guard, Path]]:
    """A guarded tracking server, and the folder in which it keeps everything."""
    from tests.servers import MlflowServer

    folder = tmp_path_factory.mktemp("server")
    server = MlflowServer(folder)
    server.start()
    host, _, port = server.uri.removeprefix("http://").rstrip("/").partition(":")
    try:
        with Guard(host, int(port)) as guard:
            thread = threading.Thread(target=guard.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield guard, folder
            guard.shutdown()
            thread.join()
    finally:
        server.kill()


def sweep(uri: str, data_dir: Path, scratch: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A small sweep of a user whose environment is full of secrets; Ray and all temporary files go to a folder."""
    named = "MLFLOW_TRACKING_TOKEN AWS_SECRET_ACCESS_KEY HF_TOKEN OUR_API_KEY".split()
    places = {"RAY_TMPDIR": str(scratch), "TMPDIR": str(scratch), "MLFLOW_TRACKING_URI": uri}
    environment = {**os.environ, **dict.fromkeys(named, SECRET), **places}
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
        environment.pop(name, None)
    options = ["--task", "splice", "--data-dir", str(data_dir), "--model", "kmer", "--seeds", "1", *more]
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *options, "--grid", "compare"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_no_secret(done: subprocess.CompletedProcess[str], *folders: Path) -> None:
    for form in FORMS:
        assert form.decode() not in done.stdout + done.stderr
        for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            place = content.find(form)
            assert place < 0, f"{path}: {content[max(0, place - 200) : place + 100]!r}"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder whose path is short: Ray's sockets have theirs in it."""
    with tempfile.TemporaryDirectory(prefix="p-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_sweep_writes_no_secret_anywhere(guard: tuple[Guard, Path], dna_files: Path, scratch: Path) -> None:
    """Not into the store's database or artifacts, Ray's session, a temporary file, or what it prints."""
    server, folder = guard
    done = sweep(server.uri, dna_files, scratch)
    assert done.returncode == 0, done.stderr
    assert server.num_let_in > 20 and list(scratch.rglob("*.log")), "there is something to look at"
    assert {"command.txt", "requirements.txt", "config.json"} <= {path.name for path in folder.rglob("*")}
    assert f"http://127.0.0.1:{server.server_address[1]}" in done.stdout
    assert_no_secret(done, folder, scratch)


@pytest.mark.slow
def test_a_trial_that_the_server_refuses_fails_without_a_secret_in_its_traceback(
    guard: tuple[Guard, Path], dna_files: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What MLflow says of a refused artifact holds the whole URI, password and all."""
    server, folder = guard
    refused = []

    def is_refused(method: str, path: str) -> bool:
        refused.append(method == "PUT" and "predictions" in path)
        return refused[-1]

    monkeypatch.setattr(server, "refused", is_refused)
    done = sweep(server.uri, dna_files, scratch, "--max-train-examples", "50")
    assert any(refused) and done.returncode == 1, done.stdout + done.stderr
    assert_no_secret(done, folder, scratch)


@pytest.mark.slow
def test_a_password_that_is_wrong_is_one_line_without_it(
    guard: tuple[Guard, Path], dna_files: Path, scratch: Path
) -> None:
    server, _ = guard
    uri = server.uri.replace("someone:", "someone:wrong")
    done = sweep(uri, dna_files, scratch, "--max-train-examples", "40")
    assert done.returncode == 2 and done.stderr.startswith(
        "error: MLFLOW_TRACKING_URI: no answer from http://127.0.0.1"
    )
    assert done.stderr.count("\n") == 1
    assert_no_secret(done, scratch)
