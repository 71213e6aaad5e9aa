"""Contrast within a modality (TCL, Yang et al. 2022, arXiv:2202.10401; code of uta-smile/TCL)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import gathered
from .objective import Objective, Step
from .queue import Queue


def within_loss(own: Tensor, momentum: Tensor, scale: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of each row of a modality [b, d] among the momentum encoder's of the same
    modality [m, d]; positive bool [b, m]."""
    target = positive / positive.sum(1, keepdim=True)
    return -(target * (scale * own @ momentum.T).log_softmax(1)).sum(1).mean()


def local_loss(whole: Tensor, local: Tensor, scale: Tensor, real: Tensor) -> Tensor:
    """An embedding [b, d] finds each of its own parts [b, l, d] among the parts of all others; real
    bool [b, l] is false for padding. The mean over parts (section 3.3, L_LMI)."""
    b, count, _ = local.shape
    logits = scale * torch.einsum("id,jld->ijl", whole, local)  # [b, b, l]
    own = torch.eye(b, dtype=torch.bool, device=whole.device)[..., None]
    others = logits.masked_fill(own | ~real[None], float("-inf")).flatten(1).logsumexp(1)  # [b]
    match = logits[torch.arange(b), torch.arange(b)]  # [b, l]
    lost = torch.logaddexp(match, others[:, None].expand(b, count)) - match
    return lost[real].mean()


class Intra(Objective):
    """Image with another view of it, text with itself under other dropout: each as the momentum
    encoder sees it, among a queue of earlier ones."""

    name = "intra"
    needs = {"image.embedding", "text.embedding", "image.other"}
    teaches = {"vision", "text"}
    SIZE = 4096  # pairs of the queue

    def __init__(self, options: Objective.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.queue = Queue(self.SIZE, model.config.dim)

    def loss(self, step: Step) -> dict[str, Tensor]:
        guide, ids = step.momentum(), step.batch.whole["image.ids"]
        new = (guide["text.embedding"], guide["image.embedding"], ids)
        text, image, known = self.queue.behind(*new)
        self.queue.push(*new)
        positive, scale = ids[:, None] == known[None], step.model.logit_scale.exp()
        sides = (("text.embedding", text), ("image.embedding", image))
        return {
            "intra": sum(within_loss(step.features[n], m, scale, positive) for n, m in sides) / 2
        }

    def forget(self) -> None:
        self.queue = None


class Local(Objective):
    """An image finds its cells, a text its words but [CLS], as the momentum encoder sees them."""

    name = "local"
    needs = {"image.embedding", "text.embedding", "image.other"}
    teaches = {"vision", "text"}

    def __init__(self, options: Objective.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        if model.pooler.kind == "attention":
            raise ValueError(
                "objective local projects cells as the embedding is projected; expected [vision] "
                "pool = 'mean'"
            )

    def loss(self, step: Step) -> dict[str, Tensor]:
        cells, words = self.parts(step)
        scale, mask = step.model.logit_scale.exp(), step.batch.whole["text.mask"][:, 1:] > 0
        image, text = (step.features[f"{side}.embedding"] for side in ("image", "text"))
        real = torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device)
        both = local_loss(image, cells, scale, real) + local_loss(text, words, scale, mask)
        return {"local": both / 2}

    @torch.no_grad()
    def parts(self, step: Step) -> tuple[Tensor, Tensor]:
        """→ cells, pooled over squares [b, l, dim], and words [b, t - 1, dim], of unit length."""
        average, guide = step.average.eval(), step.momentum()
        with step.precision(step.device):
            grid = average.pooler.mean(average.vision.tail(step.batch.inputs["image.other"]))
        side = int(step.model.cells**0.5)
        square = F.normalize(grid.float()[:, -(side**2) :], dim=-1).transpose(1, 2)  # no class
        square = square.unflatten(2, (side, side))
        cells = F.avg_pool2d(square, max(1, int(side**0.5))).flatten(2).transpose(1, 2)
        words = average.text.project(guide["text.tokens"][:, 1:]).float()
        return gathered({"cells": cells})["cells"], F.normalize(words, dim=-1)
