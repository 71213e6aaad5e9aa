"""The contract of a model's parts: vision encoder, text encoder, fusion."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from torch import nn

# The least value of a key, in whichever table of a recipe it stands; of all others it is 0.
LEAST = {
    "epochs": 1, "batch": 1, "accumulate": 1, "evaluate_every": 1, "save_every": 1,
    "captions": 1, "caption_tokens": 3, "max_tokens": 3, "vocabulary": 5, "pairs": 1,
    "negatives": 1, "image_size": 1, "patch": 1, "token_width": 1, "width": 1, "layers": 1,
    "heads": 1, "dim": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of a recipe: its keys, each with a default. ValueError names a key that is wrong."""

    CHOICES: ClassVar[dict[str, tuple]] = {}  # values of the keys that have few

    def __post_init__(self):
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for key, value in values.items():
            bound = LEAST.get(key, 0)
            if type(value) in (int, float) and value < bound:
                raise ValueError(f"{key} = {value}; expected at least {bound}")
            if value not in (known := self.CHOICES.get(key, (value,))):
                raise ValueError(f"{key} = {value!r}; expected one of {', '.join(map(str, known))}")
        if values.get("width", 0) % values.get("heads", 1):
            raise ValueError(f"width = {self.width} is no multiple of heads = {self.heads}")


@dataclass(frozen=True)
class PartConfig(Table):
    """Keys of a part in a recipe."""

    kind: ClassVar[str] = ""  # the part's name, from `registry.register`

    def table(self) -> dict:
        return {"kind": self.kind, **asdict(self)}


class Part(nn.Module):
    """A part is chosen by role and name: `[fusion] kind = "aligned"`. A feature is a named tensor
    or an ability. Parts give features; other parts and objectives need them."""

    role: ClassVar[str]
    name: ClassVar[str]
    Config: ClassVar[type[PartConfig]] = PartConfig
    needs: ClassVar[set[str]] = set()  # of the parts before it: vision, then text, then fusion
    gives: ClassVar[set[str]] = set()

    @classmethod
    def wants(cls, config: PartConfig) -> set[str]:
        """What it needs with this config."""
        return cls.needs

    @classmethod
    def adds(cls, config: PartConfig, given: set[str]) -> set[str]:
        """The features that it gives beside `given`, those of the parts before it."""
        return cls.gives
