"""What others wrote into the tracking store is only ever text: no path, no markup, no command, no crash.

Every line of these sweeps is one that anybody with access to the store could have recorded.
"""

import csv
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from sweeps import recorded
from tests.conftest import files_in, run_module
from tests.recorder import BASE, Recorder
from tests.test_html import Elements
from trainer.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # an optimizer that fills a page

LAYOUTS = ("auto", "search", "verdict", "table2", "init,mapping x task")
WILD = {
    "path": "../../../escaped",
    "absolute path": "{folder}/escaped",
    "script": "<script>alert(1)</script>",
    "attribute": "\"><img src=x onerror=alert(1)>'",
    "terminal": "a\x1b[31mred\x1b]0;title\x07\r\x9b1mb\x00c\u202ed\ne".replace("\x00", "\x01"),
    "latex": r"\input{/etc/passwd}\write18{id}$x$%&_#{}~^",
    "mathematics": r"$\frac{$ \foo",
    "formula": "=cmd|' /C calc'!A0",
    "formula at": "@SUM(1+1)",
    "markup": "[red]x[/red][/] a|b`c`*d*",
    "long": "x" * 400,
}
# All that our own LaTeX has; a name adds nothing to it.
LATEX = set(
    """usepackage begin end centering small caption resizebox ifdim width linewidth else fi toprule midrule bottomrule
    footnotesize par textbackslash textasciitilde textasciicircum textless textgreater pm uparrow""".split()
)


def record(experiment: str, text: str) -> None:
    """A sweep whose every name is the text, and one whose task is known, so that it is in the paper's tables."""
    for task in (text, "h4"):
        base = {**BASE, "task": task, "model": text, "mapping": text, "batch_size": text, "our_own": text}
        axes = {"inits": (text, "scratch"), "optimizers": (text,)}
        facts = {"note": text, "digest": text, "metric": text, "select_by": text}
        sweep = Recorder(experiment, base=base, seeds=2, **axes, **facts)  # type: ignore[arg-type]
        for init in (text, "scratch"):
            for seed in (0, 1):
                run_id = sweep.trial("finished", (0.9 - seed / 10, 0.8), init=init, seed=seed)
                sweep.client.set_tag(run_id, "mlflow.runName", text)
                sweep.client.log_metric(run_id, "train/loss", 1.0, step=1)
        broken = sweep.trial("failed", seed=0)
        sweep.client.set_tag(broken, recorded.FAILURE, text)
        sweep.client.set_tag(sweep.run_id, "mlflow.note.content", text)


def compare(layout: str, output: Path) -> None:
    """As from the command line; a refusal must be one line."""
    try:
        main(["--layout", layout, "--output", str(output)])
    except UserError as error:
        assert "\n" not in str(error)


def controls(text: str) -> set[str]:
    """What a terminal may obey, or a reader be misled by."""
    return {ascii(mark) for mark in set(text) - {"\n"} if unicodedata.category(mark) in ("Cc", "Cf")}


def assert_inert(path: Path) -> None:
    """That a file holds what came from the store as text only."""
    text = path.read_text(encoding="utf-8")
    assert controls(text) == set(), path.name
    match path.suffix:
        case ".html":
            page = Elements(text)
            assert len(page.all("script")) == 1
            assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
            assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
        case ".md":
            assert re.findall(r"<(?!br>)[a-z/!]", text, re.IGNORECASE) == []
        case ".tex":
            assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= LATEX
        case ".csv":
            rows = csv.reader(text.splitlines())
            assert [cell for row in rows for cell in row if re.match(r"[=+@-](?![\d.])", cell)] == []
        case ".svg":
            assert not [found for found in ElementTree.fromstring(text).iter() if found.tag.endswith("script")]


@pytest.mark.parametrize("kind", WILD)
def test_names_stay_names(kind: str, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(experiment, WILD[kind].format(folder=tmp_path) if kind == "absolute path" else WILD[kind])
    before, output = files_in(tmp_path), tmp_path / "some/where/deep/tables"
    for layout in LAYOUTS:
        compare(layout, output)
        shown = capfd.readouterr()
        assert controls(shown.out + shown.err) == set(), layout
    written = {name for name in files_in(tmp_path) - before if not name.startswith("artifacts/")}
    assert {Path(name).parent.as_posix() for name in written} <= {
        "some/where/deep/tables",
        "some/where/deep/tables/figures",
    }
    logged = {Path(name).parent.name for name in files_in(tmp_path / "artifacts") if "compare" in name}
    assert written and logged == {"tables"}
    for name in written:
        if not name.endswith(".png"):
            assert_inert(tmp_path / name)


def test_an_experiments_name_in_a_refusal_cannot_paint_the_terminal(tracking_uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri).create_experiment(f"nightly\x1b[31m {tmp_path}", tmp_path.as_uri())
    done = run_module("analysis", "--experiment", "nihgtly", MLFLOW_TRACKING_URI=tracking_uri)
    assert done.returncode == 2 and "experiment: unknown value 'nihgtly'" in done.stderr
    assert controls(done.stdout + done.stderr) == set()


# Numbers that are none

NUMBERS = {
    "seed": ("1.5", "inf", "9" * 400, "one"),
    "batch_size": ("1.5", "-inf"),
    "learning_rate": ("nan", "inf", "fast"),
    "max_train_examples": ("0.5",),
    "train_fraction": ("half",),
    "checkpoint_step": ("last",),
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in NUMBERS.items() for text in texts])
def test_a_param_that_is_not_the_number_it_should_be_is_no_crash(
    name: str, text: str, experiment: str, tmp_path: Path
) -> None:
    sweep = Recorder(experiment, seeds=2, inits=("pretrained", "scratch"))
    sweep.all_trials((0.9, 0.8))
    for seed in (0, 1):
        sweep.trial("finished", (0.9, 0.8), **{"seed": seed, name: text})
    for layout in LAYOUTS:
        compare(layout, tmp_path / "tables")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan"), 1e308, -5.0])
def test_scores_that_no_trial_can_have_are_no_crash(score: float, experiment: str, tmp_path: Path) -> None:
    sweep = Recorder(experiment, seeds=2, inits=("pretrained", "scratch"))
    sweep.all_trials((score, score))
    (run_id, *_) = [run.info.run_id for run in sweep.client.search_runs([experiment], "metrics.`test/score` != 0.123")]
    sweep.client.log_metric(run_id, "train/loss", score, step=-(2**62))
    for layout in LAYOUTS:
        compare(layout, tmp_path / "tables")


# Artifacts


def deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


CELLS: Mapping[str, bytes] = {
    "binary": b"\x00\xff" * 1000,
    "deeply nested": deep(200_000),
    "a list": b"[1, 2]",
    "a list for an object": b'{"shared": [1], "cells": []}',
    "a word for a list": b'{"shared": {}, "cells": "abc"}',
    "numbers for words": b'{"shared": {}, "cells": [{"task": 1, "seed": [1], "init": {"a": 1}}]}',
    "nothing for words": b'{"shared": {"task": null}, "cells": [{"init": null}]}',
    "no model": b'{"shared": {"task": "h4"}, "cells": [{"seed": "0", "init": "scratch"}]}',
    "no numbers": b'{"shared": {"task": "h4", "model": "m", "init": "scratch"}, "cells": [{"seed": "inf"}]}',
    "a number of 5,000 digits": b'{"shared": {}, "cells": [%s]}' % (b"9" * 5000),
    "huge": b'{"shared": {}, "cells": [%s]}' % b",".join([b'{"seed": "1"}'] * 200_000),
    "terminal": json.dumps({"shared": {"task": "a\x1b[31m"}, "cells": [{"\x1b[31m": "\x1b[31m"}]}).encode(),
}
HEADER = b"example,label,prediction\n"
PREDICTIONS: Mapping[str, bytes] = {
    "binary": b"\x00\xff" * 1000,
    "UTF-16": (HEADER + b"1,2,3\n").decode().encode("utf-16"),
    "words for numbers": HEADER + b"x,y,z\n",
    "a number of 400 digits": HEADER + b"%s,1,1\n" % (b"9" * 400),
    "a cell of 5 MB": HEADER + b"%s,1,1\n" % (b"1" * 5_000_000),
    "2,000 columns": b",".join(b"c%d" % column for column in range(2_000)) + b"\n",
    "columns twice": b"example,example,label,prediction\n1,1,1,1\n",
    "ragged": HEADER + b"1,2\n1,2,3,4,5\n",
    "an open quote": HEADER + b'"1,2,3\n',
    "a NUL": HEADER + b"1\x00,2,3\n",
    "100,000 rows": HEADER + b"1,2,3\n" * 100_000,
}


def log(sweep: Recorder, run_id: str, name: str, content: bytes, folder: Path) -> None:
    path = folder / "logged" / Path(name).name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    sweep.client.log_artifact(run_id, str(path), Path(name).parent.as_posix().removeprefix("."))


def table_of(folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], str]:
    """What ``compare`` writes, and what it says on stderr, which is not much."""
    main(["--output", str(folder / "tables")])
    said = capfd.readouterr().err
    assert said.count("\n") <= 2 and len(said) < 600 and controls(said) == set()
    return list(csv.DictReader((folder / "tables/compare.csv").read_text().splitlines())), said


@pytest.mark.parametrize("kind", CELLS)
def test_a_sweeps_damaged_cells_are_one_line_or_left_out(
    kind: str, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = Recorder(experiment, seeds=2, inits=("pretrained", "scratch"))
    sweep.all_trials((0.9, 0.8))
    log(sweep, sweep.run_id, recorded.CELLS, CELLS[kind], tmp_path)
    rows, _ = table_of(tmp_path, capfd)
    assert {"pretrained", "scratch"} <= {row["init"] for row in rows}, "the trials are told of all the same"


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_damaged_predictions_are_left_out(
    kind: str, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = Recorder(experiment, seeds=2, inits=("pretrained", "scratch"))
    sweep.all_trials((0.9, 0.8))
    for run in sweep.client.search_runs([experiment], f"tags.`{recorded.KIND}` = 'trial'"):
        log(sweep, run.info.run_id, "predictions/test.csv", PREDICTIONS[kind], tmp_path)
    rows, _ = table_of(tmp_path, capfd)
    assert {row["init"] for row in rows} == {"pretrained", "scratch"}
