"""Vision encoder: EfficientNet-Lite grid features and the heads that turn them into embedding and
image tokens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .depthwise import depthwise

# EfficientNet (Tan & Le 2019, arXiv:1905.11946), "lite" variant: no squeeze-excite, ReLU6, fixed
# stem and head. One row a stage: expansion, channels at width 1.0, repeats at depth 1.0, stride,
# kernel.
STAGES = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip
# Width, depth, and the input size that the ImageNet weights were trained at.
VARIANTS = {"efficientnet-lite0": (1.0, 1.0, 224), "efficientnet-lite2": (1.1, 1.2, 260)}
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


class EfficientNetLite(nn.Module):
    """Pixels uint8 [b, s, s, 3] → grid [b, (s/32)², 1280]. `split` cuts it into a frozen trunk,
    whose output can be cached, and a tail that is trained: `tail(trunk(pixels)) ==
    forward(pixels)`."""

    stride = 32

    def __init__(self, variant: str = "efficientnet-lite2", split: int = 15):
        super().__init__()
        width, depth, size = VARIANTS[variant]
        self.split = split
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
        self.head = Conv(inputs, 1280, 1)
        self.width = 1280

    def trunk(self, pixels: Tensor) -> Tensor:
        """uint8 [b, s, s, 3] → activations after `split` blocks, [b, c, h, w]."""
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks[: self.split]:
            x = block(x)
        return x

    def tail(self, x: Tensor) -> Tensor:
        for block in self.blocks[self.split :]:
            x = block(x)
        return F.relu6(self.head(x)).flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tail(self.trunk(pixels))

    def trunk_parameters(self) -> list[nn.Parameter]:
        return [*self.stem.parameters(), *self.blocks[: self.split].parameters()]

    def trunk_key(self) -> float:
        """What distinguishes the trunk's output from another's, for the cache."""
        return float(
            sum(p.detach().double().abs().sum() for p in self.blocks[: self.split].parameters())
        )

    def tail_parameters(self) -> list[nn.Parameter]:
        return [*self.blocks[self.split :].parameters(), *self.head.parameters()]

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


class ImageHeads(nn.Module):
    """Grid [b, n, 1280] → embedding [b, dim] (unit length) and image tokens [b, n, width] (unit
    length).

    The embedding is the mean of the grid plus `heads` attention poolings, each with a learnt query.
    """

    def __init__(
        self, grid_width: int, dim: int, token_width: int, heads: int = 8, dropout: float = 0.0
    ):
        super().__init__()
        self.scores = nn.Linear(grid_width, heads)
        self.values = nn.Linear(grid_width, dim)
        self.mean = nn.Linear(grid_width, dim)
        self.tokens = nn.Linear(grid_width, token_width)
        self.dropout = nn.Dropout(dropout)
        self.heads = heads

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        b, n, _ = grid.shape
        # The same channels are dropped in every cell of a photo.
        grid = grid * self.dropout(grid.new_ones(b, 1, grid.shape[-1]))
        weights = self.scores(grid).softmax(1)  # [b, n, heads]
        values = self.values(grid).view(b, n, self.heads, -1)
        pooled = (weights.unsqueeze(-1) * values).sum(1).flatten(1)  # [b, dim]
        embedding = F.normalize(pooled.float() + self.mean(grid.mean(1)).float(), dim=-1)
        return embedding, F.normalize(self.tokens(grid).float(), dim=-1)


# Image tokens are unit vectors; a component beyond ±TOKEN_RANGE / sqrt(width) is clipped. One int8
# step is then TOKEN_RANGE / (127 sqrt(width)), the same for every item, so the service can treat
# tokens as opaque bytes.
TOKEN_RANGE = 4.0


def token_step(width: int) -> float:
    return TOKEN_RANGE / (127 * math.sqrt(width))


def quantise_tokens(tokens: Tensor) -> Tensor:
    """Unit image tokens [b, n, width] → int8 of the same shape."""
    return torch.clamp(torch.round(tokens / token_step(tokens.shape[-1])), -127, 127).to(torch.int8)


def dequantise_tokens(tokens: Tensor) -> Tensor:
    return tokens.float() * token_step(tokens.shape[-1])
