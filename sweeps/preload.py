"""What a worker imports before it is given a trial; Ray imports this module as soon as a worker is there."""

from trainer.preload import TRIAL, preload

preload("mlflow", "ray.tune", "sweeps.worker", *TRIAL)
