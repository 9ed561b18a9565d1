"""Every mistake gets one clear line on stderr and status 2, before anything is recorded."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import run_module


def refused(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Runs a command that must be refused; returns its one line."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = run_module(*arguments, MLFLOW_TRACKING_URI=uri, HF_HUB_OFFLINE="1", **environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert not (tmp_path / "mlflow.db").exists(), "nothing is recorded"
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--task splise",
            "task: unknown value 'splise'; allowed: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, localization, "
            "stability, fluorescence, h3, h4, h3k9ac, splice, composer, demo, or the path of your own CSV, TSV, "
            "Parquet or FASTA file or folder of MIDI files; did you mean 'splice'?",
        ),
        (
            "--inits scratsh",
            "inits: unknown value 'scratsh'; allowed: pretrained, reinit-embeddings, scratch, checkpoint; did you",
        ),
        (
            "--grid serch",
            "grid: unknown value 'serch'; allowed: quick, search, compare, fraction, mapping, steps, corpora, or",
        ),
        (
            "--mapping frequnet",
            "mapping: unknown value 'frequnet'; allowed: random, frequent, unused, identity; did you mean 'frequent'?",
        ),
        ("--seeds three", "seeds: 'three' is not a whole number; give a whole number or 'auto'"),
        ("--num-epochs x", "num_epochs: 'x' is not a whole number; give a whole number or 'auto'"),
        ("--tsak splice", "unknown option '--tsak'; allowed: --task,"),
        ("--save-model yes", "save_model: 'yes' is not allowed; give true or false"),
        ("--task", "argument --task: expected one argument; see --help"),
        ("--task demo --model no/such/folder", "model: there is no folder 'no/such/folder'"),
        (
            "--task demo --model bert-base-uncasd",
            "model: 'bert-base-uncasd' is not in the local Hugging Face cache and",
        ),
        ("--task splice --data-dir no-such-folder", "data_dir: there is no folder '/"),
    ],
)
def test_a_wrong_option(tmp_path: Path, arguments: str, said: str) -> None:
    assert refused(tmp_path, "sweeps", *arguments.split()).startswith(said)


def test_a_wrong_optimizer_of_a_single_trial(tmp_path: Path) -> None:
    for module in ("trainer", "sweeps.train"):
        line = refused(tmp_path, module, "--optimizer", "adamx")
        assert line == (
            "optimizer: unknown value 'adamx'; allowed: adam, adagrad, adamax, radam, novograd; did you mean 'adamax'?"
        )


def test_more_gpus_than_there_are(tmp_path: Path, dna_files: Path, tiny_model: Path) -> None:
    options = f"--task splice --data-dir {dna_files} --model {tiny_model} --gpus-per-trial".split()
    line = refused(tmp_path, "sweeps", *options, "8", CUDA_VISIBLE_DEVICES="")
    assert line == "gpus_per_trial: 8 asked for, but this machine has 0 GPUs; give 0 to train on the CPU"
    line = refused(tmp_path, "sweeps", *options, "3", CUDA_VISIBLE_DEVICES="0,1")
    assert line == "gpus_per_trial: 3 asked for, but this machine has 2 GPUs; ask for at most that"
    line = refused(tmp_path, "sweeps", *options, "2", CUDA_VISIBLE_DEVICES="0,1")
    assert line.startswith("gpus_per_trial: 2 is not allowed, a trial trains on one GPU")
    line = refused(tmp_path, "sweeps", *options[:-1], "--cpus-per-trial", "4096")
    assert line.startswith("cpus_per_trial: 4096 asked for, but this machine has")


def test_a_broken_data_file_names_file_and_line(tmp_path: Path, dna_files: Path) -> None:
    (tmp_path / "dna").mkdir()
    path = tmp_path / "dna/splice.txt"
    lines = (dna_files / "dna/splice.txt").read_text().splitlines()

    def told(*changed: str) -> str:
        path.write_text("\n".join(changed))
        return refused(tmp_path, "sweeps", "--task", "splice", "--data-dir", str(tmp_path))

    assert told(*lines[:4], lines[4][:-9]).startswith(f"{path}, line 5: 51 symbols instead of 60")
    assert told(*lines[:4], lines[4][:-1] + "X").startswith(f"{path}, line 5: wrong symbol 'X' at position 60")
    assert told(lines[0].replace("EI", "EE"), *lines[1:]).startswith(f"{path}, line 1: wrong label 'EE'; allowed: EI")
    assert told().startswith(f"{path}: the file is empty")
    path.unlink()
    missing = refused(tmp_path, "sweeps", "--task", "splice", "--data-dir", str(tmp_path))
    assert missing.startswith(f"data_dir: {str(tmp_path)!r} holds neither dna/splice.txt nor") and "https://" in missing


def test_a_model_without_weights_is_refused_unless_none_are_needed(
    tmp_path: Path, dna_files: Path, tiny_model: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").unlink()
    options = f"--task splice --data-dir {dna_files} --model {model} --grid compare".split()
    assert refused(tmp_path, "sweeps", *options).startswith(f"model: {str(model)!r} has no weights")


def test_no_cluster_at_ray_address(tmp_path: Path, dna_files: Path, tiny_model: Path) -> None:
    options = f"--task splice --data-dir {dna_files} --model {tiny_model} --ray-address 127.0.0.1:1".split()
    assert refused(tmp_path, "sweeps", *options).startswith("ray_address: no Ray cluster answers at '127.0.0.1:1'")


def test_no_tracking_server(tmp_path: Path, dna_files: Path, tiny_model: Path) -> None:
    options = f"--task splice --data-dir {dna_files} --model {tiny_model} --optimizer adam".split()
    done = run_module("sweeps.train", *options, MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:1")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: MLFLOW_TRACKING_URI: no answer from http://127.0.0.1:1 (")
    assert "secret" not in done.stderr + done.stdout
