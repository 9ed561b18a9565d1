"""Where sweeps are disturbed: generated data, a tiny BERT, a real ``mlflow server``, a real Ray cluster or none."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import trial_workers
from benchmarks.promise import Kept
from sweeps.connection import client
from tests.clusters import RayCluster, processes_of_session
from tests.conftest import write_tiny_bert
from tests.servers import MlflowServer

if TYPE_CHECKING:
    from mlflow import MlflowClient

NUM_CELLS = 12  # 3 seeds x 2 learning rates x 2 inits
NUM_EXAMPLES = 400
NUM_EPOCHS = 6
NUM_NODES = 2  # that trials run on, beside the head of a cluster


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A way to run the sweep.

    Attributes:
        words: what comes after ``python -m``.
        kept: what its runs must have in common with those of an undisturbed sweep.
        is_ours: whether it is Polymath's own, which has to keep the whole promise.
    """

    words: Callable[["Scene", Path], Sequence[str]]
    kept: Kept
    is_ours: bool = False


class Scene:
    """What all rounds share.

    Args:
        folder: for everything; its path is to be short where there is a cluster.
        has_cluster: whether sweeps run on a cluster, not on this machine's own Ray.
    """

    def __init__(self, folder: Path, *, has_cluster: bool) -> None:
        self.folder = folder
        self.data, self.model = folder / "data", folder / "model"
        (self.data / "dna").mkdir(parents=True, exist_ok=True)
        write_splice(self.data / "dna/splice.txt")
        if not self.model.exists():
            write_tiny_bert(self.model, num_tokens=1100)
        (folder / "server").mkdir(exist_ok=True)
        self.server = MlflowServer(folder / "server")
        self.server.start()
        self.cluster = RayCluster(folder / "ray", 1 + NUM_NODES, head_cpus=0) if has_cluster else None

    @cached_property
    def store(self) -> "MlflowClient":
        """The tracking server's client."""
        return client(self.server.uri)

    def environment(self, experiment: str, folder: Path) -> dict[str, str]:
        """What a sweep needs to know."""
        return {
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MLFLOW_EXPERIMENT_NAME": experiment,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "POLYMATH_DATA": str(folder / "cache"),
            **(self.cluster.environment if self.cluster else {}),
        }

    def nodes(self) -> list[int]:
        """The numbers of the cluster's living nodes but for its head."""
        cluster = self.cluster
        return [n for n, node in enumerate(cluster.nodes) if n and node.poll() is None] if cluster else []

    def workers_on_nodes(self) -> list[int]:
        """The ids of the cluster's processes in which trials run."""
        nodes = self.cluster.nodes if self.cluster else []
        return [pid for number in self.nodes() for pid in trial_workers(processes_of_session(nodes[number].pid))]

    def close(self) -> None:
        """Ends the server and the cluster."""
        if self.cluster:
            self.cluster.stop()
        self.server.kill()


def write_splice(path: Path) -> None:
    """DNA in splice's format; the label shows in the letters, so that there is something to learn."""
    draw = random.Random(0)
    kinds = (("EI", "A"), ("IE", "C"), ("N", "G"))
    lines = []
    for number in range(NUM_EXAMPLES):
        name, letter = kinds[number % len(kinds)]
        lines.append(f"{name},    RECORD-{number},    {''.join(draw.choices('ACGT' + letter, k=60))}\n")
    path.write_text("".join(lines))


def _our_words(scene: Scene, folder: Path) -> list[str]:
    options: Mapping[str, object] = {
        "task": "splice",
        "data-dir": scene.data,
        "model": scene.model,
        "grid": "quick",
        "inits": "pretrained,scratch",
        "seeds": 3,
        "num-epochs": NUM_EPOCHS,
        "patience": NUM_EPOCHS,
        **({"ray-address": scene.cluster.address, "storage": folder / "states"} if scene.cluster else {}),
    }
    return ["sweeps", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


OURS = Wiring(
    words=_our_words,
    kept=Kept(
        cell_of=lambda run: run.data.tags.get("polymath.cell", ""),
        is_metric=lambda name: name != "examples_per_second",
        is_param=lambda name: not name.startswith("polymath.claim."),
        files=("predictions/test.csv",),
    ),
    is_ours=True,
)


def _plain_words(mode: str) -> Callable[[Scene, Path], Sequence[str]]:
    def words(scene: Scene, folder: Path) -> list[str]:
        options = {"mode": mode, "data-dir": scene.data, "model": scene.model, "storage": folder / "ray_results"}
        return [
            "benchmarks.plain_tune",
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ]

    return words


def _plain(mode: str) -> Wiring:
    axes, metrics = ("init", "learning_rate", "seed"), ("epoch", "train_loss", "valid_score", "test_score")
    return Wiring(
        words=_plain_words(mode),
        kept=Kept(
            cell_of=lambda run: " ".join(run.data.params.get(axis, "") for axis in axes).strip(),
            is_metric=lambda name: name in metrics,
            is_param=lambda name: name in axes,
        ),
    )


WIRINGS = {"polymath": OURS, "callback": _plain("callback"), "setup_mlflow": _plain("setup_mlflow")}
