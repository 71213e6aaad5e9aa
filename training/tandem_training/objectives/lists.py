"""Lists of near images and captions, in which the match has to stand first."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.model import Tandem
from .objective import Objective, Step

GRADING = 20.0  # sharpness of a graded target


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
