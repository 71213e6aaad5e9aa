"""Matching objectives: the fusion's logit of a pair says whether text and image belong together."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributed import own_rows
from .objective import Objective, Step

FAR = 4.0  # below every cosine, in drawing


@torch.no_grad()
def sample_negatives(similarity: Tensor, logit_scale: Tensor, other: Tensor, count: int,
                     generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """For each row, `count` different columns drawn in proportion to exp(scale · similarity), as
    ALBEF draws them, never one where `other` bool [rows, columns] is false: [rows, columns] → int64
    [rows, count]. ValueError when a row has fewer."""
    if (most := int(other.sum(1).min())) < count:
        raise ValueError(f"negatives = {count}, but the batch has only {most} of another image")
    logits = (similarity * logit_scale.exp()).float()
    # Gumbel top-k draws without replacement in proportion to exp(logits), for any range of them
    # (Kool et al. 2019).
    uniform = torch.rand(logits.shape, generator=generator).to(logits.device).clamp(1e-20, 1 - 1e-7)
    noisy = logits - torch.log(-torch.log(uniform))
    return noisy.masked_fill(~other, float("-inf")).topk(count, dim=1).indices


def match_another(ids: Tensor, token_ids: Tensor) -> Tensor:
    """Whether text and image do not belong together: image ids [b], token ids [b, t] → bool [b, b].
    A text that says word for word what another image's caption says fits that image too."""
    same_text = (token_ids[:, None] == token_ids[None]).all(-1)
    return ~((ids[:, None] == ids[None]) | same_text)


def binary_loss(positive: Tensor, image_negatives: Tensor, text_negatives: Tensor,
                even: bool = False) -> Tensor:  # fmt: skip
    """Image-text matching (ALBEF, arXiv:2107.07651, equation 4; BLIP, arXiv:2201.12086).

    positive [b]: logit of each matching pair; image_negatives [b, h]: its text with other images;
    text_negatives [b, h]: its image with other texts. Binary cross-entropy, in which every pair
    weighs alike, or with `even` all matches as much as all others."""
    negatives = torch.cat([image_negatives, text_negatives], dim=1)
    if even:
        return (F.softplus(-positive).mean() + F.softplus(negatives).mean()) / 2
    return torch.cat([F.softplus(-positive), F.softplus(negatives).flatten()]).mean()


def listwise_loss(positive: Tensor, image_negatives: Tensor, text_negatives: Tensor) -> Tensor:
    """Arguments as of `binary_loss`. Cross-entropy of the match within its own list, in both
    directions, which makes the logit rank (ViLT's fine-tuning, arXiv:2102.03334)."""
    lists = (
        torch.cat([positive[:, None], negatives], dim=1)  # [b, 1 + h]
        for negatives in (image_negatives, text_negatives)
    )
    return -sum(logits.log_softmax(1)[:, 0].mean() for logits in lists) / 2


def match_logits(step: Step, options: "Matching.Options") -> tuple[Tensor, Tensor, Tensor]:
    """Logits of this process's pairs [b], of `negatives` others of each with other images [b, h]
    and with other texts [b, h]. Objectives that draw the same ones share them."""
    key = ("match_logits", options.negatives, options.draw)
    if key not in step.shared:
        step.shared[key] = _match_logits(step, options)
    return step.shared[key]


def negatives_of(step: Step, options: "Matching.Options") -> tuple[Tensor, Tensor]:
    """For each pair of the batch `negatives` other images [b, h] and other texts [b, h]."""
    key = ("negatives", options.negatives, options.draw)
    if key not in step.shared:
        step.shared[key] = _draw(step, options)
    return step.shared[key]


def _draw(step: Step, options: "Matching.Options") -> tuple[Tensor, Tensor]:
    whole, scale = step.batch.whole, step.model.logit_scale.detach()
    other = match_another(whole["image.ids"], whole["text.ids"])
    similarity = step.similarity().detach()
    if options.draw == "random" or not step.similarity_learnt:
        similarity = torch.zeros_like(similarity)
    drawn = []
    for rows, others in ((similarity, other), (similarity.T, other.T)):
        if options.draw == "semi":
            rows = rows - FAR * (rows >= rows.diagonal()[:, None])
        drawn.append(sample_negatives(rows, scale, others, options.negatives, step.generator))
    return drawn[0], drawn[1]


def _match_logits(step: Step, options: "Matching.Options") -> tuple[Tensor, Tensor, Tensor]:
    _centre_once(step)
    images, texts = negatives_of(step, options)  # [b, h]
    rows = own_rows(len(images))
    row = torch.arange(len(images), device=images.device)[rows]
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


def _centre_once(step: Step) -> None:
    if step.number == 0 and "centred" not in step.shared:
        step.shared["centred"] = True
        centre_logits(step)


def centre_logits(step: Step) -> None:
    """Shift the ITM logit so that it is zero half-way between matching and other pairs. Without it
    the binary loss of a fresh fusion encoder first drags all token similarities down, and the
    alignment with them. Without dropout, so that all processes shift alike."""
    fusion, image = step.model.fusion, torch.arange(len(step.features["text.tokens"]))
    image, training = image.to(step.device), fusion.training
    fusion.eval()
    matching = _logits(step, torch.stack([image, image], 1))
    others = _logits(step, torch.stack([image, image.roll(1)], 1))
    fusion.train(training)
    with torch.no_grad():
        fusion.head.bias -= (matching.mean() + others.mean()) / 2


class Matching(Objective):
    """An objective over matching pairs and drawn others."""

    needs = {"match.logit"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        CHOICES: ClassVar = {
            "draw": ("hard", "random", "semi"),
            "weigh": ("each", "even", "half"),
        }

        negatives: int = 5  # of each kind for a pair
        # hard: the more similar, the likelier; semi: of those less similar than the match (Schroff
        # et al. 2015, arXiv:1503.03832)
        draw: str = "hard"


class Itm(Matching):
    """Whether a pair matches. `weigh` = each: every pair alike (ALBEF); even: all matches as much
    as all others; half: a text has one image, its own with probability ½ (UNITER, Chen et al. 2019,
    arXiv:1909.11740, section 3.2)."""

    name = "itm"

    @dataclass(frozen=True)
    class Options(Matching.Options):
        weigh: str = "each"

    def loss(self, step: Step) -> dict[str, Tensor]:
        if self.options.weigh == "half":
            return {"itm": self._of_one_image(step)}
        even = self.options.weigh == "even"
        return {"itm": binary_loss(*match_logits(step, self.options), even)}

    def _of_one_image(self, step: Step) -> Tensor:
        _centre_once(step)
        images = negatives_of(step, self.options)[0][:, 0]  # [b]
        text = torch.arange(len(images), device=images.device)
        fits = (torch.rand(len(images), generator=step.generator) < 0.5).to(images.device)
        rows = own_rows(len(images))
        pairs = torch.stack([text, torch.where(fits, text, images)], 1)[rows]
        logits = _logits(step, pairs, step.precision)
        return F.binary_cross_entropy_with_logits(logits, fits[rows].float())


class Rank(Matching):
    """Which pair of a list matches."""

    name = "rank"

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"rank": listwise_loss(*match_logits(step, self.options))}
