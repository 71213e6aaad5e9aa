"""Region models small enough for a test, and a step of one."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.models.registry import PARTS
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.regions import windows
from tandem_training.objectives.objective import Step
from tandem_training.recipe import Recipe

from .models import VIT, shrunk, small, step_of, tiny_model

CLOSE = {"atol": 1e-4, "rtol": 1e-3}
SIZES = {"variant": "lite0", "split": 9, "token_width": 32, "concepts": 6}


def region_config(fusion: str = "merged", **changes) -> ModelConfig:
    """Two windows a side suffice for no test: the 36 are as shipped, over a grid of 2×2 cells."""
    vision = replace(shrunk(PARTS["vision"]["regions"].Config()), **SIZES)
    part = replace(shrunk(PARTS["fusion"][fusion].Config(), width=24), **changes)
    return replace(VIT, vision=vision, fusion=part)


def region_model(fusion: str = "merged", **changes) -> Tandem:
    return tiny_model(region_config(fusion, **changes)).eval()


def prepared_step(model: Tandem, **objectives) -> Step:
    """A step of six pairs; every objective has read 46 images' captions."""
    step = step_of(model, **objectives)
    torch.manual_seed(1)
    captions = [[[2, *torch.randint(4, 14, (4,)).tolist(), 3]] for _ in range(46)]
    for objective in model.objectives.values():
        objective.prepare(model, captions)
    ids = step.batch.whole["image.ids"]
    step.batch.inputs["image.ids"] = ids
    step.features = model(step.batch.inputs)
    return step


def recipe_step(name: str) -> tuple[Recipe, Step]:
    """The recipe as shipped, its sizes cut, and a step of it."""
    recipe = small(name, Path("drawings.tar"))
    model = tiny_model(recipe.model).eval()
    whole = {"pairs": 6}
    objectives = {
        name: {k: whole.get(k, v) for k, v in asdict(own).items()}
        for name, own in recipe.objectives.items()
    }
    step = prepared_step(model, **objectives)
    ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]
    step.batch.whole |= {"further.ids": ids.roll(1, 1)[:, None], "further.mask": mask[:, None]}
    return recipe, step


def own_pairs(step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a fusion is given for the six matching pairs."""
    row = torch.arange(6)
    features, mask = step.features, step.batch.whole["text.mask"]
    return features["text.tokens"], mask, features["image.tokens"], torch.stack([row, row], 1)


def read_in(step) -> tuple[Tensor, Tensor, Tensor]:
    """What the fusion makes of image tokens, and W f and W' g of numbers that the test computes."""
    image, tokens = step.model.fusion.image_in, step.features["image.tokens"]
    feature = region_tokens.features_of(tokens) * step.model.pooler.feature_width**0.5
    x1, y1, x2, y2 = windows().unbind(1)
    w, h = x2 - x1, y2 - y1
    numbers = torch.stack([x1, y1, x2, y2, w, h, w * h], 1)
    return image(tokens), image.features(feature), numbers


def seen_by_fusion(step, objective: str) -> list[tuple]:
    """Arguments of the fusion's readings by an objective."""
    seen, fusion = [], step.model.fusion
    inner = "read" if hasattr(fusion, "read") else "hidden"
    original = getattr(fusion, inner)
    setattr(fusion, inner, lambda *given: seen.append(given) or original(*given))
    step.model.objectives[objective].loss(step)
    setattr(fusion, inner, original)
    return seen
