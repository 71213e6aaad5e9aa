"""One codebook for both modalities (CODIS, Duan et al. 2022, arXiv:2203.00048)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment import transport
from .objective import Objective, Step


def code_loss(student: Tensor, plan: Tensor, codes: Tensor, sharpness: float) -> Tensor:
    """Cross-entropy of an embedding's distribution over codes [b, d] × [K, d] with the share of its
    transport that each code takes, plan [b, K]."""
    target = plan / plan.sum(1, keepdim=True)
    return -(target * (sharpness * student @ codes.T).log_softmax(1)).sum(1).mean()


class Codebook(Objective):
    """The momentum encoder's embeddings of a batch are carried to the codes by optimal transport
    (IPOT), every code getting as much. The code of an image is what the student's text has to
    predict, and that of a text the image's (sections 3.1 and 3.2; from memory). Codes learn by the
    same loss; they start on the sphere of the embeddings."""

    name = "codebook"
    needs = {"image.embedding", "text.embedding"}
    teaches = {"vision", "text"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        codes: int = 512
        sharpness: float = 10.0  # inverse temperature over codes

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.codes = nn.Parameter(torch.randn(options.codes, model.config.dim))

    def plan(self, momentum: Tensor, codes: Tensor) -> Tensor:
        """Embeddings of the momentum encoder [b, d] → their transport to the codes [b, K]."""
        cost = (1 - momentum @ codes.T)[None]
        every = torch.ones(1, len(momentum), device=momentum.device)
        return transport(cost, every)[0]

    def loss(self, step: Step) -> dict[str, Tensor]:
        guide, codes = step.momentum(), F.normalize(self.codes, dim=-1)
        with torch.no_grad():
            own = F.normalize(step.average.objectives[self.name].codes, dim=-1)
            plans = {side: self.plan(guide[f"{side}.embedding"].float(), own)
                     for side in ("image", "text")}  # fmt: skip
        ways = (("text", "image"), ("image", "text"))
        losses = [
            code_loss(step.features[f"{student}.embedding"], plans[teacher], codes,
                      self.options.sharpness)
            for student, teacher in ways
        ]  # fmt: skip
        return {"codebook": sum(losses) / 2}
