"""A trial's state, from which another process goes on bit for bit.

It holds tensors by name (``weights/...``, ``optimizer/0/exp_avg``, ``random/cpu``, ...), numbers and texts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer.errors import first_line
from trainer.optimizers import build_optimizer
from trainer.state_file import State, StateError, part, read_state, under, write_state
from trainer.version import NUMBERS

if TYPE_CHECKING:
    from trainer.trial import Trial

PROBE_SHAPE = (2,)


def save_state(trial: "Trial", path: Path, notes: Mapping[str, str]) -> None:
    """Writes a trial's state and the caller's texts; see :meth:`trainer.trial.Trial.save`."""
    if trial.result is not None:
        raise ValueError("the trial has ended: there is nothing to go on with")
    write_state(path, _identity(trial) | _state_of(trial), notes)


def restore_state(trial: "Trial", path: Path) -> None:
    """Makes a new trial go on as the saved one; see :meth:`trainer.trial.Trial.restore`."""
    saved = read_state(path, _identity(trial))
    _check(path, saved, trial)
    _apply(saved, trial)  # refuses nothing


def _identity(trial: "Trial") -> State:
    """What two trials must have in common for one to go on from the other's state."""
    common = {"numbers": NUMBERS, "data": trial.dataset.digest, "device": trial.device.type}
    return common | under("config", trial.config.settings())


def _state_of(trial: "Trial") -> State:
    """All that decides how a trial goes on; the tensors share its memory."""
    learner = trial.learner
    state = {
        **under("weights", learner.model.state_dict()),
        "rates": _rates(learner.optimizer),
        "schedule": learner.schedule.state_dict(),
        **under("random", {name: generator.get_state() for name, generator in _generators(trial).items()}),
        **under("best_scores", trial.best_scores),
        "losses": torch.tensor(trial.losses, dtype=torch.float64),
        **{name: getattr(trial, name) for name in ("epoch", "best_epoch", "seconds")},
    }
    for index, kept in learner.optimizer.state_dict()["state"].items():
        state |= under(f"optimizer/{index}", kept)
    # Of weights that are the best ones, too, one copy is enough.
    return state if trial.best_epoch == trial.epoch else state | under("best_weights", trial.best_weights)


def _apply(saved: State, trial: "Trial") -> None:
    learner = trial.learner
    learner.model.load_state_dict(part(saved, "weights"))
    parameters = learner.optimizer.param_groups[0]["params"]
    kept: dict[int, State] = {}
    for name, value in part(saved, "optimizer").items():
        index, _, key = name.partition("/")
        kept.setdefault(int(index), {})[key] = _copy(value, parameters[int(index)])
    (group,) = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": kept, "param_groups": [group | saved["rates"]]})
    learner.schedule.load_state_dict(saved["schedule"])
    for name, generator in _generators(trial).items():
        generator.set_state(saved[f"random/{name}"])
    trial.losses = saved["losses"].tolist()
    trial.epoch, trial.best_epoch, trial.seconds = (saved[name] for name in ("epoch", "best_epoch", "seconds"))
    trial.best_scores = part(saved, "best_scores")
    best_weights = part(saved, "best_weights")
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
    expected |= under("best_scores", dict.fromkeys(part(saved, "best_scores"), 0.0))
    if part(saved, "best_weights"):
        expected |= under("best_weights", part(own, "weights"))
    if isinstance(losses := saved.get("losses"), torch.Tensor):
        expected["losses"] = own["losses"].new_empty(losses.numel())
    probe = _probe(trial, is_begun=bool(saved.get("epoch")))
    expected["rates"] |= _rates(probe)
    kept = probe.state_dict()["state"].get(0, {})
    begun = {name.partition("/")[0] for name in part(saved, "optimizer")}  # not those that had no gradient
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
