"""Vision encoder: a Vision Transformer over patches (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, attention_bias, init_scaled, split_heads
from .vision import VisionConfig, VisionEncoder


def to_patches(pixels: Tensor, patch: int) -> Tensor:
    """uint8 [b, s, s, 3] → the numbers of each patch in [-1, 1], as channels: [b, 3 · patch², s /
    patch, s / patch]."""
    b, s, _, c = pixels.shape
    side = s // patch
    x = pixels.float() / 127.5 - 1
    x = x.reshape(b, side, patch, side, patch, c)
    x = x.permute(0, 2, 4, 5, 1, 3)  # [b, row, column, colour, side, side]
    return x.reshape(b, patch * patch * c, side, side)


def check_patch(image_size: int, patch: int) -> None:
    """ValueError unless the patches fill the image."""
    if image_size % patch:
        raise ValueError(f"image_size = {image_size} is no multiple of patch = {patch}")


class VisionTransformer(VisionEncoder):
    """Pixels uint8 [b, s, s, 3] → grid [b, (s / patch)², width]. With `split` = 0 the trunk only
    cuts patches; above, it is the patch embedding and the first `split` layers. With `pool` =
    "class" the grid has a row more, the first: a class token, which the pooler reads."""

    name = "vit"

    @dataclass(frozen=True)
    class Config(VisionConfig):
        CHOICES: ClassVar[dict] = {"pool": ("attention", "mean", "class")}

        split: int = 0
        patch: int = 16
        width: int = 384
        layers: int = 6
        heads: int = 6
        dropout: float = 0.0

        def __post_init__(self):
            super().__post_init__()
            size, split, layers = self.image_size, self.split, self.layers
            check_patch(size, self.patch)
            if not 0 <= split <= layers:
                raise ValueError(
                    f"split = {split}; a ViT of {layers} layers splits at 0 to {layers}"
                )
            if split and self.pool == "class":
                raise ValueError(f"split = {split}; a class token is no part of a cached grid")

    def __init__(self, config: Config):
        super().__init__()
        self.stride, self.split, self.width = config.patch, config.split, config.width
        patch, width = config.patch, config.width
        self.embed = nn.Linear(3 * patch**2, width)
        self.positions = nn.Parameter(0.02 * torch.randn((config.image_size // patch) ** 2, width))
        self.blocks = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        init_scaled(self.blocks)
        self.norm = nn.LayerNorm(width)
        class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.class_token = class_token if config.pool == "class" else None

    @classmethod
    def adds(cls, config: Config, given: set[str]) -> set[str]:
        bare = {"image.patches"} if config.split == 0 else set()
        last = {"image.attention"} if config.split < config.layers else set()
        local = {"image.local"} if config.pool == "class" else set()
        return super().adds(config, given) | bare | last | local

    def trunk(self, pixels: Tensor) -> Tensor:
        x = to_patches(pixels, self.stride)
        if self.split == 0:
            return x
        tokens = self._through(self._embedded(x), self.blocks[: self.split])
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])

    def tail(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) if self.split else self._embedded(x)
        return self.norm(self._through(tokens, self.blocks[self.split :]))

    def attention(self, activations: Tensor) -> Tensor:
        """How much each cell attends to each other in the last layer, the mean over heads:
        activations [b, c, h, w] → [b, n, n]; a row sums to 1."""
        whole = (
            activations.flatten(2).transpose(1, 2) if self.split else self._embedded(activations)
        )
        *before, last = self.blocks[self.split :]
        for block in before:
            whole = block(whole)
        q, k, _ = split_heads(last.qkv(last.norm1(whole)), 3, last.heads).unbind(0)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1).mean(1)

    def local(self, activations: Tensor, inside: Tensor, layers: int) -> Tensor:
        """The grid of a part of each image, the cells that are `inside` bool [b, n]: in the top
        `layers` all see those and the class token alone. → [b, 1 + n, width]"""
        x, below = self._embedded(activations), len(self.blocks) - layers
        bias = attention_bias(F.pad(inside.long(), (1, 0), value=1))
        for number, block in enumerate(self.blocks):
            x = block(x, bias if number >= below else None)
        return self.norm(x)

    def _embedded(self, patches: Tensor) -> Tensor:
        x = self.embed(patches.flatten(2).transpose(1, 2)) + self.positions
        if self.class_token is None:
            return x
        return torch.cat([self.class_token.expand(x.shape[0], 1, -1).to(x.dtype), x], 1)

    def _through(self, tokens: Tensor, blocks: nn.ModuleList) -> Tensor:
        for block in blocks:
            tokens = block(tokens)
        return tokens

    def trunk_parameters(self) -> list[nn.Parameter]:
        if self.split == 0:
            return []
        return [*self.embed.parameters(), self.positions, *self.blocks[: self.split].parameters()]

    def load_published(self) -> None:
        if self.split > 0:
            raise ValueError(
                f"a ViT starts at random, so its first {self.split} layers cannot be frozen; "
                "set split = 0"
            )
