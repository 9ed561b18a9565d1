"""How many trials fit on a machine or a cluster."""

import pytest

from sweeps.cluster import fit_resources
from sweeps.spec import SweepOptions
from tests.conftest import refusal


@pytest.mark.parametrize(
    ("share", "gpus", "fitting"), [(1.0, 4, 4), (0.25, 1, 4), (0.2, 1, 5), (0.1, 1, 10), (0.6, 2, 2), (0.5, 3, 6)]
)
def test_as_many_trials_run_side_by_side_as_fit_on_each_gpu(share: float, gpus: float, fitting: int) -> None:
    options = SweepOptions(task="splice", gpus_per_trial=share)
    assert fit_resources(options, 64, gpus, "here").num_side_by_side == fitting


def test_without_gpus_the_cpus_decide() -> None:
    assert fit_resources(SweepOptions(task="splice", cpus_per_trial=3), 8, 0, "here").num_side_by_side == 2


def test_more_than_there_is_is_refused() -> None:
    options = SweepOptions(task="splice", gpus_per_trial=0.5)
    assert "gpus_per_trial: 0.5 asked for, but here has 0 GPUs" in refusal(lambda: fit_resources(options, 8, 0, "here"))
