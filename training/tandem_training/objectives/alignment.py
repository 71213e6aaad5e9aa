"""Word-region alignment by optimal transport."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .objective import Objective, Step

BETA, ROUNDS = 0.5, 50


@torch.no_grad()
def transport(cost: Tensor, mask: Tensor, beta: float = BETA, rounds: int = ROUNDS) -> Tensor:
    """The plan T [p, t, n] that moves evenly spread words to evenly spread image tokens at the
    least cost: cost [p, t, n], mask int64 [p, t], 1 = word.

    IPOT (Xie et al. 2018, arXiv:1802.04307, algorithm 1) with one inner step, as UNITER uses it. A
    word's row sums to 1 / words, a token's column to 1 / n, the whole to 1; padding gets 0."""
    real = mask.to(cost.dtype)[..., None]  # [p, t, 1]
    words, n = real.sum(1, keepdim=True), cost.shape[-1]
    kernel = real * (-cost / beta).exp()
    plan, column = kernel.new_ones(cost.shape) * real, cost.new_ones(len(cost), 1, n) / n
    for _ in range(rounds):
        q = kernel * plan
        row = real / (words * (q * column).sum(2, keepdim=True)).clamp(min=1e-30)
        column = 1 / (n * (q * row).sum(1, keepdim=True)).clamp(min=1e-30)
        plan = row * q * column
    return plan


def transport_distance(words: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """States of words [p, t, w] and of image tokens [p, n, w] → the cost of the best plan [p].
    The gradient flows through the cost, not through the plan."""
    cosine = F.normalize(words.float(), dim=-1) @ F.normalize(image.float(), dim=-1).mT
    cost = (1 - cosine) * mask[..., None]
    return (transport(cost.detach(), mask) * cost).sum((1, 2))


class Wra(Objective):
    """Matching pairs are near and others far in transport: mean distance of matches minus that of
    as many random pairs (UNITER, arXiv:1909.11740, section 3.2; the difference is that of its
    code, ChenRocks/UNITER). The papers weigh it by .1."""

    name = "wra"
    needs = {"fusion.text", "fusion.image"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        weight: float = 0.1
        pairs: int = 64  # of the batch that it reads

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole, features = slice(0, self.options.pairs), step.batch.whole, step.features
        words, mask = features["text.tokens"][part], whole["text.mask"][part]
        row = torch.arange(len(words), device=step.device)
        other = row.roll(1)
        if len(row) == 1 or (whole["image.ids"][part] == whole["image.ids"][part][other]).any():
            raise ValueError("objective wra needs two images at least, and none twice in a batch")
        pairs = torch.cat([torch.stack([row, row], 1), torch.stack([row, other], 1)])
        with step.precision(step.device):
            text, image = step.model.fusion.hidden(
                words, mask, features["image.tokens"][part], pairs
            )
        own, others = transport_distance(text, image, mask[pairs[:, 0]]).chunk(2)
        return {"wra": own.mean() - others.mean()}
