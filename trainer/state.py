"""A trial's state in one safetensors file, from which another process goes on bit for bit.

The file holds tensors by name (``weights/...``, ``optimizer/0/exp_avg``, ``random/cpu``, ...) and, as texts of its
header, all else in JSON and the caller's notes. Nothing in it can run code. Texts and tensors have checksums: a file
that a dying machine left full of zeros still has the right length.
"""

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from trainer.errors import first_line
from trainer.optimizers import build_optimizer
from trainer.version import NUMBERS

if TYPE_CHECKING:
    from trainer.trial import Trial

State = dict[str, Any]  # name -> a tensor, or what JSON holds

FACTS = "facts"  # the text with all that is no tensor
NOTES = "note"  # the folder of the caller's texts
CHECKSUM = "checksum"  # of the texts, among the texts; of the tensors, among the tensors
MAX_HEADER = 100_000_000  # bytes; safetensors reads no longer ones
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL"}
PROBE_SHAPE = (2,)


class StateError(ValueError):
    """A file from which a trial cannot go on; one line says why."""


def save_state(trial: "Trial", path: Path, notes: Mapping[str, str]) -> None:
    """Writes a trial's state and the caller's texts; see :meth:`trainer.trial.Trial.save`."""
    if trial.result is not None:
        raise ValueError("the trial has ended: there is nothing to go on with")
    _write(path, _identity(trial) | _state_of(trial), notes)


def restore_state(trial: "Trial", path: Path) -> None:
    """Makes a new trial go on as the saved one; see :meth:`trainer.trial.Trial.restore`."""
    saved = _read(path, _identity(trial))
    _check(path, saved, trial)
    _apply(saved, trial)  # refuses nothing


def read_notes(path: Path) -> dict[str, str]:
    """The caller's texts in a file; of the rest only the header is read.

    Raises:
        StateError: when it is damaged, or no state at all.
        OSError: when there is no such file, or it cannot be read.
    """
    with _opened(path) as file:
        return _part(_texts(path, file), NOTES)


def _identity(trial: "Trial") -> State:
    """What two trials must have in common for one to go on from the other's state."""
    common = {"numbers": NUMBERS, "data": trial.dataset.digest, "device": trial.device.type}
    return common | _under("config", trial.config.settings())


def _state_of(trial: "Trial") -> State:
    """All that decides how a trial goes on; the tensors share its memory."""
    learner = trial.learner
    state = {
        **_under("weights", learner.model.state_dict()),
        "rates": _rates(learner.optimizer),
        "schedule": learner.schedule.state_dict(),
        **_under("random", {name: generator.get_state() for name, generator in _generators(trial).items()}),
        **_under("best_scores", trial.best_scores),
        "losses": torch.tensor(trial.losses, dtype=torch.float64),
        **{name: getattr(trial, name) for name in ("epoch", "best_epoch", "seconds")},
    }
    for index, kept in learner.optimizer.state_dict()["state"].items():
        state |= _under(f"optimizer/{index}", kept)
    # Of weights that are the best ones, too, one copy is enough.
    return state if trial.best_epoch == trial.epoch else state | _under("best_weights", trial.best_weights)


def _apply(saved: State, trial: "Trial") -> None:
    learner = trial.learner
    learner.model.load_state_dict(_part(saved, "weights"))
    parameters = learner.optimizer.param_groups[0]["params"]
    kept: dict[int, State] = {}
    for name, value in _part(saved, "optimizer").items():
        index, _, key = name.partition("/")
        kept.setdefault(int(index), {})[key] = _copy(value, parameters[int(index)])
    (group,) = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": kept, "param_groups": [group | saved["rates"]]})
    learner.schedule.load_state_dict(saved["schedule"])
    for name, generator in _generators(trial).items():
        generator.set_state(saved[f"random/{name}"])
    trial.losses = saved["losses"].tolist()
    trial.epoch, trial.best_epoch, trial.seconds = (saved[name] for name in ("epoch", "best_epoch", "seconds"))
    trial.best_scores = _part(saved, "best_scores")
    best_weights = _part(saved, "best_weights")
    if trial.best_epoch == trial.epoch > 0 and trial.task.checkpoint == "best":
        best_weights = learner.model.state_dict()
    trial.best_weights = {name: tensor.to(trial.device, copy=True) for name, tensor in best_weights.items()}


def _copy(value: Any, parameter: torch.Tensor) -> Any:
    """A copy in memory of its own, laid out as the optimizer itself would."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()


def _rates(optimizer: torch.optim.Optimizer) -> State:
    """The numbers that hold for all parameters, among them the learning rate."""
    (group,) = optimizer.param_groups
    return {name: value for name, value in group.items() if type(value) in (int, float)}


def _generators(trial: "Trial") -> dict[str, torch.Generator]:
    """All that draw numbers in a trial, by name: the order of the data, and dropout."""
    generators = {"data_order": trial.data_order, "cpu": torch.default_generator}
    if trial.device.type == "cuda":
        generators["cuda"] = torch.cuda.default_generators[torch.cuda.current_device()]
    return generators


def _under(folder: str, entries: Mapping[Any, Any]) -> State:
    """The entries, each under ``folder/name``."""
    return {f"{folder}/{name}": value for name, value in entries.items()}


def _part(state: Mapping[str, Any], folder: str) -> State:
    """The entries that are under a folder, by the rest of their names."""
    start = f"{folder}/"
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def _check(path: Path, saved: State, trial: "Trial") -> None:
    """Makes sure that a trial that has not begun can take a saved state on.

    Raises:
        StateError: naming an entry that is missing, unknown, or of another type or shape.
    """
    expected = _expected(saved, trial)
    if odd := sorted(saved.keys() ^ expected.keys()):
        raise StateError(f"{path}: the state {'lacks' if odd[0] in expected else 'has an unknown'} {odd[0]}")
    for name, value in expected.items():
        if (there := _form(saved[name])) != (here := _form(value)):
            raise StateError(f"{path}: {name} does not fit ({there} there, {here} here)")
    for name, generator in _generators(trial).items():
        try:
            torch.Generator(generator.device).set_state(saved[f"random/{name}"])
        except RuntimeError as error:
            raise StateError(f"{path}: random/{name} is no generator's state ({first_line(error)})") from None


def _expected(saved: State, trial: "Trial") -> State:
    """Entries like those that a state of the trial has; which of those that come with training, the saved one says."""
    own = _state_of(trial)
    expected = {name: value for name, value in own.items() if not name.startswith("optimizer/")}
    expected |= _under("best_scores", dict.fromkeys(_part(saved, "best_scores"), 0.0))
    if _part(saved, "best_weights"):
        expected |= _under("best_weights", _part(own, "weights"))
    if isinstance(losses := saved.get("losses"), torch.Tensor):
        expected["losses"] = own["losses"].new_empty(losses.numel())
    probe = _probe(trial, is_begun=bool(saved.get("epoch")))
    expected["rates"] |= _rates(probe)
    kept = probe.state_dict()["state"].get(0, {})
    begun = {name.partition("/")[0] for name in _part(saved, "optimizer")}  # not those that had no gradient
    for index, parameter in enumerate(trial.learner.optimizer.param_groups[0]["params"]):
        if str(index) in begun:
            for name, value in kept.items():
                is_per_element = getattr(value, "shape", None) == PROBE_SHAPE
                expected[f"optimizer/{index}/{name}"] = parameter if is_per_element else value
    return expected


def _probe(trial: "Trial", *, is_begun: bool) -> torch.optim.Optimizer:
    """The trial's optimizer over one small parameter, to see what it keeps of each."""
    parameter = torch.nn.Parameter(torch.zeros(PROBE_SHAPE))
    optimizer = build_optimizer(trial.config.optimizer, [parameter], trial.config.learning_rate)
    if is_begun:
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return optimizer


def _form(value: Any) -> str:
    """Type and shape of a tensor; the names and types in a dict."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {type(value[name]).__name__}" for name in sorted(value))
    return type(value).__name__


# The file.


def _write(path: Path, state: State, notes: Mapping[str, str]) -> None:
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    tensors = dict(sorted(tensors.items(), key=lambda entry: -entry[1].element_size()))  # so all lie aligned
    facts = {name: value for name, value in state.items() if name not in tensors}
    texts = {FACTS: json.dumps(facts), **_under(NOTES, notes)}
    texts[CHECKSUM] = _text_checksum(texts)
    written = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with written.open("wb") as file:
            _write_safetensors(file, tensors, texts)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], texts: Mapping[str, str]) -> None:
    """The format of huggingface.co/docs/safetensors, one tensor at a time.

    The library's own writer leaves a file of a name of its choice behind when the process is killed, and fetches all
    tensors from a GPU before it writes the first.
    """
    header: dict[str, Any] = {"__metadata__": texts}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header[CHECKSUM] = {"dtype": "U8", "shape": [4], "data_offsets": [end, end + 4]}
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    if len(content) > MAX_HEADER:
        raise ValueError(f"notes: {len(content):,} bytes do not fit; give less than {MAX_HEADER:,} in all")
    file.write(len(content).to_bytes(8, "little") + content)
    checksum = zlib.crc32(texts[CHECKSUM].encode())
    for name, tensor in tensors.items():
        data = _bytes(tensor)
        checksum = _checksum(name, data, checksum)
        file.write(data)
    file.write(checksum.to_bytes(4, "little"))


def _read(path: Path, identity: State) -> State:
    """The state in a file, its tensors on the CPU, without what it has in common with a trial of this identity."""
    with _opened(path) as file:
        texts = _texts(path, file)
        try:
            facts: State = dict(json.loads(texts[FACTS]))
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise StateError(f"{path}: this is no trial's state ({first_line(error)})") from None
        for name, here in identity.items():
            if (there := facts.pop(name, None)) != here:
                raise StateError(f"{path}: the state is of another trial ({name}: {there!r} there, {here!r} here)")
        tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    written = tensors.pop(CHECKSUM, torch.empty(0))
    checksum = zlib.crc32(texts[CHECKSUM].encode())
    for name, tensor in tensors.items():
        checksum = _checksum(name, _bytes(tensor), checksum)
    if written.tolist() != list(checksum.to_bytes(4, "little")):
        raise StateError(f"{path}: the tensors in this file are damaged")
    return facts | tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise StateError(f"{path}: this file is damaged ({first_line(error)})") from None


def _texts(path: Path, file: Any) -> dict[str, str]:
    texts: dict[str, str] = file.metadata() or {}
    if CHECKSUM not in texts:
        raise StateError(f"{path}: this is no trial's state")
    if texts[CHECKSUM] != _text_checksum({name: text for name, text in texts.items() if name != CHECKSUM}):
        raise StateError(f"{path}: the texts in this file are damaged")
    return texts


def _text_checksum(texts: Mapping[str, str]) -> str:
    checksum = 0
    for name, text in sorted(texts.items()):
        checksum = _checksum(name, text.encode(), checksum)
    return str(checksum)


def _checksum(name: str, content: bytes | memoryview, before: int) -> int:
    return zlib.crc32(content, zlib.crc32(name.encode(), before))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """What a tensor holds, row by row; of one that lies so on the CPU without a copy."""
    return tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data
