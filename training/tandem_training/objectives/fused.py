"""Masked words and masked regions that read the other modality through its one embedding."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import gather
from ..models.model import Tandem
from ..models.word_head import WordHead
from .language import Mlm
from .objective import Objective, Step
from .regions import mask_regions


class FusedMlm(Mlm):
    """Visual-embedding fused MLM (LightningDOT, Sun et al. 2021, arXiv:2103.08784, section 3.2).

    The head reads each word's state plus a projection of the image's embedding. There is no
    cross-attention, so encoders that never meet learn from each other."""

    name = "fused_mlm"
    needs = {"text.tokens", "text.words", "image.embedding"}
    teaches = {"vision", "text"}

    def __init__(self, options: Mlm.Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = WordHead(model.text.width, model.text.words)
        self.other = nn.Linear(model.config.dim, model.text.width)

    def read(self, step: Step, token_ids: Tensor, mask: Tensor) -> Tensor:
        image = step.features["image.embedding"][: len(token_ids)]
        return step.model.text(token_ids, mask)[1] + self.other(image)[:, None]


class FusedMrfr(Objective):
    """Semantic-embedding fused region modelling (section 3.2): the same for hidden regions, from
    the other regions and the embedding of the caption, by squared distance to their features."""

    name = "fused_mrfr"
    needs = {"image.context", "text.embedding"}
    teaches = {"vision", "text"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        share: float = 0.15  # of the regions that are predicted
        beside: float = 0.4  # overlap from which others are hidden with a region
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        width = model.vision.width
        self.other = nn.Linear(model.config.dim, width)
        self.regress = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width),
            nn.Linear(width, model.vision.grid_width),
        )  # fmt: skip

    def loss(self, step: Step) -> dict[str, Tensor]:
        own, vision = self.options, step.model.vision
        cells = gather(step.batch.inputs["image.activations"])[: own.pairs]
        with step.precision(step.device):
            with torch.no_grad():
                features = vision.region_features(cells)  # [q, n, c]
            boxes = vision.boxes(cells)
            chosen, hidden = mask_regions(boxes, own.share, 0.0, own.beside, 1.0, step.generator)
            states = vision.contextual(features.masked_fill(hidden[..., None], 0), boxes)
            states = states + self.other(step.features["text.embedding"][: len(cells)])[:, None]
            found = self.regress(states[chosen])
        target = F.layer_norm(features[chosen].float(), features.shape[-1:])
        return {"fused_mrfr": (found - target).square().sum() / max(1, target.numel())}
