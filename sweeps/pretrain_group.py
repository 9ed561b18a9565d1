"""A pre-training on several GPUs, of one machine or more, by Ray Train (docs.ray.io/en/latest/train/train.html)."""

import tempfile
from collections.abc import Mapping
from typing import Any

from sweeps.cluster import check_reach, credentials, own_address, ray_nodes
from sweeps.connection import take_settings, users_settings
from sweeps.pretrain_worker import Job, train
from trainer.errors import UserError
from trainer.pretraining.config import PretrainConfig

MAX_FAILURES = 3  # of a worker or its machine; each time all go on from the last step that was kept
REFUSED = "refused"  # what a worker reports when a user's mistake ends it: to try again would be in vain


def check_group(num_workers: int | None, config: PretrainConfig) -> None:
    """Refuses a group of which some would have nothing to do.

    Raises:
        UserError: when there are fewer sequences than processes.
    """
    least = config.smallest_micro_batch
    if (num_workers or 1) > least:
        raise UserError(
            f"num_workers: {num_workers} is not allowed, as few as {least} sequences go through the model at once; "
            "give at most as many, or another batch_size or micro_batch_size"
        )


def train_in_group(job: Job, num_workers: int | None, ray_address: str | None) -> None:
    """Trains in several processes, which share the sequences of every step; one that dies is replaced.

    Args:
        num_workers: None for as many as there are GPUs.

    Raises:
        UserError: when the cluster is not there or too small, or a worker ends with a user's mistake.
    """
    address = own_address(ray_address)
    with ray_nodes(address, is_whole=True) as (nodes, _):
        check_reach(address, nodes)
        counts = {kind: int(sum(node["Resources"].get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU")}
        number, kind = num_workers or max(1, counts["GPU"]), "GPU" if counts["GPU"] else "CPU"
        if number > counts[kind]:
            raise UserError(f"num_workers: {number} asked for, but there are {counts[kind]} {kind}s; ask for as many")
        check_group(number, job.config)

        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        with tempfile.TemporaryDirectory(prefix="polymath-train-") as folder:
            trainer = TorchTrainer(
                _work,
                train_loop_config={"job": job, "environment": {**credentials(), **users_settings()}},
                scaling_config=ScalingConfig(num_workers=number, use_gpu=kind == "GPU"),
                run_config=RunConfig(
                    name="pretrain", storage_path=folder, failure_config=FailureConfig(max_failures=MAX_FAILURES)
                ),
            )
            result = trainer.fit()
        if refusal := (result.metrics or {}).get(REFUSED):
            raise UserError(refusal)


def _work(given: Mapping[str, Any]) -> None:
    """What each of Ray Train's workers does; torch.distributed stands by then."""
    from ray import train as ray_train
    from ray.train.torch import get_device

    from trainer.pretraining.group import Group

    take_settings(given["environment"], is_shared_machine=False)
    try:
        group = Group.current(is_first_here=ray_train.get_context().get_local_rank() == 0)
        train(given["job"], group, str(get_device()))
    except UserError as error:
        ray_train.report({REFUSED: str(error)})
