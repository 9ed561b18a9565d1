"""A command line made from a settings dataclass: one option a field, with its help, default and unit.

Every entry point declares its settings once, as fields made by :func:`setting`; values are checked by the
dataclass itself, so the command line, MLproject and Python callers get the same answers to the same mistakes.
"""

import argparse
import io
import os
import sys
import types
import typing
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, NoReturn, TypeVar

from trainer.errors import UserError, near

Settings = TypeVar("Settings")


def setting(default: Any = MISSING, *, help: str, unit: str = "", none: str = "auto") -> Any:
    """A dataclass field that is also a command-line option.

    Args:
        default: the value when the option is not given; without one the option is required.
        help: one sentence.
        unit: what the value counts or is measured in, shown in ``--help``.
        none: the word that stands for ``None`` on the command line.
    """
    return field(default=default, metadata={"help": help, "unit": unit, "none": none})


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _values(arguments: Sequence[str], options: Mapping[str, bool]) -> dict[str, str]:
    """Field name -> text of every option given, as ``--max-length 5``, ``--max_length 5`` or ``--max-length=5``.

    Every option takes a value; one that is mapped to True, a switch, may also stand alone. argparse would take a value
    that begins with a dash, such as the separator ``->``, for an option; here it is one only if it is an option's very
    name.
    """
    values = {}
    words = deque(arguments)
    while words:
        word = words.popleft()
        name, equals, value = word.partition("=")
        flag = _flag(name.removeprefix("--"))
        if not word.startswith("--") or flag not in options:
            raise UserError(f"unknown option {word!r}; allowed: {', '.join(options)}{near(name, options)}")
        if not equals:
            if words and not (words[0].startswith("--") and _flag(words[0][2:]) in options):
                value = words.popleft()
            elif options[flag]:
                value = "true"
            else:
                raise UserError(f"argument {flag}: expected one argument; see --help")
        values[flag[2:].replace("-", "_")] = value
    return values


def _convert(parameter: Field[Any], kind: Any, text: str) -> Any:
    """Turns an option's text into its field's type; the dataclass checks the value itself."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if text in ("", parameter.metadata["none"]):
            return None
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"{parameter.name}: {text!r} is not allowed; give true or false")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            word = f" or {parameter.metadata['none']!r}" if parameter.default is None else ""
            raise UserError(f"{parameter.name}: {text!r} is not {wanted}; give {wanted}{word}") from None
    return text


def convert(settings: type, name: str, value: object) -> Any:
    """A value for a field of a settings dataclass, as if its text had been given on the command line.

    Raises:
        UserError: when it is not of the field's type.
    """
    (parameter,) = (one for one in fields(settings) if one.name == name)
    text = parameter.metadata["none"] if value is None else str(value)
    return _convert(parameter, typing.get_type_hints(settings)[name], text)


def _shown(parameter: Field[Any]) -> str:
    if parameter.default is MISSING:
        return "required"
    default = parameter.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, bool):
        default = str(default).lower()
    return f"default: {parameter.metadata['none'] if default is None else default}"


def parse(settings: type[Settings], arguments: Sequence[str], *, program: str, description: str) -> Settings:
    """Reads ``--field-name value`` options (underscores work too) into a settings dataclass.

    Raises:
        UserError: for an unknown option, a value of the wrong type, or one that the dataclass refuses.
    """
    kinds = typing.get_type_hints(settings)
    parameters = [parameter for parameter in fields(settings) if parameter.metadata]  # type: ignore[arg-type]
    if {"--help", "-h"} & {*arguments}:
        _print_help(parameters, program, description)
        sys.exit(0)
    values = _values(arguments, {_flag(parameter.name): kinds[parameter.name] is bool for parameter in parameters})
    for parameter in parameters:
        if parameter.default is MISSING and parameter.name not in values:
            raise UserError(f"{parameter.name}: nothing given; give {_flag(parameter.name)} VALUE")
    return settings(**{p.name: _convert(p, kinds[p.name], values[p.name]) for p in parameters if p.name in values})


def _print_help(parameters: Sequence[Field[Any]], program: str, description: str) -> None:
    parser = argparse.ArgumentParser(prog=program, description=description)
    for parameter in parameters:
        unit = f" [{parameter.metadata['unit']}]" if parameter.metadata["unit"] else ""
        text = f"{parameter.metadata['help']}{unit} ({_shown(parameter)})"
        parser.add_argument(_flag(parameter.name), metavar="VALUE", help=text.replace("%", "%%"))
    parser.print_help()


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs an entry point: a user's mistake ends in one line on stderr and status 2, Ctrl-C in status 130.

    A reader that stops reading (``... | head``) ends it quietly.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode still gets every line
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed goes nowhere
        sys.exit(1)
    except UserError as error:
        line = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in str(error))
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
