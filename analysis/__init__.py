"""Reads the tracking store and builds tables. Never imports torch, ray or optuna."""
