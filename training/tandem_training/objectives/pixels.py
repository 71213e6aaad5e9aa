"""Masked image modelling in pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import gather
from ..models.layers import CrossLayer, attention_bias
from ..models.model import Tandem
from .objective import Objective, Step

HEADS = 4


def hide_patches(rows: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """A random share of the patches of each image, one at least and not all: → bool [rows,
    count]."""
    wanted = min(max(1, round(share * count)), count - 1)
    order = torch.rand(rows, count, generator=generator).argsort(1).argsort(1)
    return order < wanted


class PixelMim(Objective):
    """The pixels of hidden patches by L1, from the patches that are left and the whole text
    (MaskVLM, Kwon et al. 2022, arXiv:2208.02131; the L1 and the masks of SimMIM, Xie et al. 2021,
    arXiv:2111.09886; both from memory).

    A learnt patch stands for a hidden one before the vision encoder. A decoder of one layer, which
    reads the text encoder's tokens, makes pixels of the fusion's image states. MLM is the other
    half: there the image is whole."""

    name = "pixel_mim"
    needs = {"image.patches", "fusion.image"}
    teaches = {"vision"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        share: float = 0.6  # of the patches that are hidden
        pairs: int = 64  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        width, numbers = model.fusion.width, 3 * model.vision.stride**2
        self.hidden = nn.Parameter(0.02 * torch.randn(numbers))
        self.decoder = CrossLayer(width, HEADS, model.text.width, dropout=0.0, ratio=4)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, numbers)

    def loss(self, step: Step) -> dict[str, Tensor]:
        activations = gather(step.batch.inputs["image.activations"])[: self.options.pairs]
        patches = activations.float().flatten(2).transpose(1, 2)  # [q, n, 3 · stride²], in [-1, 1]
        hidden = hide_patches(*patches.shape[:2], self.options.share, step.generator)
        hidden = hidden.to(step.device)
        pixels = self.pixels(step, activations, hidden)[hidden]
        return {"pixel_mim": F.l1_loss(pixels, patches[hidden])}

    def pixels(self, step: Step, activations: Tensor, hidden: Tensor) -> Tensor:
        """The patches of the first q images [q, 3 · stride², h, w] with those hidden that `hidden`
        [q, n] names → their pixels [q, n, 3 · stride²]."""
        model, row = step.model, torch.arange(len(activations), device=step.device)
        words = step.features["text.tokens"][: len(row)]
        mask = step.batch.whole["text.mask"][: len(row)]
        where = hidden.unflatten(1, activations.shape[2:])[:, None]
        shown = torch.where(where, self.hidden[:, None, None], activations)
        with step.precision(step.device):
            cells = model.encode_activations(shown)[1]
            states = model.fusion.hidden(words, mask, cells, torch.stack([row, row], 1))[1]
            states = self.decoder(states, None, words, attention_bias(mask))
            return self.head(self.norm(states)).float()
