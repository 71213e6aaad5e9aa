"""Objectives: pure functions, tensors in, a dict of tensors out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOGIT_SCALE = math.log(100.0)


def itc_loss(similarity: Tensor, logit_scale: Tensor, text_image_ids: Tensor, image_ids: Tensor,
             soft: Tensor | None = None, mix: float = 0.0, smoothing: float = 0.0) -> dict[str, Tensor]:  # fmt: skip
    """Image-text contrastive loss, both directions (CLIP, Radford et al. 2021, arXiv:2103.00020).

    similarity [q, m]: cosine of every text and image; logit_scale: log of the inverse temperature, clamped at ln 100;
    text_image_ids [q] and image_ids [m] say which pairs match (several texts may share an image).
    `soft` [q, m], if given, is a teacher's similarity of text and image; a share `mix` of the target follows
    its softmax (soft targets as in ALBEF, arXiv:2107.07651); a share `smoothing` is spread evenly.
    Returns {"loss": scalar}."""
    logits = similarity * logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    positive = (text_image_ids[:, None] == image_ids[None, :]).float()

    def one_way(logits: Tensor, positive: Tensor, soft: Tensor | None) -> Tensor:
        target = positive / positive.sum(1, keepdim=True).clamp(min=1)
        if soft is not None and mix > 0:
            target = (1 - mix) * target + mix * soft.softmax(1)
        target = (1 - smoothing) * target + smoothing / target.shape[1]
        return -(target * logits.log_softmax(1)).sum(1)[positive.any(1)].mean()

    there = one_way(logits, positive, soft)
    back = one_way(logits.T, positive.T, None if soft is None else soft.T)
    return {"loss": (there + back) / 2}


@torch.no_grad()
def sample_hard_negatives(similarity: Tensor, logit_scale: Tensor, row_ids: Tensor, column_ids: Tensor, count: int,
                          generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """For each row, `count` different columns drawn in proportion to exp(scale · similarity), as ALBEF draws them,
    never one of the same image id: [rows, columns] → int64 [rows, count]. ValueError when a row has fewer."""
    other = row_ids[:, None] != column_ids[None, :]
    if int(other.sum(1).min()) < count:
        raise ValueError(f"{count} negatives asked, the batch has only {int(other.sum(1).min())} of another image")
    logits = (similarity * logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()).float()
    # Gumbel top-k draws without replacement in proportion to exp(logits), whatever their range (Kool et al. 2019).
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-20, 1 - 1e-7)
    noisy = logits - torch.log(-torch.log(uniform))
    return noisy.masked_fill(~other, float("-inf")).topk(count, dim=1).indices


def itm_loss(positive: Tensor, image_negatives: Tensor, text_negatives: Tensor) -> dict[str, Tensor]:
    """Image-text matching over hard negatives (ALBEF, arXiv:2107.07651; BLIP, arXiv:2201.12086).

    positive [b]: logit of each matching pair; image_negatives [b, h]: its text with other images; text_negatives
    [b, h]: its image with other texts. Binary cross-entropy, with matches and non-matches weighing the same, makes the
    logit a match decision; a listwise cross-entropy in both directions makes it rank.
    Returns {"loss", "binary", "listwise"}."""
    negatives = torch.cat([image_negatives, text_negatives], dim=1)
    binary = (F.softplus(-positive).mean() + F.softplus(negatives).mean()) / 2
    listwise = torch.zeros(())
    for others in (image_negatives, text_negatives):
        logits = torch.cat([positive[:, None], others], dim=1)
        listwise = listwise - logits.log_softmax(1)[:, 0].mean() / 2
    return {"loss": binary + listwise, "binary": binary, "listwise": listwise}
