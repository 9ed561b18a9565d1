"""The one error that a user's mistake raises, and the sentence it says."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can mend: printed as one line, without a stack trace, exit status 2."""


def near(value: str, allowed: Iterable[str]) -> str:
    """``"; did you mean 'splice'?"`` for the closest of the allowed names, or nothing."""
    by_lower_case = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(value.lower(), by_lower_case, n=1, cutoff=0.5)
    return f"; did you mean {by_lower_case[close[0]]!r}?" if close else ""


def one_of(parameter: str, value: str, allowed: Iterable[str]) -> str:
    """Returns value if it is one of the allowed names.

    Raises:
        UserError: naming the parameter, the value, what is allowed and the nearest miss.
    """
    names = list(allowed)
    if value in names:
        return value
    raise UserError(f"{parameter}: unknown value {value!r}; allowed: {', '.join(names)}{near(value, names)}")


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
