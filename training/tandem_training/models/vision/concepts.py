"""Words of the training captions that a head names in every image token."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDS = 2


class Concepts(nn.Module):
    """Features of image tokens [b, n, v] → a logit for each of `count` words [b, n, count].

    Multiple-instance learning names regions from captions alone (Cap2Det, Ye et al. 2019,
    arXiv:1907.10164; from memory). Labels of a photo that the head has learnt would only repeat its
    captions. So there are two heads: each learns from one half of the photos and names the other
    half. A photo without a number, one that no head has seen, is named by their mean."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.count, self.scale = count, math.sqrt(width)  # unit vectors have elements near 1 / √v
        self.heads = nn.Linear(width, FOLDS * count)
        # Token id of each word, then that of [MASK]; filled before the first step.
        self.register_buffer("words", torch.zeros(count + 1, dtype=torch.int64))

    def forward(self, features: Tensor, ids: Tensor | None = None) -> Tensor:
        """ids [b]: number of each photo of the training data."""
        logits = self._all(features)
        if ids is None:
            return logits.mean(0)
        return self._of(logits, ids + 1)

    def learning(self, features: Tensor, ids: Tensor) -> Tensor:
        """The logits of the head that learns from each photo."""
        return self._of(self._all(features), ids)

    def image_logits(self, logits: Tensor) -> Tensor:
        """[b, n, count] → [b, count]: a soft maximum over the tokens."""
        return logits.logsumexp(1) - math.log(logits.shape[1])

    def tags(self, features: Tensor, ids: Tensor | None, count: int) -> Tensor:
        """The numbers of the most probable words of each image, int64 [b, ≤ count]."""
        logits = self.image_logits(self(features, ids))
        return logits.topk(min(count, self.count), 1).indices

    def _all(self, features: Tensor) -> Tensor:
        logits = self.heads(features * self.scale).float()  # [b, n, FOLDS · count]
        return torch.stack(logits.split(self.count, -1))

    def _of(self, logits: Tensor, ids: Tensor) -> Tensor:
        fold = F.one_hot(ids % FOLDS, FOLDS).T.to(logits)[:, :, None, None]  # [FOLDS, b, 1, 1]
        return (logits * fold).sum(0)
