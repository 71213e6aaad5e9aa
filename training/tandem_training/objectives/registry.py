"""The objectives by name, whether they fit a recipe's parts, and their weighted sum."""

import fnmatch
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..models.model import ModelConfig, Tandem
from ..models.registry import would_give
from .alignment import Wra
from .codebook import Codebook
from .codes import Mfr, Mvm
from .concept_tokens import ConceptTokens
from .concepts import ConceptLabels, ProposalLabels
from .contrastive import Itc, TokenItc
from .distil import Distil
from .fused import FusedMlm, FusedMrfr
from .grounding import Ground
from .instructions import Caption, Infill, Paint, WordMatch
from .intra import Intra, Local
from .language import Lm, Mlm
from .lists import Lists
from .masked import ImageMim, Mim, TextMlm
from .matching import Itm, Rank
from .mil_nce import MilNce
from .objective import Objective, Step, Vocabulary
from .pixels import PixelMim
from .query_sets import Detect, SoftTokens
from .region_text import RegionText, TextBox
from .regions import Mrc, MrcKl, Mrfr
from .second_itc import SecondItc, SecondTextItc
from .siglip import Siglip
from .tags import MlmAlone, Pollute, SecondCaption, TagMlm
from .writing import Decode, PrefixLm

OBJECTIVES: dict[str, type[Objective]] = {}
Options = Mapping[str, Objective.Options]


def register(objective: type[Objective]) -> type[Objective]:
    """Make an objective known to recipes by its name."""
    OBJECTIVES[objective.name] = objective
    return objective


for _objective in (
    Itc, TokenItc, Siglip, MilNce, Itm, Rank, Lists, Distil, Intra, Local, Codebook,
    Mlm, TextMlm, Mim, ImageMim, PixelMim, Lm, PrefixLm, Infill, Caption, WordMatch, Paint,
    SecondItc, SecondTextItc,
    Mrfr, Mrc, MrcKl, Wra, ConceptLabels, ProposalLabels, ConceptTokens,
    Pollute, TagMlm, SecondCaption, MlmAlone, Mvm, Mfr, FusedMlm, FusedMrfr,
    SoftTokens, Detect, Decode, Ground, RegionText, TextBox,
):  # fmt: skip
    register(_objective)


def check(objectives: Options, given: set[str], model: ModelConfig, others: dict[str, str],
          frozen: Iterable[str]) -> None:  # fmt: skip
    """ValueError where an objective needs what nothing gives, or teaches frozen parts alone.

    given: the features of parts, inputs and data. others: for a feature that no part can give, what
    in the recipe would. frozen: globs over parameters."""
    if not objectives:
        raise ValueError("nothing to train: give [objectives] a weight above 0, such as itc = 1.0")
    for name, options in objectives.items():
        objective = OBJECTIVES[name]
        for feature in sorted(objective.wants(options) - given):
            giver = others.get(feature) or would_give(feature, model.parts())
            raise ValueError(f"objective {name} needs {feature!r}, which no part gives; {giver}")
        taught = objective.teaches
        still = {part for part in taught if any(fnmatch.fnmatch(f"{part}.", f) for f in frozen)}
        if taught and taught == still:
            raise ValueError(
                f"objective {name} trains {' and '.join(sorted(taught))}, which [train] freeze has"
            )


def attach(objectives: Options, model: Tandem, vocabulary: Vocabulary | None) -> None:
    """Give the model the objectives with their heads."""
    for name, options in objectives.items():
        model.objectives[name] = OBJECTIVES[name](options, model, vocabulary)


def losses(step: Step, one_of: bool = False) -> dict[str, Tensor]:
    """Every objective's named values, and "loss": their weighted sum, or with `one_of` that of a
    single objective, drawn in proportion to its weight."""
    objectives = dict(step.model.objectives.items())
    weights = {name: objective.options.weight for name, objective in objectives.items()}
    if one_of:
        shares = torch.tensor(list(weights.values()))
        drawn = list(weights)[int(torch.multinomial(shares, 1, generator=step.generator))]
        weights = {drawn: 1.0}
    values, total = {}, 0
    for name, weight in weights.items():
        parts = objectives[name].loss(step)
        values |= parts
        total = total + weight * sum(parts.values())
    return values | {"loss": total}
