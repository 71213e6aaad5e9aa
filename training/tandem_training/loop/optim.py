"""How parameters move: groups with rates of their own, one schedule over all of them."""

import fnmatch
import math

import torch
from torch import nn

from ..recipe import OptimiserConfig

# The first pattern that fits a parameter's name is its group.
GROUPS = {
    "pooler.*": "projection",
    "text.project.*": "projection",
    "vision.*": "vision",
    "text.*": "text",
    "inputs.*": "inputs",
    "fusion.query.*": "projection",  # of words into the space of image tokens
    "*": "fusion",
}
MAX_NORM = 1.0  # of the whole gradient


class Optimiser:
    """One or several of PyTorch's optimisers, stepped as one. groups: of their `param_groups`, each
    with its `kind`; `lr` is the highest rate of the schedule."""

    def __init__(self, groups: list[dict], warmup: float):
        self.warmup = warmup
        self.kinds: dict[str, torch.optim.Optimizer] = {}
        for kind in dict.fromkeys(group["kind"] for group in groups):
            own = [group | {"peak": group["lr"]} for group in groups if group["kind"] == kind]
            self.kinds[kind] = (
                torch.optim.AdamW(own, betas=(0.9, 0.98))
                if kind == "adamw"
                else torch.optim.SGD(own, momentum=0.9)
            )

    @classmethod
    def of(cls, model: nn.Module, config: OptimiserConfig, warmup: float) -> "Optimiser":
        """Of every parameter that is not frozen. Only matrices decay."""
        groups: dict[tuple, dict] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            group = next(g for pattern, g in GROUPS.items() if fnmatch.fnmatch(name, pattern))
            group = "scalars" if parameter.ndim == 0 else group
            own, matrix = getattr(config, group), parameter.ndim > 1
            decay = own.weight_decay if matrix else 0.0
            settings = {"kind": own.kind, "lr": own.rate, "weight_decay": decay, "params": []}
            groups.setdefault((group, matrix), settings)["params"].append(parameter)
        return cls(list(groups.values()), warmup)

    def groups(self) -> list[dict]:
        return [group for optimiser in self.kinds.values() for group in optimiser.param_groups]

    def zero_grad(self) -> None:
        for optimiser in self.kinds.values():
            optimiser.zero_grad()

    def step(self, progress: float) -> None:
        """Move along the gradient, clipped; progress in [0, 1]."""
        parameters = [p for group in self.groups() for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        for group in self.groups():
            group["lr"] = group["peak"] * schedule(progress, self.warmup)
        for optimiser in self.kinds.values():
            optimiser.step()

    def state_dict(self) -> dict:
        return {kind: optimiser.state_dict() for kind, optimiser in self.kinds.items()}

    def load_state_dict(self, state: dict) -> None:
        """The rates stay those of the recipe, which may have been edited."""
        peaks = [group["peak"] for group in self.groups()]
        for kind, optimiser in self.kinds.items():
            optimiser.load_state_dict(state[kind])
        for group, peak in zip(self.groups(), peaks, strict=True):
            group["peak"] = peak


def schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to zero; progress in [0, 1]."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
