"""The published system that a recipe stands for, as its table `[system]` describes it."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from .models.part import Table

SERVES = {
    "E": "dual encoder alone",
    "R": "dual encoder, then the fusion's logit",
    "R+": "the same behind a companion dual encoder, as the system has no embedding",
    "L": "the likelihood of the text as the logit",
}
# Where a trait is from, in its last brackets: a section (3.2), an equation and so on, the authors'
# code, or memory.
PLACE = re.compile(
    r"\(([^()]*\b(section|equation|algorithm|table|figure|appendix|code|abstract|from memory)\b"
    r"|[^()]*[\w-]+/[\w./-]+|(?:[A-Z]\.)?\d+(\.\d+)*\b)[^()]*\)$"
)


@dataclass(frozen=True)
class System(Table):
    """ValueError where a key that a reader needs is missing. `docs/survey.md` is written from
    these."""

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"serve": tuple(SERVES)}

    name: str = ""
    paper: str = ""  # its title
    year: int = 0
    source: str = ""  # such as arXiv:2107.07651
    serve: str = "E"
    parameters: float = 0.0  # millions, in training: the model with the heads of its objectives
    traits: list[str] = field(default_factory=list)  # what defines it, each with its PLACE
    has: list[str] = field(default_factory=list)  # of the paper, beside the traits
    lacks: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)  # what was not read in a public copy

    def __post_init__(self):
        super().__post_init__()
        for key in ("name", "paper", "year", "source", "parameters", "traits"):
            if not getattr(self, key):
                raise ValueError(f"{key} is missing")
        if not 2 <= len(self.traits) <= 4:
            raise ValueError(f"{len(self.traits)} traits; expected 2 to 4")
        for trait in self.traits:
            if not PLACE.search(trait):
                raise ValueError(
                    f"trait {trait!r} does not end with where it is from; expected a section as "
                    "(3.2), an equation, the authors' code, or (from memory)"
                )
