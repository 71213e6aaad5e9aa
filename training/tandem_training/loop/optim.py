"""How fast each part learns: groups of parameters with rates of their own, one schedule over all of
them."""

import math

import torch

from ..models.model import Tandem
from ..objectives.objective import Objectives
from ..recipe import TrainConfig


def optimiser(model: Tandem, objectives: Objectives, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate for each part; matrices decay, biases, norms and scalars do not."""
    rates = [
        (config.vision_rate, model.vision.tail_parameters()),
        (
            config.text_rate,
            [p for n, p in model.text.named_parameters() if not n.startswith("project")],
        ),
        (config.head_rate, [*model.heads.parameters(), *model.text.project.parameters()]),
        (config.fusion_rate, [*model.fusion_parameters(), *objectives.own_parameters()]),
    ]
    if objectives.second is not None:
        rates.append((objectives.second.config.rate, list(objectives.second.parameters())))
    groups = []
    for rate, parameters in rates:
        for matrix in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == matrix]
            groups.append(
                {
                    "params": chosen,
                    "lr": rate,
                    "weight_decay": config.weight_decay if matrix else 0.0,
                }
            )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


def schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to zero; progress in [0, 1]."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
