"""Vision encoder: the grid of a CNN, read in regions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import PreNormLayer
from .efficientnet import EfficientNetLite

CONTEXT_WIDTH = 384
POINTS = 14  # a side, at which RoIAlign reads: 7 bins of 2


def windows() -> Tensor:
    """36 fixed boxes [36, 4]: x1, y1, x2, y2 as shares of the image. The whole image, 2×2, 3×3 and
    4×4 tiles, three rows, three columns."""
    shapes = [(side, side) for side in (1, 2, 3, 4)] + [(1, 3), (3, 1)]  # columns, rows
    boxes = [
        (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)
        for columns, rows in shapes
        for y in range(rows)
        for x in range(columns)
    ]
    return torch.tensor(boxes)


def roi_weights(boxes: Tensor, side: int) -> Tensor:
    """The share of each cell in each box, [..., n, 4] → [..., n, side²]; a row sums to 1.

    RoIAlign (He et al. 2017, arXiv:1703.06870, section 3) followed by the mean over its bins: the
    mean of bilinear interpolations at POINTS² places of the box. That is linear in the grid, so for
    fixed boxes it is a constant matrix, and the ONNX graph needs no operator for it."""
    place = (torch.arange(POINTS, device=boxes.device) + 0.5) / POINTS
    cells = torch.arange(side, device=boxes.device, dtype=boxes.dtype)

    def along(low: Tensor, high: Tensor) -> Tensor:  # [..., n] each → [..., n, side]
        at = low[..., None] + (high - low)[..., None] * place  # [..., n, POINTS]
        at = (at * side - 0.5).clamp(0, side - 1)
        return (1 - (at[..., None] - cells).abs()).clamp(min=0).mean(-2)

    x, y = along(boxes[..., 0], boxes[..., 2]), along(boxes[..., 1], boxes[..., 3])
    return (y[..., :, None] * x[..., None, :]).flatten(-2)


class Regions(EfficientNetLite):
    """Pixels uint8 [b, s, s, 3] → features of 36 windows [b, 36, 1280] in place of the grid. The
    regions are windows, not objects: no detector is needed. Their tokens carry box and tag (see
    `region_tokens`)."""

    name = "regions"
    gives = EfficientNetLite.gives | {"image.boxes"}
    places = True

    @dataclass(frozen=True)
    class Config(EfficientNetLite.Config):
        token_width: int = 384
        concepts: int = 400
        context: int = 0  # layers in which the regions of an image attend to each other
        heads: int = 6  # of those
        dropout: float = 0.1

    def __init__(self, config: Config):
        super().__init__(config)
        boxes = windows()
        side = -(-config.image_size // self.stride)
        self.regions = len(boxes)
        self.register_buffer("windows", boxes, persistent=False)
        self.register_buffer("align", roi_weights(boxes, side), persistent=False)

        self.grid_width = self.width
        if config.context:
            self.width = CONTEXT_WIDTH
            self.feature_in = nn.Linear(self.grid_width, self.width)
            self.box_in = nn.Linear(4, self.width)
        self.context = nn.ModuleList(
            PreNormLayer(self.width, config.heads, config.dropout) for _ in range(config.context)
        )

    @classmethod
    def adds(cls, config: Config, given: set[str]) -> set[str]:
        return super().adds(config, given) | ({"image.context"} if config.context else set())

    def region_features(self, x: Tensor) -> Tensor:
        """Activations [b, c, h, w] → features [b, n, 1280]."""
        grid = super().tail(x)
        return self.align.to(grid.dtype) @ grid

    def contextual(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Features [b, n, 1280] of boxes [b, n, 4] → their states beside each other [b, n, w]."""
        x = self.feature_in(features) + self.box_in(boxes)
        for layer in self.context:
            x = layer(x)
        return x

    def tail(self, x: Tensor) -> Tensor:
        features = self.region_features(x)
        return self.contextual(features, self.boxes(x)) if self.context else features

    def boxes(self, activations: Tensor) -> Tensor:
        return self.windows.expand(activations.shape[0], -1, -1)
