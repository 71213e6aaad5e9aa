"""Text encoder: words through the stack that reads images and pairs too."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import attention_bias, causal_bias
from ..part import PartConfig
from ..shared_stack import TEXT
from .text import TextEncoder, pooled


class SharedText(TextEncoder):
    """The stack is the vision encoder's. `causal`: a token sees only those before it, and the
    embedding is read from the last one, as in CLIP; else from the first, [CLS]."""

    name = "shared"
    needs = {"image.stack"}
    gives = {"text.embedding", "text.tokens", "text.stack"}

    @dataclass(frozen=True)
    class Config(PartConfig):
        width: int = 384
        dropout: float = 0.1  # of the word embedding
        max_tokens: int = 64
        causal: bool = False

    def __init__(self, config: Config, dim: int, vocabulary: int = 30522, positions: int = 512):
        super().__init__()
        self.width, self.dropout, self.causal = config.width, config.dropout, config.causal
        self.words = nn.Embedding(vocabulary, config.width)
        self.positions = nn.Embedding(positions, config.width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, dim, bias=False)

    def share(self, vision) -> None:
        if vision.width != self.width:
            raise ValueError(
                f"[text] width = {self.width}; the stack of [vision] has width = {vision.width}"
            )
        # In a tuple, so that the stack's parameters are counted and saved once, as the vision's.
        self._vision = (vision,)

    @property
    def vision(self):
        return self._vision[0]

    def place(self, words: Tensor) -> Tensor:
        position = torch.arange(words.shape[1], device=words.device)
        x = self.norm(words + self.positions(position))
        return F.dropout(x, self.dropout, self.training)

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = (causal_bias if self.causal else attention_bias)(mask)
        return self.vision.stack(x, bias, TEXT).float()

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        read = pooled(tokens, mask, "last" if self.causal else "first")
        return F.normalize(self.project(read).float(), dim=-1)
