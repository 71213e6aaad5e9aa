"""Masked data modelling on images and on texts: hidden cells and words from what is left."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.word_head import WordHead
from .language import Mlm
from .objective import Objective, Step

LEAST_BLOCK = 16 / 196  # share of the cells
LEAST_ASPECT = 0.3


def hide_blocks(rows: int, side: int, share: float, generator: torch.Generator) -> Tensor:
    """Hide blocks of cells until `share` of them is hidden (BEiT, Bao et al. 2021,
    arXiv:2106.08254, algorithm 1): → bool [rows, side²]. A block has 8 % of the cells at least, and
    no side is more than 3.3 times the other; one cell at least stays."""
    hidden = torch.zeros(rows, side, side, dtype=torch.bool)
    total, wanted = side * side, min(share * side * side, side * side - 1)
    for image in hidden:
        while (done := int(image.sum())) < wanted:
            size, aspect, top, left = torch.rand(4, generator=generator).tolist()
            least = LEAST_BLOCK * total
            area = least + size * max(0.0, wanted - done - least)
            ratio = LEAST_ASPECT ** (2 * aspect - 1)
            height, width = (
                min(side, max(1, round((area * r) ** 0.5))) for r in (ratio, 1 / ratio)
            )
            y, x = int(top * (side - height + 1)), int(left * (side - width + 1))
            before = image.clone()
            image[y : y + height, x : x + width] = True
            if image.all():
                image.copy_(before)
    return hidden.flatten(1)


class Mim(Objective):
    """Masked image modelling: the code of each hidden cell, from the others and the caption
    (VL-BEiT, Bao et al. 2022, arXiv:2206.01127)."""

    name = "mim"
    needs = {"visual.ids", "fusion.image"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        share: float = 0.4  # of the cells that are hidden
        codes: int = 1024
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        cell = model.config.vision.token_width
        self.hidden = nn.Parameter(torch.randn(cell) * cell**-0.5)  # in place of a hidden cell
        self.head = nn.Linear(self.width(model), options.codes)

    def width(self, model) -> int:
        return model.fusion.width

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole = slice(0, self.options.pairs), step.batch.whole
        cells = step.features["image.tokens"][part]  # [q, n, v]
        side = round(cells.shape[1] ** 0.5)
        hidden = hide_blocks(len(cells), side, self.options.share, step.generator).to(step.device)
        shown = torch.where(hidden[..., None], self.hidden, cells)
        with step.precision(step.device):
            logits = self.head(self.states(step, shown, part)[hidden]).float()  # [k, codes]
        return {self.name: F.cross_entropy(logits, whole["visual.ids"][part][hidden])}

    def states(self, step: Step, cells: Tensor, part: slice) -> Tensor:
        """Image states [q, n, w]."""
        words, mask = step.features["text.tokens"][part], step.batch.whole["text.mask"][part]
        row = torch.arange(len(cells), device=step.device)
        return step.model.fusion.hidden(words, mask, cells, torch.stack([row, row], 1))[1]


class ImageMim(Mim):
    """The same without the caption, by the vision encoder alone (BEiT)."""

    name = "image_mim"
    needs = {"visual.ids", "image.stack"}
    teaches = {"vision"}

    def width(self, model) -> int:
        return model.vision.width

    def states(self, step: Step, cells: Tensor, part: slice) -> Tensor:
        return step.model.vision.states(cells)


class TextMlm(Mlm):
    """Masked language modelling without the image, by the text encoder alone (BERT, Devlin et al.
    2018, arXiv:1810.04805)."""

    name = "text_mlm"
    needs = {"text.tokens", "text.words"}
    teaches = {"text"}

    def __init__(self, options: Mlm.Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = WordHead(model.text.width, model.text.words)

    def read(self, step: Step, token_ids: Tensor, mask: Tensor) -> Tensor:
        return step.model.text(token_ids, mask)[1]
