"""The contract of a fusion: text and image tokens of a pair → the ITM logit and hidden states."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..part import Part, PartConfig
from ..word_head import KeptWordHead


@dataclass(frozen=True)
class StreamConfig(PartConfig):
    """Of a fusion with transformer layers."""

    width: int = 256
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1


class Fusion(Part):
    """Built from its config, the text encoder and the image pooler, whose token widths it reads.
    Its `forward` is the bundle's third graph. `head` is linear and gives the ITM logit."""

    role = "fusion"
    needs = {"text.tokens", "image.tokens"}
    gives = {"match.logit", "fusion.text"}
    writes: ClassVar[bool] = True  # whether its text states can see the words before them alone
    bare_words: ClassVar[bool] = False  # reads what the text encoder's first layer reads
    width: int  # of the hidden states
    head: nn.Linear
    extra_width: ClassVar[int] = 0  # numbers that `text_tokens` puts behind a text token
    word_head: KeptWordHead  # of one whose logit is the likelihood of a text

    @classmethod
    def adds(cls, config: PartConfig, given: set[str]) -> set[str]:
        """`fusion.causal` is hidden(causal=True), which writes captions. It needs word tokens that
        have not seen later words."""
        causal = cls.writes and (cls.bare_words or "text.causal" in given)
        return cls.gives | ({"fusion.causal"} if causal else set())

    def image_tokens(self, activations: Tensor, tokens: Tensor) -> Tensor:
        """The tokens that an item stores, from the trunk's activations [b, c, h, w] or the pooler's
        tokens [b, n, v] → [b, n, v] of unit length."""
        return tokens

    def text_tokens(self, token_ids: Tensor, tokens: Tensor) -> Tensor:
        """The text tokens that the text encoder's graph gives, from what it read and what the
        fusion reads [b, t, w] → [b, t, w + extra_width]."""
        return tokens

    def load_published(self) -> None:
        """Fill from the text encoder, once that has its weights; most fusions start at random."""

    def hidden(
        self,
        text_tokens: Tensor,  # [q, t, w]
        mask: Tensor,  # int64 [q, t], 1 = token
        image_tokens: Tensor,  # [m, n, v], unit length
        pairs: Tensor,  # int64 [p, 2], row of a text, row of an image
        causal: bool = False,  # place i sees the image and the text up to i
    ) -> tuple[Tensor, Tensor | None]:
        """→ states of the text [p, t, width] and of the image [p, n, width], if it has some."""
        raise NotImplementedError

    def all_pairs(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor) -> Tensor:
        """The ITM logit of every text with every image: [q, t, w] × [m, n, v] → [q, m]."""
        texts, images = len(text_tokens), len(image_tokens)
        pairs = torch.cartesian_prod(torch.arange(texts), torch.arange(images)).to(mask.device)
        return self(text_tokens, mask, image_tokens, pairs).view(texts, images)

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        """Arguments as of `hidden` → ITM logits [p], here read from the first token."""
        text, _ = self.hidden(text_tokens, mask, image_tokens, pairs)  # [p, t, width]
        return self.head(text[:, 0]).squeeze(-1).float()  # [p]
