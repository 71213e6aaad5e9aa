"""Text encoder: a BERT encoder (Devlin et al. 2018, arXiv:1810.04805) that starts from MiniLM
sentence weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import weights
from ..layers import attend, attention_bias, join_heads, split_heads
from .text import TextConfig, TextEncoder, pooled


class SelfAttention(nn.Module):
    """The first half of BERT's post-norm layer."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)

    def mix(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [b, t, w]; additive bias that broadcasts to [b, heads, t, t] → [b, t, w]."""
        q, k, v = split_heads(self.qkv(x), 3, self.heads).unbind(0)
        y = self.out(join_heads(attend(q, k, v, bias)))
        return self.norm1(x + F.dropout(y, self.dropout, self.training))


class Layer(SelfAttention):
    """Post-norm transformer layer: self-attention, feed-forward. A fusion may insert a step between
    the two."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__(width, heads, dropout)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def feed(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(x)))
        return self.norm2(x + F.dropout(y, self.dropout, self.training))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.feed(self.mix(x, bias))


class Bert(TextEncoder):
    """The embedding is the mean of the tokens, or one of them, projected."""

    name = "bert"
    gives = {"text.embedding", "text.tokens", "text.layers", "text.sentences"}

    def __init__(self, config: TextConfig, dim: int, vocabulary: int = 30522, positions: int = 512):
        super().__init__()
        self.width, self.dropout, self.kind = config.width, config.dropout, config.pool
        self.words = nn.Embedding(vocabulary, self.width)
        self.positions = nn.Embedding(positions, self.width)
        self.norm = nn.LayerNorm(self.width, eps=1e-12)
        self.layers = nn.ModuleList(
            Layer(self.width, config.heads, 4 * self.width, self.dropout)
            for _ in range(config.layers)
        )
        self.project = nn.Linear(self.width, dim)

    def place(self, words: Tensor) -> Tensor:
        position = torch.arange(words.shape[1], device=words.device)
        x = self.norm(words + self.positions(position))
        return F.dropout(x, self.dropout, self.training)

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = attention_bias(mask)  # [b, 1, 1, t]
        for layer in self.layers:
            x = layer(x, bias)
        return x.float()

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        one = pooled(tokens, mask, self.kind)
        return F.normalize(self.project(one).float(), dim=-1)

    def load_published(self) -> None:
        self.load_minilm(weights.minilm())

    @torch.no_grad()
    def load_minilm(self, state: dict[str, Tensor]) -> None:
        """Fill from a Hugging Face BERT checkpoint; the token type (always 0) is added to the
        words. Of its layers the lower ones are taken. The projection starts as the identity, so
        that the embedding starts as the sentence vector. ValueError for another shape."""
        layers, shape = minilm_layers(state), state["embeddings.word_embeddings.weight"].shape
        if shape != self.words.weight.shape or len(self.layers) > layers:
            raise ValueError(
                f"the checkpoint has {layers} layers of width {shape[1]} and {shape[0]} words; "
                "[text] layers = "
                f"{len(self.layers)}, width = {self.width}, {self.words.num_embeddings} words"
            )
        self.words.weight.copy_(
            state["embeddings.word_embeddings.weight"]
            + state["embeddings.token_type_embeddings.weight"][0]
        )
        self.positions.weight.copy_(state["embeddings.position_embeddings.weight"])
        self.norm.load_state_dict(_named(state, "embeddings.LayerNorm"))
        for i, layer in enumerate(self.layers):
            load_layer(layer, state, i)
        if self.project.out_features == self.project.in_features:
            nn.init.eye_(self.project.weight)
            nn.init.zeros_(self.project.bias)


def minilm_layers(state: dict[str, Tensor]) -> int:
    """How many layers a Hugging Face BERT checkpoint has."""
    return sum(name.endswith("query.weight") for name in state)


@torch.no_grad()
def load_layer(layer: Layer, state: dict[str, Tensor], number: int) -> None:
    """Fill a layer from the one of that number of a Hugging Face BERT checkpoint."""
    at = f"encoder.layer.{number}"
    for part in ("weight", "bias"):
        names = (f"{at}.attention.self.{name}.{part}" for name in ("query", "key", "value"))
        getattr(layer.qkv, part).copy_(torch.cat([state[name] for name in names]))
    for module, name in (
        (layer.out, "attention.output.dense"),
        (layer.norm1, "attention.output.LayerNorm"),
        (layer.up, "intermediate.dense"),
        (layer.down, "output.dense"),
        (layer.norm2, "output.LayerNorm"),
    ):
        module.load_state_dict(_named(state, f"{at}.{name}"))


def _named(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {part: state[f"{name}.{part}"] for part in ("weight", "bias")}
