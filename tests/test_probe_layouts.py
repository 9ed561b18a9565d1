"""The layouts of probes: the right number under the right name, of the right run, whatever else is in the store."""

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from analysis.__main__ import main
from analysis.client import Client
from analysis.database import open_database
from analysis.layouts import PROBES
from analysis.probe_tables import probe_sheet
from analysis.probes import read_probes
from analysis.render import table_csv
from analysis.sheet import Sheet
from analysis.source import Source
from sweeps import recorded
from tests.conftest import files_in, refusal, run_module
from tests.probe_runs import MODELS, content, record_probe
from tests.recorder import Recorder
from tests.test_hostile import WILD, assert_inert, controls

FIVE = (*MODELS, "scratch seed 1", "fine-tuned all-MiniLM-L6-v2", "fine-tuned scratch")


def sheet_of(experiment: str, kind: str, source: Source | None = None) -> Sheet:
    return probe_sheet(read_probes(source or MlflowClient(), [experiment], kind, where="here"))


def records_of(sheet: Sheet) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table_csv([sheet]))))


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def row_of(sheet: Sheet, **words: str) -> Mapping[str, str]:
    (row,) = [row for row in sheet.rows if words.items() <= row.items()]
    return row


# Numbers


def test_pwcca_shows_the_last_layers_with_their_noise_floor(experiment: str) -> None:
    found = content("pwcca")
    (pair,) = found["results"]
    pair["pwcca"][-1][-1], pair["pwcca_of_second"][-1][-1], pair["cka"][-1][-1] = 0.7654, 0.4321, 0.1111
    pair["dimensions"], pair["num_dimensions"] = [[1, 2, 380], [3, 4, 250]], [384, 256]
    record_probe(experiment, found)
    sheet = sheet_of(experiment, "pwcca")
    assert sheet.rows == (
        {
            "task": "splice",
            "first": "all-MiniLM-L6-v2",
            "second": "scratch seed 0",
            "examples (tokens)": "100 (6,200)",
            "PWCCA": "0.765",
            "noise floor": "0.250",
            "PWCCA by second": "0.432",
            "its noise floor": "0.260",
            "CKA": "0.111",
            "CKA noise floor": "0.150",
            "dimensions kept": "380/384, 250/256",
        },
    )


def test_the_csv_of_pwcca_has_every_pair_of_layers_in_full_precision(experiment: str) -> None:
    found = content("pwcca")
    (pair,) = found["results"]
    pair["pwcca"][0][2] = 1 / 3
    record_probe(experiment, found)
    records = records_of(sheet_of(experiment, "pwcca"))
    assert len(records) == 9
    (one,) = [row for row in records if (row["first_layer"], row["second_layer"]) == ("0 (embeddings)", "2")]
    assert float(one["pwcca"]) == 1 / 3
    assert float(one["cka"]) == pair["cka"][0][2]
    assert (one["first_dimensions"], one["second_dimensions"], one["noise_floor_cka"]) == ("300", "302", "")
    assert records[-1]["noise_floor_cka"] == "0.15"


def test_the_papers_pwcca_stands_beside_models_that_were_not_fine_tuned_one_of_them_new(experiment: str) -> None:
    """The paper's figures on stability: 0.545 of BERT and random, 0.388 of two random models."""
    record_probe(experiment, content("pwcca", "stability", (*FIVE, "bert-base-uncased")))
    sheet = sheet_of(experiment, "pwcca")
    beside = {(row["first"], row["second"]): row["paper"] for row in sheet.rows if row["paper"] != "-"}
    pretrained, one, other = FIVE[:3]
    assert beside == {
        (pretrained, one): "0.545",
        (pretrained, other): "0.545",
        (one, other): "0.388",
        (one, "bert-base-uncased"): "0.545",
        (other, "bert-base-uncased"): "0.545",
    }
    assert any("not the same measurement" in note for note in sheet.notes)


def test_a_task_without_a_pwcca_in_the_paper_has_no_such_column(experiment: str) -> None:
    record_probe(experiment, content("pwcca", "splice"))
    sheet = sheet_of(experiment, "pwcca")
    assert "paper" not in sheet.rows[0]
    assert not any("paper" in note for note in sheet.notes)


def test_attention_has_a_column_for_each_layer_and_their_mean(experiment: str) -> None:
    found, deep = content("attention"), content("attention", "h4", num_layers=3)
    found["results"][0] |= {"mean": [0.5, 1.25], "std": [0.0312, None]}
    record_probe(experiment, found)
    record_probe(experiment, deep)
    sheet = sheet_of(experiment, "attention")
    row = row_of(sheet, task="splice")
    layers = [row[name] for name in ("layer 1", "layer 2", "layer 3", "mean of layers")]
    assert layers == ["0.500 ± 0.031", "1.250", "-", "0.875"]
    assert row_of(sheet, task="h4")["layer 3"] != "-"
    assert [record["layer"] for record in records_of(sheet)] == ["1", "2", "3", "1", "2"]
    assert float(records_of(sheet)[0]["mean"]) == deep["results"][0]["mean"][0]


def test_isometry_shows_quantiles_spread_and_zeros(experiment: str) -> None:
    found = content("isometry", models=MODELS[:1])
    found["results"][0]["quantiles"] = {"0.05": 0.00123456, "0.25": 0.1, "0.5": 0.5, "0.75": 2.0, "0.95": 30.0}
    found["results"][0]["std_log10"] = 0.9876
    record_probe(experiment, found)
    sheet = sheet_of(experiment, "isometry")
    assert sheet.rows[0] == {
        "task": "splice",
        "model": "all-MiniLM-L6-v2",
        "examples": "20",
        "median": "0.5",
        "5 % - 95 %": "0.00123 to 30",
        "25 % - 75 %": "0.1 to 2",
        "spread": "0.988",
        "zero directions": "40/7,720",
    }
    assert records_of(sheet)[0]["quantile_0.05"] == "0.00123456"


def test_gradients_show_mean_spread_and_quantiles_of_cosines(experiment: str) -> None:
    found = content("gradients", models=MODELS[:1])
    found["results"][0] |= {"mean": -0.25, "std": 0.125}
    found["results"][0]["quantiles"] |= {"0.05": -0.5, "0.5": -0.2, "0.95": 0.75}
    record_probe(experiment, found)
    row = sheet_of(experiment, "gradients").rows[0]
    shown = {name: row[name] for name in ("batches", "pairs", "cosine", "median", "5 % - 95 %")}
    assert list(shown.values()) == ["32", "496", "-0.250 ± 0.125", "-0.200", "-0.500 to 0.750"]


def test_perturbation_has_a_column_for_each_noise(experiment: str) -> None:
    found = content("perturbation", models=MODELS[:1])
    found["results"][0] |= {"mean": [1.5, 0.0152, None, 0.0], "std": [0.25, None, None, 0.0]}
    record_probe(experiment, found)
    other = content("perturbation", "h4", models=MODELS[:1])
    other["results"][0] |= {"noise_stds": [0.5], "mean": [2], "std": [1], "num_values": [7]}
    record_probe(experiment, other)
    sheet = sheet_of(experiment, "perturbation")
    names = ["noise 0.5", "noise 0.01", "noise 0.0001", "noise 1e-06", "noise 1e-08", "values"]
    assert [column.name for column in sheet.columns][2:] == names
    row = row_of(sheet, task="splice")
    assert [row[name] for name in names] == ["-", "1.50e+00 ± 2.50e-01", "1.52e-02", "-", "0.00e+00 ± 0.00e+00", "12"]


@pytest.mark.parametrize("kind", PROBES)
def test_null_is_no_number_in_any_table(kind: str, experiment: str) -> None:
    def without(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: without(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [without(item, key) for item in value]
        kept = isinstance(value, str) or key in ("edges_log10", "counts", "noise_stds")
        return value if kept else None

    record_probe(experiment, without(content(kind)))
    sheet = sheet_of(experiment, kind)
    numbers = [row[column.name] for column in sheet.columns if column.align == "right" for row in sheet.rows]
    assert not [text for text in numbers if not re.fullmatch(r"-|- \(-\)|-/-(, -/-)?", text)]


# Which runs count


def test_of_equal_probes_the_newest_counts_and_others_are_told_apart(experiment: str) -> None:
    for median in (0.1, 0.2):
        found = content("isometry", models=MODELS[:1])
        found["results"][0]["quantiles"]["0.5"] = median
        record_probe(experiment, found, num_examples=20)
    assert [row["median"] for row in sheet_of(experiment, "isometry").rows] == ["0.2"]
    record_probe(experiment, content("isometry", models=MODELS[:1]), num_examples=50, seed=1)
    rows = sheet_of(experiment, "isometry").rows
    assert [row["with"] for row in rows] == ["num examples 50, seed 1", "num examples 20, seed 0"]


def test_probes_that_no_setting_tells_apart_are_named_by_their_runs(experiment: str) -> None:
    first = record_probe(experiment, content("gradients", models=MODELS[:1]))
    second = record_probe(experiment, content("gradients", models=MODELS))
    assert [row["with"] for row in sheet_of(experiment, "gradients").rows] == [
        f"run {second[:8]}",
        f"run {second[:8]}",
        f"run {first[:8]}",
    ]


def test_probes_that_did_not_finish_or_are_of_another_kind_are_not_shown(experiment: str) -> None:
    record_probe(experiment, content("attention"))
    record_probe(experiment, content("isometry"), status="FAILED")
    said = refusal(lambda: sheet_of(experiment, "isometry"))
    assert said == (
        "there are no results of isometry probes in here; run one first: "
        "mlflow run . -e probe -P kind=isometry -P task=h4 -P models=bert-base-uncased,scratch"
    )


def test_tasks_that_are_not_asked_for_are_left_out(experiment: str, tmp_path: Path) -> None:
    for task in ("splice", "h4"):
        record_probe(experiment, content("gradients", task))
    assert main(["--layout", "gradients", "--tasks", "h4", "--output", str(tmp_path)]) == 0
    assert {row["task"] for row in read(tmp_path / "gradients.csv")} == {"h4"}
    said = refusal(lambda: main(["--layout", "gradients", "--tasks", "h5"]))
    assert said == "tasks: unknown value 'h5'; allowed: h4, splice; did you mean 'h4'?"


def _damaged(**changes: Any) -> str:
    found = content("pwcca")
    found["results"][0] |= changes
    return json.dumps(found)


DAMAGED = {
    "empty": "",
    "cut": json.dumps(content("pwcca"))[:-50],
    "a list": "[1]",
    "deep": "[" * 100_000,
    "another kind's": json.dumps(content("gradients")),
    "without results": json.dumps(content("pwcca") | {"results": []}),
    "a ragged matrix": _damaged(pwcca=[[1, 1, 1], [1, 1], [1, 1, 1]]),
    "text for a number": _damaged(ridge="0.1"),
    "not finite": _damaged(ridge=float("inf")),
    "too large": _damaged().replace('"ridge": 0.0', '"ridge": 1e999'),
    "huge": _damaged().replace('"ridge": 0.0', f'"ridge": {10**400}'),
    "true": _damaged(ridge=True),
    "another model's": _damaged(models=["all-MiniLM-L6-v2", "other"]),
    "three models": _damaged(models=["all-MiniLM-L6-v2"] * 3),
    "two of one name": json.dumps(content("pwcca") | {"models": ["a\x1b", "a\x07"]}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_probe_is_told_in_one_line_and_left_out(
    damage: str, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record_probe(experiment, content("pwcca", "h4"))
    broken = record_probe(experiment, content("pwcca"), text=DAMAGED[damage])
    assert [row["task"] for row in sheet_of(experiment, "pwcca").rows] == ["h4"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"beware: probe {broken} has a damaged probe.json (") and line.endswith("it is left out")


def test_a_probe_without_its_results_is_told_and_an_older_one_of_the_same_counts(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record_probe(experiment, content("pwcca"))
    lacking = record_probe(experiment, None, kind="pwcca", task="splice", models=",".join(MODELS))
    assert len(sheet_of(experiment, "pwcca").rows) == 1
    assert capsys.readouterr().err == f"beware: probe {lacking} has no probe.json; it is left out\n"


@pytest.mark.parametrize("kind", PROBES)
def test_the_database_and_mlflow_give_the_same_tables(kind: str, experiment: str, tracking_uri: str) -> None:
    for task in ("h4", "splice"):
        record_probe(experiment, content(kind, task, FIVE))
    database = open_database(tracking_uri)
    assert database is not None
    assert sheet_of(experiment, kind, database) == sheet_of(experiment, kind, Client(tracking_uri))


# One probe by its run


def test_a_probes_run_is_shown_by_itself_and_what_is_made_is_logged_to_it(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it runs too: that is when its own table is made."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    run_id = record_probe(experiment, content("attention"), status="RUNNING")
    record_probe(experiment, content("attention", "h4"))
    assert main(["--sweep", run_id, "--output", str(tmp_path / "out")]) == 0
    assert f"logged to run {run_id} under tables/ and figures/" in capsys.readouterr().out
    client = MlflowClient()
    tables = {item.path for item in client.list_artifacts(run_id, "tables")}
    assert tables == {f"tables/attention.{ending}" for ending in ("md", "csv", "tex", "html")}
    figures = {item.path for item in client.list_artifacts(run_id, "figures")}
    assert figures == {"figures/attention.png", "figures/attention.svg"}
    assert {row["task"] for row in read(tmp_path / "out/attention.csv")} == {"splice"}
    assert not client.search_runs([experiment], f"tags.`{recorded.KIND}` = 'compare'")


def test_layouts_and_runs_of_different_kinds_are_refused_in_one_line(experiment: str) -> None:
    run_id = record_probe(experiment, content("attention"))
    odd = record_probe(experiment, None, kind="tarot", task="h4")
    sweep, deleted = Recorder(experiment), record_probe(experiment, content("attention"), seed=2)
    sweep.all_trials((0.9, 0.8))
    sweep.client.delete_run(deleted)
    for layout in ("pwcca", "table2"):
        said = refusal(lambda layout=layout: main(["--layout", layout, "--sweep", run_id]))  # type: ignore[misc]
        remedy = "a probe of kind attention; give layout=attention or auto"
        assert said == f"layout: {layout} does not show run {run_id}, {remedy}"
    assert "rows x columns does not show" in refusal(lambda: main(["--layout", "init x task", "--sweep", run_id]))
    said = refusal(lambda: main(["--layout", "pwcca", "--sweep", sweep.run_id]))
    assert said == f"layout: pwcca is of probes, run {sweep.run_id!r} is a sweep; give a probe's run id"
    assert "is of kind 'tarot'; kinds that can be shown: pwcca, " in refusal(lambda: main(["--sweep", odd]))
    assert "is deleted" in refusal(lambda: main(["--sweep", deleted]))
    trial = sweep.trial("finished")
    assert f"is not a sweep or probe; it is a trial of sweep {sweep.run_id}" in refusal(
        lambda: main(["--sweep", trial])
    )


def test_trials_and_probes_of_one_experiment_do_not_mix(experiment: str, tmp_path: Path) -> None:
    Recorder(experiment).all_trials((0.9, 0.8))
    record_probe(experiment, content("gradients"))
    assert main(["--output", str(tmp_path)]) == 0
    assert main(["--layout", "gradients", "--output", str(tmp_path)]) == 0
    assert {row["task"] for row in read(tmp_path / "compare.csv")} == {"h4"}
    assert {row["task"] for row in read(tmp_path / "gradients.csv")} == {"splice"}


def test_the_command_shows_a_probe_and_names_what_it_wrote(experiment: str, tmp_path: Path) -> None:
    record_probe(experiment, content("pwcca"))
    done = run_module("analysis", "--layout", "pwcca", "--output", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Similarity of hidden states (PWCCA and CKA), last layers\n")
    assert f"written: {tmp_path}/pwcca.md" in done.stdout
    missing = run_module("analysis", "--layout", "isometry", "--output", str(tmp_path))
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1
    assert "run id of one sweep or probe" in run_module("analysis", "--help").stdout


# What others wrote


@pytest.mark.parametrize("kind", ["path", "absolute path", "script", "terminal", "latex", "formula", "long"])
def test_names_of_tasks_models_and_settings_stay_names(
    kind: str, experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = WILD[kind].format(folder=tmp_path) if kind == "absolute path" else WILD[kind]
    before, output = files_in(tmp_path), tmp_path / "some/where/deep/tables"
    place = list(WILD).index(kind)
    for probe in (PROBES[place % len(PROBES)], PROBES[(place + 2) % len(PROBES)]):  # two of them; together all
        found = content(probe, text, (text, "_" + text), num_layers=1)
        record_probe(experiment, found, seed=text, **{"our own": text})
        record_probe(experiment, found, text=json.dumps({"kind": text}), seed="2")
        assert main(["--layout", probe, "--output", str(output)]) == 0
        shown = capfd.readouterr()
        assert controls(shown.out + shown.err) == set(), probe
    written = {name for name in files_in(tmp_path) - before if not name.startswith("artifacts/")}
    assert {Path(name).parent.as_posix() for name in written} == {
        "some/where/deep/tables",
        "some/where/deep/tables/figures",
    }
    for name in written:
        if not name.endswith(".png"):
            assert_inert(tmp_path / name)
