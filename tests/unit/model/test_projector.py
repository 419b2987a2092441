"""The projector's input and output are scaled by real features before training."""

import pytest
import torch

from pipeline.model.projector import Projector


def test_inputs_are_centered_and_of_unit_variance_overall_and_outputs_have_the_norm_asked_for() -> None:
    """Features `[images, P, D_v]` are far from zero, with channels of very different spread."""
    torch.manual_seed(0)
    features = 50 + torch.tensor([1.0, 2.0, 3.0, 4.0, 20.0]) * torch.randn(40, 9, 5)
    projector = Projector(5, 8, 6)
    projector.standardize(features)
    # One scale for all channels keeps their proportions.
    assert projector.get_buffer("scale").shape == ()
    inputs = (features - projector.get_buffer("mean")) * projector.get_buffer("scale")
    assert inputs.mean(dim=(0, 1)).abs().max() < 1e-4
    assert float(inputs.var(dim=(0, 1)).mean()) == pytest.approx(1, rel=1e-2)
    projector.scale_output(features, norm=0.7)
    assert float(projector(features).norm(dim=-1).mean()) == pytest.approx(0.7, rel=1e-4)
    trained = {name for name, _ in projector.named_parameters()}
    assert trained == {"hidden.weight", "hidden.bias", "output.weight", "output.bias"}


@pytest.mark.parametrize("rows", [1, 3])
def test_features_that_do_not_differ_are_only_centered(rows: int) -> None:
    projector = Projector(5, 8, 6)
    features = torch.full((rows, 1, 5), 50.0)
    projector.standardize(features)
    assert float(projector.get_buffer("scale")) == 1
    assert torch.isfinite(projector(features)).all()
