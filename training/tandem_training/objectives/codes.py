"""Masked visual modelling over a dictionary of codes, and masked features around a pivot."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import gather
from ..models.model import Tandem
from .objective import Objective, Step


def states_of(step: Step, tokens: Tensor) -> Tensor:
    """The fusion's states of the first images before their own texts: tokens [q, n, v] → [q, n,
    w]."""
    row = torch.arange(len(tokens), device=step.device)
    words, mask = step.features["text.tokens"], step.batch.whole["text.mask"]
    with step.precision(step.device):
        states = step.model.fusion.hidden(
            words[: len(row)], mask[: len(row)], tokens, torch.stack([row, row], 1)
        )[1]
    return states.float()


class Mvm(Objective):
    """Masked visual modelling (SOHO, arXiv:2104.03135, section 3.3): the code of hidden cells.
    Where a code is drawn, all cells of the image with it are hidden, else a neighbour would show
    it. It also moves the codes, once a step."""

    name = "mvm"
    needs = {"fusion.codes", "fusion.image"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        share: float = 0.15  # of an image's codes
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = nn.Linear(model.fusion.width, len(model.fusion.dictionary.codes))

    def hidden(self, step: Step, ids: Tensor) -> Tensor:
        """Ids of the codes [q, n] → which cells are hidden, bool [q, n]."""
        count = self.head.out_features
        drawn = torch.rand(len(ids), count, generator=step.generator) < self.options.share
        return drawn.to(ids.device).gather(1, ids)

    def loss(self, step: Step) -> dict[str, Tensor]:
        dictionary, tokens = step.model.fusion.dictionary, step.features["image.tokens"]
        if step.model.training and torch.is_grad_enabled():
            dictionary.update(tokens)
        tokens = tokens[: self.options.pairs]
        ids = dictionary.nearest(tokens)
        hidden = self.hidden(step, ids)
        states = states_of(step, tokens.masked_fill(hidden[..., None], 0))[hidden]
        loss = F.cross_entropy(self.head(states), ids[hidden], reduction="sum")
        return {"mvm": loss / max(1, len(states))}


class Mfr(Objective):
    """Masked feature regression (Visual parsing, Xue et al. 2021, arXiv:2106.13488): a drawn cell
    and those that it attends to most in the vision encoder's last layer are hidden, because what a
    cell attends to would show it. L2 to their features."""

    name = "mfr"
    needs = {"fusion.image", "image.attention"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        share: float = 0.15  # of the cells that are hidden
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = nn.Linear(model.fusion.width, model.pooler.feature_width)

    def hidden(self, attention: Tensor, generator: torch.Generator) -> Tensor:
        """Attention of every cell to every other, mean over heads [q, n, n] → bool [q, n]: a drawn
        cell and the others that it attends to most."""
        q, n, _ = attention.shape
        pivot = torch.randint(n, (q,), generator=generator).to(attention.device)
        row = attention[torch.arange(q), pivot].scatter(1, pivot[:, None], float("inf"))
        most = row.topk(max(1, round(self.options.share * n)), 1).indices
        return torch.zeros_like(row, dtype=torch.bool).scatter(1, most, True)

    def loss(self, step: Step) -> dict[str, Tensor]:
        tokens = step.features["image.tokens"][: self.options.pairs]
        with torch.no_grad(), step.precision(step.device):
            attention = step.model.vision.attention(step.batch.inputs["image.activations"])
        attention = gather(attention.float())[: len(tokens)]
        hidden = self.hidden(attention, step.generator)
        states = states_of(step, tokens.masked_fill(hidden[..., None], 0))[hidden]
        target = tokens.detach()[hidden] * tokens.shape[-1] ** 0.5  # elements near 1
        return {"mfr": F.mse_loss(self.head(states), target)}
