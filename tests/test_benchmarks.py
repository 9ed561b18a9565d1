"""Every benchmark says how it is used, and those that `make bench` runs share their options."""

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())
MEASURED = re.findall(r"^BENCHMARKS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
# All in one process, since each import takes seconds, and not in this one: some change its environment.
ASK = """
import contextlib, importlib, io, json, sys, traceback

said = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            importlib.import_module(f"benchmarks.{name}").main(["--help"])
        except SystemExit as end:
            print(f"status {end.code}")
        except BaseException:
            print(traceback.format_exc())
    said[name] = output.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Script -> what it prints when it is asked for help."""
    command = [sys.executable, "-c", ASK, *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_answers_help(name: str, said: dict[str, str]) -> None:
    text = said[name]
    assert f"usage: python -m benchmarks.{name} " in text, text
    assert text.endswith("status 0\n")


@pytest.mark.parametrize("name", MEASURED)
def test_what_make_bench_runs_can_be_quick_and_writes_its_figures(name: str, said: dict[str, str]) -> None:
    assert {"--quick", "--output"} <= {*said[name].split()}
