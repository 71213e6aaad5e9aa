"""The contract of a model's parts: vision encoder, text encoder, fusion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import nn


def at_least(config: object, **bounds: float) -> None:
    """ValueError, naming the key, for a value below its bound."""
    for key, bound in bounds.items():
        if getattr(config, key) < bound:
            raise ValueError(f"{key} = {getattr(config, key)}; expected at least {bound}")


@dataclass(frozen=True)
class PartConfig:
    """The keys of a part's table in a recipe, each with a default. `registry.register` sets `kind`."""

    kind: ClassVar[str] = ""

    def __post_init__(self):
        width, heads = getattr(self, "width", 0), getattr(self, "heads", 1)
        if width % heads:
            raise ValueError(f"width = {width} is no multiple of heads = {heads}")

    def table(self) -> dict:
        return {"kind": self.kind, **asdict(self)}


class Part(nn.Module):
    """A part is known by its role and its name, as `[fusion] kind = "aligned"`. A feature is a named
    tensor or an ability; parts give features, other parts and objectives need them."""

    role: ClassVar[str]
    name: ClassVar[str]
    Config: ClassVar[type[PartConfig]]

    @classmethod
    def needs(cls, config: PartConfig) -> set[str]:
        """Features of the parts before it: vision, then text, then fusion."""
        return set()

    @classmethod
    def gives(cls, config: PartConfig, given: set[str]) -> set[str]:
        """Features that it adds to `given`, those of the parts before it."""
        return set()
