"""Fusions in which text and image meet in layers of their own: one stream for both, or one stream
each.

Every fusion keeps this contract, which is also that of the bundle's third graph: text tokens [q, t,
w], mask [q, t], unit image tokens [m, n, v], pairs int64 [p, 2] (row of a text, row of an image) →
ITM logits [p]. `hidden` gives what MLM and captioning read, [p, t, width]; with `causal`, place i
has seen the image and the text up to i. `reads_inputs` fusions take as text tokens what the text
encoder's first layer reads, not what its last one gives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossLayer, PreNormLayer, attention_bias


class NoFusion(nn.Module):
    """A dual encoder alone: every pair gets the logit 0, and similarity decides."""

    reads_inputs = captions = False

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        return torch.zeros(len(pairs), device=pairs.device)


class SingleStream(nn.Module):
    """Merged attention: words and cells in one sequence, through the same layers (UNITER, Chen et
    al. 2019, arXiv:1909.11740). With `reads_inputs` the words are bare and the image tokens are
    bare patches: ViLT (Kim et al. 2021, arXiv:2102.03334)."""

    captions = True

    def __init__(self, text_width: int, image_width: int, cells: int, width: int, layers: int, heads: int,
                 dropout: float, reads_inputs: bool = False):  # fmt: skip
        super().__init__()
        self.reads_inputs, self.width = reads_inputs, width
        self.text_in = nn.Linear(text_width, width)
        self.image_in = nn.Linear(image_width, width)
        self.positions = nn.Parameter(
            0.02 * torch.randn(cells, width)
        )  # of the cells; words bring their own
        self.norm_in = nn.LayerNorm(width)
        self.layers = nn.ModuleList(PreNormLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def hidden(
        self,
        text_tokens: Tensor,
        mask: Tensor,
        image_tokens: Tensor,
        pairs: Tensor,
        causal: bool = False,
    ):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = self.text_in(text_tokens)[texts]  # [p, t, width]
        cells = (self.image_in(image_tokens) + self.positions)[images]  # [p, n, width]
        x = self.norm_in(torch.cat([cells, words], dim=1))
        n, t = cells.shape[1], words.shape[1]
        whole = F.pad(mask[texts], (n, 0), value=1)  # [p, n + t]
        bias = attention_bias(whole)
        if causal:
            # Cells see cells; a word sees all cells and the words before it.
            turn = (torch.arange(n + t, device=x.device) - n + 1).clamp(min=0)
            bias = bias - 1e4 * (turn[None, :] > turn[:, None]).float()  # [p, 1, n + t, n + t]
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x[:, n:])

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        return (
            self.head(self.hidden(text_tokens, mask, image_tokens, pairs)[:, 0]).squeeze(-1).float()
        )


class DualStream(nn.Module):
    """Co-attention: each modality keeps its stream and attends to the other's (METER, Dou et al.
    2021, arXiv:2111.02387; LXMERT, arXiv:1908.07490). The image stream sees the whole text, so it
    cannot write captions."""

    reads_inputs = captions = False

    def __init__(self, text_width: int, image_width: int, cells: int, width: int, layers: int, heads: int,
                 dropout: float):  # fmt: skip
        super().__init__()
        self.width = width
        self.text_in = nn.Linear(text_width, width)
        self.image_in = nn.Linear(image_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(cells, width))
        self.text_layers, self.image_layers = (
            nn.ModuleList(CrossLayer(width, heads, width, dropout) for _ in range(layers))
            for _ in range(2)
        )
        self.text_norm, self.image_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(2 * width, 1)

    def _streams(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, bias = self.text_in(text_tokens)[texts], attention_bias(mask)[texts]  # [p, t, width]
        y = (self.image_in(image_tokens) + self.positions)[images]  # [p, n, width]
        for text_layer, image_layer in zip(self.text_layers, self.image_layers, strict=True):
            x, y = text_layer(x, bias, y), image_layer(y, None, x, bias)
        return self.text_norm(x), self.image_norm(y)

    def hidden(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        return self._streams(text_tokens, mask, image_tokens, pairs)[0]

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        x, y = self._streams(text_tokens, mask, image_tokens, pairs)
        return self.head(torch.cat([x[:, 0], y.mean(1)], dim=-1)).squeeze(-1).float()
