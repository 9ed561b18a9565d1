"""Trains one model on one task. Knows nothing of Ray, Optuna or MLflow."""
