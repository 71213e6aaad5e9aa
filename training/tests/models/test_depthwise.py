"""The gradient of a depthwise convolution, put together from fast parts, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from tandem_training.models.vision import efficientnet as module
from tandem_training.models.vision.efficientnet import EfficientNetLite, depthwise

SIZES = [(5, 1, 9), (5, 2, 18), (5, 2, 19), (3, 2, 10), (7, 1, 9), (4, 3, 11), (5, 1, 1)]


@pytest.mark.parametrize(("kernel", "stride", "size"), SIZES)
def test_the_depthwise_gradient_is_that_of_pytorchs_convolution(
    kernel: int, stride: int, size: int
):
    torch.manual_seed(0)
    side = size + kernel - 1
    shapes = ((2, 6, side, side + 1), (6, 1, kernel, kernel), (6,))
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    expected, found = F.conv2d(*given, stride, groups=6), depthwise(*given, stride)
    assert torch.equal(found, expected) and type(found.grad_fn).__name__ == "_DepthwiseBackward"
    gradient = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, given, gradient)
    for one, other in zip(wanted, torch.autograd.grad(found, given, gradient), strict=True):
        torch.testing.assert_close(other, one)


def test_a_depthwise_convolution_passes_no_gradient_to_a_frozen_input():
    x, weight, bias = (
        torch.randn(1, 2, 6, 6),
        torch.randn(2, 1, 5, 5, requires_grad=True),
        torch.zeros(2),
    )
    depthwise(x, weight, bias, 1).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_a_depthwise_convolution_without_gradient_is_pytorchs(monkeypatch):
    monkeypatch.delattr(module, "_Depthwise")
    given = torch.randn(1, 2, 6, 6), torch.randn(2, 1, 5, 5), torch.randn(2)
    with torch.no_grad():
        assert torch.equal(depthwise(*given, 1), F.conv2d(*given, groups=2))


def test_an_encoder_learns_the_same_in_bfloat16(monkeypatch):
    torch.manual_seed(0)
    encoder = EfficientNetLite(EfficientNetLite.Config(variant="lite0", split=5))
    for convolution in encoder.modules():
        if isinstance(convolution, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(convolution.weight)
    with torch.no_grad():
        activations = encoder.trunk(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8))
    gradients = []
    for tile in (
        3,
        99,
    ):  # with 99 no kernel is large, and those under a stride are taken in one piece
        monkeypatch.setattr(module, "TILE", tile)
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            encoder.tail(activations).float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.tail_parameters()]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.999
