"""Imports ahead of time what every trial of a language model needs: it takes longer than to train a short trial."""

import gc
import importlib

TRIAL = (
    "trainer.trial",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
)


def preload(*names: str) -> None:
    """Imports modules by their names.

    Meanwhile nobody looks for garbage, of which imports make none: that would take a fifth of the time. Later
    collections do not look at what is there now.
    """
    gc.disable()
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
