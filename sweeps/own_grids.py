"""A user's own grid: a YAML file, or a function in a Python file.

Both give axes, name -> values; every cell is checked as any trial is. In YAML::

    learning_rate: [1e-4, 1e-5]
    mapping: [random, frequent]
    batch_size: [16, 32]

In Python, given as ``grids.py:warm``::

    def warm(options):  # the sweep's parameters, a sweeps.spec.SweepOptions
        return {"learning_rate": [3e-5 * 2**k for k in range(4)], "seed": range(3)}
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.grids import GRIDS, Axes, chosen, seeds
from trainer.commandline import convert
from trainer.config import TrialConfig
from trainer.errors import UserError, first_line, near, one_of

if TYPE_CHECKING:
    from sweeps.spec import SweepOptions

ENDINGS = (".yaml", ".yml")
FIXED = frozenset({"task", "separator", "labels", "model"})  # one sweep reads one set of data and one model
OWN = "a YAML file of your own, or a Python function as FILE.py:FUNCTION"


def find_grid(options: "SweepOptions") -> Axes:
    """The axes of the grid that the user names, with the learning rates that the user gives.

    Raises:
        UserError: for a grid that is not there or cannot be read, and for axes that no trial has.
    """
    axes = GRIDS[options.grid](options) if options.grid in GRIDS else _own_axes(options)
    if options.learning_rates and "learning_rate" in axes:
        axes["learning_rate"] = options.learning_rates
    return axes


def _own_axes(options: "SweepOptions") -> Axes:
    name = options.grid
    file, _, function = name.rpartition(":")
    if name.endswith(ENDINGS):
        given = _read_yaml(Path(name).expanduser())
    elif file.endswith(".py"):
        given = _call(Path(file).expanduser(), function, options)
    elif "/" in name or "." in name:
        raise UserError(f"grid: {name!r} is not allowed; give one of {', '.join(GRIDS)}, {OWN}")
    else:
        raise UserError(f"grid: unknown value {name!r}; allowed: {', '.join(GRIDS)}, or {OWN}{near(name, GRIDS)}")
    axes = {str(axis): _values(str(axis), values) for axis, values in given.items()}
    if options.learning_rates and axes.get("learning_rate", options.learning_rates) != options.learning_rates:
        raise UserError(f"learning_rates: the grid {name!r} has its own; leave this out, or give another grid")
    # What it does not say is as in the comparison; the inits vary fastest, so whole comparisons come first.
    inits = axes.pop("init", options.inits or ())
    rest = {"seed": seeds(options, 1), **chosen(options)}
    return {**{axis: values for axis, values in rest.items() if axis not in axes}, **axes, "init": inits}


def _read_yaml(path: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"grid: cannot read {path} ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"grid: {path} is not YAML ({first_line(error)})") from None
    return _mapping(str(path), content)


def _call(path: Path, function: str, options: "SweepOptions") -> Mapping[Any, Any]:
    """What the function in the user's own file returns."""
    if not path.is_file():
        raise UserError(f"grid: there is no file {path}; give {OWN}")
    spec = importlib.util.spec_from_file_location(f"own_grid_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"grid: {path} cannot be loaded; give {OWN}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise UserError(f"grid: {path} failed when it was loaded ({first_line(error)})") from error
    names = [name for name, member in vars(module).items() if callable(member)]
    one_of("grid", function, names)
    try:
        return _mapping(f"{function} in {path}", getattr(module, function)(options))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"grid: {function} in {path} failed ({first_line(error)})") from error


def _mapping(source: str, content: object) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"grid: {source} gives no axes; write name: [value, ...], e.g. learning_rate: [1e-4, 1e-5]")
    return content


def _values(axis: str, given: object) -> tuple[Any, ...]:
    """An axis's values, each of its field's type."""
    allowed = [field.name for field in fields(TrialConfig) if field.name not in FIXED]
    if axis in FIXED:
        raise UserError(f"grid: {axis!r} cannot be an axis; start a sweep for each {axis}")
    if axis not in allowed:
        raise UserError(f"grid: unknown axis {axis!r}; allowed: {', '.join(allowed)}{near(axis, allowed)}")
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else [given]
    if not listed:
        raise UserError(f"grid: {axis} has no values; give at least one, or leave it out")
    # As text, as on the command line: YAML itself reads 1e-4 as a text, not as a number.
    values = tuple(convert(TrialConfig, axis, value) for value in listed)
    if len(set(values)) < len(values):
        raise UserError(f"grid: {axis} names a value twice: {', '.join(map(str, listed))}; give each once")
    return values
