"""The rooms of the house and who may enter them (the import rules of the design)."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("trainer", "sweeps", "analysis")
FORBIDDEN = {
    "trainer": {"sweeps", "analysis", "ray", "optuna", "mlflow"},
    "sweeps": {"analysis", "torch", "transformers"},
    "analysis": {"torch", "ray", "optuna", "transformers"},
}
# What analysis may take from its neighbours: the names of what is recorded, how the store is opened, how a command line
# is read, and how predictions are scored.
OPEN_TO_ANALYSIS = {
    "sweeps.recorded",
    "sweeps.connection",
    "trainer.commandline",
    "trainer.errors",
    "trainer.metrics",
}


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside functions."""

    def is_module(name: str) -> bool:
        path = ROOT.joinpath(*name.split("."))
        return path.is_dir() or path.with_suffix(".py").is_file()

    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else str(node.module) for name in members}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_imports_what_it_must_not_know(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        entered = {name.split(".")[0] for name in imports(path)}
        assert not entered & FORBIDDEN[package], f"{path} imports {entered & FORBIDDEN[package]}"


def test_analysis_knows_only_the_names_of_what_is_recorded() -> None:
    for path in (ROOT / "analysis").rglob("*.py"):
        neighbours = {name for name in imports(path) if name.startswith(("sweeps", "trainer"))}
        assert neighbours <= OPEN_TO_ANALYSIS, f"{path} imports {neighbours - OPEN_TO_ANALYSIS}"


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_stay_short_enough_to_read(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 300, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 45, f"{path}: {node.name} has {length} lines"
