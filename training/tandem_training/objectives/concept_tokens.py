"""The words of the captions, by the concept network of a fusion."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.model import Tandem
from .concepts import ConceptLabels
from .objective import Step

SHARE, POWER = 0.5, 1  # of labels that hold; of the distance to the label (alpha, gamma)


def focal_loss(logits: Tensor, holds: Tensor, target: Tensor) -> Tensor:
    """Of many labels [b, k]: cross-entropy with `target`, probabilities [b, k], times the distance
    of the prediction to the label `holds`, bool [b, k]. The sum over labels, the mean over images
    (jacobswan1/ViTCAP, src/layers/loss.py: focal loss, and its form with a guide)."""
    distance = (logits.sigmoid() - holds.float()).abs() ** POWER
    weight = torch.where(holds, SHARE, 1 - SHARE) * distance
    entropy = target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)
    return -(weight * entropy).sum(1).mean()


class ConceptTokens(ConceptLabels):
    """Which of the frequent words an image's captions have (ViTCAP, Fang et al. 2021,
    arXiv:2112.05230). A share of the target follows the concept network of the moving average,
    which stands for the paper's teacher with a detector."""

    name = "concept_tokens"
    needs = {"fusion.concepts"}
    teaches = {"vision", "fusion"}

    @dataclass(frozen=True)
    class Options(ConceptLabels.Options):
        soft_mix: float = 0.0  # share of the target that follows the moving average
        soft_rise: int = 0  # batches until it has risen to that

    def named(self, model: Tandem) -> nn.Module:
        return model.fusion.concepts

    def loss(self, step: Step) -> dict[str, Tensor]:
        options, holds = self.options, self.table[step.batch.whole["image.ids"].cpu()]
        holds, mix = holds.to(step.device), step.taught(options.soft_mix, options.soft_rise)
        target = holds.float()
        with step.precision(step.device):
            logits = step.model.fusion.concept_logits(step.features["image.tokens"])
            if mix > 0:
                with torch.no_grad():
                    cells = step.momentum()["image.tokens"]
                    guide = step.average.fusion.concept_logits(cells).sigmoid()
                target = (1 - mix) * target + mix * guide
        return {"concept_tokens": focal_loss(logits, holds, target)}
