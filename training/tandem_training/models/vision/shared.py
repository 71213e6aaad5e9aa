"""Vision encoder: patches through the stack that reads texts and pairs too."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shared_stack import IMAGE, SharedStack
from .vision import VisionConfig, VisionEncoder
from .vit import check_patch, to_patches


def sample_cells(cells: Tensor, share: float) -> Tensor:
    """Drop a random share of the cells of each image: [b, n, w] → [b, k, w] (DropToken; VATT,
    Akbari et al. 2021, arXiv:2104.11178, section 3.3)."""
    b, n, _ = cells.shape
    kept = torch.rand(b, n, device=cells.device).argsort(1)[:, : max(1, round(n * (1 - share)))]
    return cells[torch.arange(b, device=cells.device)[:, None], kept]


class SharedVision(VisionEncoder):
    """Owns the stack. A patch is first a unit vector of `token_width` numbers, which an item
    stores: so the fusion reads a stored image just as this encoder reads it."""

    name = "shared"
    gives = VisionEncoder.gives | {"image.stack"}

    @dataclass(frozen=True)
    class Config(VisionConfig):
        CHOICES: ClassVar[dict] = {"experts": ("none", "norm", "feed")}

        image_size: int = 224
        split: int = 0
        token_width: int = 256
        pool_dropout: float = 0.0
        patch: int = 32
        width: int = 384
        layers: int = 6
        heads: int = 6
        dropout: float = 0.1
        experts: str = "none"
        joint_layers: int = 2  # top ones, where pairs have experts
        drop_tokens: float = 0.0  # share of the cells that training drops

        def __post_init__(self):
            super().__post_init__()
            check_patch(self.image_size, self.patch)
            if self.split or self.drop_tokens >= 1:
                raise ValueError(
                    f"split = {self.split}, drop_tokens = {self.drop_tokens}; expected split = 0, "
                    "since the layers learn texts too, and drop_tokens below 1"
                )

    def __init__(self, config: Config):
        super().__init__()
        self.stride, self.split, self.width = config.patch, 0, config.width
        self.drop_tokens = config.drop_tokens
        self.patches = nn.Linear(3 * config.patch**2, config.token_width)
        self.embed = nn.Linear(config.token_width, config.width)
        cells = (config.image_size // config.patch) ** 2
        self.positions = nn.Parameter(0.02 * torch.randn(cells, config.width))
        self.stack = SharedStack(
            config.width, config.layers, config.heads, config.dropout, config.experts,
            config.joint_layers,
        )  # fmt: skip

    def trunk(self, pixels: Tensor) -> Tensor:
        return to_patches(pixels, self.stride)

    def tokens(self, activations: Tensor) -> Tensor:
        """Patches [b, 3 · stride², h, w] → what an item stores, [b, n, v] of unit length."""
        return F.normalize(self.patches(activations.flatten(2).transpose(1, 2)).float(), dim=-1)

    def read_in(self, tokens: Tensor) -> Tensor:
        """Stored tokens [b, n, v] → what the first layer reads [b, n, w]. A LayerNormed vector of v
        numbers has the length √v."""
        return self.embed(tokens * tokens.shape[-1] ** 0.5) + self.positions

    def states(self, tokens: Tensor) -> Tensor:
        """Stored tokens [b, n, v] → grid [b, n, w]."""
        return self.stack(self.read_in(tokens), None, IMAGE)

    def tail(self, activations: Tensor) -> Tensor:
        x = self.read_in(self.tokens(activations))
        if self.training and self.drop_tokens:
            x = sample_cells(x, self.drop_tokens)
        return self.stack(x, None, IMAGE)

    def trunk_parameters(self) -> list[nn.Parameter]:
        return []

    def load_published(self) -> None:
        """There are no published weights; it starts at random."""
