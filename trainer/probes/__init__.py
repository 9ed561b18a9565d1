"""Probes: what goes on inside of models, on the real inputs of a task."""
