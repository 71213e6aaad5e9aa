"""Language objectives of fusions that write, and of a decoder above those that do not."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import own_rows, weight
from ..models.layers import CrossLayer, causal_bias
from ..models.model import Tandem
from .language import Words, lm_loss
from .objective import Step


class PrefixLm(Words):
    """The words after a prefix of random length, each from the image, the prefix, which is read in
    both directions, and the words before it (SimVLM, Wang et al. 2021, arXiv:2108.10904, equation
    3)."""

    name = "prefix_lm"
    needs = {"fusion.prefix", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        blank: float = 0.0  # share of texts that are read without their image

    def loss(self, step: Step) -> dict[str, Tensor]:
        part = step.first(self.options.pairs)
        own, mask = own_rows(part.stop), step.batch.whole["text.mask"][part]
        draws = torch.rand(2, part.stop, generator=step.generator).to(step.device)
        # The first token alone is no prefix of the text; the last one is always to be written.
        prefix = 1 + (draws[0] * (mask.sum(1) - 1)).long()  # [q]
        total, prefix, draws = (mask.sum(1) - prefix).sum(), prefix[own], draws[:, own]
        step = step.of(own)
        ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]  # [q, t]
        words, cells = step.features["text.tokens"], step.features["image.tokens"]
        cells = cells * (draws[1] >= self.options.blank)[:, None, None]
        row = torch.arange(len(ids), device=step.device)
        with step.precision(step.device):
            pairs = torch.stack([row, row], 1)
            states = step.model.fusion.write(words, mask, cells, pairs, prefix)
            logits = self.logits(step, states[:, :-1])  # [q, t - 1, v]
        place = torch.arange(1, ids.shape[1], device=step.device)
        real = (mask[:, 1:] > 0) & (place >= prefix[:, None])
        targets = self.targets(step, ids[:, 1:])
        loss = F.cross_entropy(logits[real], targets[real])
        return {"prefix_lm": weight(real.sum(), total) * loss}


class Decode(Words):
    """Captioning by a decoder that only this objective has, over the states of the image alone
    (E2E-VLP, Xu et al. 2021, arXiv:2106.01804)."""

    name = "decode"
    needs = {"fusion.image", "fusion.causal", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        layers: int = 2
        heads: int = 4

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        width = model.fusion.width
        self.text_in, self.norm = nn.Linear(model.text.width, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            CrossLayer(width, options.heads, width, 0.0) for _ in range(options.layers)
        )

    def loss(self, step: Step) -> dict[str, Tensor]:
        part = step.first(self.options.pairs)
        total = step.batch.whole["text.mask"][part, 1:].sum()
        step = step.of(own_rows(part.stop))
        ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]  # [q, t]
        words, cells = step.features["text.tokens"], step.features["image.tokens"]
        row = torch.arange(len(ids), device=step.device)
        with step.precision(step.device):
            pairs = torch.stack([row, row], 1)
            image = step.model.fusion.hidden(words, mask, cells, pairs, causal=True)[1]
            x, bias = self.text_in(step.model.text.embed(ids)), causal_bias(mask)
            for layer in self.layers:
                x = layer(x, bias, image)
            logits = self.logits(step, self.norm(x))  # [q, t, v]
        loss = lm_loss(logits, self.targets(step, ids), mask)["loss"]
        return {"decode": weight(mask[:, 1:].sum(), total) * loss}
