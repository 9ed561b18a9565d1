"""The keys of a sweep's cells in the ledger: what their configs say, and what lies behind the names in them."""

from sweeps.checkpoints import resolve
from sweeps.ledger import ledger_key
from sweeps.recorded import BY_TRAIN
from sweeps.spec import SweepOptions, SweepSpec
from trainer.checkpoints import URI, find_checkpoint
from trainer.config import NEEDS_OWN_WEIGHTS, TrialConfig
from trainer.digests import folder_digest
from trainer.models import find_model
from trainer.tasks.task import Dataset


def cell_keys(options: SweepOptions, spec: SweepSpec, dataset: Dataset, tracking_uri: str) -> dict[str, str]:
    """Every cell's ``cell_key`` -> its key in the ledger.

    Raises:
        UserError: when a model or a checkpoint is not there.
    """
    asked = {BY_TRAIN: options.select_by == BY_TRAIN, "model": options.save_model}
    more = [name for name, is_asked in asked.items() if is_asked]
    distinct = {_weights(config): config for config in spec.cells.values()}
    digests = {weights: model_digest(config, tracking_uri) for weights, config in distinct.items()}
    return {
        key: ledger_key(config, dataset.digest, digests[_weights(config)], more) for key, config in spec.cells.items()
    }


def _weights(config: TrialConfig) -> tuple[str | int | None, ...]:
    """Where a trial's weights come from."""
    return config.model, config.init, config.checkpoint, config.checkpoint_step


def model_digest(config: TrialConfig, tracking_uri: str) -> str:
    """Names the contents of all files that a trial's model comes from; empty of a rival, which has none."""
    if config.is_rival:
        return ""
    needs_weights = config.init in NEEDS_OWN_WEIGHTS
    digest = folder_digest(find_model(config.model, needs_weights=needs_weights), weights=needs_weights)
    if config.init != "checkpoint" or not config.checkpoint:
        return digest
    if URI.match(config.checkpoint):  # what a run has logged does not change
        return f"{digest} {resolve(config.checkpoint, config.checkpoint_step, tracking_uri)}"
    return f"{digest} {folder_digest(find_checkpoint(config.checkpoint, config.checkpoint_step))}"
