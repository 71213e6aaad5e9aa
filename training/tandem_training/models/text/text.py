"""The contract of a text encoder."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..part import Part, PartConfig
from ..vision.vision import VisionEncoder


@dataclass(frozen=True)
class TextConfig(PartConfig):
    """Of a text encoder with transformer layers."""

    CHOICES: ClassVar[dict] = {"pool": ("mean", "first", "last")}

    width: int = 384
    layers: int = 6
    heads: int = 12
    dropout: float = 0.1
    max_tokens: int = 64
    pool: str = "mean"  # of the tokens, into the embedding


def pooled(tokens: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Text tokens [b, t, w] and mask [b, t] → their mean, the first ([CLS]) or the last ([SEP]) of
    each text, [b, w]."""
    if kind == "first":
        return tokens[:, 0]
    if kind == "last":
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), mask.sum(1) - 1]
    weight = mask.unsqueeze(-1).float()  # [b, t, 1]
    return (tokens * weight).sum(1) / weight.sum(1)


class TextEncoder(Part):
    """Built from its config and the embedding's width. The bundle cuts texts at `max_tokens`."""

    role: ClassVar[str] = "text"
    Config = TextConfig
    width: int  # of the text tokens
    words: nn.Embedding
    project: nn.Linear  # into the embedding

    def share(self, vision: VisionEncoder) -> None:
        """Take what both encoders share from the vision encoder; most share nothing."""

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids [b, t] → what the first layer reads [b, t, width]."""
        return self.place(self.words(token_ids))

    def place(self, words: Tensor) -> Tensor:
        """Rows of the word matrix [b, t, width] → what the first layer reads, with places."""
        raise NotImplementedError

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """What the first layer reads [b, t, width], mask int64 [b, t] → text tokens [b, t,
        width]."""
        raise NotImplementedError

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Text tokens → embedding [b, dim] of unit length."""
        raise NotImplementedError

    def forward(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask int64 [b, t] → embedding [b, dim] of unit length, text tokens [b, t,
        width]."""
        tokens = self.states(self.embed(token_ids), mask)
        return self.pool(tokens, mask), tokens

    def load_published(self) -> None:
        """Fill from published weights; a text encoder without them starts at random."""
