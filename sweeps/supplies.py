"""What trials read: data, a model's files, checkpoints; and how workers get them.

Workers on the driver's own machine read its files. To workers on other machines, where none of its paths need exist,
they travel through Ray: each machine unpacks a model once into its cache folder, each worker keeps the data in memory.

Importing this module is cheap; Ray comes in when something is shipped or received.
"""

import copy
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from sweeps.checkpoints import checkpoint_folder
from sweeps.spec import SweepOptions, SweepSpec
from trainer.checkpoints import URI, find_checkpoint
from trainer.config import NEEDS_OWN_WEIGHTS, TrialConfig
from trainer.data import provide_dataset
from trainer.digests import folder_digest, model_files
from trainer.errors import UserError, first_line
from trainer.models import find_model
from trainer.sources import cache_folder
from trainer.tasks.task import Dataset

if TYPE_CHECKING:
    from ray import ObjectRef


@dataclass(frozen=True, kw_only=True)
class Received:
    """Where a worker finds what a trial reads; None where what the config says is enough."""

    data_dir: Path | None
    model_folder: Path | None
    checkpoint_folder: Path | None


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A model folder's files in Ray's object store, one object a file.

    Attributes:
        digest: of the folder; see :func:`trainer.digests.folder_digest`.
        files: name -> its bytes, (size,) uint8.
    """

    digest: str
    files: "Mapping[str, ObjectRef[np.ndarray]]"

    @classmethod
    def of(cls, folder: Path, *, weights: bool = True) -> "Parcel":
        """Puts a folder's files into the object store, one after the other; each is in memory once meanwhile.

        Raises:
            OSError: when a file cannot be read.
        """
        import ray

        files = {path.name: ray.put(np.fromfile(path, dtype=np.uint8)) for path in model_files(folder, weights)}
        return cls(digest=folder_digest(folder, weights), files=files)

    def unpacked(self) -> Path:
        """The folder on this machine, unpacked by whoever comes first; others that unpack it meanwhile do no harm.

        Raises:
            UserError: when this machine's cache folder cannot be written.
            ValueError: for names that lead out of the folder, or content that is not what was put in.
        """
        shelf = cache_folder() / "models"
        place = shelf / _plain(self.digest)
        try:
            if place.is_dir() and folder_digest(place) == self.digest:
                return place
            shelf.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=shelf, prefix=".unpacking-") as folder:
                self._unpack(Path(folder, "model"))
                _put(Path(folder, "model"), place, self.digest)
        except OSError as error:
            raise UserError(
                f"POLYMATH_DATA: {str(shelf)!r} on {socket.gethostname()} cannot be written ({first_line(error)}); "
                "set it to a folder with room on every machine"
            ) from None
        return place

    def _unpack(self, folder: Path) -> None:
        import ray

        folder.mkdir()
        for name, content in self.files.items():
            ray.get(content).tofile(folder / _plain(name))
        if (digest := folder_digest(folder)) != self.digest:
            raise ValueError(f"a model arrived with digest {digest}, and was sent with {self.digest}")


def _plain(name: str) -> str:
    """The name of a file or folder, if it is no more than that.

    Raises:
        ValueError: when it could lead elsewhere.
    """
    if name in ("", ".", "..") or {PurePosixPath(name).name, PureWindowsPath(name).name} != {name}:
        raise ValueError(f"name: {name!r} is not allowed; a file's name alone is")
    return name


def _put(unpacked: Path, place: Path, digest: str) -> None:
    """Moves a folder to its place, unless another worker's is there already; a spoilt one there gives way."""
    if place.is_dir() and folder_digest(place) != digest:
        shutil.rmtree(place)
    try:
        unpacked.rename(place)
    except OSError:
        if not place.is_dir():
            raise


@dataclass(frozen=True, kw_only=True)
class Supplies:
    """What the trials of one sweep read. A worker asks :meth:`receive` where it is.

    Attributes:
        data_dir, model_folder: on this machine; None for what the config says. Not for workers on others.
        home: the folder in which the sweep was started; a checkpoint's relative path is relative to it.
        dataset: the sweep's Dataset in the object store; None where workers share this machine's files.
        model: the model's files; None of a rival, and where workers share this machine's.
        checkpoints: the folders that cells of init ``checkpoint`` start from, by checkpoint and step; those in a
            tracking store are not in here, each machine fetches them.
    """

    data_dir: Path | None = None
    model_folder: Path | None = None
    home: Path | None = None
    dataset: "ObjectRef[Dataset] | None" = None
    model: Parcel | None = None
    checkpoints: Mapping[tuple[str, int | None], Parcel] = field(default_factory=dict)

    @classmethod
    def local(cls, options: SweepOptions) -> "Supplies":
        """For workers that share this machine: only paths travel.

        Raises:
            UserError: for a model in the tracking store that this process has not fetched.
        """
        is_fetched = URI.match(options.model)
        model = find_model(options.model, needs_weights=False) if is_fetched else options.model_folder
        return cls(data_dir=options.data_folder, model_folder=model, home=Path.cwd())

    @classmethod
    def shipped(cls, options: SweepOptions, spec: SweepSpec, dataset: Dataset) -> "Supplies":
        """For workers anywhere: what the cells read is put into Ray's object store, and stays while this process does.

        Raises:
            UserError: for a model or a checkpoint that is not here.
        """
        import ray

        configs = spec.cells.values()
        model = None
        if not options.is_rival:
            weights = any(config.init in NEEDS_OWN_WEIGHTS for config in configs)
            model = Parcel.of(find_model(options.model, needs_weights=weights), weights=weights)
        steps = {(c.checkpoint, c.checkpoint_step) for c in configs if c.init == "checkpoint" and c.checkpoint}
        checkpoints = {
            (checkpoint, step): Parcel.of(find_checkpoint(checkpoint, step))
            for checkpoint, step in steps
            if not URI.match(checkpoint)
        }
        return cls(dataset=ray.put(dataset), model=model, checkpoints=checkpoints)

    def receive(self, config: TrialConfig, tracking_uri: str) -> Received:
        """In a worker: brings to this machine what a trial reads, each thing once.

        Args:
            tracking_uri: of the store from which a checkpoint ``runs:/...`` is fetched.

        Raises:
            UserError: for a checkpoint that cannot be fetched, or a cache folder that cannot be written.
        """
        sent = self.checkpoints.get((config.checkpoint or "", config.checkpoint_step))
        if config.init == "checkpoint" and sent is not None:
            checkpoint: Path | None = sent.unpacked()
        else:
            checkpoint = checkpoint_folder(config, tracking_uri, self.home)
        if self.dataset is None:
            return Received(data_dir=self.data_dir, model_folder=self.model_folder, checkpoint_folder=checkpoint)
        provide_dataset(config.definition, None, _dataset(self.dataset))
        model_folder = self.model.unpacked() if self.model else None
        return Received(data_dir=None, model_folder=model_folder, checkpoint_folder=checkpoint)


@lru_cache(maxsize=1)
def _dataset(sent: "ObjectRef[Dataset]") -> Dataset:
    """The dataset, once a process. A copy: arrays in the object store are read-only, which torch does not take."""
    import ray

    return copy.deepcopy(ray.get(sent))
