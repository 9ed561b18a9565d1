"""Waiting for a tracking store that is away for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from sweeps.connection import is_outage, root_cause
from sweeps.provenance import without_secrets
from trainer.errors import first_line

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0

Result = TypeVar("Result")


def patiently(action: Callable[[], Result], say: Callable[[str], None]) -> Result:
    """Does something with the tracking store, again and again while the store is away.

    Args:
        say: told once that the store is away, and once that it is back.

    Raises:
        Exception: what the action raised, where the store did answer.
    """
    wait = FIRST_WAIT_S
    while True:
        try:
            result = action()
        except Exception as error:
            if not is_outage(error):
                raise
            if wait == FIRST_WAIT_S:
                reason = without_secrets(first_line(root_cause(error)))
                say(f"the tracking store does not answer ({reason}); waiting for it")
        else:
            if wait > FIRST_WAIT_S:
                say("the tracking store answers again")
            return result
        time.sleep(wait)
        wait = min(LONGEST_WAIT_S, 2 * wait)
