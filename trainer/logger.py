"""Where a trial says what happens: four methods. Adapters to tracking servers live outside the trainer."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Logger(Protocol):
    """What a trial calls while it runs. Calls must return quickly: they are made between training steps."""

    def params(self, values: Mapping[str, object]) -> None:
        """What the trial was asked to do; once, at the start."""

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        """A metric at one or more training steps (counted from 1), in order."""

    def tag(self, name: str, value: str) -> None:
        """A fact about the trial."""

    def artifact(self, name: str, content: bytes) -> None:
        """A file, by its path inside the trial's record."""


class ConsoleLogger:
    """Prints evaluations as plain lines; keeps nothing."""

    def params(self, values: Mapping[str, object]) -> None:
        print("  ".join(f"{name}={value}" for name, value in values.items()))

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        print(f"step {steps[-1]:>6}  {name} {values[-1]:.4f}")

    def tag(self, name: str, value: str) -> None:
        if value:
            print(f"{name}: {value}")

    def artifact(self, name: str, content: bytes) -> None:
        pass


class SilentLogger:
    """Takes everything and keeps nothing."""

    def params(self, values: Mapping[str, object]) -> None:
        pass

    def metrics(self, name: str, values: Sequence[float], steps: Sequence[int]) -> None:
        pass

    def tag(self, name: str, value: str) -> None:
        pass

    def artifact(self, name: str, content: bytes) -> None:
        pass
