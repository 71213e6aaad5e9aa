"""The fusion teaches the embeddings."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..distributed import own_rows
from .matching import Matching, match_logits, negatives_of
from .objective import Step


class Distil(Matching):
    """The similarities of a match and its drawn others follow the fusion's logits of the same
    pairs: cross-entropy of both softmaxes, in both directions, without gradient into the fusion
    (LoopITR, Lei et al. 2022, arXiv:2203.05465, section 3)."""

    name = "distil"
    needs = Matching.needs | {"image.embedding", "text.embedding"}
    teaches = {"vision", "text"}

    @dataclass(frozen=True)
    class Options(Matching.Options):
        temperature: float = 1.0  # of the fusion's logits

    def loss(self, step: Step) -> dict[str, Tensor]:
        positive, *others = (x.detach() for x in match_logits(step, self.options))
        rows = own_rows(len(step.batch.whole["image.ids"]))
        scaled = step.similarity() * step.model.logit_scale.exp()
        loss = 0
        for similarity, drawn, logits in zip(
            (scaled, scaled.T), negatives_of(step, self.options), others, strict=True
        ):
            own = similarity.diagonal()[rows, None]
            student = torch.cat([own, similarity[rows].gather(1, drawn[rows])], 1)  # [b, 1 + h]
            teacher = torch.cat([positive[:, None], logits], 1) / self.options.temperature
            loss = loss - (teacher.softmax(1) * student.log_softmax(1)).sum(1).mean() / 2
        return {"distil": loss}
