"""Measurements of speed; what must hold is in ``tests``."""
