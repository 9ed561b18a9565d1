"""What a later reader needs to repeat a sweep, without its secrets: commit, changes, versions, hardware, command."""

import getpass
import os
import platform
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sweeps.recorded import PREFIX

if TYPE_CHECKING:
    from mlflow.entities import Run

PACKAGES = ("torch", "transformers", "ray", "optuna", "mlflow", "numpy", "pytorch_optimizer")
FOLDER = "provenance"  # of the artifacts
MAX_DIFF = 1_000_000  # characters
MAX_NAMES = 200  # of files that are named and not shown
MAX_TAG = 5000  # characters that every tracking store takes for a tag

HIDDEN = "***"
SECRET_WORDS = frozenset("token password passwd passphrase secret credential credentials key pgpassword".split())
SHORTEST_SECRET = 4  # characters; the values of shorter ones stand in every text
SECRET_FILE = re.compile(
    r"^\.env|\.(pem|key|p12|pfx|jks)$|token(?!iz)|secret|password|credential|^id_(rsa|dsa|ecdsa|ed25519)"
    r"|^[._](netrc|pgpass|htpasswd|pypirc)$",
    re.IGNORECASE,
)
# What stands between "://" and "@": a word, or a name and a password, which may hold "/" and "@" unescaped.
CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/'\"@]+|[^\s/'\"@:]*:[^\s'\"]*)(?=@)")
QUERY = re.compile(rf"([?&](?:\w*[_-])?(?:{'|'.join(sorted(SECRET_WORDS))})=)[^\s&'\"]+", re.IGNORECASE)


def provenance_tags() -> dict[str, str]:
    """Tags of a run: Python's and the packages' versions, the driver's hardware and command.

    In a git checkout also the commit, and whether it was changed.
    """
    tags = {f"{PREFIX}version.python": platform.python_version()}
    # MLflow's own names: its UI shows who made a run, and from what.
    tags |= {"mlflow.user": getpass.getuser(), "mlflow.source.name": "polymath", "mlflow.source.type": "LOCAL"}
    tags |= {f"{PREFIX}command": command_line(sys.orig_argv)[:MAX_TAG], f"{PREFIX}hardware.driver": hardware()}
    for package in PACKAGES:
        try:
            tags[f"{PREFIX}version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    if commit := _commit():
        tags["mlflow.source.git.commit"] = commit
        tags[f"{PREFIX}git_dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def provenance_files(made_by_mlflow: "Run | None" = None) -> dict[str, str]:
    """Artifacts of a run, name -> text: the command, what is installed and, in a changed git checkout, the changes.

    Args:
        made_by_mlflow: the run that ``mlflow run`` made for this process, as it was before anything was added.
    """
    commands = [f"cd {shlex.quote(str(Path.cwd()))}", command_line(sys.orig_argv)]
    if made_by_mlflow is not None:
        commands += ["", "# by way of", _mlflow_command(made_by_mlflow)]
    installed = {found.name: found.version for found in distributions() if found.name}
    requirements = [f"{name}=={installed[name]}" for name in sorted(installed, key=str.lower)]
    files = {"command.txt": commands, "requirements.txt": requirements}
    texts = {name: without_secrets("\n".join(lines) + "\n") for name, lines in files.items()}
    if changes := _changes():
        texts["changes.diff"] = changes
    return {f"{FOLDER}/{name}": text for name, text in texts.items()}


def hardware() -> str:
    """This machine, as far as it tells: ``AMD EPYC 9354, 16 cores, 126 GiB, 2 x NVIDIA H100 80GB HBM3``."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", about.read_text() if about.exists() else "", re.MULTILINE)
    words = [named[1] if named else platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    if hasattr(os, "sysconf"):
        words.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    gpus = Counter(_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").split("\n"))
    words += [f"{number} x {name.strip()}" for name, number in gpus.items() if name.strip()]
    return ", ".join(words)


# The command


def command_line(words: Sequence[str]) -> str:
    """A command as a shell takes it, its secrets hidden: those in URIs, and values of options named like a secret."""
    shown = []
    for before, word in zip(["", *words], words, strict=False):
        option, equals, _ = word.partition("=")
        if equals and _names_a_secret(option):
            word = f"{option}={HIDDEN}"
        elif before.startswith("-") and "=" not in before and _names_a_secret(before):
            word = HIDDEN
        shown.append(without_secrets(word))
    return shlex.join(shown)


def _mlflow_command(run: "Run") -> str:
    """The ``mlflow run`` that made a run, from what MLflow recorded of it."""
    tags = run.data.tags
    words = ["mlflow", "run", tags.get("mlflow.source.name", "."), "-e", tags.get("mlflow.project.entryPoint", "main")]
    if commit := tags.get("mlflow.source.git.commit"):
        words += ["-v", commit]
    return command_line([*words, *(word for pair in run.data.params.items() for word in ("-P", "=".join(pair)))])


def without_secrets(text: str) -> str:
    """A text with ``***`` for what must not be recorded: credentials in URIs, and this environment's secrets.

    Those are the values of variables that are called like one (``MLFLOW_TRACKING_PASSWORD``), and the passwords of
    URIs in any variable.
    """
    return _without_known_secrets(QUERY.sub(rf"\g<1>{HIDDEN}", CREDENTIALS.sub(HIDDEN, text)))


def _without_known_secrets(text: str) -> str:
    for secret in sorted(set(_known_secrets()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _known_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        found = [value] if _names_a_secret(name) else []
        found += [credentials.partition(":")[2] for credentials in CREDENTIALS.findall(value)]
        for secret in found:
            yield from (form for form in (secret, unquote(secret)) if len(form) >= SHORTEST_SECRET)


def _names_a_secret(name: str) -> bool:
    """Whether an option or a variable is called like a secret: ``--api-key``, ``RAY_AUTH_TOKEN``."""
    return re.split(r"[-_.]", name.lower())[-1] in SECRET_WORDS


# The checkout


def _commit() -> str:
    """The commit of the checkout that this file belongs to; empty without one: a repository around it is not ours."""
    return _git("rev-parse", "HEAD").strip() if _git("ls-files", "--", Path(__file__).name) else ""


def _changes() -> str:
    """What ``git apply`` makes of the commit the files as they are, after lines that say what is left out of it."""
    commit = _commit()
    names = sorted(filter(None, _git("diff", "HEAD", "--name-only", "--no-renames", "--no-relative", "-z").split("\0")))
    untracked = _git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ":/").split("\0")
    if not commit or not (names or any(untracked)):
        return ""
    secret = [name for name in names if any(map(SECRET_FILE.search, Path(name).parts))]
    shown, too_long = "", []
    for name in sorted(set(names) - set(secret)):
        text = _diff(name)
        if len(shown) + len(text) <= MAX_DIFF:
            shown += text
        else:
            too_long.append(name)
    notes = {
        "not in git, by name only": sorted(filter(None, untracked)),
        "left out, since they may hold secrets": secret,
        f"left out, beyond {MAX_DIFF:,} characters": too_long,
    }
    lines = [f"# changes since commit {commit}"]
    lines += [f"# {why}: {_listed(found)}" for why, found in notes.items() if found]
    return _without_known_secrets("\n".join(lines) + "\n") + shown


def _diff(name: str) -> str:
    """The change of one file; URIs' credentials are hidden in the lines that it adds, so that it still applies."""
    plain = "--no-color --no-ext-diff --no-textconv --no-renames --no-relative --src-prefix=a/ --dst-prefix=b/".split()
    text = _git("diff", "HEAD", "--binary", *plain, "--", f":(top,literal){name}")
    return "\n".join(
        without_secrets(line) if line.startswith("+") else _without_known_secrets(line) for line in text.split("\n")
    )


def _listed(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() else ascii(name) for name in names[:MAX_NAMES]]
    return ", ".join(shown + [f"and {len(names) - MAX_NAMES} more"] * (len(names) > MAX_NAMES))


def _git(*arguments: str) -> str:
    return _output("git", *arguments)


def _output(*command: str) -> str:
    """What a command prints in the project's folder; empty where it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", errors="replace")  # by hand: line ends are left as they are
