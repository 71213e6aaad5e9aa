"""Scores of regions with words, in place of classes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.model import Tandem
from ..models.vision.region_tokens import iou
from .boxes import box_loss, centred
from .objective import Step
from .phrases import Grounded, token_boxes


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, power: float = 2.0) -> Tensor:
    """Binary cross-entropy that counts what is sure little (Lin et al. 2017, arXiv:1708.02002):
    logits and bool target of the same shape → their sum."""
    signed = torch.where(target, logits, -logits)
    weight = torch.where(target, alpha, 1 - alpha) * (1 - signed.sigmoid()) ** power
    return -(weight * F.logsigmoid(signed)).sum()


class Ground(Grounded):
    """A region fits the words of the phrases that it covers and no others: focal loss over the
    scores of all words with all regions, in place of classes; and the phrase's box, from the
    region's (GLIP, Li et al. 2021, arXiv:2112.03857, section 3.1)."""

    name = "ground"
    needs = Grounded.needs | {"fusion.scores", "fusion.image"}

    @dataclass(frozen=True)
    class Options(Grounded.Options):
        cover: float = 0.5  # intersection over union from which a region covers a phrase

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.box = nn.Linear(model.fusion.width, 4)
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)

    def loss(self, step: Step) -> dict[str, Tensor]:
        targets, (text, image) = self.targets(step), self.states(step)
        boxes = token_boxes(step, len(image))  # [q, n, 4]
        covers = self.covered(boxes[targets.rows], targets.boxes)  # [k, n]
        fits = torch.zeros(*image.shape[:2], text.shape[1], device=image.device)
        each = covers[..., None] & targets.words[:, None]  # [k, n, t]
        fits.index_put_((targets.rows,), each.float(), accumulate=True)
        with step.precision(step.device):
            scores = step.model.fusion.scores(image, text)  # [q, n, t]
            shift = self.box(image).float()
        real = step.batch.whole["text.mask"][: len(text), None].expand_as(scores) > 0
        loss = focal_loss(scores[real], fits[real] > 0) / max(1, int(covers.sum()))
        target, region = covers.nonzero(as_tuple=True)
        row = targets.rows[target]
        found = (torch.logit(centred(boxes[row, region]), 0.01) + shift[row, region]).sigmoid()
        return {"ground": loss + box_loss(found, targets.boxes[target], 1.0, 1.0)}

    def covered(self, boxes: Tensor, phrases: Tensor) -> Tensor:
        """Boxes of regions [k, n, 4], of a phrase each [k, 4] → bool [k, n]: those that cover it,
        or else the one that overlaps it most."""
        over = iou(boxes, phrases[:, None])
        return (over >= self.options.cover) | (over == over.amax(1, keepdim=True))
