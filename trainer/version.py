"""The version of a trial's numbers."""

NUMBERS = 1  # raised with every change that changes a trial's numbers; cells of another are never reused
