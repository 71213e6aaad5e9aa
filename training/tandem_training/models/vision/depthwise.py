"""Depthwise convolution whose gradient is as fast as its forward pass.

PyTorch on a CPU takes thirty to sixty times as long for the gradient of a 5×5 depthwise kernel in
bfloat16 as for the convolution itself, and longer still under a stride; only 3×3 kernels without a
stride have a fast path (oneDNN). So the gradient is put together from what is fast: that of the
input is a convolution with the kernel turned by 180°, that of the kernel is the gradient of the 3×3
kernels that tile it, and a stride is undone beforehand by zeros between the rows and columns of the
gradient (transposed convolution, Dumoulin & Visin 2016, arXiv:1603.07285)."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 3


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """conv2d with a filter a channel: x [b, c, h, w], already padded, weight [c, 1, k, k] → [b, c,
    h', w']."""
    if (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and (weight.shape[-1] > TILE or stride > 1)
    ):
        return _Depthwise.apply(x, weight.to(x.dtype), bias.to(x.dtype), stride)
    return F.conv2d(x, weight, bias, stride, groups=weight.shape[0])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, groups=weight.shape[0])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        spread = _spread(gradient, ctx.stride)
        of_x = _of_input(spread, weight, x.shape) if ctx.needs_input_grad[0] else None
        return of_x, _of_kernel(spread, x, weight), gradient.sum((0, 2, 3)), None


def _spread(gradient: Tensor, stride: int) -> Tensor:
    """Zeros in the places that the stride has passed over."""
    if stride == 1:
        return gradient
    b, c, h, w = gradient.shape
    spread = gradient.new_zeros(b, c, (h - 1) * stride + 1, (w - 1) * stride + 1)
    spread = spread.contiguous(memory_format=torch.channels_last)
    spread[:, :, ::stride, ::stride] = gradient
    return spread


def _of_input(spread: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """What the last rows and columns of the input gave to no output stays zero."""
    found = F.conv2d(
        spread, weight.flip(2, 3), padding=weight.shape[-1] - 1, groups=weight.shape[0]
    )
    return F.pad(found, (0, shape[3] - found.shape[3], 0, shape[2] - found.shape[2]))


def _of_kernel(spread: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    size, (h, w) = weight.shape[-1], spread.shape[2:]
    whole, tile = torch.empty_like(weight), min(TILE, size)
    # The last tile of a row or column overlaps the one before it.
    starts = sorted({min(start, size - tile) for start in range(0, size, tile)})
    for top, left in product(starts, starts):
        part = (slice(None), slice(None), slice(top, top + tile), slice(left, left + tile))
        seen = x[:, :, top : top + h + tile - 1, left : left + w + tile - 1]
        whole[part] = _of_tile(spread, seen, weight[part])
    return whole


def _of_tile(spread: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    ones, zeros = [1, 1], [0, 0]
    wanted = [False, True, False]  # of input, weight, bias
    return torch.ops.aten.convolution_backward(
        spread, x, weight, None, ones, zeros, ones, False, zeros, weight.shape[0], wanted
    )[1]
