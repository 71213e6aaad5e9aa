"""Vision encoder: the grid of a CNN, read in regions that a head proposes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .efficientnet import EfficientNetLite
from .region_tokens import overlap
from .regions import Regions, roi_weights

LIMIT = 0.5  # of the overlap of two proposals
STEP = 8  # anchors begin at every eighth of a side
SIZES = (2, 4, 6)  # of an anchor's sides, in such steps
SUPPRESSED, FIRST = 1e4, 1e3  # beside objectness of a few units


def anchors() -> Tensor:
    """226 boxes [a, 4]: the whole image, then every width, height and place."""
    spans = [(low / STEP, (low + s) / STEP) for s in SIZES for low in range(STEP - s + 1)]
    boxes = [(x1, y1, x2, y2) for x1, x2 in spans for y1, y2 in spans]
    return torch.tensor([(0.0, 0.0, 1.0, 1.0), *boxes])


def best_apart(scores: Tensor, overlaps: Tensor, count: int) -> Tensor:
    """Greedy non-maximum suppression: scores [b, a], overlaps [a, a] of the anchors → rows of
    `count` anchors [b, count], the best first; no two overlap by more than LIMIT while others are
    left. Written out, so that the ONNX graph has a batch and no loop."""
    rows = []
    for _ in range(count):
        top = scores.argmax(1)
        rows.append(top)
        scores = scores - SUPPRESSED * (overlaps[top] > LIMIT).to(scores)
    return torch.stack(rows, 1)


class Proposals(Regions):
    """36 regions of each image: the whole image, and the anchors whose objectness is highest. It is
    read from the frozen trunk's cells and knows no classes, as DETReg's (Bar et al. 2021,
    arXiv:2106.04550; from memory), but learns from captions (objective `proposals`)."""

    name = "proposals"
    gives = Regions.gives | {"image.proposals"}

    @dataclass(frozen=True)
    class Config(Regions.Config):
        def __post_init__(self):
            super().__post_init__()
            if self.split < 1:
                raise ValueError(f"split = {self.split}; proposals read a frozen trunk's cells")

    def __init__(self, config: Config):
        super().__init__(config)
        boxes = anchors()
        self.side = -(-config.image_size // self.stride)
        self.cells = self.blocks[config.split - 1].project.weight.shape[0]
        self.register_buffer("anchors", boxes, persistent=False)
        self.register_buffer("overlaps", overlap(boxes), persistent=False)
        self.objectness = nn.Linear(self.cells, 1)

    def anchor_features(self, activations: Tensor) -> Tensor:
        """Activations [b, c, h, w] → the normed mean of each anchor's cells [b, a, c]."""
        cells = activations.flatten(2).transpose(1, 2).float()  # [b, h · w, c]
        return F.layer_norm(self._shares(activations) @ cells, (self.cells,))

    def boxes(self, activations: Tensor) -> Tensor:
        scores = self.objectness(self.anchor_features(activations)).squeeze(-1).float()
        scores = scores + FIRST * (torch.arange(len(self.anchors), device=scores.device) == 0)
        return self.anchors[best_apart(scores, self.overlaps, self.regions)]

    def region_features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            boxes = self.boxes(x)
        grid = EfficientNetLite.tail(self, x)
        return roi_weights(boxes, self.side).to(grid.dtype) @ grid

    def _shares(self, activations: Tensor) -> Tensor:
        return roi_weights(self.anchors, activations.shape[-1])
