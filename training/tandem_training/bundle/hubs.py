"""Hubs: images that lie near every text and so come up for most of them, and texts that lie near
every image.

Querybank normalisation (Bogolin et al. 2022, arXiv:2112.12777) takes from each similarity the soft
maximum of an item's similarities with a bank of queries (inverted softmax, Smith et al. 2017,
arXiv:1702.03859). On both sides at once, for a text t and an image i:

score(t, i) = t · i − WEIGHT · (nearness of i to the bank's texts + nearness of t to its images)

Before that the spectrum of the embeddings is flattened a little (partial whitening; Jégou and Chum
2012, "Negative evidences and co-occurences in image retrieval"), because directions that most
embeddings share make hubs too.

Both become part of the embeddings, so that any comparison by cosine, an index too, includes them.
The weakest directions give way to CORRECTION coordinates: two bring the terms into the dot product,
the others keep the length at one."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from onnx import ModelProto, helper
from torch import Tensor, nn

from ..data.samples import Sample
from ..evaluation.retrieval import Encoded
from .encoders import TorchEncoders
from .graphs import Graphs

BANK_IMAGES = 2048  # at most, each with one of its captions
# Chosen on Flickr8k dev, where a half more or less of either costs little.
SHARPNESS = 20.0
WEIGHT = 0.6
FLATTENING = 0.1  # power of a direction's share by which it is divided; 0.5 would be whitening
LEAST_SHARE = 0.01  # of the strongest direction's power; limits how much a weak one grows
CORRECTION = 4
FARTHEST = 2.5  # standard deviations of a term from its mean; it is clamped there


def correct_hubs(graphs: Graphs, encoders: TorchEncoders, samples: list[Sample]) -> Graphs:
    """The graphs with embeddings of the same width that avoid hubs.

    Args:
        encoders: of these graphs.
        samples: training images for the bank; none that the model is measured on.
    Raises:
        ValueError: fewer than two samples, or embeddings too narrow for the correction.
    """
    texts, images = _bank(encoders, samples)
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


def correct_other_text(graphs: Graphs, encoders: TorchEncoders, samples: list[Sample],
                       image: "Corrected") -> Graphs:  # fmt: skip
    """The same for another text encoder over images that are corrected already.

    Args:
        encoders: of these graphs, whose images are not corrected.
        samples: with captions for the text encoder; see `correct_hubs`.
        image: the corrected image graph, which stays as it is.
    """
    texts, images = _bank(encoders, samples)
    flat = image.flat.cpu()
    texts, images = (F.normalize(embeddings @ flat, dim=1) for embeddings in (texts, images))
    text = Corrected(graphs.text, flat, Nearness(images, texts), image.limit, 1)
    device = next(graphs.image.parameters()).device
    return replace(graphs, image=EmbeddingAlone(image), text=text.to(device).eval())


class EmbeddingAlone(nn.Module):
    """An image graph without its tokens."""

    def __init__(self, graph: nn.Module):
        super().__init__()
        self.graph = graph

    def forward(self, pixels: Tensor) -> Tensor:
        outputs = self.graph(pixels)
        return outputs if isinstance(outputs, Tensor) else outputs[0]


def _bank(encoders: TorchEncoders, samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Embeddings of a caption and of the image [n, d] of at most BANK_IMAGES samples."""
    if len(samples) < 2:
        raise ValueError("the bank holds one image; expected at least 2, better a thousand")
    rng = np.random.default_rng(0)
    chosen = [samples[i] for i in rng.permutation(len(samples))[:BANK_IMAGES]]
    pairs = [
        replace(s, captions=[s.captions[rng.integers(len(s.captions))]], weights=[]) for s in chosen
    ]
    encoded = Encoded(encoders, pairs)
    return torch.from_numpy(encoded.text_embedding), torch.from_numpy(encoded.image_embedding)


def flattening(embeddings: Tensor) -> Tensor:
    """[n, d] → the map [d, d - CORRECTION] onto their strongest directions, which shrinks the
    strongest. ValueError if d is too small."""
    width = embeddings.shape[1]
    if width <= 2 * CORRECTION:
        raise ValueError(
            f"embeddings of {width} numbers are too narrow for a correction of {CORRECTION}"
        )
    power, directions = torch.linalg.eigh((embeddings.T @ embeddings).double())  # ascending
    share = (power / power[-1]).clamp(min=0) + LEAST_SHARE
    return (directions * share**-FLATTENING)[:, CORRECTION:].float().contiguous()


class Nearness(nn.Module):
    """Embeddings [b, w] → their term [b, 1]: WEIGHT times the soft maximum of their similarities to
    a bank [n, w] of the other kind, minus its mean over `own` [n, w], the bank's counterparts."""

    def __init__(self, bank: Tensor, own: Tensor):
        super().__init__()
        similarity = own @ bank.T
        similarity.fill_diagonal_(-torch.inf)  # the model was trained to make these pairs near
        terms = WEIGHT * soft_maximum(similarity)
        self.register_buffer("bank", bank.T.contiguous())
        self.mean, self.spread = terms.mean().item(), terms.std().item()

    def forward(self, embedding: Tensor) -> Tensor:
        return WEIGHT * soft_maximum(embedding @ self.bank) - self.mean


def soft_maximum(similarity: Tensor) -> Tensor:
    """Of each row [b, n] → [b, 1]."""
    return torch.logsumexp(SHARPNESS * similarity, dim=1, keepdim=True) / SHARPNESS


class Corrected(nn.Module):
    """An encoder graph whose unit embeddings are flattened and carry their term.

    `side` is 0 for images, 1 for texts. The cosine of an image and a text is their score divided by
    1 + 2 · limit."""

    def __init__(self, graph: nn.Module, flat: Tensor, term: Nearness, limit: float, side: int):
        super().__init__()
        self.graph, self.term, self.limit, self.side = graph, term, limit, side
        self.register_buffer("flat", flat)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self.graph(*inputs)
        if isinstance(outputs, Tensor):
            return self.correct(outputs)
        return self.correct(outputs[0]), *outputs[1:]

    def correct(self, embedding: Tensor) -> Tensor:
        """Unit embeddings [b, d] → [b, d]."""
        with torch.autocast(embedding.device.type, enabled=False):
            flat = F.normalize(embedding @ self.flat, dim=1)
            term = self.term(flat).clamp(-self.limit, self.limit)
        other = torch.full_like(term, self.limit**0.5)
        own = -term / self.limit**0.5  # times `other` of the other side
        rest = (self.limit - own.square()).clamp(min=0).sqrt()
        zero = torch.zeros_like(term)
        extra = [own, other, rest, zero] if self.side == 0 else [other, own, zero, rest]
        return torch.cat([flat, *extra], dim=1) / (1 + 2 * self.limit) ** 0.5


def uncorrected(model: ModelProto) -> ModelProto:
    """The exported graph of an encoder with one more output, the last: its embedding before the
    correction; where it has none, the embedding."""
    graph = model.graph
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    before = "embedding"
    for node in graph.node:
        sources = [stored.get(name, name).removesuffix(".float16") for name in node.input]
        if node.op_type == "MatMul" and sources[1] == "flat":
            before = node.input[0]
    outputs = [output for output in graph.output if output.name != before]
    del graph.output[:]
    graph.output.extend([*outputs, helper.make_empty_tensor_value_info(before)])
    return model
