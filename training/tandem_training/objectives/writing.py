"""Language objectives of fusions that write."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .language import Words
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
        part, whole = slice(0, self.options.pairs), step.batch.whole
        ids, mask = whole["text.ids"][part], whole["text.mask"][part]  # [q, t]
        words, cells = step.features["text.tokens"][part], step.features["image.tokens"][part]
        draws = torch.rand(2, len(ids), generator=step.generator).to(step.device)
        # The first token alone is no prefix of the text; the last one is always to be written.
        prefix = 1 + (draws[0] * (mask.sum(1) - 1)).long()  # [q]
        cells = cells * (draws[1] >= self.options.blank)[:, None, None]
        row = torch.arange(len(ids), device=step.device)
        with step.precision(step.device):
            pairs = torch.stack([row, row], 1)
            states = step.model.fusion.write(words, mask, cells, pairs, prefix)
            logits = self.logits(step, states[:, :-1])  # [q, t - 1, v]
        place = torch.arange(1, ids.shape[1], device=step.device)
        real = (mask[:, 1:] > 0) & (place >= prefix[:, None])
        targets = self.targets(step, ids[:, 1:])
        return {"prefix_lm": F.cross_entropy(logits[real], targets[real])}
