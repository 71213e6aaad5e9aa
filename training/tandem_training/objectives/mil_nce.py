"""Contrast with several positives, of which one suffices."""

import torch
from torch import Tensor

from .objective import Objective, Step


def mil_nce_loss(similarity: Tensor, logit_scale: Tensor, own: Tensor) -> Tensor:
    """MIL-NCE (Miech et al. 2019, arXiv:1912.06430, equation 1; VATT, Akbari et al. 2021,
    arXiv:2104.11178, section 3.4): -log Σ exp of an image's own captions / the same plus Σ exp of
    its other pairs, those of the image and those of its captions.

    similarity [b, q]: cosine of every image and text; own bool [b, q]: which texts are the image's.
    Mean over images."""
    logits = similarity * logit_scale.exp()
    wrong = logits.masked_fill(own, float("-inf"))
    texts = wrong.logsumexp(0).expand_as(logits).masked_fill(~own, float("-inf"))  # [b, q]
    positive = logits.masked_fill(~own, float("-inf")).logsumexp(1)
    negative = torch.cat([wrong, texts], 1).logsumexp(1)
    return (torch.logaddexp(positive, negative) - positive).mean()


class MilNce(Objective):
    """All captions of an image at once; one that fits suffices."""

    name = "mil_nce"
    needs = {"image.embedding", "text.embedding", "further.embedding"}
    aligns = True
    teaches = {"vision", "text"}

    @classmethod
    def reads(cls, options: Objective.Options) -> set[str]:
        return {"further.embedding"}

    def loss(self, step: Step) -> dict[str, Tensor]:
        features, ids = step.features, step.batch.whole["image.ids"]
        further = features["further.embedding"]  # [b, captions - 1, dim]
        texts = torch.cat([features["text.embedding"], further.flatten(0, 1)])  # [q, dim]
        owners = torch.cat([ids, ids.repeat_interleave(further.shape[1])])
        similarity, own = features["image.embedding"] @ texts.T, ids[:, None] == owners[None, :]
        return {"mil_nce": mil_nce_loss(similarity, step.model.logit_scale, own)}
