"""Masked regions: what an image token is, from the text and the other tokens."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import gather
from ..models.vision.region_tokens import boxes_of, features_of, overlap, with_features
from .objective import Objective, Step


def mask_regions(boxes: Tensor, share: float, kept: float, beside: float, largest: float,
                 generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Boxes [b, n, 4] → bool [b, n] of the regions to be predicted, and of those that are hidden.

    A share `share` is predicted, none larger than the share `largest` of the image; of those, a
    share `kept` stays visible (ViLBERT: a tenth). A region that overlaps a hidden one by more than
    `beside` (intersection over union) is hidden too, else it would show what is asked for."""
    choose, fate = (torch.rand(boxes.shape[:2], generator=generator) for _ in range(2))
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    chosen = (choose < share).to(boxes.device) & (area <= largest)
    hidden = chosen & (fate >= kept).to(boxes.device)
    near = overlap(boxes) > beside
    return chosen, hidden | ((near & hidden[:, None, :]).any(-1) & ~chosen)


class MaskedRegions(Objective):
    """An objective that predicts hidden regions. The text stays whole: words or regions are hidden,
    never both."""

    needs = {"fusion.image", "image.boxes"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        pairs: int = 128  # of the batch that it reads
        share: float = 0.15  # of the regions that are predicted
        kept: float = 0.0  # share of those that stays visible
        beside: float = 0.4  # overlap from which others are hidden with a region
        largest: float = 1.0  # area of a region that may be predicted
        pixels: bool = False  # hides the cells under the regions, before the features are made

    def hidden_states(self, step: Step) -> tuple[Tensor, Tensor]:
        """States of the predicted regions [k, w], and which they are: bool [q, n]. Objectives with
        the same options share them."""
        own = self.options
        key = (
            "masked_regions",
            own.share,
            own.kept,
            own.beside,
            own.largest,
            own.pixels,
            own.pairs,
        )
        if key not in step.shared:
            step.shared[key] = self._hidden_states(step)
        return step.shared[key]

    def tokens(self, step: Step) -> Tensor:
        """The image tokens that it reads, [q, n, v]."""
        return step.features["image.tokens"][: self.options.pairs]

    def _hidden_states(self, step: Step) -> tuple[Tensor, Tensor]:
        own, tokens = self.options, self.tokens(step)
        chosen, hidden = mask_regions(
            boxes_of(tokens), own.share, own.kept, own.beside, own.largest, step.generator
        )
        part = slice(0, len(tokens))
        if own.pixels:
            tokens = self._without_cells(step, boxes_of(tokens), hidden)
        seen = with_features(tokens, features_of(tokens).masked_fill(hidden[..., None], 0))
        row = torch.arange(len(tokens), device=step.device)
        words, mask = step.features["text.tokens"][part], step.batch.whole["text.mask"][part]
        with step.precision(step.device):
            states = step.model.fusion.hidden(words, mask, seen, torch.stack([row, row], 1))[1]
        return states[chosen].float(), chosen

    def _without_cells(self, step: Step, boxes: Tensor, hidden: Tensor) -> Tensor:
        """The tokens of images whose cells under the hidden regions are 0. The cells are those of
        the frozen trunk, whose activations are cached: each has seen some pixels around it."""
        cells = gather(step.batch.inputs["image.activations"])[: len(boxes)]  # [q, c, h, w]
        h, w = cells.shape[2:]
        y, x = ((torch.arange(size, device=boxes.device) + 0.5) / size for size in (h, w))
        inside = ((boxes[..., 0, None] < x) & (x < boxes[..., 2, None]))[:, :, None, :]
        inside = inside & ((boxes[..., 1, None] < y) & (y < boxes[..., 3, None]))[..., None]
        blank = (inside & hidden[..., None, None]).any(1)  # [q, h, w]
        ids = step.batch.whole["image.ids"][: len(boxes)]
        with step.precision(step.device):
            return step.model.encode_activations(cells.masked_fill(blank[:, None], 0), ids)[1]

    def head(self, width: int, outputs: int) -> nn.Sequential:
        """UNITER's head."""
        norm = nn.LayerNorm(width, eps=1e-12)
        return nn.Sequential(nn.Linear(width, width), nn.GELU(), norm, nn.Linear(width, outputs))


class Mrfr(MaskedRegions):
    """Masked region feature regression (UNITER, arXiv:1909.11740, section 3.2): ‖W h − f‖²."""

    name = "mrfr"

    def __init__(self, options: MaskedRegions.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.regress = self.head(model.fusion.width, model.pooler.feature_width)

    def loss(self, step: Step) -> dict[str, Tensor]:
        states, chosen = self.hidden_states(step)
        target = features_of(self.tokens(step)).detach()[chosen]  # [k, v - 6]
        target = target * target.shape[-1] ** 0.5  # elements near 1
        loss = (self.regress(states) - target).square().sum()
        return {self.name: loss / max(1, target.numel())}


class Mrc(MaskedRegions):
    """Masked region classification (UNITER, section 3.2): cross-entropy to the top label."""

    name = "mrc"
    needs = MaskedRegions.needs | {"image.labels"}

    def __init__(self, options: MaskedRegions.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.classify = self.head(model.fusion.width, model.pooler.concepts.count)

    def loss(self, step: Step) -> dict[str, Tensor]:
        states, chosen = self.hidden_states(step)
        with torch.no_grad():
            ids = step.batch.whole["image.ids"][: len(chosen)]
            labels = step.model.pooler.concepts(features_of(self.tokens(step)), ids)[chosen]
        log_p = self.classify(states).log_softmax(-1)  # [k, count]
        return {self.name: self.divergence(log_p, labels) / max(1, len(labels))}

    def divergence(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Log-probabilities and the detector's logits [k, count] → their loss, summed."""
        return F.nll_loss(log_p, labels.argmax(-1), reduction="sum")


class MrcKl(Mrc):
    """The same to the distribution over the labels (UNITER's MRC-kl; ViLBERT, arXiv:1908.02265)."""

    name = "mrc_kl"

    def divergence(self, log_p: Tensor, labels: Tensor) -> Tensor:
        return F.kl_div(log_p, labels.log_softmax(-1), reduction="sum", log_target=True)
