"""The contract of a fusion: text and image tokens of a pair → the ITM logit and hidden states."""

from typing import ClassVar

from torch import Tensor, nn

from ..part import Part


class Fusion(Part):
    """A fusion is built from its config, the text encoder and the image pooler, whose token widths it
    reads. Its `forward` is the bundle's third graph. `head` is linear and ends in one number."""

    role = "fusion"
    bare_words: ClassVar[bool] = False  # reads what the text encoder's first layer reads
    width: int  # of the hidden states
    head: nn.Linear

    @classmethod
    def needs(cls, config) -> set[str]:
        return {"text.tokens", "image.tokens"}

    @classmethod
    def gives(cls, config, given) -> set[str]:
        """`fusion.causal`: hidden(causal=True), which writes captions. It needs words that have not
        seen the words behind them."""
        gives = {"match.logit", "fusion.text"}
        return gives | ({"fusion.causal"} if cls.bare_words or "text.causal" in given else set())

    def image_tokens(self, activations: Tensor, tokens: Tensor) -> Tensor:
        """What an item stores, from the trunk's activations [b, c, h, w] or the pooler's tokens [b, n,
        v] → [b, n, v] of unit length."""
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

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        """Arguments as of `hidden` → ITM logits [p], here read from the first token."""
        text, _ = self.hidden(text_tokens, mask, image_tokens, pairs)  # [p, t, width]
        return self.head(text[:, 0]).squeeze(-1).float()  # [p]
