"""The faster linear layer and dropout against torch's own; tests/test_fast_path.py has them in models."""

import pytest
import torch

from trainer import kernels


def test_dropout_drops_its_share_independently_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    values = torch.ones(999, 1001)
    for share in (0.1, 0.25, 0.5):
        kept = kernels.dropout(values, share)
        is_kept = kept > 0
        assert float(1 - is_kept.float().mean()) == pytest.approx(share, abs=0.002)
        assert kept[is_kept].unique().tolist() == pytest.approx([1 / (1 - share)], rel=1e-4)
        for shift in (1, 2, 3, 4):
            both = (is_kept[:, shift:] & is_kept[:, :-shift]).float().mean()
            assert float(both) == pytest.approx((1 - share) ** 2, abs=0.003), "neighbours are drawn apart"
    assert not torch.equal(kernels.dropout(values, 0.1), kernels.dropout(values, 0.1))


def test_dropout_passes_the_gradient_of_what_it_keeps_and_is_off_in_evaluation() -> None:
    layer, values = kernels.Dropout(0.3), torch.randn(40, 50, requires_grad=True)
    kept = layer(values)
    kept.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad * values.detach(), kept.detach())
    assert layer.eval()(values) is values
    assert torch.equal(kernels.Dropout(1.0)(torch.ones(3)), torch.zeros(3)) and kernels.Dropout(0.0)(values) is values


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_fast_linear_layer_is_torchs_up_to_rounding(has_bias: bool) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(48, 80, bias=has_bias)
    fast = kernels.Linear(48, 80, bias=has_bias)
    fast.load_state_dict(plain.state_dict())
    results = []
    for layer in (plain, fast):
        values = torch.randn(3, 70, 48, generator=torch.Generator().manual_seed(1), requires_grad=True)
        outputs = layer(values)
        outputs.square().sum().backward()
        results.append([outputs, values.grad, *(parameter.grad for parameter in layer.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
