"""Vision encoder: the grid of an EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946)."""

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import weights
from .vision import VisionConfig, VisionEncoder

# The "lite" variant: no squeeze-excite, ReLU6, fixed stem and head. One row a stage: expansion,
# channels at width 1.0, repeats at depth 1.0, stride, kernel.
STAGES = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip
# Width, depth, and the input size that the ImageNet weights were trained at.
VARIANTS = {"lite0": (1.0, 1.0, 224), "lite2": (1.1, 1.2, 260)}
MEAN, STD = 127.0 / 255, 128.0 / 255


class Conv(nn.Conv2d):
    """Convolution with its batch norm folded into weight and bias, padded as in training:
    TensorFlow's "same" pads an input of even `size` under stride 2 more on the right and bottom."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        size: int = 1,
    ):
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        total = (math.ceil(size / stride) - 1) * stride + kernel - size
        self.pad = (total // 2, total - total // 2, total // 2, total - total // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.pad) if any(self.pad) else x
        return (
            depthwise(x, self.weight, self.bias, self.stride[0])
            if self.groups > 1
            else super().forward(x)
        )


class Block(nn.Module):
    """Inverted residual (MobileNetV2): expand 1×1, depthwise k×k, project 1×1."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int, size: int
    ):
        super().__init__()
        hidden = inputs * expansion
        self.expand = Conv(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = Conv(hidden, hidden, kernel, stride, hidden, size)
        self.project = Conv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite(VisionEncoder):
    """Pixels uint8 [b, s, s, 3] → grid [b, (s/32)², 1280]; the trunk: the first `split` blocks."""

    name = "efficientnet"
    stride, width = 32, 1280

    @dataclass(frozen=True)
    class Config(VisionConfig):
        variant: str = "lite2"

        def __post_init__(self):
            super().__post_init__()
            if self.variant not in VARIANTS:
                known = ", ".join(VARIANTS)
                raise ValueError(f"variant = {self.variant!r}; expected one of {known}")

    def __init__(self, config: Config):
        super().__init__()
        self.variant, self.split = config.variant, config.split
        width, depth, size = VARIANTS[config.variant]
        self.stem = Conv(3, 32, 3, 2, size=size)
        blocks, inputs, size = [], 32, math.ceil(size / 2)
        for i, (expansion, channels, repeats, stride, kernel) in enumerate(STAGES):
            outputs = max(8, int(channels * width + 4) // 8 * 8)
            outputs += 8 if outputs < 0.9 * channels * width else 0
            count = repeats if i in (0, len(STAGES) - 1) else math.ceil(repeats * depth)
            for j in range(count):
                blocks.append(
                    Block(inputs, outputs, expansion, stride if j == 0 else 1, kernel, size)
                )
                inputs, size = outputs, math.ceil(size / blocks[-1].depthwise.stride[0])
        self.blocks = nn.ModuleList(blocks)
        self.head = Conv(inputs, self.width, 1)

    def trunk(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks[: self.split]:
            x = block(x)
        return x

    def tail(self, x: Tensor) -> Tensor:
        for block in self.blocks[self.split :]:
            x = block(x)
        return F.relu6(self.head(x)).flatten(2).transpose(1, 2)

    def trunk_parameters(self) -> list[nn.Parameter]:
        return [*self.stem.parameters(), *self.blocks[: self.split].parameters()]

    def load_published(self) -> None:
        if self.variant != "lite2":
            raise ValueError(f"variant = {self.variant!r} has no published weights; use 'lite2'")
        self.load_imagenet(weights.imagenet_efficientnet_lite2())

    @torch.no_grad()
    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Fill from the published ImageNet checkpoint (rwightman's key names), folding each batch
        norm (eps 1e-3) into its convolution."""

        def fill(conv: Conv, weight: str, norm: str) -> None:
            scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + 1e-3)
            conv.weight.copy_(state[f"{weight}.weight"] * scale[:, None, None, None])
            conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)

        fill(self.stem, "_conv_stem", "_bn0")
        fill(self.head, "_conv_head", "_bn1")
        for i, block in enumerate(self.blocks):
            if block.expand:
                fill(block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
            fill(block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
            fill(block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")


# Depthwise convolution whose gradient is as fast as its forward pass. PyTorch on a CPU takes thirty
# to sixty times as long for the gradient of a 5×5 depthwise kernel in bfloat16 as for the
# convolution itself, and longer still under a stride; only 3×3 kernels without a stride have a fast
# path (oneDNN). So the gradient is composed of fast parts. That of the input is a convolution with
# the kernel turned by 180°. That of the kernel is the gradient of the 3×3 kernels that tile it. A
# stride is undone by zeros between the rows and columns of the gradient (transposed convolution,
# Dumoulin & Visin 2016, arXiv:1603.07285).
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
    """Zero for the last rows and columns of the input, where no output reads them."""
    gradient = F.conv2d(
        spread, weight.flip(2, 3), padding=weight.shape[-1] - 1, groups=weight.shape[0]
    )
    return F.pad(gradient, (0, shape[3] - gradient.shape[3], 0, shape[2] - gradient.shape[2]))


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
