"""What a fusion makes of image tokens: feature and place, in the fusion's width."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..part import PartConfig
from ..vision.region_tokens import boxes_of, features_of

SINES = 8  # frequencies a number


@dataclass(frozen=True)
class Places(PartConfig):
    """Keys of a fusion that reads boxes."""

    CHOICES: ClassVar = {
        "geometry": ("none", "4", "5", "6", "7", "sines"),
        "join": ("norms", "mean", "sum"),
    }

    geometry: str = "none"
    join: str = "norms"  # norms: LN(W f) + LN(W' g); mean: half of it; sum: LN(W f + W' g)


def geometry(boxes: Tensor, kind: str) -> Tensor:
    """Boxes [..., 4] → their numbers. 4: x1, y1, x2, y2 (LXMERT). 5: and the area (ViLBERT,
    Unicoder-VL). 6: and width, height (OSCAR). 7: and width, height, area (UNITER). sines: of the
    four numbers at SINES frequencies (VL-BERT)."""
    if kind == "sines":
        rates = 100.0 * 1000.0 ** -(torch.arange(SINES, device=boxes.device) / SINES)
        angles = (boxes[..., None] * rates).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], -1)
    size = boxes[..., 2:] - boxes[..., :2]
    area = size.prod(-1, keepdim=True)
    more = {"4": [], "5": [area], "6": [size], "7": [size, area]}
    return torch.cat([boxes, *more[kind]], -1)


def grid_boxes(cells: int) -> Tensor:
    """The boxes of a square grid's cells, row by row [cells, 4]."""
    side = math.isqrt(cells)
    corner = torch.stack(
        torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1
    ).flatten(0, 1)
    return torch.cat([corner, corner + 1], -1) / side


class ImageInput(nn.Module):
    """Image tokens [m, n, v] → [m, n, width]. Features are unit vectors: `√v · feature` has
    elements near 1, as the LayerNormed states beside it. Cells have the boxes of their grid."""

    def __init__(self, config: Places, image, width: int):
        super().__init__()
        self.kind, self.join, self.places = config.geometry, config.join, image.places
        self.scale = math.sqrt(image.feature_width)
        self.features = nn.Linear(image.feature_width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        if self.kind != "none":
            cells = grid_boxes(image.cells)
            self.register_buffer("cells", cells, persistent=False)
            self.box = nn.Linear(geometry(cells, self.kind).shape[-1], width)
            self.box_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, tokens: Tensor) -> Tensor:
        feature = features_of(tokens) if self.places else tokens
        x = self.features(feature * self.scale)
        if self.kind == "none":
            return self.norm(x)
        boxes = boxes_of(tokens) if self.places else self.cells[: tokens.shape[1]]
        y = self.box(geometry(boxes, self.kind))
        if self.join == "sum":
            return self.norm(x + y)
        both = self.norm(x) + self.box_norm(y)
        return both / 2 if self.join == "mean" else both
