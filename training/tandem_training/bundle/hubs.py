"""Hubs: photos that lie near every sentence and so come up for most of them, and sentences that lie
near every photo.

Querybank normalisation (Bogolin et al. 2022, arXiv:2112.12777) takes from each similarity what an
item has with a bank of queries, by a soft maximum (inverted softmax, Smith et al. 2017,
arXiv:1702.03859). Both sides at once, for a text t and an image i:

score(t, i) = t · i − WEIGHT · (nearness of i to the texts of the bank + nearness of t to the images
of the bank)

which orders images for a text and texts for an image. Before that the embeddings' spectrum is
flattened a little (partial whitening; Jégou and Chum 2012, "Negative evidences and co-occurences in
image retrieval"): few directions that most embeddings share make hubs, too.

Here both become part of the embeddings, so that whatever compares these by their cosine, an index
too, needs to know nothing of it: the least of their directions make room for CORRECTION
coordinates, of which two bring the two terms into the dot product, and the others keep the length
at one."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.samples import Sample
from ..evaluation.retrieval import Encoded
from .encoders import TorchEncoders
from .graphs import Graphs

BANK_PHOTOS = 2048  # at most, each with one of its captions
# By Flickr8k dev, where a half more or less of either costs little.
SHARPNESS = 20.0
WEIGHT = 0.6
FLATTENING = 0.1  # power of a direction's share by which it is divided; 0.5 would be whitening
LEAST_SHARE = 0.01  # of the greatest direction's: below it nothing is enlarged any further
CORRECTION = 4
FARTHEST = 2.5  # standard deviations that a term may be away from its mean


def correct_hubs(graphs: Graphs, encoders: TorchEncoders, samples: list[Sample]) -> Graphs:
    """The graphs with embeddings of the same width that avoid hubs. `encoders` are of these graphs;
    `samples`, photos that the model was trained on, give the bank: no photo or sentence that it is
    measured on belongs there. ValueError where there are too few, or the embeddings too narrow."""
    if len(samples) < 2:
        raise ValueError(
            "the bank holds a single photo; expected at least 2, and better a thousand"
        )
    rng = np.random.default_rng(0)
    chosen = [samples[i] for i in rng.permutation(len(samples))[:BANK_PHOTOS]]
    told = [
        replace(s, captions=[s.captions[rng.integers(len(s.captions))]], weights=[]) for s in chosen
    ]
    encoded = Encoded(encoders, told)
    texts, images = (
        torch.from_numpy(encoded.text_embedding),
        torch.from_numpy(encoded.image_embedding),
    )
    flat = flattening(torch.cat([texts, images]))
    texts, images = (F.normalize(embeddings @ flat, dim=1) for embeddings in (texts, images))
    terms = [Nearness(texts, images), Nearness(images, texts)]  # of images, of texts
    limit = FARTHEST * max(term.spread for term in terms)
    sides = (
        Corrected(graph, flat, term, limit, side)
        for side, (graph, term) in enumerate(zip((graphs.image, graphs.text), terms, strict=True))
    )
    image, text = (side.to(next(graphs.image.parameters()).device).eval() for side in sides)
    return replace(graphs, image=image, text=text)


def flattening(embeddings: Tensor) -> Tensor:
    """[n, d] → the map [d, d - CORRECTION] onto their strongest directions, of which the strongest
    shrink. ValueError where they have no width to spare."""
    width = embeddings.shape[1]
    if width <= 2 * CORRECTION:
        raise ValueError(
            f"embeddings of {width} numbers have no room for a correction of {CORRECTION}"
        )
    power, directions = torch.linalg.eigh((embeddings.T @ embeddings).double())  # ascending
    share = (power / power[-1]).clamp(min=0) + LEAST_SHARE
    return (directions * share**-FLATTENING)[:, CORRECTION:].float().contiguous()


class Nearness(nn.Module):
    """Embeddings [b, w] → their term [b, 1]: WEIGHT times the soft maximum of their similarities to
    a bank [n, w] of the other kind, less its mean over `own` [n, w], the bank's counterparts in
    order."""

    def __init__(self, bank: Tensor, own: Tensor):
        super().__init__()
        similarity = own @ bank.T
        similarity.fill_diagonal_(-torch.inf)  # what the model was trained to find near
        found = WEIGHT * soft_maximum(similarity)
        self.register_buffer("bank", bank.T.contiguous())
        self.mean, self.spread = found.mean().item(), found.std().item()

    def forward(self, embedding: Tensor) -> Tensor:
        return WEIGHT * soft_maximum(embedding @ self.bank) - self.mean


def soft_maximum(similarity: Tensor) -> Tensor:
    return torch.logsumexp(SHARPNESS * similarity, dim=1, keepdim=True) / SHARPNESS


class Corrected(nn.Module):
    """A graph of an encoder whose embeddings are flattened and, still of unit length, carry their
    term; `side` is 0 of an image, 1 of a text. The cosine of two of different sides is their score
    divided by 1 + 2 · limit."""

    def __init__(self, graph: nn.Module, flat: Tensor, term: Nearness, limit: float, side: int):
        super().__init__()
        self.graph, self.term, self.limit, self.side = graph, term, limit, side
        self.register_buffer("flat", flat)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = self.graph(*inputs)
        if isinstance(given, Tensor):
            return self.correct(given)
        return self.correct(given[0]), *given[1:]

    def correct(self, embedding: Tensor) -> Tensor:
        """Unit embeddings [b, d] → [b, d]."""
        with torch.autocast(embedding.device.type, enabled=False):
            kept = F.normalize(embedding @ self.flat, dim=1)
            term = self.term(kept).clamp(-self.limit, self.limit)
        other = torch.full_like(term, self.limit**0.5)
        own = -term / self.limit**0.5  # times `other` of the other side
        rest = (self.limit - own.square()).clamp(min=0).sqrt()
        zero = torch.zeros_like(term)
        extra = [own, other, rest, zero] if self.side == 0 else [other, own, zero, rest]
        return torch.cat([kept, *extra], dim=1) / (1 + 2 * self.limit) ** 0.5
