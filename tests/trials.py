"""A trial's config, its results and an error, for tests of what is recorded of them."""

from trainer.config import TrialConfig, TrialResult

DONE = TrialResult(config=TrialConfig(task="splice"), outcome="finished", metrics={"test/score": 0.5}, losses=[])
DIVERGED = TrialResult(config=TrialConfig(task="splice"), outcome="diverged", metrics={}, losses=[])
PATIENCE_S = 30  # for what happens at once unless the code is broken


def config(init: str = "scratch") -> TrialConfig:
    return TrialConfig(task="splice", init=init)


def failure(message: str) -> RuntimeError:
    """An error with a traceback."""
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error
