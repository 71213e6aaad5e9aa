"""Contrast by a sigmoid of each pair."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .objective import Objective, Step


def siglip_loss(similarity: Tensor, logit_scale: Tensor, logit_bias: Tensor, text_image_ids: Tensor,
                image_ids: Tensor) -> dict[str, Tensor]:  # fmt: skip
    """Every pair of the batch is a decision of its own, by a sigmoid (SigLIP, Zhai et al. 2023,
    arXiv:2303.15343).

    similarity [q, m], logit_scale and ids as in `itc_loss`; logit_bias: scalar that starts low,
    since nearly all pairs do not match. Summed over the images of a text, averaged over texts.
    Returns {"loss": scalar}."""
    logits = similarity * logit_scale.exp() + logit_bias
    positive = text_image_ids[:, None] == image_ids[None, :]
    return {"loss": F.softplus(torch.where(positive, -logits, logits)).sum(1).mean()}


class Siglip(Objective):
    """Each pair is a decision of its own."""

    name = "siglip"
    frees_scale = True
    needs = {"image.embedding", "text.embedding"}
    aligns = True
    teaches = {"vision", "text"}

    def __init__(self, options: Objective.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        # Where the paper starts (section 3.2 and algorithm 1).
        self.bias = nn.Parameter(torch.tensor(-10.0))
        with torch.no_grad():
            model.logit_scale.fill_(math.log(10.0))

    def loss(self, step: Step) -> dict[str, Tensor]:
        ids = step.batch.whole["image.ids"]
        scale = step.model.logit_scale
        return {"siglip": siglip_loss(step.similarity(), scale, self.bias, ids, ids)["loss"]}
