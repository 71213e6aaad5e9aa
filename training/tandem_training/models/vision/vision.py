"""The contract of a vision encoder, and the pooler of its grid."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..part import Part, PartConfig
from .cascade import QueryPooler
from .concepts import Concepts


@dataclass(frozen=True)
class VisionConfig(PartConfig):
    """Keys of every vision encoder."""

    CHOICES: ClassVar[dict] = {"pool": ("attention", "mean")}

    image_size: int = 288
    split: int = 16  # layers of the frozen trunk, whose activations are cached
    token_width: int = 160  # of the image tokens
    pool_dropout: float = 0.3
    queries: int = 0  # that read the grid, and are pooled and stored in its place; 0: the grid is
    pool: str = "attention"  # of the grid, into the embedding
    concepts: int = 0  # words of the captions that a head names in every image token


class VisionEncoder(Part):
    """Built from its config. `tail(trunk(pixels))` is the grid; the trunk is frozen."""

    role: ClassVar[str] = "vision"
    gives = {"image.embedding", "image.tokens"}
    stride: int  # pixels of a cell's side
    split: int
    width: int  # of the grid
    places: ClassVar[bool] = False  # whether its tokens carry box and tag (`region_tokens`)
    regions: int = 0  # tokens an image; 0: one a cell

    @classmethod
    def adds(cls, config: VisionConfig, given: set[str]) -> set[str]:
        return cls.gives | ({"image.labels"} if config.concepts else set())

    def boxes(self, activations: Tensor) -> Tensor:
        """Of an encoder that places its tokens: activations [b, c, h, w] → the boxes of the tokens
        [b, n, 4]: x1, y1, x2, y2 in [0, 1]."""
        raise NotImplementedError

    def trunk(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [b, s, s, 3] → activations [b, c, h, w]."""
        raise NotImplementedError

    def tail(self, activations: Tensor) -> Tensor:
        """Activations [b, c, h, w] → grid [b, (s / stride)², width]."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tail(self.trunk(pixels))

    def trunk_parameters(self) -> list[nn.Parameter]:
        raise NotImplementedError

    def tail_parameters(self) -> list[nn.Parameter]:
        frozen = {id(p) for p in self.trunk_parameters()}
        return [p for p in self.parameters() if id(p) not in frozen]

    def trunk_key(self) -> list:
        """What distinguishes the trunk's output from another's, for the cache."""
        total = sum(p.detach().double().abs().sum() for p in self.trunk_parameters())
        return [self.name, self.stride, float(total)]

    def load_published(self) -> None:
        """Fill from published weights. ValueError where the trunk needs some and there are none."""
        raise NotImplementedError


class ImagePooler(nn.Module):
    """Grid [b, n, w] → embedding [b, dim] and image tokens [b, n, token_width], of unit length.

    `pool` = attention: the embedding is the mean of the grid plus `heads` attention poolings, each
    with a learnt query; mean: the mean alone (ALIGN, Jia et al. 2021, arXiv:2102.05918, section
    4.1); class: the grid's first row, which is no cell (CLIP, arXiv:2103.00020)."""

    def __init__(self, config: VisionConfig, vision: VisionEncoder, dim: int, heads: int = 8):
        super().__init__()
        grid_width, self.stride = vision.width, vision.stride
        self.cells = vision.regions or math.ceil(config.image_size / vision.stride) ** 2
        self.kind, self.heads, self.token_width = config.pool, heads, config.token_width
        self.places, self.cascade = vision.places, None
        if config.queries:
            self.cascade = QueryPooler(grid_width, config.queries, dim, heads)
            self.cells, grid_width = config.queries, dim
        if self.kind == "attention":
            self.scores = nn.Linear(grid_width, heads)
            self.values = nn.Linear(grid_width, dim)
        self.mean = nn.Linear(grid_width, dim, bias=self.kind != "class")
        self.tokens = nn.Linear(grid_width, config.token_width)
        self.dropout = nn.Dropout(config.pool_dropout)
        numbers = BESIDE_FEATURE if vision.places else 0
        self.feature_width = config.token_width - numbers
        self.concepts = Concepts(self.feature_width, config.concepts) if config.concepts else None

    def forward(self, grid: Tensor, companion: bool = False) -> tuple[Tensor, Tensor]:
        """`companion`: the embedding passes no gradient into the grid."""
        # The same channels are dropped in every cell of an image.
        grid = grid * self.dropout(grid.new_ones(grid.shape[0], 1, grid.shape[-1]))
        if self.cascade:
            grid = self.cascade(grid)
        embedding = self.pool(grid.detach() if companion else grid)
        grid = grid[:, 1:] if self.kind == "class" else grid
        return embedding, F.normalize(self.tokens(grid).float(), dim=-1)

    def pool(self, grid: Tensor) -> Tensor:
        """Grid [b, n, w] → embedding [b, dim] of unit length."""
        if self.kind != "attention":
            one = grid[:, 0] if self.kind == "class" else grid.mean(1)
            return F.normalize(self.mean(one).float(), dim=-1)
        b, n, _ = grid.shape
        weights = self.scores(grid).softmax(1)  # [b, n, heads]
        values = self.values(grid).view(b, n, self.heads, -1)  # [b, n, heads, dim / heads]
        pooled = (weights.unsqueeze(-1) * values).sum(1).flatten(1)  # [b, dim]
        return F.normalize(pooled.float() + self.mean(grid.mean(1)).float(), dim=-1)


# Image tokens are unit vectors; a component beyond ±TOKEN_RANGE / sqrt(width) is clipped. One int8
# step is then TOKEN_RANGE / (127 sqrt(width)), the same for every item, so the service can treat
# tokens as opaque bytes.
TOKEN_RANGE = 4.0
BESIDE_FEATURE = 6  # numbers of a token with tag and box (`region_tokens`)


def token_step(width: int) -> float:
    """By how much a component differs between two neighbouring int8 values."""
    return TOKEN_RANGE / (127 * math.sqrt(width))


def quantise_tokens(tokens: Tensor) -> Tensor:
    """Unit image tokens [b, n, width] → int8 of the same shape."""
    return torch.clamp(torch.round(tokens / token_step(tokens.shape[-1])), -127, 127).to(torch.int8)


def dequantise_tokens(tokens: Tensor) -> Tensor:
    """int8 [b, n, width] → float32 of the same shape."""
    return tokens.float() * token_step(tokens.shape[-1])
