"""Which figures ``compare`` writes, and that it does not matter how many processes write them."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis import __main__ as command
from analysis.__main__ import main
from tests.conftest import ROOT, files_in
from tests.recorder import BASE, Recorder

WRITE_TWICE = """
import sys
from pathlib import Path
from analysis import figures
from analysis.figure_style import add_heading, bar_handle, house_style, new_figure, styles

def drawn():
    found = {}
    with house_style():
        for number in range(3):
            figure = found[f"figure-{number}"] = new_figure(height=2)
            figure.subplots().plot(range(number + 2))
            add_heading(figure, "A title", [bar_handle(style, name) for name, style in styles(["scratch"]).items()])
    return found

for num_cores in (1, 2):
    figures._num_free_cores = lambda: num_cores
    paths = figures.save(drawn(), Path(sys.argv[1], str(num_cores)))
    assert [path.name for path in paths[:3]] == ["figure-0.png", "figure-0.svg", "figure-1.png"]
"""


def test_figures_are_the_same_bytes_however_many_processes_write_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE_TWICE, str(tmp_path)], cwd=ROOT, check=True)
    one, two = ({name: (tmp_path / cores / name).read_bytes() for name in files_in(tmp_path / cores)} for cores in "12")
    assert len(one) == 6 and one == two


def test_an_overview_of_many_searches_leaves_their_grids_to_the_layout_for_them(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MAX_SEARCHES", 1)
    sweeps = {task: Recorder(experiment, base={**BASE, "task": task}, learning_rates=(1e-4, 1e-5)) for task in "ab"}
    for sweep in sweeps.values():
        sweep.all_trials((0.8, 0.7))

    def grids(*options: str) -> set[str]:
        folder = tmp_path / "-".join(["tables", *options])
        main([*options, "--output", str(folder)])
        return {Path(name).stem for name in files_in(folder) if "search-" in name}

    assert grids() == set()
    assert "the grids of searches are drawn with layout=search" in capsys.readouterr().out
    assert grids("--layout", "search") == {"search-a", "search-b"}
    assert grids("--sweep", sweeps["a"].run_id) == {"search-a"}
    assert grids("--tasks", "b") == {"search-b"}
    assert "the grids of searches" not in capsys.readouterr().out
