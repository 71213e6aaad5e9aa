"""Vision encoder: a Vision Transformer over patches (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

import torch
from torch import Tensor, nn

from ..layers import PreNormLayer


def to_patches(pixels: Tensor, patch: int) -> Tensor:
    """uint8 [b, s, s, 3] → the numbers of each patch in [-1, 1], as channels: [b, 3 · patch², s /
    patch, s / patch]."""
    b, s, _, c = pixels.shape
    side = s // patch
    x = pixels.float() / 127.5 - 1
    x = x.reshape(b, side, patch, side, patch, c).permute(
        0, 2, 4, 5, 1, 3
    )  # [b, row, column, colour, side, side]
    return x.reshape(b, patch * patch * c, side, side)


class VisionTransformer(nn.Module):
    """Pixels uint8 [b, s, s, 3] → grid [b, (s / patch)², width].

    `split` cuts it as it cuts the CNN: `tail(trunk(pixels)) == forward(pixels)`. At 0 the trunk
    only cuts patches and everything is trained; above, the patch embedding and the first `split`
    layers are the trunk. There is no class token: the heads pool the grid."""

    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int, split: int = 0,
                 dropout: float = 0.0):  # fmt: skip
        super().__init__()
        if size % patch:
            raise ValueError(f"image_size = {size} is no multiple of patch = {patch}")
        if not 0 <= split <= layers:
            raise ValueError(f"split = {split}; a ViT of {layers} layers splits at 0 to {layers}")
        self.stride, self.split, self.width = patch, split, width
        self.embed = nn.Linear(3 * patch**2, width)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.blocks = nn.ModuleList(PreNormLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def trunk(self, pixels: Tensor) -> Tensor:
        """uint8 [b, s, s, 3] → patches or activations after `split` layers, [b, c, h, w]."""
        x = to_patches(pixels, self.stride)
        if self.split == 0:
            return x
        tokens = self._through(self._embedded(x), self.blocks[: self.split])
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])

    def tail(self, x: Tensor) -> Tensor:
        """[b, c, h, w] → [b, h · w, width]."""
        tokens = x.flatten(2).transpose(1, 2) if self.split else self._embedded(x)
        return self.norm(self._through(tokens, self.blocks[self.split :]))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tail(self.trunk(pixels))

    def _embedded(self, patches: Tensor) -> Tensor:
        return self.embed(patches.flatten(2).transpose(1, 2)) + self.positions

    def _through(self, tokens: Tensor, blocks: nn.ModuleList) -> Tensor:
        for block in blocks:
            tokens = block(tokens)
        return tokens

    def trunk_parameters(self) -> list[nn.Parameter]:
        return (
            [*self.embed.parameters(), self.positions, *self.blocks[: self.split].parameters()]
            if self.split
            else []
        )

    def tail_parameters(self) -> list[nn.Parameter]:
        frozen = {id(p) for p in self.trunk_parameters()}
        return [p for p in self.parameters() if id(p) not in frozen]

    def trunk_key(self) -> list:
        """What distinguishes the trunk's output from another's, for the cache."""
        return [
            "vit",
            self.stride,
            float(sum(p.detach().double().abs().sum() for p in self.trunk_parameters())),
        ]
