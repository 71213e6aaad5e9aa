"""Objectives: pure functions, tensors in, a dict of tensors out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOGIT_SCALE = math.log(100.0)


def itc_loss(similarity: Tensor, logit_scale: Tensor, text_image_ids: Tensor, image_ids: Tensor,
             soft: Tensor | None = None, mix: float = 0.0, smoothing: float = 0.0) -> dict[str, Tensor]:  # fmt: skip
    """Image-text contrastive loss, both directions (CLIP, Radford et al. 2021, arXiv:2103.00020).

    similarity [q, m]: cosine of every text and image; logit_scale: log of the inverse temperature,
    clamped at ln 100; text_image_ids [q] and image_ids [m] say which pairs match (several texts may
    share an image). `soft` [q, m], if given, is a teacher's similarity of text and image; a share
    `mix` of the target follows its softmax (soft targets as in ALBEF, arXiv:2107.07651); a share
    `smoothing` is spread evenly. Returns {"loss": scalar}."""
    logits = similarity * logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    positive = text_image_ids[:, None] == image_ids[None, :]
    there = _contrast(logits, positive, soft, mix, smoothing)
    back = _contrast(logits.T, positive.T, None if soft is None else soft.T, mix, smoothing)
    return {"loss": (there + back) / 2}


def momentum_itc_loss(text: Tensor, image: Tensor, momentum_text: Tensor, momentum_image: Tensor, logit_scale: Tensor,
                      ids: Tensor, momentum_ids: Tensor, mix: float) -> dict[str, Tensor]:  # fmt: skip
    """ITC against a momentum encoder and a queue, with soft targets (ALBEF, arXiv:2107.07651; the
    queue is MoCo's, He et al. 2019, arXiv:1911.05722).

    text and image [b, d]: embeddings of the batch; momentum_text and momentum_image [b + queue, d]:
    the momentum encoder's of the same batch, in order, then of earlier batches; ids [b] and
    momentum_ids [b + queue] name the image of each row. A share `mix` of the target is the momentum
    encoder's own softmax. Returns {"loss": scalar}."""
    scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    positive = ids[:, None] == momentum_ids[None, :]  # [b, b + queue]
    ways = []
    for own, momentum_own, others in (
        (text, momentum_text, momentum_image),
        (image, momentum_image, momentum_text),
    ):
        soft = (scale * momentum_own[: len(own)] @ others.T).detach()
        ways.append(_contrast(scale * own @ others.T, positive, soft, mix, smoothing=0.0))
    return {"loss": sum(ways) / 2}


def _contrast(
    logits: Tensor, positive: Tensor, soft: Tensor | None, mix: float, smoothing: float
) -> Tensor:
    """Mean cross-entropy of the rows of `logits` that have a positive; the positives of a row share
    its target."""
    target = positive / positive.sum(1, keepdim=True).clamp(min=1)
    if soft is not None and mix > 0:
        target = (1 - mix) * target + mix * soft.softmax(1)
    target = (1 - smoothing) * target + smoothing / target.shape[1]
    return -(target * logits.log_softmax(1)).sum(1)[positive.any(1)].mean()


def siglip_loss(similarity: Tensor, logit_scale: Tensor, logit_bias: Tensor, text_image_ids: Tensor,
                image_ids: Tensor) -> dict[str, Tensor]:  # fmt: skip
    """Every pair of the batch is a decision of its own, by a sigmoid (SigLIP, Zhai et al. 2023,
    arXiv:2303.15343).

    similarity [q, m], logit_scale and ids as in `itc_loss`; logit_bias: scalar that starts low,
    since nearly all pairs do not match. Summed over the images of a text, averaged over texts.
    Returns {"loss": scalar}."""
    logits = similarity * logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() + logit_bias
    positive = text_image_ids[:, None] == image_ids[None, :]
    return {"loss": F.softplus(torch.where(positive, -logits, logits)).sum(1).mean()}


@torch.no_grad()
def sample_hard_negatives(similarity: Tensor, logit_scale: Tensor, row_ids: Tensor, column_ids: Tensor, count: int,
                          generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """For each row, `count` different columns drawn in proportion to exp(scale · similarity), as
    ALBEF draws them, never one of the same image id: [rows, columns] → int64 [rows, count].
    ValueError when a row has fewer."""
    other = row_ids[:, None] != column_ids[None, :]
    if int(other.sum(1).min()) < count:
        raise ValueError(
            f"{count} negatives asked, the batch has only {int(other.sum(1).min())} of another image"
        )
    logits = (similarity * logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()).float()
    # Gumbel top-k draws without replacement in proportion to exp(logits), whatever their range
    # (Kool et al. 2019).
    uniform = torch.rand(logits.shape, generator=generator).to(logits.device).clamp(1e-20, 1 - 1e-7)
    noisy = logits - torch.log(-torch.log(uniform))
    return noisy.masked_fill(~other, float("-inf")).topk(count, dim=1).indices


def itm_loss(
    positive: Tensor, image_negatives: Tensor, text_negatives: Tensor
) -> dict[str, Tensor]:
    """Image-text matching over hard negatives (ALBEF, arXiv:2107.07651; BLIP, arXiv:2201.12086).

    positive [b]: logit of each matching pair; image_negatives [b, h]: its text with other images;
    text_negatives [b, h]: its image with other texts. Binary cross-entropy, with matches and
    non-matches weighing the same, makes the logit a match decision; a listwise cross-entropy in
    both directions makes it rank. Returns {"loss", "binary", "listwise"}."""
    negatives = torch.cat([image_negatives, text_negatives], dim=1)
    binary = (F.softplus(-positive).mean() + F.softplus(negatives).mean()) / 2
    listwise = torch.zeros(())
    for others in (image_negatives, text_negatives):
        logits = torch.cat([positive[:, None], others], dim=1)
        listwise = listwise - logits.log_softmax(1)[:, 0].mean() / 2
    return {"loss": binary + listwise, "binary": binary, "listwise": listwise}


def mask_tokens(token_ids: Tensor, maskable: Tensor, mask_id: int, vocabulary: int, share: float = 0.15,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Hide a share of the words as BERT does (arXiv:1810.04805): of those chosen, 80 % become
    [MASK], 10 % a random token of the vocabulary, and 10 % stay.

    token_ids int64 [b, t]; maskable bool [b, t] is false for padding and special tokens. Returns
    the changed ids and `chosen` bool [b, t], the places to be predicted."""
    device = token_ids.device
    choose, fate = (torch.rand(token_ids.shape, generator=generator).to(device) for _ in range(2))
    random = torch.randint(vocabulary, token_ids.shape, generator=generator).to(device)
    chosen = maskable & (choose < share)
    hidden = token_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random, hidden), chosen


def mlm_loss(logits: Tensor, token_ids: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Masked language modelling: the chosen words, from the other words and the image (ALBEF,
    arXiv:2107.07651).

    logits [k, v] of the k chosen places in reading order; token_ids [b, t] before masking; chosen
    bool [b, t]. Zero where nothing was chosen. Returns {"loss": scalar}."""
    return {
        "loss": F.cross_entropy(logits, token_ids[chosen], reduction="sum") / max(1, len(logits))
    }


def lm_loss(
    logits: Tensor, token_ids: Tensor, mask: Tensor, smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Captioning: each token from the image and the tokens before it (BLIP, arXiv:2201.12086; CoCa,
    Yu et al. 2022, arXiv:2205.01917).

    logits [b, t, v], where place i has seen tokens up to i; token_ids and mask [b, t]. The first
    token only starts the caption, padding is not predicted; a share `smoothing` of the target is
    spread evenly over the vocabulary. Returns {"loss": scalar}, the mean over predicted tokens."""
    real = mask[:, 1:] > 0
    return {
        "loss": F.cross_entropy(
            logits[:, :-1][real], token_ids[:, 1:][real], label_smoothing=smoothing
        )
    }
