"""Matching objectives: the fusion's logit of a pair says whether text and image belong together."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import own_rows
from ..models.model import Tandem
from .objective import Objective, Step

GRADING = 20.0  # sharpness of a graded target


@torch.no_grad()
def sample_hard_negatives(similarity: Tensor, logit_scale: Tensor, row_ids: Tensor,
                          column_ids: Tensor, count: int,
                          generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """For each row, `count` different columns drawn in proportion to exp(scale · similarity), as
    ALBEF draws them, never one of the same image id: [rows, columns] → int64 [rows, count].
    ValueError when a row has fewer."""
    other = row_ids[:, None] != column_ids[None, :]
    if (most := int(other.sum(1).min())) < count:
        raise ValueError(f"negatives = {count}, but the batch has only {most} of another image")
    logits = (similarity * logit_scale.exp()).float()
    # Gumbel top-k draws without replacement in proportion to exp(logits), for any range of them
    # (Kool et al. 2019).
    uniform = torch.rand(logits.shape, generator=generator).to(logits.device).clamp(1e-20, 1 - 1e-7)
    noisy = logits - torch.log(-torch.log(uniform))
    return noisy.masked_fill(~other, float("-inf")).topk(count, dim=1).indices


def binary_loss(positive: Tensor, image_negatives: Tensor, text_negatives: Tensor) -> Tensor:
    """Image-text matching over hard negatives (ALBEF, arXiv:2107.07651; BLIP, arXiv:2201.12086).

    positive [b]: logit of each matching pair; image_negatives [b, h]: its text with other images;
    text_negatives [b, h]: its image with other texts. Binary cross-entropy, in which all matches
    weigh as much as all others."""
    negatives = torch.cat([image_negatives, text_negatives], dim=1)
    return (F.softplus(-positive).mean() + F.softplus(negatives).mean()) / 2


def listwise_loss(positive: Tensor, image_negatives: Tensor, text_negatives: Tensor) -> Tensor:
    """Arguments as of `binary_loss`. Cross-entropy of the match within its own list, in both
    directions, which makes the logit rank (ViLT's fine-tuning, arXiv:2102.03334)."""
    lists = (
        torch.cat([positive[:, None], negatives], dim=1)  # [b, 1 + h]
        for negatives in (image_negatives, text_negatives)
    )
    return -sum(logits.log_softmax(1)[:, 0].mean() for logits in lists) / 2


def match_logits(step: Step, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of this process's pairs [b], of `count` hard negatives of each with other images [b,
    count] and with other texts [b, count]. Objectives with the same `count` share them."""
    key = ("match_logits", count)
    if key not in step.shared:
        if step.number == 0 and "centred" not in step.shared:
            centre_logits(step)
        step.shared[key] = _match_logits(step, count)
    return step.shared[key]


def _match_logits(step: Step, count: int) -> tuple[Tensor, Tensor, Tensor]:
    ids, scale = step.batch.whole["image.ids"], step.model.logit_scale.detach()
    similarity = step.similarity().detach()
    if not step.similarity_learnt:
        similarity = torch.zeros_like(similarity)
    images = sample_hard_negatives(similarity, scale, ids, ids, count, step.generator)  # [b, h]
    texts = sample_hard_negatives(similarity.T, scale, ids, ids, count, step.generator)  # [b, h]
    rows = own_rows(len(ids))
    row = torch.arange(len(ids), device=ids.device)[rows]
    images, texts = images[rows], texts[rows]
    own = row[:, None].expand_as(images)
    lists = [(row, row), (own.flatten(), images.flatten()), (texts.flatten(), own.flatten())]
    logits = _logits(step, torch.cat([torch.stack(pair, 1) for pair in lists]), step.precision)
    positive, with_images, with_texts = logits.split([len(row), images.numel(), texts.numel()])
    return positive, with_images.view_as(images), with_texts.view_as(texts)


def _logits(step: Step, pairs: Tensor, precision=None) -> Tensor:
    features, mask = step.features, step.batch.whole["text.mask"]
    with precision(step.device) if precision else torch.no_grad():
        return step.model.fusion(features["text.tokens"], mask, features["image.tokens"], pairs)


def centre_logits(step: Step) -> None:
    """Shift the ITM logit so that it is zero half-way between matching and other pairs. Without it
    the binary loss of a fresh fusion encoder first drags all token similarities down, and the
    alignment with them."""
    step.shared["centred"] = True
    image = torch.arange(len(step.features["text.tokens"]), device=step.device)
    matching = _logits(step, torch.stack([image, image], 1))
    others = _logits(step, torch.stack([image, image.roll(1)], 1))
    with torch.no_grad():
        step.model.fusion.head.bias -= (matching.mean() + others.mean()) / 2


class Itm(Objective):
    """Whether a pair matches."""

    name = "itm"
    needs = {"match.logit"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        negatives: int = 5  # of each kind for a pair

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"itm": binary_loss(*match_logits(step, self.options.negatives))}


class Rank(Itm):
    """Which pair of a list matches."""

    name = "rank"

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"rank": listwise_loss(*match_logits(step, self.options.negatives))}


class Lists(Objective):
    """Which image of a list a caption is about, and which caption of a list an image has, by the
    logit plus the similarity times a learnt weight. So the fusion learns what the similarity does
    not know. Every caption of a batch is scored with every image.

    The target is in part one-hot, in part graded by how much the captions of an image say the same
    as the caption, because among an image's neighbours some fit it as well."""

    name = "lists"
    needs = {"match.logit", "near.lists"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        size: int = 12  # images of a list: a caption's own one and others near it
        nearest: int = 20  # from which the others are drawn
        gallery: int = 1000  # images, among which they are the nearest
        cell_dropout: float = 0.2  # share of image tokens that a batch does not see
        graded: float = 0.5  # share of the target

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.similarity = nn.Parameter(torch.tensor(math.log(20.0)))  # log of its weight

    def loss(self, step: Step) -> dict[str, Tensor]:
        features, whole = step.features, step.batch.whole
        similarity = self.similarity.exp() * step.similarity()
        with step.precision(step.device):
            logits = step.model.fusion.all_pairs(
                features["text.tokens"], whole["text.mask"], features["image.tokens"]
            )
        scores = logits.float() + similarity  # [b, b], a row a text
        alike = GRADING * whole["sentence.text"] @ whole["sentence.image"].T
        loss = (self._loss(scores, alike) + self._loss(scores.T, alike.T)) / 2
        return {"lists": loss}

    def _loss(self, scores: Tensor, alike: Tensor) -> Tensor:
        own = torch.eye(len(scores), device=scores.device)
        target = torch.lerp(own, alike.softmax(1), self.options.graded)
        return -(target * scores.log_softmax(1)).sum(1).mean()
