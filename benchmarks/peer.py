"""The peer: a sweep as a competent user wires it together today, over the data and the model that it is given.

Ray Tune schedules, Optuna's GridSampler lays out the learning rates, Hugging Face's Trainer trains, MLflow records the
loss of every step, each as its documentation says (docs.ray.io/en/latest/tune/examples/tune-mlflow.html,
huggingface.co/docs/transformers/trainer). It needs the package accelerate.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

from benchmarks.material import BATCH_SIZE, TOKENS, learning_rates, read
from trainer.commandline import parse, run, setting

EXPERIMENT = "peer"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run."""

    num_trials: int = setting(24, help="how many learning rates", unit="trials")
    material: str = setting("material", help="folder made by benchmarks.material")
    work: str = setting("work", help="folder for the store and Tune's own record")
    trains: bool = setting(True, help="whether trials train; else they only record a loss: true or false")


def record_only(config: dict[str, Any], material: Path, work: Path) -> None:
    """A trial without training."""
    import mlflow
    from ray import tune
    from ray.air.integrations.mlflow import setup_mlflow

    setup_mlflow(config, tracking_uri=store(work), experiment_name=EXPERIMENT)
    mlflow.log_metric("loss", 0.7, step=1)
    mlflow.end_run()
    tune.report({"score": 0.5})


def train(config: dict[str, Any], material: Path, work: Path) -> None:
    """A trial, in a Ray worker of its own: Tune's function trainable."""
    import mlflow
    from ray import tune
    from ray.air.integrations.mlflow import setup_mlflow
    from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer, TrainingArguments, set_seed

    set_seed(0)
    setup_mlflow(config, tracking_uri=store(work), experiment_name=EXPERIMENT, create_experiment_if_not_exists=True)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(material / "model", num_labels=2))
    arguments = TrainingArguments(
        output_dir=str(work / "trainer"),
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=config["learning_rate"],
        lr_scheduler_type="linear",
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=["mlflow"],
        disable_tqdm=True,
        use_cpu=True,
    )
    splits = {name: [_example(*row) for row in rows] for name, rows in read(material / "data.csv").items()}
    trainer = Trainer(model=model, args=arguments, train_dataset=splits["train"], eval_dataset=splits["valid"])
    trainer.train()
    metrics = trainer.evaluate(splits["test"], metric_key_prefix="test")  # type: ignore[arg-type]
    mlflow.end_run()
    tune.report({"score": -metrics["test_loss"]})


def _example(sequence: str, label: int) -> dict[str, Any]:
    return {"input_ids": [TOKENS["[CLS]"], *(TOKENS[symbol] for symbol in sequence), TOKENS["[SEP]"]], "labels": label}


def store(work: Path) -> str:
    """The tracking URI."""
    return f"sqlite:///{work}/mlflow.db"


def main(arguments: Sequence[str]) -> int:
    """Runs the sweep; status 1 when a trial failed."""
    settings = parse(Settings, arguments, program="python -m benchmarks.peer", description=__doc__ or "")
    material, work = Path(settings.material).absolute(), Path(settings.work).absolute()
    work.mkdir(parents=True, exist_ok=True)

    import mlflow
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    mlflow.set_tracking_uri(store(work))
    mlflow.create_experiment(EXPERIMENT)  # two workers that set up the store at once would collide
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    grid = {"learning_rate": learning_rates(settings.num_trials)}
    space: dict[str, Any] = {n: optuna.distributions.CategoricalDistribution(values) for n, values in grid.items()}
    search = OptunaSearch(space, metric="score", mode="max", sampler=optuna.samplers.GridSampler(grid, seed=0))
    trial = train if settings.trains else record_only
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, material=material, work=work), {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=settings.num_trials),
        run_config=tune.RunConfig(storage_path=str(work / "ray"), verbose=0),
    )
    return int(bool(tuner.fit().errors))


if __name__ == "__main__":
    run(main)
