"""Fusion that writes after the words that a branch names in the image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import PreNormLayer, merged_bias
from .fusion import Fusion
from .merged_decoder import MergedDecoder
from .writer import WriterConfig


class ConceptNetwork(nn.Module):
    """A branch of the image encoder that names `count` words of the captions: cells [m, n, w] →
    logits [m, count] (concept token network; ViTCAP, Fang et al. 2021, arXiv:2112.05230)."""

    def __init__(self, width: int, heads: int, layers: int, count: int, dropout: float):
        super().__init__()
        self.count = count
        self.layers = nn.ModuleList(PreNormLayer(width, heads, dropout) for _ in range(layers))
        self.norm, self.name = nn.LayerNorm(width), nn.Linear(width, count)
        # Token id of each word, then that of [MASK]; filled before the first step.
        self.register_buffer("words", torch.zeros(count + 1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.name(self.norm(x).mean(1)).float()


class ConceptDecoder(MergedDecoder):
    """The stream holds the cells, the most probable concepts as rows of the word matrix, and the
    words (jacobswan1/ViTCAP, src/layers/bert/modeling_bert.py).

    Seq-MLM trains it: `hidden(causal=True)` has the state of each place, [MASK] or word. So the
    likelihood reads the state of a [MASK] that stands in each word's place."""

    name = "concept_decoder"
    gives = Fusion.gives | {"fusion.concepts"}

    @dataclass(frozen=True)
    class Config(WriterConfig):
        concepts: int = 400
        tokens: int = 10  # concepts in the stream
        concept_layers: int = 2

    def __init__(self, config: Config, text, image):
        super().__init__(config, text, image)
        self.tokens = min(config.tokens, config.concepts)
        self.concepts = ConceptNetwork(
            config.width, config.heads, config.concept_layers, config.concepts, config.dropout
        )
        self.segment = nn.Parameter(0.02 * torch.randn(config.width))

    def concept_logits(self, image_tokens: Tensor) -> Tensor:
        """Image tokens [m, n, v] → [m, concepts]."""
        return self.concepts(self.image_in(image_tokens))

    def before(self, image_tokens: Tensor) -> Tensor:
        cells = self.image_in(image_tokens)
        best = self.concepts(cells).topk(self.tokens, 1).indices
        rows = self._text[0].words.weight[self.concepts.words]
        words = rows[best]  # [m, tokens, w]
        return torch.cat([cells, self.words(words) + self.segment], 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        return self.through(text_tokens, mask, image_tokens, pairs, causal), None

    def write(self, text_tokens, mask, image_tokens, pairs, prefix=None):
        texts, images = pairs[:, 0], pairs[:, 1]
        t, image = mask.shape[1], self.before(image_tokens)
        # Place i + 1 for the state that predicts it; it sees what word i does, and itself.
        (text,) = self._text
        hidden = text.words.weight[self.concepts.words[-1:]].expand(1, t + 1, -1)
        hidden = self.words(text.place(hidden)[:, 1:]).expand(texts.shape[0], -1, -1)
        words = self.words(text_tokens[..., : self.text_width])[texts]
        bias = merged_bias(mask[texts], n := image.shape[1], causal=True)  # [p, 1, n + t, n + t]
        place = torch.arange(t, device=mask.device)
        own = -1e4 * (place[:, None] != place).float().expand(texts.shape[0], 1, -1, -1)
        unseen = torch.full_like(bias[..., :t], -1e4)
        bias = torch.cat([torch.cat([bias, unseen], 3), torch.cat([bias[:, :, n:], own], 3)], 2)
        return self.layered(torch.cat([image[images], words, hidden], 1), bias)[:, n + t :]
