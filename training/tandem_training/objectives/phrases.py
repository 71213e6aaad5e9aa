"""Phrases of captions with boxes, real ones or such as captions alone teach."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.fusion.image_input import grid_boxes
from ..models.vision.region_tokens import boxes_of, features_of
from .objective import Objective, Step

HALF = 0.5  # of the largest probability, from which a cell belongs to a thing


@dataclass(frozen=True)
class Targets:
    """The k phrases of a batch whose boxes are known."""

    rows: Tensor  # int64 [k], of the batch, rising
    words: Tensor  # bool [k, t]
    boxes: Tensor  # [k, 4]: x1, y1, x2, y2 in shares of the image's sides
    names: Tensor  # int64 [k], the concept of the noun; -1: it is none


@torch.no_grad()
def pseudo_boxes(logits: Tensor, boxes: Tensor, least: float) -> Tensor:
    """Where a thing is, from a head that names every token: logits [k, n] of its name, boxes of
    the tokens [k, n, 4] → [k, 4], the hull of the tokens whose probability is at least the share
    `least` of the largest. For regions, which are as large as things, `least` is 1: the best."""
    p = logits.sigmoid()
    there = (p >= least * p.amax(1, keepdim=True))[..., None]  # [k, n, 1]
    low = boxes[..., :2].masked_fill(~there, 1.0).amin(1)
    high = boxes[..., 2:].masked_fill(~there, 0.0).amax(1)
    return torch.cat([low, high], 1)


class Grounded(Objective):
    """An objective that reads phrases with boxes. Shards give boxes where they have "regions". For
    other phrases the head of objective `concepts` says where the noun is, which it has learnt from
    captions alone (weak grounding), out of fold. Such boxes are coarse, and noise at first."""

    needs = {"text.phrases", "image.labels"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        pairs: int = 64  # of the batch that it reads

    def targets(self, step: Step) -> Targets:
        """Of the first `pairs` rows; objectives that read as many share them."""
        key = ("phrases", self.options.pairs)
        if key not in step.shared:
            step.shared[key] = _targets(step, self.options.pairs)
        return step.shared[key]

    def states(self, step: Step) -> tuple[Tensor, Tensor]:
        """The fusion's states of those rows, each text with its own image: words [q, t, w] and
        image tokens [q, n, w]. Objectives that read as many share them."""
        key = ("phrase_states", self.options.pairs)
        if key not in step.shared:
            part = slice(0, self.options.pairs)
            words, mask = step.features["text.tokens"][part], step.batch.whole["text.mask"][part]
            row = torch.arange(len(words), device=step.device)
            pairs, image = torch.stack([row, row], 1), step.features["image.tokens"][part]
            with step.precision(step.device):
                step.shared[key] = step.model.fusion.hidden(words, mask, image, pairs)
        return step.shared[key]


def token_boxes(step: Step, count: int) -> Tensor:
    """The boxes of the image tokens of the first rows [q, n, 4]: regions have some, cells those of
    their grid."""
    tokens = step.features["image.tokens"][:count]
    if step.model.pooler.places:
        return boxes_of(tokens)
    return grid_boxes(tokens.shape[1]).to(tokens).expand(len(tokens), -1, -1)


@torch.no_grad()
def _targets(step: Step, count: int) -> Targets:
    pooler, whole = step.model.pooler, step.batch.whole
    tokens, ids = step.features["image.tokens"][:count], whole["text.ids"][:count]
    words, boxes = whole["phrase.words"][:count], whole["phrase.boxes"][:count].clone()
    place = torch.arange(ids.shape[1], device=ids.device)
    last = (words * place).argmax(-1)  # [q, p]
    heads = ids.gather(1, last)  # [q, p]
    same = heads[..., None] == pooler.concepts.words[:-1]  # [q, p, count]
    names = torch.where(same.any(-1), same.int().argmax(-1), -1)
    features = features_of(tokens) if pooler.places else tokens
    concepts = step.average.pooler.concepts  # a slower teacher than the head that learns
    logits = concepts(features, whole["image.ids"][:count])  # [q, n, count]
    wanted = names.clamp(min=0)[:, None].expand(-1, logits.shape[1], -1)
    of_phrase = logits.gather(2, wanted).transpose(1, 2)  # [q, p, n]
    near = token_boxes(step, count)[:, None].expand(-1, words.shape[1], -1, -1)
    guessed = pseudo_boxes(
        of_phrase.flatten(0, 1), near.flatten(0, 1), 1.0 if pooler.places else HALF
    ).view_as(boxes)
    unknown = boxes[..., 0] < 0
    boxes = torch.where(unknown[..., None], guessed.to(boxes), boxes)
    row, phrase = (words.any(-1) & (~unknown | (names >= 0))).nonzero(as_tuple=True)
    return Targets(row, words[row, phrase], boxes[row, phrase], names[row, phrase])
